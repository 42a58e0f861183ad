"""Shared by all commands: a parser whose errors are one line, and JSON output."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from tiebreak.core.errors import UsageError, unknown


class Failure(Exception):
    """Raised by a command that ran, and found or had a failure; `status` is the exit status."""

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError and suggests the nearest valid option."""

    def __init__(self, name: str, description: str, examples: Sequence[str]):
        lines = "\n".join(f"  {example}" for example in examples)
        super().__init__(
            prog=f"tiebreak {name}",
            description=description,
            epilog=f"examples:\n{lines}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # `--s` must not change its meaning when an option is added
        )

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse the arguments; report a misspelt option before arguments that are missing."""
        for word in argv:
            if word == "--":
                break
            option = word.partition("=")[0]
            if option.startswith("--") and option not in self._option_string_actions:
                valid = [o for o in self._option_string_actions if o.startswith("--")]
                raise unknown("option", option, valid)
        return self.parse_args(argv)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, where argparse would print the usage and exit."""
        raise UsageError(f"{message} (see `{self.prog} --help`)")

    def add_json(self) -> None:
        """Add `--json`, for commands that print a table."""
        self.add_argument("--json", action="store_true", help="print JSON instead of a table")


def stdout_for_json(wanted: bool) -> contextlib.AbstractContextManager[Any]:
    """Keep stdout for the JSON document: what else is printed inside, as by an environment, goes to
    stderr if `wanted`.
    """
    return contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext()


def print_json(value: Any) -> None:
    """Print one JSON document; raise ValueError for NaN and infinities."""
    print(json.dumps(value, indent=2, allow_nan=False, default=str))


def print_losses(folders: Iterable[Any]) -> None:
    """Print on stderr which records of results folders were left out, and why.

    folders: PageData of each.
    """
    for data in folders:
        if data.loss:
            print(f"tiebreak: {data.name}: {data.loss}", file=sys.stderr)


def quoted(path: object) -> str:
    """Return a path quoted for a shell."""
    return shlex.quote(str(path))
