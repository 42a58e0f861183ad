"""The estimate of a run's time, against the stored runs that its constants come from."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from hygiene import tree

from tiebreak.bench.manager import store
from tiebreak.bench.suite import estimate, suite
from tiebreak.bench.suite.estimate import expected_s, forecast

STORED = tree.ROOT / "results" / "amd-epyc-2-cores"
SUITES = {"quick": "quick", "speed": str(STORED / "speed" / "speed.toml")}


def seconds(record):
    return datetime.fromisoformat(record["at"]).timestamp()


def block_seconds(folder):
    """Block -> seconds between the canaries that open and close its sets of visits."""
    out, opened = {}, 0.0
    for record in store.read_records(folder):
        if record["kind"] == "canary" and record["when"] == "open":
            opened = seconds(record)
        elif record["kind"] == "canary":
            out[record["block"]] = out.get(record["block"], 0.0) + seconds(record) - opened
    return out


def plan(name, **changes):
    """A stored run's plan, with what it measured; those runs had no memory series yet."""
    out = suite.load(SUITES[name], "quick", 0)
    measured = store.read_suite(STORED / name)["settings"]["effort"]
    effort = replace(out.settings.effort, **{"memory_calls": 0, **measured})
    return replace(out, settings=replace(out.settings, effort=effort, **changes))


@pytest.mark.skipif(not STORED.is_dir(), reason="a package without results/")
@pytest.mark.parametrize("name", SUITES)
def test_the_stored_runs_are_foretold_within_a_fifth(name):
    first, *later = block_seconds(STORED / name).values()
    told = forecast(plan(name))
    assert told.first_block_s == pytest.approx(first, rel=0.2)
    assert told.block_s == pytest.approx(sum(later) / len(later), rel=0.2)


@pytest.mark.skipif(not STORED.is_dir(), reason="a package without results/")
def test_the_stored_certificate_is_foretold_within_a_fifth():
    records = store.read_records(STORED / "quick")
    at = {record["kind"]: seconds(record) for record in records[:2]}
    taken = at["certificate"] - at["machine"]
    assert forecast(plan("quick")).certificate_s == pytest.approx(taken, rel=0.2)


def cells(name="quick", **changes):
    (cell,) = [
        replace(c, **changes)
        for c in plan(name).cells
        if (c.label, c.probe) == ("nnx split", "train") and c.task.startswith("gymnasium")
    ]
    return (cell,)


def test_more_work_takes_longer():
    settings = plan("quick").settings
    least = expected_s(settings, cells())
    changes = {"samples": 100, "steady_s": 20.0, "silent_calls": 30, "memory_calls": 50}
    for change in ({key: value} for key, value in changes.items()):
        more = replace(settings, effort=replace(settings.effort, **change))
        assert expected_s(more, cells()) > least + 0.5, change
    assert expected_s(settings, cells(task="gymnax/CartPole-v1")) > least
    assert expected_s(settings, cells(framework="torch", mode="compile")) > least
    assert expected_s(settings, cells(mode="eager")) < least
    assert expected_s(settings, cells(probe="rebuild")) > least
    assert expected_s(settings, cells() * 2) < 2 * least


def test_a_cold_cache_costs_what_fills_it():
    settings, torch = plan("quick").settings, {"framework": "torch", "mode": "compile"}
    warm, cold = cells(**torch), cells(**torch, cache="cold")
    assert expected_s(settings, cold) == expected_s(settings, warm, cold=True)
    assert expected_s(settings, cold) > expected_s(settings, warm) + 10


def test_blocks_stop_where_the_manager_would_stop_them():
    free = forecast(plan("quick", budget_s=None, limit_s=None, certificate=False))
    assert (free.least_blocks, free.most_blocks, free.certificate_s) == (6, 6, 0)
    assert free.most_s == pytest.approx(free.first_block_s + 5 * free.block_s)
    enough = free.first_block_s + 1.5 * free.block_s
    limited = {"certificate": False, "least_blocks": 1, "limit_s": None}
    assert forecast(plan("quick", budget_s=enough, **limited)).most_blocks == 2
    limited = {"certificate": False, "least_blocks": 3, "budget_s": 1.0}
    assert forecast(plan("quick", limit_s=enough, **limited)).most_blocks == 2
    assert forecast(plan("quick", limit_s=2 * enough, **limited)).most_blocks == 3


def test_stages_are_a_span():
    told = forecast(plan("speed", stages=(2, 4, 8), blocks=8))
    assert (told.least_blocks, told.most_blocks) == (2, 8)
    assert told.most_s - told.least_s == pytest.approx(6 * told.block_s)


def test_a_calibration_fills_the_cache_before_the_first_block():
    told = forecast(plan("speed", calibration=True))
    assert told.calibration_s > told.first_block_s == told.block_s


def test_the_full_certificate_was_never_timed():
    assert forecast(replace(plan("quick"), scale="full")).certificate_s is None


def test_what_is_absent_takes_no_time():
    whole = plan("speed")
    torch = {cell.id for cell in whole.cells if cell.framework == "torch"}
    assert forecast(whole, torch).visits_per_block == forecast(whole).visits_per_block - 4
    assert forecast(whole, {cell.id for cell in whole.cells}).block_s == 0
    assert estimate.expected_s(whole.settings, whole.cells[:1]) > 0


def test_the_next_visit_is_spared_what_comes_once():
    cell = suite.load("quick", "quick", 0).cells[0]
    done = [{"phases_s": {"first_call": 26.0, "steady": 1.0, "memory": 2.0}}]
    compiled = replace(cell, framework="torch", mode="compile")
    assert estimate.once_s(compiled, done, first=True) == pytest.approx(2 + 26 - 8)
    assert estimate.once_s(compiled, done, first=False) == pytest.approx(2)
    assert estimate.once_s(replace(compiled, mode="eager"), done, first=True) == pytest.approx(2)
    assert estimate.once_s(replace(compiled, cache="cold"), done, first=True) == pytest.approx(2)
    assert estimate.once_s(compiled, [], first=True) == 0
