"""Durations for people, and NaN as null."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from tiebreak.core.text import duration, nan_to_null, one_line, plural, sparkline


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.44, "0.4 s"), (59, "59 s"), (89, "89 s"), (90, "2 min"), (150, "2 min"),
        (5340, "89 min"), (5400, "1 h 30 min"), (7500, "2 h 05 min"),
    ],
)  # fmt: skip
def test_durations_are_rounded_for_people(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ([0, 7], "▁█"),
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], "▁▂▃▄▅▆▇█"),
        ([3.0, float("nan"), 3.0], "▁▁"),
        ([0, 0, 7, 7, 0, 0], "▁█▁"),
        ([], ""),
    ],
)
def test_a_sparkline_has_a_bar_for_neighbouring_numbers(values, bars):
    assert sparkline(values, width=8 if len(values) > 6 else 3) == bars


class Point(NamedTuple):
    x: float
    y: tuple[float, ...]


def test_nan_and_infinities_become_null_at_any_depth():
    nan, infinity = float("nan"), float("inf")
    value = {"a": [1.0, nan, {"b": -infinity}], 3: Point(nan, (2.0, infinity)), "c": "nan"}
    expected = {"a": [1.0, None, {"b": None}], "3": {"x": None, "y": [2.0, None]}, "c": "nan"}
    assert nan_to_null(value) == expected
    json.dumps(nan_to_null(value), allow_nan=False)


def test_an_error_of_several_lines_becomes_one():
    assert one_line(ValueError("the first\n  and the second")) == "the first and the second"


def test_a_noun_goes_with_its_count():
    assert [plural(n, "block") for n in (0, 1, 2)] == ["0 blocks", "1 block", "2 blocks"]
