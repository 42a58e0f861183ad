"""Many groups in one run: those that could not run here are a line, and names have room."""

from __future__ import annotations

from report.test_html import page
from report.test_tables import printed
from stats import synthetic


def test_in_the_terminal_they_are_one_line():
    text = printed(synthetic.typical() + synthetic.elsewhere(), width=100)
    assert text.count("device 'gpu' is not here") == 1
    assert "✗ 2 groups could not run here: device 'gpu' is not here: no GPU\n" in text
    assert "num_envs 1024" not in text
    half = [synthetic.visit("torch eager", 0, [1.0], group=synthetic.ELSEWHERE[0])]
    assert "num_envs 1024" in printed(half + synthetic.elsewhere(), width=100)


def test_on_the_page_they_are_one_line(tmp_path):
    found = page(tmp_path, synthetic.typical() + synthetic.elsewhere())
    first, _, rest = found.words.partition("What did not finish")
    assert "2 groups could not run here: device 'gpu' is not here: no GPU" in first
    assert "num_envs 1024" not in first
    assert rest.count("missing: device 'gpu' is not here") == 1
    assert all(f"{group}: " in rest for group in synthetic.ELSEWHERE)
    assert "10 of 140 runs did not finish" in first


def test_where_nothing_could_run_every_group_is_shown(tmp_path):
    found = page(tmp_path, synthetic.elsewhere())
    for group in synthetic.ELSEWHERE:
        assert group in found.words
