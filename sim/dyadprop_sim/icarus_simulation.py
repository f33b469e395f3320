"""A design that Icarus runs, in a process of its own that lives as long as the simulation."""

import os
import select
import signal
import subprocess
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dyadprop.errors import DeviceLost, DeviceTimeout, DyadpropError
from dyadprop_sim.icarus_program import find_icarus
from dyadprop_sim.library import Ports
from dyadprop_sim.transactions import Transaction, TransactionSimulation

RUN, WAIT, STATUS = 1, 2, 3  # commands of harness.v
BLOCK = 1024  # words that it takes at a time
SILENCE = 120  # seconds without a line from a process that works; it says every 64 cycles that it is alive


class IcarusSimulation(TransactionSimulation):
    """One instance of a design in a ``vvp`` process. Registers and memories start with X, and no X may come out.

    Parameters
    ----------
    program : Path
        Of the design in its harness (`dyadprop_sim.icarus_program`).
    ports : Ports
        The design's streams, as it was built.
    spell : callable, optional
        Turns the words of the status ports into text for messages; without it they are shown as they are.

    Notes
    -----
    A call that is interrupted, or that an unknown bit or the end of the process ends, closes the simulation.
    """

    def __init__(self, program: Path, ports: Ports, *, spell: Callable[[Sequence[int]], str] | None = None) -> None:
        super().__init__(ports, spell)
        self._vvp = _Process(program)
        self._free = weakref.finalize(self, self._vvp.end)
        self._cycle = 0

    @property
    def cycle(self) -> int:
        """Clock cycles since reset."""
        return self._cycle

    def close(self) -> None:
        """End the process; a second call does nothing."""
        self._free()

    def wait(self, cycles: int) -> None:
        """Let cycles pass in which nothing is offered or taken."""
        with self._exchange(WAIT, cycles) as lines:
            for tag, *fields in lines:
                if tag == "done":
                    self._cycle = int(fields[0], 16)

    def status(self) -> list[int]:
        """Read the status ports as plain words."""
        with self._exchange(STATUS) as lines:
            _, *words = next(lines)
            return [_known(name, word, self._cycle) for name, word in zip(self.ports.status, words, strict=True)]

    def _move(self, transaction: Transaction) -> bool:
        t = transaction
        sent = [0] * len(t.fed)
        lengths = [len(words) for words in (*t.fed, *t.taken)]
        with self._exchange(RUN, t.seed, t.patience, *lengths, *t.stalls) as lines:
            for tag, *fields in lines:
                if tag == "word":
                    k, cycle = int(fields[0], 16), int(fields[2], 16)
                    n = int(t.moved_out[k])
                    t.taken[k][n] = _known(f"word {n} of {self.ports.outputs[k]}", fields[1], cycle)
                    if len(t.times[k]):
                        t.times[k][n] = cycle
                    t.moved_out[k] = n + 1
                elif tag == "need":
                    k = int(fields[0], 16)
                    self._vvp.tell(t.fed[k][sent[k] : sent[k] + BLOCK].tolist())
                    sent[k] += BLOCK
                elif tag == "done":
                    self._cycle = int(fields[0], 16)
                    t.moved_in[:] = [int(count, 16) for count in fields[1:]]
        return all(int(moved) == all_ for moved, all_ in zip((*t.moved_in, *t.moved_out), lengths, strict=True))

    @contextmanager
    def _exchange(self, *numbers: int) -> Iterator[Iterator[list[str]]]:
        """Give a command and the lines that answer it; whatever goes wrong meanwhile is the end of the process."""
        if not self._free.alive:
            raise DeviceLost("the simulation is closed")
        try:
            self._vvp.tell(numbers)
            yield self._answer()
        except BaseException:
            self.close()
            raise

    def _answer(self) -> Iterator[list[str]]:
        for line in self._vvp.lines:
            words = line.split()
            if words[0] == "unknown":
                raise DyadpropError(self._unknown(*words[1:]))
            yield words
            if words[0] in ("done", "status"):
                return

    def _unknown(self, cycle: str, ready: str, valid: str) -> str:
        # Bits in Verilog's order, the last stream first.
        streams = [*zip(self.ports.input_names[::-1], ready, strict=True)]
        names = [f"{name}__ready" for name, bit in streams if bit not in "01"]
        streams = [*zip(self.ports.output_names[::-1], valid, strict=True)]
        names += [f"{name}__valid" for name, bit in streams if bit not in "01"]
        return f"{' and '.join(names)} in cycle {int(cycle, 16)} is X; the hardware may give no unknown bit"


class _Process:
    """A ``vvp`` process: told numbers, it answers in lines."""

    def __init__(self, program: Path) -> None:
        vvp = find_icarus("vvp")
        self._owner = os.getpid()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        try:
            # In a session of its own: Ctrl-C is for Python, which ends it if need be.
            self._vvp = subprocess.Popen(
                [vvp, "-n", str(program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise DeviceLost(f"{vvp} cannot be started: {error.strerror}") from error
        assert self._vvp.stdin is not None
        assert self._vvp.stdout is not None
        self._in, self._out = self._vvp.stdin, self._vvp.stdout
        self.lines = self._read()

    def tell(self, numbers: Iterable[int]) -> None:
        """Send numbers; it takes them as soon as it has answered."""
        try:
            self._in.write(" ".join(f"{number:x}" for number in numbers).encode() + b"\n")
            self._in.flush()
        except BrokenPipeError as error:
            raise self._lost() from error

    def end(self) -> None:
        """Kill it; not from a forked child, it is the parent's."""
        if os.getpid() != self._owner:
            return
        self._vvp.kill()
        self._vvp.wait()
        for file in (self._in, self._out, self._errors):
            with suppress(BrokenPipeError):  # of what it has not been told yet
                file.close()

    def _read(self) -> Iterator[str]:
        pipe = self._out.fileno()
        something = select.poll()
        something.register(pipe, select.POLLIN)
        rest = b""
        while True:
            if not something.poll(1000 * SILENCE):
                raise DeviceTimeout(f"process {self._vvp.pid}, vvp, has given no sign of life for {SILENCE} s")
            block = os.read(pipe, 1 << 16)
            if not block:
                raise self._lost()
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")

    def _lost(self) -> DeviceLost:
        status = self._vvp.wait()  # it has closed its end, as the last thing that it does
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").split("\n")
        last = next((f": {line.strip()}" for line in reversed(said) if line.strip()), "")
        how = f"by signal {-status}, {signal.strsignal(-status)}" if status < 0 else f"with exit {status}"
        return DeviceLost(f"process {self._vvp.pid}, vvp, ended {how}{last}")


def _known(what: str, word: str, cycle: int) -> int:
    try:
        return int(word, 16)
    except ValueError as error:
        raise DyadpropError(
            f"{what} in cycle {cycle} is {word} (hexadecimal); the hardware may give no unknown bit"
        ) from error
