"""Memory in reports: what a call keeps, who leaks, and the lines that show it."""

from __future__ import annotations

import io
import json
import re

from report.test_html import page
from rich.console import Console
from stats import synthetic

from tiebreak.report import charts, memory, tables
from tiebreak.report.charts import memory_chart
from tiebreak.stats.ratios import summarize


def test_the_leak_probe_says_who_keeps_what():
    (group,) = summarize(synthetic.leaking())
    assert memory.leaks(group) == (
        "nnx split keeps 1.31 MB per rebuilt agent; "
        "linen jit and torch eager keep nothing that can be measured."
    )
    assert [memory.kept_per_call(cell, True) for cell in group.cells] == [
        "nothing",
        "nothing",
        "1.31 MB",
    ]
    assert [memory.kept_per_call(cell, False) for cell in group.cells] == [
        "unknown",
        "unknown",
        "1.31 MB",
    ]


def test_nothing_is_claimed_of_too_few_calls(tmp_path):
    records = [r for r in synthetic.leaking() if r["cell"]["framework"] != "nnx"]
    (group,) = summarize(records)
    assert (
        memory.leaks(group)
        == "Too few calls to judge linen jit and torch eager: no growth was seen."
    )
    assert (
        memory.leaks(group, judged=True)
        == "linen jit and torch eager keep nothing that can be measured."
    )
    assert (
        "linen jit and torch eager keep nothing that can be measured."
        in page(tmp_path / "many", records).text
    )
    for r in records:
        del r["memory"]["growth_low_bytes_per_call"]
    few = re.sub(r"\s+", " ", page(tmp_path / "few", records).text)
    assert "Too few calls to judge linen jit and torch eager: no growth was seen." in few
    assert "torch eager 412 MB 1.31 MB unknown 0 B" in few


def test_other_probes_and_older_records_make_no_claim():
    for records in (synthetic.race(blocks=2), synthetic.remembering(synthetic.race(blocks=2), {})):
        (group,) = summarize(records)
        assert memory.leaks(group) == ""
    (old,) = summarize(synthetic.race(blocks=2))
    assert {memory.kept_per_call(cell, True) for cell in old.cells} == {"–"}
    assert not memory.has_more_than_peak(old)


def test_the_one_visit_with_a_series_tells():
    records = synthetic.leaking(blocks=5)
    flagged = [r for r in records if r["flags"]]
    for r in flagged:
        r["flags"] = {}
    (group,) = summarize(records)
    assert (
        memory.leaks(group, True)
        == "linen jit, torch eager and nnx split keep nothing that can be measured."
    )
    flagged[0]["flags"] = {"memory_growing": 1.0}
    (group,) = summarize(records)
    assert "nnx split keeps 1.31 MB" in memory.leaks(group)


def test_a_series_is_the_median_rise_over_the_finished_visits():
    records = synthetic.race({"torch eager": 1.0}, blocks=4)
    readings = ([100, 200], [10, 30, 70], [5, 35, 6], [0, 900, 900])
    for r, series in zip(records, readings, strict=True):
        r["memory"] = {"series_bytes": series, "source": "rss"}
    records[3]["status"] = "failed"
    ((key, found),) = memory.memory_series(records).items()
    assert key == (records[0]["group"], "f" * 16, records[0]["cell_id"])
    assert found == memory.Series([0.0, 30.0], "rss", judged=False)


def test_the_page_shows_peak_live_kept_and_the_line(tmp_path):
    found = page(tmp_path, synthetic.leaking())
    text = re.sub(r"\s+", " ", found.text)
    for part in (
        "nnx split 412 MB 1.31 MB 1.31 MB 1.31 MB",
        "torch eager 412 MB 1.31 MB nothing 0 B",
        "nnx split keeps 1.31 MB per rebuilt agent",
        "memory_growing 1.31 MB per call",
        "memory rises with every call",
        "Read from: all that malloc and Python hold.",
    ):
        assert part in text, part
    assert "run0-group0-memory" in found.attributes("data-chart")
    assert "MB above the first reading" in json.dumps(found.data)
    old = page(tmp_path / "old", synthetic.race(blocks=2))
    assert "kept per call" not in old.text


def test_the_chart_keeps_quiet_cells_flat_and_tells_two_of_a_color_apart():
    two = {"torch eager": 1.0, "torch compile": 2.0}
    records = synthetic.remembering(synthetic.race(two, blocks=2), {})
    (group,) = summarize(records)
    found = memory.memory_series(records)
    key = (group.group, group.fingerprint)
    spec = memory_chart([(cell, found[(*key, cell.cell_id)]) for cell in group.cells])
    low, high = spec["encoding"]["y"]["scale"]["domain"]
    assert low <= -10 < 10 <= high  # kB: noise of half a kB must not fill the axis
    rows = spec["data"]["values"]
    assert {(row["name"], row["dash"]) for row in rows} == {
        ("torch compile · bridge", "0"), ("torch eager · bridge", "1"),
    }  # fmt: skip
    assert {row["color"] for row in rows} == {charts.COLORS["torch"]}
    assert len(rows) == 100


def test_sources_are_named_for_whom_they_were_read():
    records = synthetic.remembering(synthetic.race(blocks=2), {})
    (group,) = summarize(records)
    lines = [
        (cell, memory.Series([0.0], "library" if "torch" in cell.label else "rss", True))
        for cell in group.cells
    ]
    assert memory.sources(lines) == (
        "the process's resident size (nnx split · fused, linen jit · fused and "
        "tensorflow xla · bridge); the library's own count (torch compile · bridge)"
    )
    assert memory.sources(lines[:1]) == "the process's resident size"


def test_the_terminal_marks_growth_in_a_column_and_in_words():
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=True, color_system=None)
    tables.print_summary(summarize(synthetic.leaking()), console)
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    row = next(line for line in text.splitlines() if "nnx split\u00a0⚑" in line)
    assert row.endswith("412 MB ↗")
    assert text.count("↗") == 1
    assert "→ nnx split keeps 1.31 MB per rebuilt agent;" in text
