"""A race within its budget: which probes come first, how many rounds, and what is repeated."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tiebreak.bench.clock import Clock, Timer
from tiebreak.bench.manager import budget, manager, pending, store
from tiebreak.bench.manager.budget import Budget
from tiebreak.bench.record import empty_result
from tiebreak.bench.suite.durations import Duration
from tiebreak.bench.suite.plan import Cell, Effort, Plan, Scale

PROBES = ("update", "train")


class Simulated(Clock):
    now = 0.0

    def now_ns(self):
        return round(1e9 * self.now)


def plan(**settings):
    """Two races of two rows each, with train first in three blocks."""
    cells = tuple(
        Cell("ppo", *row, f"gymnasium/{task}", "host", probe, label=row[0])
        for task in ("CartPole-v1", "HalfCheetah-v4")
        for probe in PROBES
        for row in (("torch", "compile"), ("linen", "jit"))
    )
    scale = {
        "blocks": 6,
        "least_blocks": 3,
        "first": ("train",),
        "rounds": 30,
        "share_process": True,
        "certificate": False,
        "start_at_once": 2,
        "repeat_contended": True,
        "budget_s": 1000.0,
        "limit_s": 1000.0,
        "effort": Effort(samples=8, sample_s=0.1, memory_calls=0),
        **settings,
    }
    return Plan("paced", "quick", 0, Scale(**scale), cells)


class Typical:
    """Durations of all cells: about those of the machine below."""

    def of(self, cell):
        return Duration(load_s=2.0, cold_s=27.0, warm_s=13.0, prepare_s=0.0, call_s=0.2)


class Machine:
    """Executes interleavings in simulated time: to prepare takes 60 s the first time, then 20 s.

    Each round takes `round_s` for every run, other probes take 5 s. `others` is the share of CPU
    time that other processes take in the simulated hour, by (block, attempt).
    """

    def __init__(self, monkeypatch, folder, round_s=0.5, others=None):
        self.clock, self.folder = Simulated(), folder
        self.round_s, self.others = round_s, others or {}
        self.executed = []
        monkeypatch.setattr(manager.Runner, "execute", self._executor())
        monkeypatch.setattr(manager, "known_durations", Typical)
        monkeypatch.setattr(manager, "canary", lambda: {"python_loop": 1.0})
        for module in (manager, budget):
            monkeypatch.setattr(module, "Timer", lambda: Timer(self.clock))

    def race(self, plan):
        manager.run_plan(plan, self.folder, progress=False)
        return [r for r in store.read_records(self.folder) if r["kind"] == "visit"]

    def _executor(self):
        def execute(runner, runs, on_start, at_once, pace):
            for run in runs:
                on_start(run)
            self.executed.append((runs[0].block, runs[0].cells[0].task, at_once))
            cold = runs[0].block == 0 and not runs[0].attempt
            self.clock.now += 60.0 if cold else 20.0
            rounds = self._sample(runs, pace)
            probes = {cell.probe for run in runs for cell in run.cells} - {"train"}
            is_paced = any(cell.probe == "train" for run in runs for cell in run.cells)
            if probes and is_paced and not pace.goes_on(probes):
                runs = [
                    r._replace(cells=tuple(c for c in r.cells if c.probe == "train")) for r in runs
                ]
            else:
                self.clock.now += 5.0 * len(probes)
            return [(run, self._store(runner, run, rounds)) for run in runs]

        return execute

    def _sample(self, runs, pace):
        started, rounds = self.clock.now, 8
        self.clock.now += rounds * len(runs) * self.round_s
        while pace.wants_more("train", rounds, self.clock.now - started):
            rounds += 1
            self.clock.now += len(runs) * self.round_s
        return rounds

    def _store(self, runner, run, rounds):
        others = self.others.get((run.block, run.attempt), 0.0)
        result = {
            **empty_result("ok", ""),
            "samples_s": [1.0] * rounds,
            "value_s": 1.0,
            "units_per_sample": 1,
            "calls_per_sample": 1,
            "unit": "x",
            "started_at": "2026-01-01T00:00:00Z",
            "phases_s": {"steady": 10.0},
            "contention": {"others": others},
        }
        for cell in run.cells:
            runner.store_result(run, cell, result)
        return [(cell, result) for cell in run.cells]


def measured(records, probe):
    """(block, attempt) -> number of rounds of each run."""
    out = {}
    for r in records:
        if r["cell"]["probe"] == probe:
            key = r["block"], r.get("attempt", 0)
            out.setdefault(key, set()).add(len(r["samples_s"]))
    return out


def test_the_first_probes_are_measured_in_all_first_blocks_before_others(monkeypatch, tmp_path):
    records = Machine(monkeypatch, tmp_path / "out").race(plan())
    order = [(r["cell"]["probe"], r["block"]) for r in records]
    last_first = max(i for i, pair in enumerate(order) if pair == ("train", 2))
    assert all(
        probe == "train" or i > order.index(("train", 2)) for i, (probe, _) in enumerate(order)
    )
    assert {b for probe, b in order[: last_first + 1] if probe == "train"} == {0, 1, 2}
    assert set(measured(records, "train")) == {(b, 0) for b in range(6)}
    assert set(measured(records, "update")) == {(b, 0) for b in range(6)}
    assert order[-1] == ("update", 1)  # the other probes of the first blocks come last


def test_with_time_all_rounds_are_taken(monkeypatch, tmp_path):
    records = Machine(monkeypatch, tmp_path / "out").race(plan())
    assert set().union(*measured(records, "train").values()) == {30}


@pytest.mark.parametrize(("limit_s", "least"), [(350.0, 10), (300.0, 8), (500.0, 30)])
def test_fewer_rounds_are_taken_where_the_first_blocks_would_end_too_late(
    monkeypatch, tmp_path, limit_s, least
):
    """To prepare takes 120 s in the first block and 40 s a block after it; a round 1 s."""
    machine = Machine(monkeypatch, tmp_path / "out")
    records = machine.race(plan(budget_s=limit_s, limit_s=limit_s))
    rounds = measured(records, "train")
    assert {(0, 0), (1, 0), (2, 0)} <= set(rounds)
    counts = set().union(*rounds.values())
    assert min(counts) >= least
    assert all(count % 2 == 0 for count in counts)
    assert machine.clock.now <= limit_s


def test_without_time_for_others_they_are_left_out_and_said_so(monkeypatch, tmp_path):
    said = []
    monkeypatch.setattr(manager.Progress, "say", lambda self, text: said.append(text))
    records = Machine(monkeypatch, tmp_path / "out").race(plan(budget_s=300.0, limit_s=320.0))
    assert measured(records, "update") == {}
    assert set(measured(records, "train")) == {(0, 0), (1, 0), (2, 0)}
    said = [text for text in said if not text.startswith("[")]
    assert said == ["stopped after block 3: the next would end too late"]


def test_the_time_left_counts_all_blocks_that_will_be_made(monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(
        manager.Progress, "start", lambda self, run, left_s, interleaved: told.append(left_s)
    )
    machine = Machine(monkeypatch, tmp_path / "out")
    machine.race(plan(budget_s=300.0, limit_s=320.0))
    assert told[0] == 300.0
    assert told == sorted(told, reverse=True)
    told.clear()
    machine = Machine(monkeypatch, tmp_path / "whole")
    machine.race(plan(budget_s=10_000.0, limit_s=10_000.0))
    assert told[0] == pytest.approx(machine.clock.now, rel=0.5)  # from the estimate
    assert told[4] == pytest.approx(machine.clock.now - 180.0, rel=0.3)  # after a first block


def test_a_resumed_race_knows_how_long_its_blocks_took(monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(
        manager.Progress, "start", lambda self, run, left_s, interleaved: told.append(left_s)
    )
    # A round takes a hundred times what is estimated, and so blocks several times.
    machine = Machine(monkeypatch, tmp_path / "out", round_s=10.0)
    short = plan(blocks=3, budget_s=10_000.0, limit_s=10_000.0)
    machine.race(short)
    began, told[:] = machine.clock.now, []
    longer = plan(blocks=5, budget_s=10_000.0, limit_s=10_000.0)
    with store.hold(tmp_path / "out"):
        manager._fill(longer, tmp_path / "out", "", False, "")
    assert told[0] == pytest.approx(machine.clock.now - began, rel=0.1)


def test_only_the_first_block_is_prepared_one_by_one(monkeypatch, tmp_path):
    machine = Machine(monkeypatch, tmp_path / "out")
    machine.race(plan())
    cpus = Budget(plan().settings, 1)
    at_once = {block: n for block, _, n in machine.executed}
    assert at_once[0] == 1
    assert cpus.at_once(plan().block(3)[0]) == 1  # never more than there are CPUs
    assert Budget(plan().settings, 8).at_once(plan().block(3)[0]) == 2


def test_a_contended_block_is_repeated_whole(monkeypatch, tmp_path):
    records = Machine(monkeypatch, tmp_path / "out", others={(1, 0): 0.2}).race(plan())
    train = measured(records, "train")
    assert set(train) == {*((b, 0) for b in range(6)), (1, 1)}
    again = [r for r in records if r.get("attempt")]
    assert {(r["cell"]["task"], r["cell"]["label"]) for r in again} == {
        (task, label)
        for task in ("gymnasium/CartPole-v1", "gymnasium/HalfCheetah-v4")
        for label in ("torch", "linen")
    }


def test_not_more_than_half_of_the_blocks_are_repeated(monkeypatch, tmp_path):
    others = {(block, attempt): 0.25 for block in range(6) for attempt in range(9)}
    records = Machine(monkeypatch, tmp_path / "out", others=others).race(plan(budget_s=5000.0))
    assert len({key for key in measured(records, "train") if key[1]}) == 3


def test_a_little_contention_and_any_value_repeat_nothing(monkeypatch, tmp_path):
    others = dict.fromkeys(((0, 0), (1, 0), (2, 0)), 0.049)
    records = Machine(monkeypatch, tmp_path / "out", others=others).race(plan())
    assert not [r for r in records if r.get("attempt")]
    off = replace(plan().settings, repeat_contended=False)
    others = {(1, 0): 0.5}
    records = Machine(monkeypatch, tmp_path / "off", others=others).race(
        replace(plan(), settings=off)
    )
    assert not [r for r in records if r.get("attempt")]


def test_the_most_contended_block_is_repeated_first(monkeypatch, tmp_path):
    others = {(0, 0): 0.1, (2, 0): 0.3}
    records = Machine(monkeypatch, tmp_path / "out", others=others).race(plan())
    groups = {r["group"] for r in records}
    again = pending.contended_runs(plan(), records, range(3))
    assert again == []  # both were repeated, and the repetition counts
    first = [r for r in records if not r.get("attempt")]
    assert [runs[0].block for runs in pending.contended_runs(plan(), first, range(3))] == [
        2,
        2,
        0,
        0,
    ]
    assert groups == set(plan().groups())


def test_scales_without_first_probes_have_one_stage():
    settings = Scale(blocks=4, rounds=0)
    assert [stage.blocks for stage in pending.stages(settings)] == [range(4)]
    assert Budget(settings, 2).is_paced(plan().cells[0]) is False
