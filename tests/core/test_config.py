"""Settings that users type, or files hold: each is a value of its field's type, or one line."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak import registry
from tiebreak.algorithms.ppo.config import Config
from tiebreak.core.config import ALIASES, meant_by, override, parse_sweeps, without_aliases
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


@pytest.mark.parametrize(
    ("algorithm", "name", "meant"),
    [
        ("ppo", "lr", ("learning_rate",)),
        ("sac", "lr", ("actor_lr", "critic_lr", "alpha_lr")),
        ("td3", "learning_rate", ("actor_lr", "critic_lr")),
        ("dqn", "buffer_size", ("replay_size",)),
        ("dqn", "batch", ("batch_size",)),
        ("ppo", "discount", ("gamma",)),
        ("ppo", "gamma", ("gamma",)),
        ("ppo", "norm_adv", ("normalize_advantage",)),
        ("fasttd3", "n_envs", ("num_envs",)),
    ],
)
def test_names_of_other_libraries_stand_for_ours(algorithm, name, meant):
    assert meant_by(registry.config_module(algorithm).Config, name) == meant


def test_a_name_of_another_meaning_is_refused():
    with pytest.raises(UsageError, match="unknown setting 'polyak'"):
        meant_by(registry.config_module("td3").Config, "polyak")  # 1 − τ elsewhere


def test_an_alias_is_told_and_the_later_name_counts():
    settings, notes = without_aliases(Config, {"lr": 1, "gamma": 2, "learning_rate": 3})
    assert settings == {"gamma": 2, "learning_rate": 3}
    assert without_aliases(Config, {"learning_rate": 1, "lr": 3})[0] == {"learning_rate": 3}
    assert notes == ["lr is learning_rate here"]


def test_aliases_are_names_of_no_setting_and_stand_for_some():
    kinds = [registry.config_module(name).Config for name in registry.ALGORITHMS]
    for alias in ALIASES:
        meant = [kind for kind in kinds if _is_meant(kind, alias)]
        assert meant, alias


def _is_meant(kind, alias):
    try:
        return meant_by(kind, alias) != (alias,)
    except UsageError:
        return False


@pytest.mark.parametrize("algorithm", registry.ALGORITHMS)
def test_a_name_that_is_unknown_is_refused_with_all_that_are_known(algorithm):
    kind = registry.config_module(algorithm).Config
    with pytest.raises(UsageError) as caught:
        meant_by(kind, "xyzzy")
    assert all(f" {name}" in str(caught.value) for name in vars(kind()))


def test_values_of_a_sweep_that_are_lists_stand_in_brackets():
    swept = parse_sweeps(["hidden_sizes=(64,64),(8,)", "gamma=0.9, 0.99"])
    assert swept == {"hidden_sizes": ["(64,64)", "(8,)"], "gamma": ["0.9", "0.99"]}
