"""Whose turn it is: a lock that is given in the order in which it was asked for, and work that waits for it."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple


class Ticket:
    """A place in the queue of a `TurnLock`."""


class TurnLock:
    """A lock for whoever asked first; the thread that has it may take it again.

    Notes
    -----
    A ticket can be drawn by one thread and used by another.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[Ticket] = deque()
        self._owner: int | None = None
        self._depth = 0

    def ticket(self) -> Ticket:
        """Draw a place in the queue. It must be used: all behind it wait."""
        with self._changed:
            ticket = Ticket()
            self._queue.append(ticket)
            return ticket

    def acquire(self, ticket: Ticket) -> None:
        """Wait until it is the ticket's turn, and take the lock."""
        with self._changed:
            try:
                while self._owner is not None or self._queue[0] is not ticket:
                    self._changed.wait()
            except BaseException:  # Ctrl-C: nobody waits for a ticket that nobody uses
                self._queue.remove(ticket)
                self._changed.notify_all()
                raise
            self._queue.popleft()
            self._owner, self._depth = threading.get_ident(), 1

    def release(self) -> None:
        """Give the lock back."""
        with self._changed:
            self._depth -= 1
            if not self._depth:
                self._owner = None
                self._changed.notify_all()

    def __enter__(self) -> None:
        if self._owner == threading.get_ident():
            self._depth += 1
        else:
            self.acquire(self.ticket())

    def __exit__(self, *_: object) -> None:
        self.release()


class _Job(NamedTuple):
    ticket: Ticket
    future: "Future[Any]"
    work: Callable[[], Any]


class Worker:
    """A thread that does work in turn; it begins with the first job and ends when none is left.

    Parameters
    ----------
    lock : TurnLock
        Held for each job: a job's turn is decided by when it was submitted.
    name : str
        Of the thread.
    """

    def __init__(self, lock: TurnLock, name: str) -> None:
        self._lock = lock
        self._name = name
        self._jobs: deque[_Job] = deque()
        self._access = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[[], Any]) -> "Future[Any]":
        """Queue a job."""
        future: Future[Any] = Future()
        with self._access:  # so that jobs stand in the order of their tickets
            self._jobs.append(_Job(self._lock.ticket(), future, work))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name)
                self._thread.start()
        return future

    def cancel(self) -> None:
        """Cancel the jobs that have not begun."""
        with self._access:
            jobs = list(self._jobs)
        for job in jobs:  # not under the lock: a future calls back those who wait for it
            job.future.cancel()

    def _run(self) -> None:
        while True:
            with self._access:
                if not self._jobs:
                    self._thread = None
                    return
                job = self._jobs.popleft()
            self._lock.acquire(job.ticket)
            # Callbacks of the future run before the lock is given back: a call to the device in one of them takes
            # no ticket behind jobs that only this thread can do.
            try:
                _do(job)
            finally:
                self._lock.release()
            del job  # and with it the result, for as long as the thread waits for the next turn


def _do(job: _Job) -> None:
    if not job.future.set_running_or_notify_cancel():
        return
    try:
        result = job.work()
    except BaseException as error:  # the one who asks for the result hears of it
        job.future.set_exception(error)
    else:
        job.future.set_result(result)
