"""Read tables of a TOML file; each knows its place, so that errors name file and line."""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiebreak.bench.suite import toml_positions
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.files import read_small_text
from tiebreak.core.text import is_printable, quoted

SYNTAX_ERROR = re.compile(
    r"(?P<what>.*?) \(at line (?P<line>\d+), column (?P<column>\d+)\)", re.DOTALL
)
"""Message of tomllib's syntax errors; an error at the end of the text has no line."""


@dataclass(frozen=True)
class Table:
    """One table: its values and its path from the top of the file."""

    file: str
    values: Mapping[str, Any]
    lines: Mapping[toml_positions.Path, int] = field(default_factory=dict, repr=False)
    path: toml_positions.Path = ()

    def wrong(self, message: object, *keys: str | int) -> UsageError:
        """Return an error `FILE:LINE: message` with the line of a key, or else of this table."""
        path = (*self.path, *keys)
        while path and path not in self.lines:
            path = path[:-1]
        line = self.lines.get(path)
        return UsageError(f"{self.file}{f':{line}' if line else ''}: {message}")

    @contextlib.contextmanager
    def at(self, *keys: str | int) -> Iterator[None]:
        """Add the place of a key to every UsageError that is raised inside."""
        try:
            yield
        except UsageError as error:
            raise self.wrong(error, *keys) from error

    def check_keys(self, what: str, valid: Iterable[str]) -> None:
        """Refuse keys that are not `valid`; `what` describes them in the error, e.g. `row key`."""
        names = list(valid)
        for key in self.values:
            if key not in names:
                raise self.wrong(unknown(what, key, names), key)

    def table(self, key: str) -> Table:
        """Return the table under a key; an empty one if there is none."""
        value = self.values.get(key, {})
        if not isinstance(value, Mapping):
            raise self.wrong(f"{key} takes a table ([{key}] or {{ … }}), got {quoted(value)}", key)
        return Table(self.file, value, self.lines, (*self.path, key))

    def tables(self, key: str, like: str) -> list[Table]:
        """Return the tables of the array under a key; `like` is an example for the error."""
        value = self.values.get(key, [])
        rows = value if isinstance(value, list) else [value]
        if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in rows):
            raise self.wrong(f"{key} takes a list of tables, e.g. {like}, got {quoted(value)}", key)
        path = (*self.path, key)
        return [Table(self.file, row, self.lines, (*path, i)) for i, row in enumerate(rows)]

    def text(self, key: str, default: str = "") -> str:
        """Return the string under a key, or the default."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(f"{key} takes a string, got {quoted(value)}", key)
        return value

    def each(self, key: str, default: list[Any]) -> list[Any]:
        """Return the value under a key, or several of them, as a list; refuse repetitions."""
        value = self.values.get(key, default)
        values = value if isinstance(value, list) else [value]
        if not values:
            raise self.wrong(f"{key} has no value: give one, or a list of several", key)
        for index, item in enumerate(values):
            if isinstance(item, (list, Mapping)):
                message = f"{key} takes a value or a list of values, got {quoted(item)}"
                raise self.wrong(message, key, index)
        if len({repr(v) for v in values}) < len(values):
            raise self.wrong(f"{key} names a value twice: {quoted(value)}", key)
        return values


def read(path: Path, shown: str, what: str = "suite") -> Table:
    """Read a TOML file and return its top table.

    `shown` is its name in messages, `what` the kind of file.
    """
    try:
        text = read_small_text(path)
    except UsageError as error:
        raise UsageError(f"cannot read {what} {shown!r}: {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read {what} {shown!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown}: not TOML: it is not UTF-8 text ({error.reason})") from error
    return parse(text, shown, what)


def parse(text: str, shown: str, what: str = "suite") -> Table:
    """Return the top table of the text of a TOML file; `shown` and `what` as in `read`."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = SYNTAX_ERROR.fullmatch(str(error))
        if match:
            line, problem = match["line"], f"{match['what']} (column {match['column']})"
        else:
            line, problem = text.count("\n") + 1, str(error)
        raise UsageError(f"{shown}:{line}: not TOML: {problem}") from error
    except RecursionError as error:
        raise UsageError(f"{shown}: not a {what}: it is nested too deeply") from error
    table = Table(shown, values, toml_positions.locate(text))
    for place in _unprintable(values):
        raise table.wrong("a text with control characters, which a terminal would obey", *place)
    return table


def _unprintable(value: Any) -> Iterator[toml_positions.Path]:
    """Yield the path of each text, or key, that cannot be shown as it is."""
    if isinstance(value, str) and not is_printable(value):
        yield ()
    if not isinstance(value, (dict, list)):
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(key, str) and not is_printable(key):
            yield (key,)
        yield from ((key, *place) for place in _unprintable(item))
