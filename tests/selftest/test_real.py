"""The rows of real visits, made by the ordinary manager of subjects that sleep; and their rules."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from bench import fakes

from tiebreak.bench import clock
from tiebreak.bench.probes.base import Probe
from tiebreak.bench.probes.subject import AgentSubject
from tiebreak.bench.suite.plan import Cell, Job
from tiebreak.selftest.base import Context
from tiebreak.selftest.real import cpu_hog, races, real_slowdown, sample_lengths, timing
from tiebreak.selftest.simulated import simulator
from tiebreak.selftest.workloads import planted_work

TINY = replace(races.EFFORT, sample_s=0.002, samples=3, steady_s=0.0, silent_calls=1, warmup_s=0.0)


@pytest.fixture(autouse=True)
def _sleeping(monkeypatch):
    """Real processes, real clocks; only the work is a fake one."""
    monkeypatch.setenv("PYTHONPATH", fakes.python_path())
    monkeypatch.setattr(races, "SUBJECT", "selftest.sleepers:make_subject")
    monkeypatch.setattr(races, "frameworks", lambda: ["torch"])
    for module, name in ((timing, "LINEAR"), (cpu_hog, "EFFORT")):
        monkeypatch.setattr(module, name, replace(TINY, most_calls=1))
    monkeypatch.setattr(races.race, "__defaults__", (TINY, ""))


@pytest.fixture
def ctx(tmp_path):
    folder = tmp_path / "real-aa"
    folder.mkdir()
    return Context(folder, "smoke", 7, lambda text: None)


def test_two_names_of_one_cell_are_paired(ctx, monkeypatch):
    outcome = timing.real_aa(ctx)
    counts = outcome.measured
    assert counts["pairs"] == len(timing.AA_PROBES["torch"])
    assert counts["visits"] == 2 * 2 * counts["pairs"]
    assert "failures" not in counts, counts
    assert {pair["blocks"] for pair in outcome.raw["pairs"]} == {2}
    monkeypatch.setattr(races, "run_plan", None)  # what is complete is not run again
    assert timing.real_aa(ctx).measured == counts


def test_a_run_that_was_cut_short_is_made_again(ctx):
    cells = races.cells("torch", ["forward"], ["a", "b"])
    first = races.race(ctx, "run", cells, 1)
    records = ctx.folder / "run" / "records.jsonl"
    records.write_bytes(b"".join(records.read_bytes().splitlines(keepends=True)[:2]))
    again = races.race(ctx, "run", cells, 1)
    assert len(races.visits(again)) == len(races.visits(first)) == 2
    assert first[0]["run_id"] != again[0]["run_id"]


def test_a_visit_that_fails_fails_the_row(ctx, monkeypatch):
    monkeypatch.setattr(timing, "AA_PROBES", {"torch": ("forward", "no_such_probe")})
    outcome = timing.real_aa(ctx)
    assert outcome.passed is False
    assert sum(outcome.measured["failures"].values()) == 4
    assert "4 FAILED" in outcome.detail


def test_planted_work_reaches_the_summary(ctx, monkeypatch):
    monkeypatch.setattr(real_slowdown, "FACTORS", ("x1.00", "x1.50"))
    monkeypatch.setattr(real_slowdown, "PROBES", ("", "forward x20"))
    outcome = real_slowdown.real_slowdown(ctx)
    (found,) = outcome.raw["real"]
    assert found["factor"] == 1.5
    assert found["ratio"] == pytest.approx(1 / 1.5, rel=0.2)
    assert "failures" not in outcome.measured


@pytest.mark.slow
def test_both_clocks_are_read_in_every_visit_of_every_row(ctx):
    other = replace(ctx, folder=ctx.folder.parent / "second-clock")
    timing.real_aa(ctx)
    outcome = timing.second_clock(other)
    assert outcome.measured["with_both_clocks"] == outcome.measured["measurements"] == 20 + 2


def test_without_a_framework_rows_are_skipped(ctx, monkeypatch):
    monkeypatch.setattr(races, "frameworks", list)
    rows = (
        timing.real_aa,
        timing.linearity,
        timing.second_clock,
        cpu_hog.hog,
        real_slowdown.real_slowdown,
    )
    assert [row(ctx).passed for row in rows] == [None] * 5


@pytest.mark.parametrize(("label", "calls"), [("x1.05", 105), ("x1.00", 100), ("one name", 100)])
def test_planted_work_is_counted_and_not_confessed(monkeypatch, label, calls):
    done = [0]

    def once(self, name):
        assert name == "update"

        def call():
            done[0] += 4
            return done[0]

        return planted_work.Probe(
            "steps", 4, call, expected={"updates": 4}, numbers=lambda x: {"n": x}
        )

    monkeypatch.setattr(AgentSubject, "probe", once)
    task = "gymnasium/CartPole-v1"
    cell = Cell("ppo", "torch", "eager", task, "host", "update", label=label)
    probe = planted_work.make_subject(Job((cell,))).probe("update x100")
    outputs = probe.call()
    assert outputs[-1] == 4 * calls
    assert probe.units_per_call == 400
    assert probe.expected == {"updates": 4 * calls} == {"updates": done[0]}
    assert probe.numbers(outputs) == {"n": 4 * calls}


@pytest.mark.slow
def test_each_probe_is_measured_in_short_and_in_long_samples(ctx, monkeypatch):
    monkeypatch.setattr(sample_lengths, "SUBJECT", "selftest.sleepers:make_sampled_subject")
    monkeypatch.setattr(sample_lengths, "ONE_OF_EACH_RUNTIME", ("torch",))
    monkeypatch.setattr(sample_lengths, "PROBES", ("forward", "grows"))
    monkeypatch.setattr(sample_lengths, "why_unavailable", lambda cell: "")
    monkeypatch.setattr(sample_lengths, "SHORTEST_S", {"smoke": 0.02})
    monkeypatch.setattr(sample_lengths, "LEVEL", 0.5)  # two rounds make wide intervals
    outcome = sample_lengths.sample_length(ctx)
    ratios = outcome.measured["ratios"]
    assert ratios["torch forward"][0] == pytest.approx(1, abs=0.1)
    assert ratios["torch grows"][0] > 1.3  # whose calls slow down while outputs pile up in a sample
    assert outcome.passed is False
    assert "torch grows" in outcome.detail


def sampled(ratio, noise, rounds=5, begun=4):
    """Rounds of samples whose calls take `ratio` times as long in long ones, after a warm-up."""
    lengths = np.array(sample_lengths.LENGTHS)
    seconds = 0.4 * np.where(lengths > 1, ratio * lengths, lengths)
    noisy = np.random.default_rng(3).normal(1, noise, (rounds, len(lengths)))
    samples = [*seconds[begun:], *(seconds * noisy).ravel()]
    return sample_lengths.round_logs(np.array(samples), begun + len(samples))


def test_a_call_in_long_samples_is_compared_round_by_round():
    exact = sampled(1.25, noise=0)
    assert exact == pytest.approx([np.log(1.25)] * 5)

    interval = sample_lengths.t_interval(sampled(1.25, noise=0.03), 0.05 / 15)
    assert sample_lengths.surely_differs(interval)
    interval = sample_lengths.t_interval(sampled(0.8, noise=0.03), 0.05 / 15)
    assert sample_lengths.surely_differs(interval)
    interval = sample_lengths.t_interval(sampled(1.0, noise=0.05), 0.05 / 15)
    assert not sample_lengths.surely_differs(interval)
    assert 0.01 < sample_lengths.half_width(interval) < sample_lengths.WIDEST["quick"]


def test_eighteen_of_two_hundred():
    assert races.most_by_chance(200, 0.05) == 18
    assert races.most_by_chance(20, 0.05) == 4


def test_pairs_of_different_programs_are_called_different():
    rng = np.random.default_rng(0)
    order = simulator.orders(0, 1, 10)
    machine = simulator.LEVELS["quiet"]
    for effect, different in ((0.0, False), (0.2, True)):
        a, b = simulator.race(rng, machine, order, effect)
        records = [{**r, "cell": {**r["cell"], "label": timing.NAMES[r["cell"]["label"] == "B"]}}
                   for r in simulator.records(a[0], b[0])]  # fmt: skip
        (pair,) = timing.judged_pairs(records)
        assert pair["different"] is different


UNITS = (100, 200, 400, 800)


def test_a_line_is_a_line():
    fit = timing.fit_line(UNITS, [0.01 * n for n in UNITS])
    assert fit["residual"] == pytest.approx(0, abs=1e-9)
    assert fit["intercept"] == pytest.approx(0, abs=1e-9)
    constant = timing.fit_line(UNITS, [0.01 * n + 0.03 for n in UNITS])  # a clock that starts early
    assert constant["intercept_s"] == pytest.approx(0.03)
    assert constant["intercept"] == pytest.approx(0.03 / 0.4)
    assert constant["residual"] < timing.RESIDUAL
    part = timing.fit_line(UNITS, [0.01 * min(n, 600) for n in UNITS])  # not all of it waited for
    assert part["residual"] > timing.RESIDUAL


def mixed(seconds, calls, start_s=0.0):
    """A visit whose samples each last `seconds(k)` a unit in turn k; `calls` came before them."""
    probe = "update of 100, 200, 400, 800"
    turns = planted_work.amounts(probe)
    samples = [start_s + n * seconds(k) for k, n in enumerate(turns * 6)][calls % len(turns) :]
    work = {"calls": calls + len(samples)}
    cell = {"probe": probe}
    return {"kind": "visit", "status": "ok", "cell": cell, "samples_s": samples, "work": work}


@pytest.mark.parametrize("calls", [0, 3, 8, 13])
def test_a_machine_that_drifts_bends_no_line(calls):
    slow = mixed(lambda k: 1e-3 * (1 + 0.5 * (k // 8)), calls)  # each round at another speed
    late = mixed(lambda k: 1e-3 * 1.001**k, calls)  # ever slower, within a round too
    fit = timing.fit_visits([slow, late])
    assert fit["residual"] == pytest.approx(0, abs=1e-5)
    assert fit["intercept"] == pytest.approx(0, abs=1e-4)
    early = timing.fit_visits([mixed(lambda k: 1e-3, calls, start_s=0.003)])
    assert early["intercept_s"] == pytest.approx(0.003, rel=0.01)


def test_no_round_no_line():
    assert timing.fit_visits([]) == {}


def test_each_turn_does_its_own_amount_and_proves_it():
    class Counting:
        done = 0

        def call(self):
            self.done += 3

    base = Counting()
    once = Probe("gradient steps", 3, base.call, expected={"updates": 3},
                 counted=lambda: {"updates": base.done})  # fmt: skip
    probe = planted_work.Repeated._mixed(None, once, planted_work.amounts("update of 1, 2"))
    lengths = [len(probe.call()) for _ in range(6)]
    assert lengths == [1, 2, 2, 1, 1, 2]
    assert probe.counted() == {"turns": 6}
    base.done -= 3
    assert probe.counted() == {"turns": -1}


def test_repeated_calls_keep_no_more_outputs_alive_than_a_sample_does():
    made = iter(range(100))
    outputs = planted_work.repeat(lambda: next(made), 100)
    assert outputs == list(range(100))[-clock.KEPT :]


def test_clocks_apart():
    record = {"phases_s": {"steady": 2.0}, "parent_steady_s": 2.0109}
    assert (timing.clock_gap(record) or {})["excess_s"] < 0
    assert (timing.clock_gap({**record, "parent_steady_s": 2.0111}) or {})["excess_s"] > 0
    assert (timing.clock_gap({**record, "parent_steady_s": 1.98}) or {})["excess_s"] > 0
    assert timing.clock_gap({"phases_s": {"steady": 2.0}}) is None


def flagged(visits, contended, unfinished=0):
    return {"visits": visits, "contended": contended, "unfinished": unfinished}


def test_the_rule_of_hogs():
    fine = {"idle": flagged(20, 1), "hog": flagged(12, 12), "pinned-hog": flagged(12, 11)}
    assert cpu_hog.is_passed(fine)
    for change in (
        {"idle": flagged(20, 2)},
        {"idle": flagged(20, 0, 1)},
        {"hog": flagged(12, 11)},
        {"hog": flagged(12, 0, 12)},
    ):
        assert not cpu_hog.is_passed({**fine, **change}), change


def test_a_hog_computes_and_ends_with_its_block(monkeypatch):
    started = []
    popen = subprocess.Popen

    def keep(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", keep)
    with cpu_hog.busy([cpu_hog.affinity()[0]]):
        assert started[0].poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            started[0].wait(0.3)
    assert started[0].returncode is not None


def test_counted_as_noticed_is_only_what_finished_and_was_flagged():
    ok = {"kind": "visit", "status": "ok", "flags": {"contended": 0.4}}
    records = [ok, {**ok, "flags": {}}, {**ok, "status": "timeout"}, {"kind": "canary"}]
    found = cpu_hog.count_flagged(records)
    assert (found["visits"], found["contended"], found["unfinished"]) == (3, 1, 1)
