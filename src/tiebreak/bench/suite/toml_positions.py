"""Find the line of each key in a TOML text, which tomllib does not report.

Only texts that tomllib accepts are scanned, so that only the result is checked: if the keys differ
from those of tomllib, no lines are given at all rather than wrong ones.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any, NamedTuple

Path = tuple[str | int, ...]
"""Path of a value from the top, e.g. `("races", 0, "rows", 2, "mode")`."""

TOKEN = re.compile(
    r"""(?P<skip>[ \t\r]+|\#[^\n]*)
    |(?P<newline>\n)
    |(?P<string>\"{3}(?:\\.|[^\\])*?\"{3}\"{0,2}|'{3}.*?'{3}'{0,2}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
    |(?P<mark>[\[\]{}=,.])
    |(?P<bare>[^\s\[\]{}=,.\#"']+)""",
    re.VERBOSE | re.DOTALL,
)


def locate(text: str) -> dict[Path, int]:
    """Return path -> line (from 1) of every key and array element; empty where uncertain."""
    try:
        lines = _Scanner(text).document()
        return lines if lines.keys() == set(_paths(tomllib.loads(text))) else {}
    except (_UnexpectedToken, tomllib.TOMLDecodeError, RecursionError):
        return {}


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from _paths(inner, (*path, key))


class _UnexpectedToken(Exception):
    """The text does not continue as this scanner expects."""


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


class _Scanner:
    """Single pass over the tokens, which fills `lines`."""

    def __init__(self, text: str):
        self.tokens, self.at = list(_tokens(text)), 0
        self.lines: dict[Path, int] = {}
        self.arrays: dict[Path, int] = {}
        """Path of an array of tables -> number of its tables so far."""

    def document(self) -> dict[Path, int]:
        table: Path = ()
        while self.at < len(self.tokens):
            if self._take("\n"):
                continue
            if self._is_next("["):
                table = self._header()
            else:
                self._pair(table)
        return self.lines

    def _header(self) -> Path:
        """Read `[a.b]` or `[[a.b]]`; return the path of the table that begins."""
        self._need("[")
        is_array, line = self._take("["), self._line()
        path: Path = ()
        *outer, last = self._key()
        for key in outer:
            path = (*path, key)
            self.lines.setdefault(path, line)
            if path in self.arrays:  # what follows belongs to its last table
                path = (*path, self.arrays[path] - 1)
        path = (*path, last)
        self.lines.setdefault(path, line)
        if is_array:
            self.arrays[path] = self.arrays.get(path, 0) + 1
            path = (*path, self.arrays[path] - 1)
            self.lines[path] = line
            self._need("]")
        self._need("]")
        return path

    def _pair(self, table: Path) -> None:
        line, path = self._line(), table
        for key in self._key():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self._need("=")
        self._value(path)

    def _key(self) -> list[str]:
        names = [self._name()]
        while self._take("."):
            names.append(self._name())
        return names

    def _name(self) -> str:
        token = self._next()
        if token.kind == "string":
            return tomllib.loads(f"key = {token.text}")["key"]
        if token.kind != "bare":
            raise _UnexpectedToken
        return token.text

    def _value(self, path: Path) -> None:
        if self._take("["):
            self._array(path)
        elif self._take("{"):
            while not self._take("}"):
                if not (self._take("\n") or self._take(",")):
                    self._pair(path)
        else:
            while not any(map(self._is_next, ",]}\n")) and self.at < len(self.tokens):
                self.at += 1

    def _array(self, path: Path) -> None:
        index = 0
        while not self._take("]"):
            if self._take("\n") or self._take(","):
                continue
            self.lines[*path, index] = self._line()
            self._value((*path, index))
            index += 1

    def _is_next(self, text: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at].text == text

    def _take(self, text: str) -> bool:
        is_next = self._is_next(text)
        self.at += is_next
        return is_next

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise _UnexpectedToken

    def _line(self) -> int:
        if self.at >= len(self.tokens):
            raise _UnexpectedToken
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
            raise _UnexpectedToken
        if match.lastgroup != "skip":
            yield _Token(str(match.lastgroup), match.group(), line)
        line += match.group().count("\n")
        at = match.end()
