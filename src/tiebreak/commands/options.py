"""What all commands share: parsing that fails in one line, and output for machines."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from typing import Any, NoReturn

from tiebreak.core.errors import UsageError, unknown


class Failure(Exception):
    """The command ran and something failed, as the message says: status 1."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError, and knows the nearest valid option."""

    def __init__(self, name: str, about: str, examples: Sequence[str]):
        lines = "\n".join(f"  {example}" for example in examples)
        super().__init__(
            prog=f"tiebreak {name}",
            description=about,
            epilog=f"examples:\n{lines}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # `--s` must not change its meaning when an option is added
        )

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse everything; a misspelt option is named before anything that it leaves missing."""
        for word in argv:
            if word == "--":
                break
            option = word.partition("=")[0]
            if option.startswith("--") and option not in self._option_string_actions:
                named = [o for o in self._option_string_actions if o.startswith("--")]
                raise unknown("option", option, named)
        return self.parse_args(argv)

    def error(self, message: str) -> NoReturn:
        """argparse's way out: no usage dump, no exit."""
        raise UsageError(f"{message} (see `{self.prog} --help`)")

    def add_json(self) -> None:
        """`--json`, for commands that print a table."""
        self.add_argument("--json", action="store_true", help="print JSON instead of a table")


def print_json(value: Any) -> None:
    """One JSON document on stdout; NaN and infinity, which JSON has not, are refused."""
    print(json.dumps(value, indent=2, allow_nan=False, default=str))


def quoted(path: object) -> str:
    """A path as it can be pasted into a shell."""
    return shlex.quote(str(path))
