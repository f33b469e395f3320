"""A thread that lets a simulated chip live behind a port."""

import logging
import threading
import time
from collections.abc import Callable

from dyadprop.errors import DyadpropError
from dyadprop_sim.ports import Port, Waker
from dyadprop_sim.wire import Chip

logger = logging.getLogger(__name__)

MOST_WAITING = 16384  # bytes to the chip, or from it, behind which the other side is left waiting
STOP_SECONDS = 30.0
SLOWEST = 0.02  # seconds of `ChipServer.clock` a second, however slow the simulation is: what hangs comes to an end


class ChipServer:
    """Moves bytes between a port and a chip; simulated time passes only while there is something to do.

    Parameters
    ----------
    chip : Chip
        Its own from now on: freed when the server stops.
    port : Port
        Too.

    Attributes
    ----------
    failure : BaseException or None
        What ended it, if it was not `stop`.
    received, sent : int
        Bytes to and from the chip.
    """

    def __init__(self, chip: Chip, port: Port) -> None:
        self.chip = chip
        self.port = port
        self.failure: BaseException | None = None
        self.received = self.sent = 0
        self._waker = Waker()
        self._lock = threading.Lock()
        self._jobs: list[Callable[[], None]] = []
        self._stopping = False
        self._idle = True
        self._seconds = chip.seconds
        self._since = (0.0, time.monotonic(), chip.seconds)  # of our clock, of the world's, of the chip's
        self._thread = threading.Thread(target=self._run, name=f"chip at {port.address}", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """What a driver opens."""
        return self.port.address

    def clock(self) -> float:
        """Give seconds, from any start: simulated ones while the chip has something to do, else the world's.

        A driver whose deadlines go by it has as much time as with a chip that is not simulated.
        """
        with self._lock:
            return self._clock()

    def _clock(self) -> float:
        ours, world, chip = self._since
        passed = time.monotonic() - world
        return ours + (passed if self._idle else max(self._seconds - chip, SLOWEST * passed))

    def _set_idle(self, idle: bool) -> None:
        with self._lock:
            self._since = (self._clock(), time.monotonic(), self._seconds)
            self._idle = idle

    def power_on(self, seed: int) -> None:
        """Take the chip's power away and give it back, in the middle of whatever it does."""
        self._do(lambda: self.chip.power_on(seed))

    def _do(self, job: Callable[[], None]) -> None:
        with self._lock:
            self._jobs.append(job)
        self._waker.wake()

    def stop(self) -> None:
        """End it and free chip and port; a second call does nothing."""
        if self._stopping:
            return
        self._stopping = True
        self._waker.wake()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            raise DyadpropError(f"the simulation at {self.address} did not stop within {STOP_SECONDS:g} s")
        self._waker.close()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until it has ended by itself, at most so long."""
        self._thread.join(seconds)

    def __enter__(self) -> "ChipServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # whoever waits for answers must learn why there are none
            self.failure = error
            logger.exception("the simulated chip at %s ended", self.port.address)
        finally:
            self._set_idle(True)
            self.port.close()
            self.chip.close()

    def _serve(self) -> None:
        to_chip, to_host = bytearray(), bytearray()
        idle = True
        while not self._stopping:
            readers = self.port.handles() if len(to_chip) < MOST_WAITING else []
            writers = self.port.write_handles() if to_host else []
            blocked = len(to_host) >= MOST_WAITING  # a host that does not read: a real chip's bytes would be lost
            self._waker.wait(readers, writers, None if idle or blocked else 0.0)
            with self._lock:
                jobs, self._jobs = self._jobs, []
            for job in jobs:
                job()
                to_chip.clear()
                idle = False
            if readers and (data := self.port.read()):
                self.received += len(data)
                to_chip += data
                idle = False
                if (baud := self.port.baud) is not None:
                    self.chip.set_baud(baud)
            if to_host:
                del to_host[: self.port.write(bytes(to_host))]
            if idle or blocked:
                continue
            if self._idle:
                self._set_idle(False)
            taken, given, idle = self.chip.exchange(bytes(to_chip))
            self._seconds = self.chip.seconds
            if idle:
                self._set_idle(True)
            del to_chip[:taken]
            self.sent += len(given)
            to_host += given
            if to_host:
                del to_host[: self.port.write(bytes(to_host))]
