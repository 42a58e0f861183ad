"""Settings that users type, or files hold: each is a value of its field's type, or one line."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak.algorithms.ppo.config import Config
from tiebreak.core.config import override
from tiebreak.core.errors import UsageError


@pytest.mark.parametrize(
    "value",
    [
        "inf", "-inf", "nan", "1e999", "1e400", "-" * 5000 + "1", "{}", "[[1]]", "{[]: 1}",
        "x" * 9999,
        10**400, float("inf"), float("nan"), 1e300, True, None, [1.0], {}, b"1", object(),
        np.float64("nan"), np.zeros(2),
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused_in_a_line(value):
    with pytest.raises(UsageError, match=r"^learning_rate (takes|is) ") as caught:
        override(Config(), {"learning_rate": value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", [3, "3", "3.0", np.float32(3), np.int64(3)])
def test_whole_numbers_and_numpy_s_are_numbers(value):
    assert override(Config(), {"learning_rate": value}).learning_rate == 3.0


@pytest.mark.parametrize(
    ("value", "expected"), [("8,", (8,)), (np.int32(4), (4,)), ([5, 6], (5, 6))]
)
def test_tuples_of_numbers(value, expected):
    assert override(Config(), {"hidden_sizes": value}).hidden_sizes == expected


@pytest.mark.parametrize("value", ["[8, 'a']", "9" * 400, "[[8]]", "{8}", [None]])
def test_tuples_of_anything_else_are_refused(value):
    with pytest.raises(UsageError, match=r"^hidden_sizes (takes|is) "):
        override(Config(), {"hidden_sizes": value})


@pytest.mark.parametrize("value", [["tanh"], {}, None, 1, "tan"])
def test_a_choice_is_one_of_its_words(value):
    with pytest.raises(UsageError, match=r"unknown value for activation .*valid: tanh, relu"):
        override(Config(), {"activation": value})
