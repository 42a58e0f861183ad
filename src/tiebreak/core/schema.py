"""Check values that were read from files against type annotations.

A file that somebody else wrote may hold any JSON value anywhere. Each kind of file is described by
TypedDicts or dataclasses beside the code that writes it; `check` holds a value against one, at any
depth, before anything of it is used. It understands: TypedDict (with NotRequired), dataclasses,
`dict[str, X]`, `list[X]`, tuples (as lists), `X | None`, Literal, bool, int, float, str, Any, and
`Annotated[X, Rule]`.

Stricter than the annotations: numbers are finite and at most 1e18, a bool is no number, texts hold
no control characters (they could steer a terminal), Any is at most DEEPEST levels deep. A whole
number is a float. Fields that a TypedDict does not name are checked as Any: later versions add
some.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from tiebreak.core.config import LARGEST
from tiebreak.core.text import is_printable, quoted

Check = Callable[[Any], str]
"""Returns what is wrong with a value, or an empty text."""

DEEPEST = 20
"""Levels of a value of type Any."""


class Rule(NamedTuple):
    """A condition on a value whose type is right already."""

    holds: Callable[[Any], bool]
    text: str
    """The kind of value that is asked for, e.g. `a positive number`."""


Positive = Annotated[float, Rule(lambda value: value > 0, "a positive number")]
Count = Annotated[int, Rule(lambda value: value >= 0, "a whole number from 0")]


def check(value: Any, kind: Any) -> str:
    """Return what is wrong with a value of an annotated kind, in one line; empty if nothing is."""
    return checker(kind)(value)


@functools.cache
def checker(kind: Any) -> Check:
    """Return the function that checks values of an annotated kind."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return _table(hints, [name for name, hint in hints.items() if not _is_optional(hint)])
    if dataclasses.is_dataclass(kind):
        required = [field.name for field in dataclasses.fields(kind) if _has_no_default(field)]
        return _table(typing.get_type_hints(kind, include_extras=True), required)
    if origin is Annotated:
        return _with_rules(checker(args[0]), args[1:])
    if origin is Literal:
        return _literal(args)
    if origin in (typing.Union, types.UnionType):
        return _union([checker(arg) for arg in args])
    if origin is list:
        return _list(checker(args[0]))
    if origin is tuple:
        return _tuple(args)
    if origin in (dict, Mapping):
        return _dict(checker(args[1]))
    raise TypeError(f"a schema cannot have the type {kind!r}")


def _table(hints: Mapping[str, Any], required: Sequence[str]) -> Check:
    """Return the check of a table with these fields, and others of any type."""
    fields = {
        name: checker(typing.get_args(hint)[0] if _is_optional(hint) else hint)
        for name, hint in hints.items()
    }

    def run(value: Any) -> str:
        if type(value) is not dict:
            return f"is {quoted(value, 60)}, not a table"
        for name in required:
            if name not in value:
                return f"lacks {name!r}"
        for name, item in value.items():
            if problem := fields.get(name, _any)(item):
                return _at(name, problem)
            if name not in fields and not is_printable(name):
                return f"has a key with control characters: {quoted(name, 60)}"
        return ""

    return run


def _is_optional(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.NotRequired


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _with_rules(inner: Check, rules: tuple[Rule, ...]) -> Check:
    def run(value: Any) -> str:
        if problem := inner(value):
            return problem
        for rule in rules:
            if not rule.holds(value):
                return f"is {quoted(value, 60)}, not {rule.text}"
        return ""

    return run


def _literal(names: tuple[Any, ...]) -> Check:
    def run(value: Any) -> str:
        if isinstance(value, str) and value in names:
            return ""
        return f"is {quoted(value, 60)}, not one of {', '.join(names)}"

    return run


def _union(members: list[Check]) -> Check:
    may_be_none = _none in members

    def run(value: Any) -> str:
        if value is None and may_be_none:
            return ""
        first = ""
        for member in members:
            problem = member(value)
            if not problem:
                return ""
            first = first or problem
        return first

    return run


def _list(item_of: Check) -> Check:
    def run(value: Any) -> str:
        if type(value) is not list:
            return f"is {quoted(value, 60)}, not a list"
        for index, item in enumerate(value):
            if problem := item_of(item):
                return _at(index, problem)
        return ""

    return run


def _tuple(args: tuple[Any, ...]) -> Check:
    """Return the check of a list that was a tuple: `tuple[X, ...]` or `tuple[X, Y]`."""
    if args[-1] is ...:
        return _list(checker(args[0]))
    each = [checker(arg) for arg in args]

    def run(value: Any) -> str:
        if type(value) is not list or len(value) != len(each):
            return f"is {quoted(value, 60)}, not a list of {len(each)}"
        problems = (_at(i, p) for i, item in enumerate(value) if (p := each[i](item)))
        return next(problems, "")

    return run


def _dict(value_of: Check) -> Check:
    def run(value: Any) -> str:
        if type(value) is not dict:
            return f"is {quoted(value, 60)}, not a table"
        for name, item in value.items():
            if problem := _string(name):
                return f"has a key that {problem}"
            if problem := value_of(item):
                return _at(name, problem)
        return ""

    return run


def _at(place: str | int, problem: str) -> str:
    """Return a problem with the place in front: `cell.num_envs is …`."""
    separator = " " if problem.startswith(_VERBS) else "."
    return f"{place}{separator}{problem}"


_VERBS = ("is ", "lacks ", "has a key ")
"""First words of every problem; a place stands before them."""


def _any(value: Any, depth: int = DEEPEST) -> str:
    if isinstance(value, str):
        return _string(value)
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, (int, float)):
        return _float(value)
    if not depth:
        return f"is nested deeper than {DEEPEST} levels"
    if isinstance(value, list):
        return next((p for item in value if (p := _any(item, depth - 1))), "")
    if isinstance(value, dict):
        for name, item in value.items():
            if problem := _string(name) or _any(item, depth - 1):
                return problem
        return ""
    return f"is {quoted(value, 60)}, no value of JSON"


def _string(value: Any) -> str:
    if not isinstance(value, str):
        return f"is {quoted(value, 60)}, not a text"
    if not is_printable(value):
        return f"is {quoted(value, 60)}: a text with control characters"
    return ""


def _float(value: Any) -> str:
    if type(value) not in (int, float):
        return f"is {quoted(value, 60)}, not a number"
    if not -LARGEST <= value <= LARGEST:
        return f"is {quoted(value, 60)}, not a number below {LARGEST:.0e}"
    return ""


def _int(value: Any) -> str:
    if type(value) is not int:
        return f"is {quoted(value, 60)}, not a whole number"
    return _float(value)


def _bool(value: Any) -> str:
    return "" if isinstance(value, bool) else f"is {quoted(value, 60)}, not true or false"


def _none(value: Any) -> str:
    return "" if value is None else f"is {quoted(value, 60)}, not null"


_SIMPLE: dict[Any, Check] = {
    str: _string,
    float: _float,
    int: _int,
    bool: _bool,
    type(None): _none,
    Any: _any,
}
