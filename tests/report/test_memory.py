"""Memory in reports: what a call keeps, who leaks, and the lines that show it."""

from __future__ import annotations

import io

from report.test_html import Page, page
from rich.console import Console
from stats import synthetic

from tiebreak.report import memory, tables
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
    few = page(tmp_path / "few", records)
    assert "Too few calls to judge linen jit and torch eager: no growth was seen." in few.words
    assert "<td>412 MB</td><td>1.31 MB</td><td>unknown</td><td>0 B</td>" in lines(few)


def test_other_probes_and_older_records_make_no_claim():
    for records in (synthetic.race(blocks=2), synthetic.remembering(synthetic.race(blocks=2), {})):
        (group,) = summarize(records)
        assert memory.leaks(group) == ""
    (old,) = summarize(synthetic.race(blocks=2))
    assert {memory.kept_per_call(cell, True) for cell in old.cells} == {"–"}


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


def lines(found: Page) -> str:
    return found.source.replace("\n", "")


def test_the_page_shows_peak_live_kept_and_the_line(tmp_path):
    found = page(tmp_path, synthetic.leaking())
    for part in (
        '<td>412 MB</td><td>1.31 MB</td><td class="is warn">1.31 MB</td><td>1.31 MB</td>',
        "<td>412 MB</td><td>1.31 MB</td><td>nothing</td><td>0 B</td>",
    ):
        assert part in lines(found), part
    for part in (
        "nnx split keeps 1.31 MB per rebuilt agent",
        "memory_growing 1.31 MB per call",
        "memory rises with every call",
        "Memory read from: all that malloc and Python hold.",
    ):
        assert part in found.words, part
    assert found.source.count("<polyline") == 3
    old = page(tmp_path / "old", synthetic.race(blocks=2))
    assert "<th>kept per call</th>" not in old.source
    assert "<polyline" not in old.source


def test_a_line_of_a_quiet_cell_is_flat_beside_one_that_grows():
    records = synthetic.leaking()
    (group,) = summarize(records)
    found = memory.memory_series(records)
    series = [(cell, found[group.group, group.fingerprint, cell.cell_id]) for cell in group.cells]

    def rise(cell, points: str) -> float:
        heights = [float(point.partition(",")[2]) for point in points.split()]
        assert len(heights) == 50
        assert all(0 <= height <= 24 for height in heights)
        return heights[0] - heights[-1]

    drawn = memory.sparks(series)
    rises = {cell.label: rise(cell, drawn[cell.cell_id]) for cell, _ in series}
    assert rises["nnx split"] > 20
    assert abs(rises["linen jit"]) < 1
    quiet = memory.sparks([one for one in series if one[0].label != "nnx split"])
    assert all(abs(rise(None, points)) < 5 for points in quiet.values())  # noise fills no line


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
