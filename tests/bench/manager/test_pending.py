"""Blocks in stages: measuring stops where intervals are narrow, whatever they say."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tiebreak.bench.clock import Clock, Timer
from tiebreak.bench.manager import budget, manager, pending, store
from tiebreak.bench.record import empty_result
from tiebreak.bench.suite.plan import Cell, Effort, Plan, Scale

NARROW, WIDE = 0.001, 0.5
"""Standard deviations of a visit's logarithm."""


class Simulated(Clock):
    now = 0.0

    def now_ns(self):
        return round(1e9 * self.now)


def cell(probe, label):
    return Cell("ppo", "numpy", "", "gymnasium/CartPole-v1", "host", probe, label=label)


def a_plan(stages=(2, 4, 6), shared=False, **settings):
    cells = tuple(cell(p, label) for p in ("update", "train") for label in ("one", "other"))
    scale = Scale(
        blocks=stages[-1], stages=stages, certificate=False, share_process=shared, **settings
    )
    return Plan("staged", "full", 0, scale, cells)


@pytest.fixture
def measure(monkeypatch, tmp_path):
    """Run a plan whose visits take what is drawn: `noise` by probe, `slower` of label other."""

    def go(plan, noise, slower=1.0, folder="out", seconds=1.0, resume=False, again=""):
        simulated = Simulated()

        def execute(self, runs, on_start, at_once, pace):
            executed = []
            for run in runs:
                on_start(run)
                executed.append((run, measured(self, run)))
            return executed

        def measured(self, run):
            simulated.now += seconds
            for c in run.cells:
                rng = random.Random(f"{run.block} {c.id}")
                value = rng.lognormvariate(0, noise[c.probe]) * (
                    slower if c.label == "other" else 1
                )
                result = {"status": "ok", "error": "", "unit": "x", "units_per_sample": 1}
                result |= {"samples_s": [value], "value_s": value, "calls_per_sample": 1}
                result |= {"started_at": "2026-01-01T00:00:00Z"}
                self.store_result(run, c, {**empty_result("ok", ""), **result})
            return []

        monkeypatch.setattr(manager.Runner, "execute", execute)
        monkeypatch.setattr(manager, "canary", lambda: {"python_loop": 1.0})
        for module in (manager, budget):
            monkeypatch.setattr(module, "Timer", lambda: Timer(simulated))
        if resume:
            with store.hold(tmp_path / folder):
                manager._fill(plan, tmp_path / folder, "", False, again)
        else:
            manager.run_plan(plan, tmp_path / folder, progress=False)
        return blocks(tmp_path / folder)

    return go


def blocks(folder):
    """Probe -> in how many blocks it was measured."""
    out = {}
    for record in store.read_records(folder):
        if record["kind"] == "visit":
            out.setdefault(record["cell"]["probe"], set()).add(record["block"])
    assert all(numbers == set(range(len(numbers))) for numbers in out.values())
    return {probe: len(numbers) for probe, numbers in out.items()}


def test_only_what_is_wide_goes_on(measure):
    assert measure(a_plan(), {"update": NARROW, "train": WIDE}) == {"update": 2, "train": 6}
    assert measure(a_plan(), {"update": WIDE, "train": WIDE}, folder="b") == dict.fromkeys(
        ("update", "train"), 6
    )


def test_groups_that_share_processes_go_on_together(measure):
    noise = {"update": NARROW, "train": WIDE}
    assert measure(a_plan(shared=True), noise) == {"update": 6, "train": 6}
    noise = {"update": NARROW, "train": NARROW}
    assert measure(a_plan(shared=True), noise, folder="b") == {"update": 2, "train": 2}


@pytest.mark.parametrize("slower", [1.0, 1.0001, 2.0])
def test_what_an_interval_says_never_decides(measure, slower):
    """A clear difference that is imprecise goes on; a precise one that is unclear stops."""
    noise = {"update": NARROW, "train": 0.03}
    assert measure(a_plan(), noise, slower) == {"update": 2, "train": 6}


def test_a_width_is_the_plans_to_set(measure):
    plan = a_plan(half_width=100.0)
    assert measure(plan, {"update": WIDE, "train": WIDE}) == {"update": 2, "train": 2}


def test_without_stages_all_blocks_are_run(measure):
    plan = a_plan()
    plan = replace(plan, settings=replace(plan.settings, stages=(), blocks=3))
    assert measure(plan, {"update": NARROW, "train": WIDE}) == {"update": 3, "train": 3}


def test_a_resumed_run_decides_as_the_first_one_did(measure, tmp_path):
    plan, noise = a_plan(), {"update": NARROW, "train": WIDE}
    whole = measure(plan, noise)
    records = tmp_path / "out" / store.RECORDS
    lines = records.read_bytes().splitlines(True)
    for cut in range(1, len(lines), 5):
        records.write_bytes(b"".join(lines[:cut]))
        assert measure(plan, noise, resume=True) == whole
        keys = [
            (r["block"], r["cell_id"]) for r in store.read_records(tmp_path / "out") if "cell" in r
        ]
        assert len(keys) == len(set(keys))


def test_later_blocks_do_not_change_what_was_decided(measure, tmp_path):
    plan = a_plan(stages=(2, 6), half_width=0.1)  # the more blocks, the narrower: train after six
    assert measure(plan, {"update": NARROW, "train": 0.03}) == {"update": 2, "train": 6}
    records = store.read_records(tmp_path / "out")
    update, train = plan.groups()
    assert pending.narrow_groups(plan, records, 2) == {update}
    assert pending.narrow_groups(plan, records, 6) == {update, train}


def test_what_has_no_interval_is_not_waited_for(measure):
    plan = a_plan()
    alone = replace(plan, cells=plan.cells[:1])
    assert measure(alone, {"update": WIDE}) == {"update": 2}


def test_a_budget_ends_stages_too(measure):
    plan = a_plan(budget_s=18.5)  # a block of both probes takes four seconds, of one of them two
    assert measure(plan, {"update": NARROW, "train": WIDE}) == {"update": 2, "train": 6}
    plan = a_plan(budget_s=12.5)
    assert measure(plan, {"update": NARROW, "train": WIDE}, folder="b") == {"update": 2, "train": 4}


@pytest.mark.parametrize(
    ("budget_s", "limit_s", "count"), [(None, None, 5), (100, 100, 3), (65, 100, 2), (40, 40, 1)]
)
def test_no_block_starts_that_would_end_too_late(measure, budget_s, limit_s, count):
    """Each visit takes 15 s, a block two of them; the first always starts."""
    plan = a_plan()
    limits = {"budget_s": budget_s, "limit_s": limit_s, "least_blocks": 2}
    settings = replace(plan.settings, stages=(), blocks=5, **limits)
    plan = replace(plan, cells=plan.cells[:2], settings=settings)
    assert measure(plan, {"update": WIDE}, seconds=15.0) == {"update": count}


def test_a_run_that_ends_in_time_says_how_to_go_on(measure, monkeypatch):
    said = []
    monkeypatch.setattr(manager.Progress, "say", lambda self, text: said.append(text))
    effort = Effort(samples=3, sample_s=0.1, steady_s=0.1, memory_calls=0)
    settings = replace(a_plan().settings, stages=(), blocks=5, budget_s=40.0, effort=effort)
    plan = replace(a_plan(), cells=a_plan().cells[:2], settings=settings)
    measure(plan, {"update": WIDE}, seconds=15.0)
    found = measure(plan, {"update": WIDE}, seconds=15.0, resume=True, again="GO --resume")
    assert found == {"update": 2}
    assert [text for text in said if text.startswith("stopped")] == [
        "stopped after block 1: the next would end too late",
        "stopped after block 2: the next would end too late; for more: GO --resume",
    ]


def test_the_time_left_is_told_by_the_visits_made(measure, monkeypatch):
    told = []
    monkeypatch.setattr(
        manager.Progress, "start", lambda self, run, left_s, interleaved: told.append(left_s)
    )
    plan = a_plan()
    effort = Effort(memory_calls=0)  # or the first block would take longer than the second
    settings = replace(plan.settings, stages=(), blocks=2, effort=effort)
    plan = replace(plan, cells=plan.cells[:2], settings=settings)
    measure(plan, {"update": WIDE}, seconds=7.0)
    assert told[2:] == [pytest.approx(14.0, rel=0.3), pytest.approx(told[2] - 7.0)]
    assert told[0] > told[1]
    plan = replace(plan, settings=replace(settings, budget_s=30.0))
    measure(plan, {"update": WIDE}, seconds=14.0, folder="b")
    assert told[4:] == [pytest.approx(min(told[0], 30.0)), pytest.approx(told[4] - 14.0)]


def test_what_cannot_run_here_is_counted_neither_as_runs_nor_as_time(measure, monkeypatch):
    added = []
    monkeypatch.setattr(manager.Progress, "add", lambda self, count: added.append(count))
    monkeypatch.setattr(
        pending, "why_unavailable", lambda cell: "no GPU" if cell.device == "gpu" else ""
    )
    settings = replace(a_plan().settings, stages=(), blocks=2)
    here = a_plan().cells[:2]
    there = tuple(replace(cell, device="gpu") for cell in here)
    plan = replace(a_plan(), cells=here + there, settings=settings)
    measure(plan, {"update": WIDE})
    assert added == [4]
    timed = pending.that_take_time(plan.block(0))
    assert [{cell.device for run in runs for cell in run.cells} for runs in timed] == [{"cpu"}]


def test_a_block_that_takes_too_long_is_said(measure, monkeypatch):
    said = []
    monkeypatch.setattr(manager.Progress, "say", lambda self, text: said.append(text))
    measure(a_plan(), {"update": NARROW, "train": NARROW}, seconds=299.0)
    assert not [text for text in said if "machine changes" in text]
    measure(a_plan(), {"update": NARROW, "train": NARROW}, seconds=301.0, folder="b")
    long = [text for text in said if "machine changes" in text]
    assert len(long) == 4
    assert long[0].startswith(
        "a block of ppo · gymnasium/CartPole-v1 · update · num_envs 1 took 10"
    )
    assert said[-1] == "after 2 blocks, all intervals are within ±1.5 %"


def test_a_canary_says_what_it_watched(measure, tmp_path):
    measure(a_plan(), {"update": NARROW, "train": NARROW})
    canaries = [r for r in store.read_records(tmp_path / "out") if r["kind"] == "canary"]
    assert [c["when"] for c in canaries] == ["open", "close"] * 4
    assert {tuple(c["groups"]) for c in canaries} == {(g,) for g in a_plan().groups()}
    assert all(c["seconds"] == 2.0 for c in canaries[1::2])
