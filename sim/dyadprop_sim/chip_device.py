"""A simulated chip as a device: started when it is opened, and talked to as a board is."""

import time
from typing import Any

from dyadprop.errors import RangeError
from dyadprop.network import Network
from dyadprop.plan import DEFAULT_MULTIPLIERS, plan_network
from dyadprop.ports import SerialPort
from dyadprop.serial_device import TIMEOUT, SerialDevice
from dyadprop_boards.table import find_board
from dyadprop_sim.chip import ChipOptions, simulate_chip
from dyadprop_sim.chip_server import ChipServer
from dyadprop_sim.library import BuildOptions
from dyadprop_sim.ports import PtyPort

DEFAULT_BOARD = "ulx3s-85f"
_LOOK_SECONDS = 0.02


class SimulatedPort(SerialPort):
    """A serial port in whose deadlines a simulation's time counts, not ours: it may be a thousand times as slow.

    Parameters
    ----------
    address : str
    baud : int
    server : ChipServer
    """

    def __init__(self, address: str, baud: int, server: ChipServer) -> None:
        self._server = server
        super().__init__(address, baud)

    def clock(self) -> float:
        """Seconds of the simulation while it runs."""
        return self._server.clock()

    def read(self, seconds: float) -> bytes:
        """Give bytes that have come; wait for the first at most so long by `clock`."""
        end = self.clock() + seconds
        while True:
            data = super().read(min(seconds, _LOOK_SECONDS))
            if data or self.clock() >= end:
                return data

    def pause(self, seconds: float) -> None:
        """Let time pass by `clock`."""
        end = self.clock() + seconds
        while (left := end - self.clock()) > 0:
            time.sleep(min(left, _LOOK_SECONDS))


class ChipDevice(SerialDevice):
    """The whole chip in simulation, its link included: the driver talks to its RTL through a pseudo-terminal.

    Parameters
    ----------
    net : Network
    on_saturation : {"count", "warn", "raise"}
    board : str
        Gives the clock, and the rate at power-on.
    bits : int
        1: with the UART, whose waveform is made and sampled; 0: bytes go as fast as they are taken.
    baud : int
        Rate to change to; the board's where not given.
    paced : int
        1: bytes keep the rate, without the UART.
    baud_error : float
        By how much the host's rate is wrong.
    multipliers : int
        Budget of the plan.
    seed : int
        Of what registers and memories hold at power-on.
    self_test : int
        1: with its power-on self-test, in front of everything else.
    optimize : int
        Of the C++ compiler, 0 to 2: simulations that run briefly are there sooner with 0.
    timeout : float
        Seconds without progress that are too long.
    """

    kind = "chip"
    OPTIONS: tuple[str, ...] = (
        "baud",
        "baud_error",
        "bits",
        "board",
        "multipliers",
        "optimize",
        "paced",
        "seed",
        "self_test",
        "timeout",
    )

    def __init__(
        self,
        net: Network,
        *,
        on_saturation: str = "count",
        board: str = DEFAULT_BOARD,
        bits: int | str = 0,
        baud: int | str = 0,
        paced: int | str = 0,
        baud_error: float | str = 0.0,
        multipliers: int | str = DEFAULT_MULTIPLIERS,
        seed: int | str = 0,
        self_test: int | str = 0,
        optimize: int | str = 2,
        timeout: float | str = TIMEOUT,
    ) -> None:
        found = find_board(board)
        level = _number("optimize", optimize, int, 0, 2)
        options = ChipOptions(
            bits=bool(_number("bits", bits, int, 0, 1)),
            paced=bool(_number("paced", paced, int, 0, 1)),
            baud_error=_number("baud_error", baud_error, float, -0.1, 0.1),
            seed=_number("seed", seed, int, 0, 2**31 - 1),
            self_test=bool(_number("self_test", self_test, int, 0, 1)),
            build=BuildOptions(optimize=f"-O{level}", random_start=True),
        )
        plan = plan_network(net, _number("multipliers", multipliers, int, 1, 10**6))
        self._starts_at = found.baud
        self.server = ChipServer(simulate_chip(plan, found, options), PtyPort())
        try:
            super().__init__(
                net,
                on_saturation=on_saturation,
                address=self.server.address,
                baud=_number("baud", baud, int, 0, 10**8),
                timeout=timeout,
                opener=lambda address, baud: SimulatedPort(address, baud, self.server),
            )
        except BaseException:
            self.server.stop()
            raise

    def _rates(self) -> list[int]:
        """Try what the chip starts at, and what it was asked to change to: both are known."""
        return list(dict.fromkeys([self._starts_at, *([self._baud] if self._baud else [])]))

    def _close(self) -> None:
        super()._close()
        self.server.stop()


def _number(name: str, value: Any, kind: Any, low: float, high: float) -> Any:
    try:
        number = kind(value)
    except (TypeError, ValueError):
        number = None
    if number is None or not low <= number <= high:
        raise RangeError(
            f"option {name} of device {ChipDevice.kind} is {value!r}; allowed are {kind.__name__} from {low} to {high}"
        )
    return number
