"""The page of a history: a chart for each cell, with changes marked, and the same as a table."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import pytest
from report.test_html import EVIL, Page
from stats import synthetic

from tiebreak.report.history import read_history
from tiebreak.report.history_page import to_html
from tiebreak.report.history_plot import LABEL, plot
from tiebreak.stats.history import Change, Point, Series
from tiebreak.stats.summaries import Comparison

OTHER = "ppo · gymnax/CartPole-v1 · update · num_envs 4"


def folders(path, versions=(2.0, 2.0, 2.0, 3.0, 3.0), **suite):
    """A folder for each speed of NNX, which race torch and Linen; the last group never changes."""
    made = []
    for number, nnx in enumerate(versions, 1):
        mark = f"{number:x}" * 16
        about = synthetic.machine(mark)
        speeds = {"torch compile": 1.0, "nnx split": nnx, "linen jit": 2.0}
        more: dict[str, Any] = {"fingerprint": mark, "run_id": f"run-{number}"}
        still = {**speeds, "nnx split": 2.0}
        records = [
            about,
            *synthetic.race(still, blocks=4, seed=number + 50, group=OTHER, **more),
            *synthetic.race(speeds, blocks=4, seed=number, **more),
        ]
        name = path / f"v{number}"
        made.append(synthetic.store(name, records, commit=f"{number:x}" * 12, **suite))
    return made


@pytest.fixture
def page(tmp_path):
    file = tmp_path / "history.html"
    file.write_text(to_html(read_history(folders(tmp_path))))
    return Page(file)


def test_the_heading_is_the_largest_change(page):
    (heading,) = re.findall(r"<h1>(.*?)</h1>", page.source)
    assert re.fullmatch(
        r"nnx split became 1\.(49|50|51)× as fast relative to torch compile from v4 on\.", heading
    )
    assert "TIEBREAK · history · quick at scale quick · Some CPU @ 2.4 GHz · 2 cores" in page.words
    assert "5 folders · 2026-01-02 nnx split became" in page.words


def test_each_cell_has_a_chart_with_a_name_for_readers_without_sight(page):
    charts = [a for tag, a in page.elements if tag == "div" and a.get("role") == "img"]
    assert len(charts) == 4
    changed = [chart for chart in charts if "became" in chart["aria-label"]]
    (label,) = [chart["aria-label"] for chart in changed]
    assert label.startswith("nnx split over 5 folders: ")
    assert "from 4 (v4, commit 44444444), p < 0.0001" in label
    assert page.classes("path").count("dot") == 20
    assert page.classes("path").count("whisker") == 20
    assert page.classes("path").count("when") == 1
    assert re.search(r'<span class="change \w+"[^>]*>1\.(49|50|51)× from 4</span>', page.source)


def test_a_table_has_every_ratio_and_names_the_change(page):
    rows = re.findall(r"<tr>(.*?)</tr>", page.source)
    (changed,) = [row for row in rows if "changed by 1." in row]
    assert "<th>4 v4</th><td>44444444</td>" in changed
    assert sum(bool(re.match(r"<th>\d v\d</th>", row)) for row in rows) == 10


def test_groups_that_changed_come_first(page):
    titles = re.findall(r"<h2>(.*?)</h2>", page.source)
    assert ["train" in title for title in titles[:2]] == [True, False]


def test_it_loads_and_runs_nothing(page):
    assert "default-src 'none'" in page.source
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object"}
    assert not page.attributes("src")
    assert not page.attributes("href")


def test_without_a_change_it_says_so(tmp_path):
    html = to_html(read_history(folders(tmp_path, (2.0, 2.0))))
    assert "<h1>No change is certain: 4 cells over 2 folders.</h1>" in html
    assert 'class="when"' not in html


def test_what_folders_say_is_escaped(tmp_path):
    made = folders(tmp_path, (2.0, 3.0), suite=EVIL)
    assert EVIL not in to_html(read_history(made))


def comparison(ratio, half=0.01):
    empty = dict.fromkeys(("bootstrap_low", "bootstrap_high", "sd", "p", "p_holm", "detectable"))
    low, high = ratio * math.exp(-half), ratio * math.exp(half)
    return Comparison(blocks=5, ratio=ratio, low=low, high=high, verdict="FASTER", **empty)


def series(ratios, half=0.01, changes=()):
    points = tuple(Point(i, "f" * 16, comparison(r, half)) for i, r in enumerate(ratios))
    return Series("group", "nnx", "torch", "nnx", "hardware", points, tuple(changes))


@pytest.mark.parametrize(
    ("ratios", "half"),
    [((2.0, 2.0), 0.001), ((1.0, 30.0), 0.02), ((2.0, 2.1, 1.9), 3.0), ((0.01, 0.02), 0.5)],
)
def test_everything_stays_in_the_chart(ratios, half):
    drawn = plot(series(ratios, half), [f"v{i}" for i in range(len(ratios))])
    for mark in drawn.marks:
        assert 0 <= mark.top < mark.y < mark.bottom <= 100
        assert 0 < mark.x < 100
    assert 2 <= len(drawn.heights) <= 6
    assert all(0 <= tick.at <= 100 for tick in drawn.heights)
    assert len({tick.text for tick in drawn.heights}) == len(drawn.heights)
    assert len(drawn.numbers) <= 10


def test_a_higher_ratio_is_higher_and_noise_looks_small():
    rising = plot(series((1.0, 2.0, 4.0)), "abc").marks
    assert rising[0].y > rising[1].y > rising[2].y
    assert rising[0].y - rising[1].y == pytest.approx(rising[1].y - rising[2].y, abs=0.02)
    quiet = plot(series((2.0, 2.002), half=0.001), "ab").marks
    assert abs(quiet[0].y - quiet[1].y) < 5


def test_labels_of_close_changes_do_not_overlap():
    changes = [Change(i, 1.0, 2.0, 0.01) for i in (0, 1, 2, 6, 7)]
    drawn = plot(series([1.0, 2.0] * 6, changes=changes), "abcdefghijkl")
    assert [change.x for change in drawn.changes] == sorted(change.x for change in drawn.changes)
    assert drawn.label_rows == 1 + max(change.row for change in drawn.changes)
    for row in range(drawn.label_rows):
        places = [change.x for change in drawn.changes if change.row == row]
        starts = [min(max(x - LABEL / 2, 0), 100 - LABEL) for x in places]
        assert all(b - a >= LABEL for a, b in itertools.pairwise(starts))
    assert [level.y for level in drawn.levels[:2]] == [drawn.marks[0].y, drawn.marks[1].y]
