"""Values of files are checked against annotations, at any depth, with the place in the message."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

import pytest

from tiebreak.core.schema import Count, Positive, check
from tiebreak.core.text import one_line, printable


class Inner(TypedDict):
    count: Count
    seconds: list[Positive]


class Outer(TypedDict):
    name: str
    kind: Literal["a", "b"]
    inner: Inner
    tables: dict[str, float]
    commit: str | None
    more: NotRequired[Any]


RIGHT = {
    "name": "x",
    "kind": "a",
    "inner": {"count": 0, "seconds": [1, 0.5]},
    "tables": {"t": 1.0},
    "commit": None,
    "later": [{"any": ["value"]}],
}


def test_a_right_value_has_no_problem():
    assert check(RIGHT, Outer) == ""


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("name", 1, "name is 1, not a text"),
        ("name", "\x1b[2J", "control characters"),
        ("name", "\ud800", "control characters"),
        ("kind", "c", "not one of a, b"),
        ("kind", ["a"], "not one of a, b"),
        ("inner", [], "inner is [], not a table"),
        ("inner", {"count": 1}, "inner lacks 'seconds'"),
        ("inner", {"count": True, "seconds": []}, "inner.count is True, not a whole number"),
        ("inner", {"count": -1, "seconds": []}, "not a whole number from 0"),
        ("inner", {"count": 1, "seconds": [1.0, 0]}, "inner.seconds.1 is 0, not a positive"),
        ("inner", {"count": 10**30, "seconds": []}, "not a number below 1e+18"),
        ("tables", {"\x1b": 1.0}, "tables has a key that is"),
        ("tables", {"t": None}, "tables.t is None, not a number"),
        ("commit", 3, "commit is 3, not a text"),
        ("more", [[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]], "nested deeper"),
        ("later", {"a": float("nan")}, "later is nan"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(field: str, value: Any, problem: str):
    assert problem in check({**RIGHT, field: value}, Outer)


def test_a_missing_field_is_named():
    assert check({"name": "x"}, Outer).startswith("lacks ")


def test_printed_text_holds_nothing_that_steers_a_terminal():
    foreign = "a\x1b]0;title\x07\x9b2J\u202eb\ud800é 中\tc"
    assert printable(foreign) == "a\ufffd]0;title\ufffd\ufffd2J\ufffdb\ufffdé 中\tc"
    assert "\x1b" not in one_line(f"{foreign}\n{foreign}")
