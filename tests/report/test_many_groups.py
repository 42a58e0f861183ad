"""Many groups in one run: those that could not run here are a line, and names have room."""

from __future__ import annotations

from report.test_html import page
from report.test_tables import printed
from stats import synthetic

from tiebreak.report import charts, phrases
from tiebreak.stats.ratios import summarize


def test_in_the_terminal_they_are_one_line():
    text = printed(synthetic.typical() + synthetic.elsewhere(), width=100)
    assert text.count("device 'gpu' is not here") == 1
    assert "✗ 2 groups could not run here: device 'gpu' is not here: no GPU\n" in text
    assert "num_envs 1024" not in text
    half = [synthetic.visit("torch eager", 0, [1.0], group=synthetic.ELSEWHERE[0])]
    assert "num_envs 1024" in printed(half + synthetic.elsewhere(), width=100)


def test_on_the_page_they_are_one_line(tmp_path):
    found = page(tmp_path, synthetic.typical() + synthetic.elsewhere())
    first, _, rest = found.text.partition("What did not finish")
    assert "2 groups could not run here: device 'gpu' is not here: no GPU" in first
    assert "num_envs 1024" not in first
    assert rest.count("missing: device 'gpu' is not here") == 4
    assert "130 of 140 visits finished" in first


def test_where_nothing_could_run_every_group_is_shown(tmp_path):
    found = page(tmp_path, synthetic.elsewhere())
    assert "Which framework is fastest?" in found.text
    assert found.text.count("no cell finished.") == 4


def test_a_row_of_the_overview_holds_its_name():
    named = [
        "ppo · gymnax/CartPole-v1 · population · num_envs 4 · agents 1",
        "dqn · gymnasium/CartPole-v1 · iteration · num_envs 8 · agents 2",
    ]
    two = {"torch compile": 1.0, "linen jit": 2.0}
    groups = [g for name in named for g in summarize(synthetic.race(two, 2, group=name))]
    spec = charts.overview_chart(groups)
    cells, lines = len(two), max(title.count(" · ") for title in phrases.titles(groups)) + 1
    assert spec["height"]["step"] * cells >= 13 * lines
