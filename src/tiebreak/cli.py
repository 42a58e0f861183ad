"""The command line: find the command, run it, and report errors in one line with an exit status.

0: success. 1: the command ran, and something failed, which is named. 2: wrong use. 3: a comparison
could not tell, and --fail-unsure asks for that. 128 + n: ended by signal n (130: Ctrl-C).
Only the command's own module is imported, and no framework until the command needs one.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

from tiebreak import __version__
from tiebreak.commands.options import Failure
from tiebreak.commands.signals import EndingSignals, ending_signals
from tiebreak.core.errors import EnvironmentFailed, UsageError, unknown
from tiebreak.core.files import DISK_ERRORS, describe_disk_error
from tiebreak.core.ranks import leave
from tiebreak.core.text import one_line

COMMANDS = {
    "list": ("tiebreak.commands.listing", "list what is implemented, and what is installed here"),
    "doctor": ("tiebreak.commands.doctor", "find what would disturb timings on this machine"),
    "verify": ("tiebreak.commands.verify", "prove that the frameworks compute the same numbers"),
    "train": ("tiebreak.commands.train", "train an agent, evaluate it, save its policy"),
    "evaluate": ("tiebreak.commands.evaluate", "run a trained policy greedily in any framework"),
    "video": ("tiebreak.commands.video", "film a trained policy, as mp4 or gif"),
    "export": ("tiebreak.commands.export", "write a policy as one file: ONNX, torch, numpy, …"),
    "plot": ("tiebreak.commands.plot", "plot learning curves of training runs, over seeds"),
    "study": ("tiebreak.commands.study", "show over many seeds whether frameworks learn alike"),
    "run": ("tiebreak.commands.run", "race the frameworks: run a benchmark suite"),
    "peers": ("tiebreak.commands.peers", "list and install other libraries, to race against them"),
    "show": ("tiebreak.commands.show", "show the answer of a results folder"),
    "compare": ("tiebreak.commands.compare", "compare two results folders, cell by cell"),
    "merge": ("tiebreak.commands.merge", "put results folders of one suite together"),
    "history": ("tiebreak.commands.history", "follow ratios over commits, and mark changes"),
    "report": ("tiebreak.commands.report", "make one offline HTML page of results"),
}
"""Name: (module with `parser()` and `run(args) -> status`, one line of help)."""

_OVERVIEW = """\
tiebreak {version}: five frameworks, one algorithm, one stopwatch

  tiebreak run quick      which framework runs PPO fastest on this machine, within minutes
  tiebreak train ppo --framework nnx --task gymnax/CartPole-v1

commands
{commands}

`tiebreak COMMAND --help` shows options and examples, `tiebreak --version` the version.
Set TIEBREAK_DEBUG=1 to see the traceback of unexpected errors."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="replace")  # `?` for signs that it does not have
    with ending_signals(process_ends=argv is None) as signals:
        status = _run(list(sys.argv[1:] if argv is None else argv), signals)
        if argv is None:
            leave(status)
        return status


def _replace_closed_streams() -> None:
    """Send nowhere what is printed to a closed stream, as by `>&-`: Python leaves None there."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, it stays


def _run(argv: list[str], signals: EndingSignals) -> int:
    """Run one command, and turn whatever it raises into a line and an exit status."""
    try:
        return _dispatch(argv)
    except UsageError as error:
        return _print_error(error, 2)
    except Failure as error:
        return _print_error(error, error.status)
    except KeyboardInterrupt as error:
        return _print_error(str(error) or "interrupted; nothing new was kept", signals.status)
    except BrokenPipeError:  # the reader of our output has stopped reading, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as stop:  # argparse, after --help
        return int(stop.code or 0)
    except OSError as error:
        if "No usable temporary directory" in str(error):  # tempfile's; it has no class of its own
            return _print_error(
                "no folder for temporary files can be written; set TMPDIR to one that can", 1
            )
        if error.errno not in DISK_ERRORS:
            return _unexpected(error)
        return _print_error(f"{describe_disk_error(error)}; make room and try again", 1)
    except Exception as error:
        return _unexpected(error)


def _dispatch(argv: list[str]) -> int:
    name = argv[0] if argv else "--help"
    if name in ("--help", "-h"):
        print(overview())
        return 0
    if name == "--version":
        print(f"tiebreak {__version__}")
        return 0
    if name not in COMMANDS:
        if name.startswith("-"):
            raise unknown("option", name, ("--help", "--version"))
        raise unknown("command", name, COMMANDS)
    # Hide TensorFlow's start-up messages, unless the user has chosen a level.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    module = importlib.import_module(COMMANDS[name][0])
    status = module.run(module.parser().parse(argv[1:]))
    sys.stdout.flush()  # while a closed pipe is still handled
    return status


def overview() -> str:
    """Return the help text of `tiebreak`."""
    commands = "\n".join(f"  {name:<9} {line}" for name, (_, line) in COMMANDS.items())
    return _OVERVIEW.format(version=__version__, commands=commands)


def _print_error(message: object, status: int) -> int:
    print("tiebreak:", one_line(message), file=sys.stderr)
    return status


def _unexpected(error: Exception) -> int:
    is_environment = isinstance(error, EnvironmentFailed)
    message = str(error) if is_environment else f"unexpected {type(error).__name__}: {error}"
    if os.environ.get("TIEBREAK_DEBUG") == "1":
        traceback.print_exc()
        return _print_error(message, 1)
    try:
        handle, path = tempfile.mkstemp(prefix="tiebreak-error-", suffix=".txt")
        with os.fdopen(handle, "w") as file:
            traceback.print_exception(error, file=file)
    except OSError:  # the disk may be full
        return _print_error(f"{message} (TIEBREAK_DEBUG=1 shows the traceback)", 1)
    request = "" if is_environment else "please report it; "
    return _print_error(f"{message}; {request}the full traceback is in {path}", 1)


if __name__ == "__main__":
    sys.exit(main())
