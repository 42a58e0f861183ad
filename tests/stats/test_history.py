"""The history of a ratio: changes are found where they are, and seldom where there are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stats import synthetic

from tiebreak.stats.history import Point, find_changes, histories
from tiebreak.stats.summaries import Comparison


def comparison(log_ratio, error):
    half = 1.959964 * error
    low, ratio, high = np.exp([log_ratio - half, log_ratio, log_ratio + half])
    empty = dict.fromkeys(("bootstrap_low", "bootstrap_high", "sd", "p", "p_holm", "detectable"))
    return Comparison(
        blocks=5, ratio=float(ratio), low=float(low), high=float(high), verdict="FASTER", **empty
    )


def points(logs, error=0.01):
    return [Point(i, "f" * 16, comparison(log, error)) for i, log in enumerate(logs)]


def steps(*parts, noise=0.008, seed=0):
    """Points about levels: `(5, 0.0), (7, 0.1)` are five about 0 and seven about 0.1."""
    rng = np.random.default_rng(seed)
    return points([level + rng.normal(0, noise) for count, level in parts for _ in range(count)])


def test_a_step_is_found_where_it_is():
    (change,) = find_changes(steps((5, 0.7), (7, 0.8)))
    assert change.before == 4
    assert change.factor == pytest.approx(np.exp(0.1), rel=0.02)
    assert change.ratio_before == pytest.approx(np.exp(0.7), rel=0.02)
    assert change.p < 1e-4


def test_several_steps_up_and_down_are_found():
    found = find_changes(steps((6, 0.0), (5, 0.15), (6, 0.05)))
    assert [change.before for change in found] == [5, 10]
    assert [change.factor > 1 for change in found] == [True, False]


def test_two_folders_are_enough_for_a_large_change_and_not_for_a_small_one():
    assert find_changes(points([0.0, 0.2]))
    assert not find_changes(points([0.0, 0.03]))


def test_a_certain_change_below_two_percent_is_none():
    assert not find_changes(steps((40, 0.0), (40, 0.015), noise=0.001))


def test_changes_are_seldom_found_where_there_are_none():
    """Nominally 5 %, of 400 series each of 4, 12 and 30 folders; all about as noisy as assumed."""
    rng = np.random.default_rng(3)
    for count in (4, 12, 30):
        noise = np.hypot(0.01, 0.01)
        found = sum(bool(find_changes(points(rng.normal(0, noise, count)))) for _ in range(400))
        assert found <= 0.06 * 400, count


def test_a_restless_series_is_not_full_of_changes():
    rng = np.random.default_rng(5)
    found = sum(len(find_changes(points(rng.normal(0, 0.1, 20), error=0.005))) for _ in range(100))
    assert found < 15


def test_series_are_by_cell_reference_and_hardware():
    def folder(number, nnx, mark="a", **machine):
        about = synthetic.machine(mark * 16)
        about = {**about, "machine": {**about["machine"], **machine}}
        speeds = {"torch compile": 1.0, "nnx split": nnx, "linen jit": 2.0}
        more: dict[str, Any] = {"fingerprint": mark * 16, "run_id": f"run-{number}"}
        return [about, *synthetic.race(speeds, blocks=4, seed=number, **more)]

    speeds = [2.0, 2.0, 2.0, 3.0, 3.0]
    folders = [folder(i, nnx) for i, nnx in enumerate(speeds)]
    found = histories(folders)
    assert {one.label for one in found} == {"nnx split", "linen jit"}
    changes = {one.label: [change.before for change in one.changes] for one in found}
    assert changes == {"nnx split": [2], "linen jit": []}
    # Another CPU in between is another series, of one folder, of which nothing is said.
    elsewhere = [*folders[:2], folder(9, 9.0, "b", cpu="Other"), *folders[2:]]
    found = {one.label: one for one in histories(elsewhere)}
    assert [p.folder for p in found["nnx split"].points] == [0, 1, 3, 4, 5]
    relative = {one.reference for one in histories(folders, relative_to="linen")}
    assert relative == {"linen jit"}
