"""Bars: lengths are times, whiskers are intervals, and nothing leaves the chart."""

from __future__ import annotations

import re

import pytest
from stats import synthetic

from tiebreak.report import answer, bars, formatting
from tiebreak.report.bars import Bar
from tiebreak.stats.ratios import summarize


def card(records) -> answer.Card:
    (found,) = answer.answer(summarize(records), {"suite": "quick", "scale": "quick"}).cards
    return found


def by_name(chart: bars.BarChart) -> dict[str, Bar]:
    return {bar.name: bar for bar in chart.bars}


def test_a_bar_is_start_and_a_million_steps_on_one_scale():
    chart = bars.time_chart("CartPole-v1", card(synthetic.race(noise=0.0005)))
    found = by_name(chart)
    slow, fast = found["TensorFlow"], found["NNX"]
    # 6.5 s to start, 1e6 · 10 µs / speed to train.
    expected = (6.5 + 1e7 * 1e-6 / 0.8) / (6.5 + 1e7 * 1e-6 / 3)
    assert slow.length / fast.length == pytest.approx(expected, rel=0.1)
    assert [part.pale for part in slow.segments] == [True, False]
    assert slow.segments[0].share == pytest.approx(fast.segments[0].share)
    assert re.fullmatch(r"1\d s", slow.text)
    assert chart.title == "CartPole-v1: how long do a million steps take?"


def test_a_whisker_holds_the_end_of_its_bar_and_stays_in_the_chart():
    for noise in (0.005, 0.5):
        chart = bars.time_chart("task", card(synthetic.race(blocks=3, noise=noise)))
        whiskers = [(bar.whisker, bar.length) for bar in chart.bars if bar.whisker]
        assert whiskers
        for (low, high), length in whiskers:
            assert 0 <= low <= length + 1e-9
            assert low < high <= 1
        assert max(bar.length for bar in chart.bars) <= 1
        assert "line: 95 % interval" in chart.caption


def test_one_block_has_no_whiskers_and_says_nothing_of_them():
    chart = bars.time_chart("task", card(synthetic.race(blocks=1)))
    assert not any(bar.whisker for bar in chart.bars)
    assert "interval" not in chart.caption


def test_a_barred_cell_is_marked_with_its_reason():
    records = synthetic.race(blocks=3)
    for record in records:
        if record["cell"]["label"] == "linen jit":
            record["flags"] = {"fell_to_eager": True}
    chart = bars.time_chart("task", card(records))
    assert [bar.name for bar in chart.bars if bar.barred] == ["Linen"]
    (note,) = chart.notes
    assert note.startswith("Linen is kept out of conclusions: fell_to_eager, the compiler gave up")


def test_several_machines_are_colors_of_one_chart():
    raced = card(synthetic.race(blocks=3))
    times = {one.cell.label: one for one in raced.times}
    slow = times["torch compile"]
    rows = {"nnx": {"a": times["nnx split"], "b": slow}, "torch": {"b": slow}}
    chart = bars.machines_chart("task", raced.group, rows, ("a", "b"))
    assert chart.legend == (("machine-0", "a"), ("machine-1", "b"))
    assert [bar.name for bar in chart.bars] == ["nnx", "", "torch"]
    assert [bar.segments[1].series for bar in chart.bars] == ["machine-0", "machine-1", "machine-1"]


def test_a_machine_has_one_color_in_all_charts():
    raced = card(synthetic.race(blocks=3))
    slow = raced.times[0]
    rows = {"torch": {"c": slow}, "nnx": {"b": slow._replace(barred=("fell_to_eager",))}}
    chart = bars.machines_chart("task", raced.group, rows, ("a", "b", "c"))
    assert chart.legend == (("machine-1", "b"), ("machine-2", "c"))
    assert [bar.segments[1].series for bar in chart.bars] == ["machine-2", "machine-1"]
    (note,) = chart.notes
    assert note.startswith("nnx on b is kept out of conclusions: fell_to_eager")


def test_start_up_is_what_precedes_the_first_sample():
    (group,) = summarize(synthetic.race(blocks=2))
    found = bars.start_up_bars(group)
    assert set(found) == {cell.cell_id for cell in group.cells}
    ((bar,), *_) = found.values()
    assert [part.series for part in bar.segments] == ["import", "build", "first_call", "warmup"]
    assert bar.text == "6.50 s"
    assert bar.length == pytest.approx(1)
    (absent,) = summarize([synthetic.failed("torch compile", 0)])
    assert bars.start_up_bars(absent) == {absent.cells[0].cell_id: ()}


def test_times_in_words_have_two_digits():
    written = [
        formatting.about_time(s)
        for s in (0.084, 0.84, 8.4, 62.2, 99.4, 101.0, 1680.0, 5960.0, 6840.0, 200_000.0, None)
    ]
    assert written == [
        "84 ms", "840 ms", "8.4 s", "62 s", "99 s", "1.7 min", "28 min", "99 min", "1.9 h",
        "2.3 days", "–",
    ]  # fmt: skip
