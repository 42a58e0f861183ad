"""The command line: finds the command, and turns every way it can end into one line and a status.

0: fine. 1: it ran but something failed, and is named. 2: wrong use. 130: Ctrl-C.
Nothing is imported for a command but its own file, and no framework until the command needs one.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

from tiebreak import __version__
from tiebreak.commands.options import Failure
from tiebreak.core.errors import EnvironmentFailed, UsageError, unknown

COMMANDS = {
    "list": ("tiebreak.commands.listing", "what is implemented, and what is installed here"),
    "doctor": ("tiebreak.commands.doctor", "what would make timings untrustworthy on this machine"),
    "verify": ("tiebreak.commands.verify", "prove that the frameworks compute the same numbers"),
    "train": ("tiebreak.commands.train", "train one agent, evaluate it, keep its policy"),
    "evaluate": ("tiebreak.commands.evaluate", "run a trained policy greedily in any framework"),
    "run": ("tiebreak.commands.run", "race the frameworks: a suite of timed, interleaved visits"),
    "compare": ("tiebreak.commands.compare", "set one folder of results against another"),
    "report": ("tiebreak.commands.report", "turn stored results into one offline HTML page"),
}
"""Name -> (module with `parser()` and `run(args) -> status`, one line of help)."""

_OVERVIEW = """\
tiebreak {version}: five frameworks, one algorithm, one stopwatch

  tiebreak run quick      which framework runs PPO fastest on this machine, within minutes
  tiebreak train ppo --framework nnx --task gymnax/CartPole-v1

commands
{commands}

`tiebreak COMMAND --help` has options and examples; `tiebreak --version` the version.
With TIEBREAK_DEBUG=1 in the environment, unexpected errors show their traceback."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except UsageError as error:
        return _say(error, 2)
    except Failure as error:
        return _say(error, 1)
    except KeyboardInterrupt as error:
        return _say(str(error) or "interrupted; nothing was kept", 130)
    except BrokenPipeError:  # the reader of our output has seen enough, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as stop:  # argparse, after --help
        return int(stop.code or 0)
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
    # TensorFlow's start-up notes would bury our own lines; a value that the user chose stays.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    module = importlib.import_module(COMMANDS[name][0])
    status = module.run(module.parser().parse(argv[1:]))
    sys.stdout.flush()  # here, where a closed pipe is still handled
    return status


def overview() -> str:
    """What `tiebreak` alone prints."""
    commands = "\n".join(f"  {name:<9} {line}" for name, (_, line) in COMMANDS.items())
    return _OVERVIEW.format(version=__version__, commands=commands)


def _say(what: object, status: int) -> int:
    print("tiebreak:", " ".join(str(what).split()), file=sys.stderr)
    return status


def _unexpected(error: Exception) -> int:
    known = isinstance(error, EnvironmentFailed)
    what = str(error) if known else f"unexpected {type(error).__name__}: {error}"
    if os.environ.get("TIEBREAK_DEBUG") == "1":
        traceback.print_exc()
        return _say(what, 1)
    try:
        handle, path = tempfile.mkstemp(prefix="tiebreak-error-", suffix=".txt")
        with os.fdopen(handle, "w") as file:
            traceback.print_exception(error, file=file)
    except OSError:  # no room for it
        return _say(f"{what} (TIEBREAK_DEBUG=1 shows the traceback)", 1)
    ours = "" if known else "please report it; "
    return _say(f"{what}; {ours}the full traceback is in {path}", 1)


if __name__ == "__main__":
    sys.exit(main())
