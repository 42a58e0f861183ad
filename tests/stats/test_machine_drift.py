"""What canaries tell of a machine, and machine records of each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from report import two_runs
from stats import synthetic

from tiebreak.stats import hardware_diff, machine_drift
from tiebreak.stats.ratios import summarize

OTHER = "ppo · gymnax/CartPole-v1 · update · num_envs 4"


def block(number: int, group: str, first: float, last: float) -> list[dict]:
    """A block of one group between its canaries, as the manager writes it."""
    return [
        synthetic.canary(number, "open", first),
        synthetic.visit("torch compile", number, [1.0], group=group),
        synthetic.canary(number, "close", last),
    ]


def test_drift_is_the_largest_move_within_a_block_of_the_group():
    records = block(0, synthetic.TRAIN, 0.010, 0.011) + block(0, OTHER, 0.011, 0.022)
    records += block(1, synthetic.TRAIN, 0.022, 0.0176) + block(1, OTHER, 0.01, 0.01)
    assert [g.drift for g in summarize(records)] == pytest.approx([0.2, 1.0])


def test_calibration_and_blocks_cut_short_are_no_drift():
    records = block(-1, synthetic.TRAIN, 0.01, 0.05) + block(0, synthetic.TRAIN, 0.01, 0.01)
    records += block(1, synthetic.TRAIN, 0.01, 0.05)[:2] + block(2, synthetic.TRAIN, 0.02, 0.02)
    (group,) = summarize(records)
    assert group.drift == 0.0
    assert summarize([synthetic.visit("torch compile", 0, [1.0])])[0].drift is None


def readings(level: float, spread: float, count: int = 40, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    logs = math.log(level) + rng.normal(0, spread, (count, 2))
    return [{"numpy": float(a), "python": float(b)} for a, b in np.exp(logs)]


def test_a_shift_is_found_and_never_understated_for_long():
    a, b = readings(0.01, 0.05, seed=1), readings(0.0106, 0.05, seed=2)
    found = machine_drift.shift(a, b)
    assert found.largest == pytest.approx(math.log(1.06), abs=0.02)
    assert found.bound > found.largest
    pairs = [(readings(1, 0.05, seed=s), readings(1.03, 0.05, seed=99 - s)) for s in range(40)]
    bounds = [machine_drift.shift(*pair).bound for pair in pairs]
    assert np.mean(np.array(bounds) > math.log(1.03)) > 0.9


def test_a_few_interrupted_canaries_are_not_another_machine():
    a, b = readings(0.01, 0.01, 12), readings(0.01, 0.01, 12, seed=1)
    for reading in b[:3]:
        reading["python"] *= 3
    assert machine_drift.shift(a, b).bound < 0.03


def test_what_cannot_be_compared_tells_nothing():
    a = readings(0.01, 0.01)
    assert machine_drift.shift(a, []) is None
    assert machine_drift.shift(a, [{"other": 0.01}] * 5) is None
    assert machine_drift.shift(a, readings(0.01, 0.01, count=1)) is None
    assert machine_drift.shift(a, [{"numpy": 0.0, "python": -1.0}] * 5) is None


def test_the_hardware_is_told_by_its_digest_or_else_by_its_parts():
    facts = synthetic.machine()["machine"]
    assert hardware_diff.same_hardware(facts, {**facts, "packages": {}, "load_average": 9.0})
    assert not hardware_diff.same_hardware(facts, {**facts, "cores": 4})
    assert not hardware_diff.same_hardware({**facts, "hardware": "x"}, {**facts, "hardware": "y"})
    moved = {**facts, "hardware": "x", "kernel": "other"}
    assert hardware_diff.same_hardware({**facts, "hardware": "x"}, moved)
    assert hardware_diff.same_hardware(facts, {**facts, "hardware": "x"})  # a record of schema 1
    assert not hardware_diff.same_hardware(facts, {})


def test_only_differing_facts_are_named():
    one = {"cpu": "a", "packages": {"jax": "1", "torch": "2"}, "load_average": 1.0, "affinity": [0]}
    other = {"cpu": "a", "packages": {"jax": "1", "flax": "3"}, "load_average": 2.0,
             "affinity": [0, 1]}  # fmt: skip
    assert [tuple(f) for f in hardware_diff.differences(one, other)] == [
        ("torch", "2", ""), ("affinity", "0", "0, 1"), ("flax", "", "3"),
    ]  # fmt: skip


def test_both_ends_of_a_run_count():
    """The helper of the comparison tests tells the truth it claims to tell."""
    still, slow = (
        [r["values_s"] for r in two_runs.run(name, moved=moved) if r["kind"] == "canary"]
        for name, moved in (("a", 0.0), ("b", 0.05))
    )
    assert len(still) == 20
    assert machine_drift.shift(still, slow).largest == pytest.approx(0.05, abs=0.02)
