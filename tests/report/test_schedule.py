"""How a run was laid out: blocks, stages and what the canaries saw."""

from __future__ import annotations

import re

from report.test_html import page
from stats import synthetic

from tiebreak.report import page_data
from tiebreak.stats.ratios import summarize


def test_stages_and_unrest_are_in_the_page(tmp_path):
    settings = {"stages": [10, 20, 30, 50], "half_width": 0.015}
    found = page(tmp_path, synthetic.staged(), settings=settings, blocks_planned=50)
    text = re.sub(r"\s+", " ", found.text)
    for part in (
        "20 of 50 planned blocks",
        "10, 20, 30, 50 blocks: the next stage runs while an interval is wider than ±1.5 %",
        "train: 10; update: 20",
        "a canary changed by 40.0 % within a block",
    ):
        assert part in text, part
    plain = page(tmp_path / "plain", synthetic.typical())
    assert "a canary changed" not in plain.text
    assert "blocks: the next stage" not in plain.text


def test_lines_say_what_is_known_and_nothing_else():
    records = synthetic.race(blocks=2)
    groups = summarize(records)
    assert page_data.schedule({}, groups, records) == [
        ("schedule", "2 of unknown planned blocks, order drawn from seed unknown")
    ]
    assert page_data.schedule({}, [], [synthetic.machine()]) == []
    suite = {"blocks_planned": 6, "seed": 3, "settings": {"stages": [2, 6]}}
    lines = page_data.schedule(suite, groups, [*records, synthetic.canary(0, "open", 0.01)])
    assert lines[1] == (
        "stages",
        "2, 6 blocks: the next stage runs while an interval is wider than requested",
    )
    assert [name for name, _ in lines[2:]] == ["canary, numpy", "canary, python"]
