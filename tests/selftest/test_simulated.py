"""The simulated rows pass as they are, and fail when the statistics under them are broken."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from tiebreak.selftest.base import Context
from tiebreak.selftest.simulated import false_alarms, quick_runs, simulator, slowdown
from tiebreak.selftest.simulated.simulator import LEVELS
from tiebreak.stats import intervals

SUITES = 1500


@dataclass
class Small(Context):
    """A context whose every count is SUITES."""

    def count(self, smoke, quick, full):
        return SUITES


@pytest.fixture(scope="module")
def order():
    return simulator.orders(3, 100)


@pytest.fixture
def ctx(tmp_path):
    return Small(tmp_path, "smoke", 3, lambda text: None)


@pytest.fixture
def few(ctx):
    """A context whose every count is 600: enough for what must fail, and 7200 of quick runs'."""
    ctx.count = lambda smoke, quick, full: 600
    return ctx


@pytest.fixture(scope="module")
def planted(order):
    """What `slowdown` finds of planted work on the usual machine."""
    return slowdown.planted(np.random.default_rng(5), LEVELS["usual"], order, SUITES)


@pytest.fixture(scope="module")
def covered(tmp_path_factory):
    """How often intervals of the tool cover the truth."""
    return false_alarms.coverage(Small(tmp_path_factory.mktemp("x"), "smoke", 3, lambda text: None))


def raced(level, order, effect=0.0, seed=3):
    d, _ = false_alarms._raced(np.random.default_rng(seed), LEVELS[level], order, SUITES, effect)
    return d


def test_identical_programs_pass(ctx):
    outcome = false_alarms.simulated_aa(ctx)
    assert outcome.passed, outcome
    assert outcome.measured["summaries_that_differ"] == 0


@pytest.mark.parametrize("level", LEVELS)
def test_the_pooled_control_fails_at_every_level(level):
    assert false_alarms.pooled(np.random.default_rng(0), LEVELS[level], 200) > false_alarms.POOLED


def test_without_interleaving_identical_programs_are_called_different():
    visits = simulator.log_times(np.random.default_rng(0), LEVELS["usual"], 300, 100)
    d = simulator.differences(visits[:, :50], visits[:, 50:])
    assert false_alarms.false_alarms(d)["fixed"] > 0.3


def test_without_mirrored_blocks_a_warming_machine_tells_programs_apart(few, monkeypatch):
    schedules = simulator.orders
    monkeypatch.setattr(simulator, "orders", lambda *a: np.ones_like(schedules(*a)))
    outcome = false_alarms.simulated_aa(few)
    assert outcome.passed is False
    assert outcome.measured["usual"]["staged"] > 0.1


def test_stopping_at_the_first_significant_stage_fails(few, monkeypatch):
    def lucky(d):
        judged = simulator.fixed(d, 10)
        for blocks in simulator.STAGES[1:]:
            more, keep = simulator.fixed(d, blocks), simulator.different(judged.t)
            t = (np.where(keep, old, new) for new, old in zip(more.t, judged.t, strict=True))
            judged = simulator.Judged(judged.blocks, intervals.Interval(*t))
        return judged

    monkeypatch.setattr(simulator, "staged", lucky)
    outcome = false_alarms.simulated_aa(few)
    assert outcome.passed is False
    assert min(outcome.measured[level]["staged"] for level in LEVELS) > 0.08


def test_a_summary_that_says_something_else_fails(ctx, monkeypatch):
    monkeypatch.setattr(simulator, "differences", lambda a, b, turns: a.mean(-1) - b.mean(-1))
    outcome = false_alarms.simulated_aa(ctx)
    assert outcome.passed is False
    assert "summaries differ" in outcome.detail


def normal_instead_of_t(d, level=0.05):
    mean, sd = d.mean(-1), d.std(-1, ddof=1)
    half = 1.96 * sd / math.sqrt(d.shape[-1])
    return intervals.Interval(mean, mean - half, mean + half, np.ones_like(mean), sd)


def test_intervals_cover_and_normal_ones_do_not(covered, ctx, monkeypatch):
    assert covered.passed, covered
    few = covered.measured["normal"]["3"]
    assert few == pytest.approx(0.95, abs=0.025)
    monkeypatch.setattr(intervals, "t_interval", normal_instead_of_t)
    broken = false_alarms.coverage(ctx)
    assert broken.measured["normal"]["3"] < 0.85
    assert broken.passed is False


def test_what_intervals_cannot_hold_is_told(covered):
    for shares in covered.measured["limits"].values():
        assert shares["10"] < 0.9
    assert "known limits" in covered.detail


def test_stages_end_where_the_interval_is_narrow(order):
    quiet, rough = (simulator.staged(raced(level, order)) for level in ("quiet", "rough"))
    assert np.median(quiet.blocks) == simulator.STAGES[0]
    assert set(rough.blocks) == {simulator.STAGES[-1]}
    usual = simulator.staged(raced("usual", order))
    narrow = simulator.half_width(usual.t) <= simulator.HALF_WIDTH
    assert (narrow | (usual.blocks == simulator.STAGES[-1])).all()


def test_turns_make_a_machine_usable_that_is_not(order, monkeypatch):
    """The worst machine of all, with the fewest blocks; visits one after the other see nothing."""
    in_turns = simulator.staged(raced("turns", order))
    assert np.median(in_turns.blocks) <= 20
    monkeypatch.setitem(LEVELS, "turns", LEVELS["turns"]._replace(turns=False))
    one_by_one = simulator.staged(raced("turns", order))
    assert np.median(one_by_one.t.sd) > 10 * np.median(in_turns.t.sd)


def test_neighbours_are_what_is_compared(order):
    """Medians of each cell's own samples would see the machine's states, not the programs."""
    machine = LEVELS["turns"]
    a, b = simulator.race(np.random.default_rng(0), machine, order)
    apart, beside = simulator.differences(a, b), simulator.differences(a, b, turns=True)
    assert apart.std() > 1.5 * beside.std()


def test_blocks_are_the_managers_own(order):
    assert (order[:, 0::2] != order[:, 1::2]).all()  # mirrored
    assert 0.3 < order[:, 0::2].mean() < 0.7  # drawn


def test_planted_work_is_seen(planted):
    for effect in ("5%", "10%", "20%"):
        assert planted[effect]["covered"] >= slowdown.COVERED
        assert planted[effect]["seen_of_visible"] >= 0.99
        assert planted[effect]["wrong_sign"] == 0


def test_a_ratio_the_wrong_way_round_is_caught(order):
    answers = slowdown.answers(raced("usual", order) + math.log1p(0.1), 0.1)
    assert answers["wrong_sign"] > 0.99 * SUITES
    assert answers["covered"] == 0


@pytest.mark.parametrize("blocks", [4, 10])
def test_the_printed_effect_is_the_tools_own(order, blocks):
    result = simulator.fixed(raced("usual", order)[:30], blocks)
    wanted = [intervals.detectable(float(sd), blocks) for sd in result.t.sd]
    assert slowdown.printed(result) == pytest.approx(wanted, rel=0.01)


FINE = {"covered": 0.95, "seen": 0.9, "wrong_sign": 0, "visible": 9000, "seen_of_visible": 0.9}


def level(at_printed=0.81, **changed):
    effects = {f"{effect:.0%}": dict(FINE) for effect in slowdown.EFFECTS}
    effects["10%"] |= changed
    return effects | {f"at the printed effect, {name}": at_printed for name in slowdown.DESIGNS}


def test_planted_work_is_judged_by_the_worst_level():
    assert slowdown.judge([level(), level()], 10_000)[0]
    assert slowdown.judge([level(at_printed=0.795)], 10_000)[0]  # within two standard errors
    wrong = [
        {"at_printed": 0.78}, {"covered": 0.92}, {"wrong_sign": 10}, {"seen_of_visible": 0.79},
    ]  # fmt: skip
    for change in wrong:
        assert not slowdown.judge([level(), level(**change)], 10_000)[0], change


def test_a_wrong_sign_below_five_percent_is_chance():
    one = level()
    one["2%"] = {**FINE, "wrong_sign": 3, "visible": 0, "seen_of_visible": None}
    assert slowdown.judge([one], 10_000)[0]


def test_four_in_five_see_the_printed_effect(planted):
    assert planted["at the printed effect, 4 blocks"] >= slowdown.least_share(SUITES)


def test_quick_runs_are_as_sure_as_they_say(few):
    outcome = quick_runs.quick_runs(few)
    assert outcome.passed, outcome
    assert outcome.measured["summaries_that_differ"] == 0


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_intervals_of_a_wrong_width_fail_them(few, monkeypatch, factor):
    right = intervals.scatter
    monkeypatch.setattr(intervals, "scatter", lambda *given: factor * right(*given))
    assert not quick_runs.quick_runs(few).passed
