"""In which line of a TOML text each key stands: tomllib reads values and forgets where they were.

Only texts that tomllib has accepted come here, so nothing is checked but the result: where the
keys found are not the keys that tomllib found, no line is given at all rather than a wrong one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any, NamedTuple

Path = tuple[str | int, ...]
"""The way to a value from the top, e.g. `("races", 0, "rows", 2, "mode")`."""

TOKEN = re.compile(
    r"""(?P<skip>[ \t\r]+|\#[^\n]*)
    |(?P<newline>\n)
    |(?P<string>\"{3}(?:\\.|[^\\])*?\"{3}\"{0,2}|'{3}.*?'{3}'{0,2}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
    |(?P<mark>[\[\]{}=,.])
    |(?P<bare>[^\s\[\]{}=,.\#"']+)""",
    re.VERBOSE | re.DOTALL,
)


def locate(text: str) -> dict[Path, int]:
    """Path -> line (from 1) of every key and array element; empty where that is not certain."""
    try:
        found = _Scanner(text).document()
        return found if found.keys() == set(_paths(tomllib.loads(text))) else {}
    except (_Lost, tomllib.TOMLDecodeError, RecursionError):
        return {}


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from _paths(inner, (*path, key))


class _Lost(Exception):
    """The text is not what was expected here."""


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


class _Scanner:
    """Goes through the tokens once; `found` grows on the way."""

    def __init__(self, text: str):
        self.tokens, self.at = list(_tokens(text)), 0
        self.found: dict[Path, int] = {}
        self.arrays: dict[Path, int] = {}
        """Arrays of tables -> how many tables they have so far."""

    def document(self) -> dict[Path, int]:
        table: Path = ()
        while self.at < len(self.tokens):
            if self._take("\n"):
                continue
            if self._see("["):
                table = self._header()
            else:
                self._pair(table)
        return self.found

    def _header(self) -> Path:
        """`[a.b]` or `[[a.b]]`; the path of the table that begins."""
        self._need("[")
        is_array, line = self._take("["), self._line()
        path: Path = ()
        *outer, own = self._key()
        for key in outer:
            path = (*path, key)
            self.found.setdefault(path, line)
            if path in self.arrays:  # what follows belongs to its last table
                path = (*path, self.arrays[path] - 1)
        path = (*path, own)
        self.found.setdefault(path, line)
        if is_array:
            self.arrays[path] = self.arrays.get(path, 0) + 1
            path = (*path, self.arrays[path] - 1)
            self.found[path] = line
            self._need("]")
        self._need("]")
        return path

    def _pair(self, table: Path) -> None:
        line, path = self._line(), table
        for key in self._key():
            path = (*path, key)
            self.found.setdefault(path, line)
        self._need("=")
        self._value(path)

    def _key(self) -> list[str]:
        parts = [self._name()]
        while self._take("."):
            parts.append(self._name())
        return parts

    def _name(self) -> str:
        token = self._next()
        if token.kind == "string":
            return tomllib.loads(f"key = {token.text}")["key"]
        if token.kind != "bare":
            raise _Lost
        return token.text

    def _value(self, path: Path) -> None:
        if self._take("["):
            self._array(path)
        elif self._take("{"):
            while not self._take("}"):
                if not (self._take("\n") or self._take(",")):
                    self._pair(path)
        else:
            while not any(map(self._see, ",]}\n")) and self.at < len(self.tokens):
                self.at += 1

    def _array(self, path: Path) -> None:
        index = 0
        while not self._take("]"):
            if self._take("\n") or self._take(","):
                continue
            self.found[*path, index] = self._line()
            self._value((*path, index))
            index += 1

    def _see(self, text: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at].text == text

    def _take(self, text: str) -> bool:
        seen = self._see(text)
        self.at += seen
        return seen

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise _Lost

    def _line(self) -> int:
        if self.at >= len(self.tokens):
            raise _Lost
        return self.tokens[self.at].line

    def _next(self) -> _Token:
        self._line()
        self.at += 1
        return self.tokens[self.at - 1]


def _tokens(text: str) -> Iterator[_Token]:
    at, line = 0, 1
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            raise _Lost
        if match.lastgroup != "skip":
            yield _Token(str(match.lastgroup), match.group(), line)
        line += match.group().count("\n")
        at = match.end()
