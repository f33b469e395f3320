"""The command ``dyadprop``: finds its verbs, runs one, and turns errors into sentences and exit codes."""

import argparse
import importlib.metadata
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from dyadprop.device import DEVICE_VARIABLE
from dyadprop.errors import CapacityError, DeviceLost, DeviceTimeout, DyadpropError, PackageMissing

ENTRY_POINT_GROUP = "dyadprop.commands"

OK, FAILED, USAGE, DEVICE_ERROR, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 3, 130, 141

# What other arguments or an installation put right: no device has failed.
_USAGE_ERRORS = (ValueError, CapacityError, PackageMissing)

# For errors whose own sentence does not say what to do next.
_HINTS: dict[type[DyadpropError], str] = {
    DeviceLost: "`dyadprop devices` lists what can be opened",
    DeviceTimeout: "run again with -v to see what it did last",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process where not given.

    Returns
    -------
    int
        0 ok, 1 mismatch or failed check, 2 usage, 3 device error or a bug, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # Known before argparse has read the words, for what goes wrong while it does.
    verbose = any(word in ("-v", "-vv", "--verbose") for word in words)
    try:
        args, verb = _parse(words)
        logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
        logging.getLogger().setLevel(
            logging.ERROR if args.quiet else max(logging.DEBUG, logging.WARNING - 10 * args.verbose)
        )
        code = int(verb.run(args))
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse: 0 after --help, 2 after a usage error, which it has told
        return stop.code if isinstance(stop.code, int) else USAGE
    except KeyboardInterrupt:
        _tell("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # `dyadprop devices | head -1`: nobody listens any more, not to Python's own flush at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:  # a DyadpropError, a bug, a package's own error: never a bare traceback
        if verbose:
            traceback.print_exc()
        if isinstance(error, DyadpropError):
            _tell(_sentence(error))
            return USAGE if isinstance(error, _USAGE_ERRORS) else DEVICE_ERROR
        hint = "" if verbose else "; run again with -v for the traceback"
        _tell(f"unexpected {type(error).__name__}: {_one_line(error)}{hint}")
        return DEVICE_ERROR


def _parse(words: list[str]) -> tuple[argparse.Namespace, ModuleType]:
    """Read the arguments; import the verb that is asked for, and all of them only where their help is."""
    parser = argparse.ArgumentParser(
        prog="dyadprop",
        description="Exact neural-network gradients from hardware that relaxes.",
        epilog="`dyadprop VERB --help` explains a verb. "
        "Exit codes: 0 ok, 1 mismatch or failed check, 2 usage, 3 device error.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"dyadprop {importlib.metadata.version('dyadprop')}")
    verbs = parser.add_subparsers(metavar="VERB", title="verbs", required=True)
    found = {entry.name: entry for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: e.name)}
    # No option in front of the verb takes a value, so the first bare word is the verb.
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, entry in found.items():
        if name != chosen:
            verbs.add_parser(name, help=_help_line(entry) if chosen is None else None)
    if chosen not in found:
        parser.parse_args(words)
        raise AssertionError("argparse took a verb that does not exist")
    verb = _load(found[chosen])
    own = verbs.add_parser(
        chosen,
        description=inspect.getdoc(verb),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.add_arguments(own)
    default_device = getattr(verb, "DEFAULT_DEVICE", None)
    _add_common_arguments(own, default_device)
    args = parser.parse_args(words)
    if args.device is None and default_device is not None:
        args.device = os.environ.get(DEVICE_VARIABLE) or default_device
    return args, verb


def _add_common_arguments(parser: argparse.ArgumentParser, default_device: str | None) -> None:
    group = parser.add_argument_group("common options")
    default = "" if default_device is None else f" (default: ${DEVICE_VARIABLE}, else {default_device})"
    group.add_argument("--device", metavar="NAME", help=f"device, kind[:address][?key=value]{default}")
    group.add_argument("--json", metavar="FILE", help="write the figures as JSON; - is standard output")
    group.add_argument("--seed", type=_seed, default=0, metavar="N", help="of everything that is random (default: 0)")
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument("-v", "--verbose", action="count", default=0, help="log more, show tracebacks; -vv logs all")
    loudness.add_argument("-q", "--quiet", action="store_true", help="results and errors only")


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to 2**63 - 1")
    return int(text)


def _load(entry: EntryPoint) -> ModuleType:
    try:
        verb = entry.load()
    except Exception as error:  # whatever its import does: the other verbs must go on working
        raise DyadpropError(f"verb {entry.name!r} cannot be loaded: {_one_line(error)}") from error
    for needed in ("add_arguments", "run"):
        if not callable(getattr(verb, needed, None)):
            raise DyadpropError(f"verb {entry.name!r} cannot be used: {entry.value} has no function {needed}")
    return verb  # type: ignore[no-any-return]  # what an entry point gives is Any


def _help_line(entry: EntryPoint) -> str:
    try:
        line = (inspect.getdoc(_load(entry)) or "").partition("\n")[0]
    except DyadpropError as error:
        line = f"not available: {error}"
    return line.replace("%", "%%")  # argparse formats help


def _sentence(error: DyadpropError) -> str:
    hints = [hint for kind, hint in _HINTS.items() if isinstance(error, kind)]
    # Notes say where it happened: which of a hundred random networks, which epoch.
    return "; ".join([_one_line(error), *getattr(error, "__notes__", []), *hints])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"


def _tell(sentence: str) -> None:
    print(f"dyadprop: {sentence}", file=sys.stderr, flush=True)
