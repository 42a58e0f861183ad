"""Merging: every record once, one fingerprint pooled by block, two side by side, one suite only."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from stats import synthetic

from tiebreak import cli
from tiebreak.bench.hosts.merge import merge
from tiebreak.bench.manager import store
from tiebreak.bench.manager.manager import run_suite
from tiebreak.core.errors import UsageError
from tiebreak.report.html import read_page, write_report
from tiebreak.stats.ratios import summarize

TWO = {"torch compile": 1.0, "nnx split": 2.0}


def folder(path, mark="a", seed=0, blocks=4, speed=2.0, certificate=None, **suite):
    """A results folder of one run on one machine."""
    name = f"run-{path.name}"
    about = synthetic.machine(mark * 16)
    records = [{**about, "run_id": name}]
    speeds = {**TWO, "nnx split": speed}
    more: dict[str, Any] = {"fingerprint": mark * 16, "run_id": name}
    records += synthetic.race(speeds, blocks=blocks, seed=seed, **more)
    records += [certificate] if certificate else []
    return synthetic.store(path, records, **{"run_id": name, "blocks_planned": blocks, **suite})


def test_blocks_with_one_fingerprint_are_pooled(tmp_path):
    parts = [folder(tmp_path / name, seed=seed) for seed, name in enumerate("xy")]
    merged, _ = merge(parts, tmp_path / "both")
    (group,) = summarize(store.read_records(merged))
    (alone,) = summarize(store.read_records(parts[0]))
    assert (group.blocks, alone.blocks) == (8, 4)
    assert group.half_width
    assert alone.half_width
    assert group.half_width < alone.half_width
    # The pooled ratio is that of all blocks, four of either folder.
    logs = [
        math.log(c.comparison.ratio)
        for part in parts
        for g in summarize(store.read_records(part))
        for c in g.cells
        if c.comparison
    ]
    (pooled,) = [c.comparison.ratio for c in group.cells if c.comparison]
    assert math.log(pooled) == pytest.approx(sum(logs) / 2)


def test_machines_stand_side_by_side_and_are_never_pooled(tmp_path):
    parts = [
        folder(tmp_path / "left", "a", speed=2.0),
        folder(tmp_path / "right", "b", speed=4.0, seed=1),
    ]
    merged, _ = merge(parts, tmp_path / "both")
    groups = summarize(store.read_records(merged))
    assert [group.blocks for group in groups] == [4, 4]
    page = read_page([merged])
    assert page.across is not None
    assert page.across.headings == (
        "cell", "Some CPU @ 2.4 GHz · 2 cores · left", "Some CPU @ 2.4 GHz · 2 cores · right",
    )  # fmt: skip
    (section,) = page.across.sections
    (nnx,) = [row for row in section.rows if row[0] == "NNX"]
    assert "2.0" in nnx[1] or "1.9" in nnx[1]
    assert "4.0" in nnx[2] or "3.9" in nnx[2]
    (chart,) = page.across.charts
    assert [series for series, _ in chart.legend] == ["machine-0", "machine-1"]
    text = write_report([merged], tmp_path / "page.html").read_text()
    assert "2 machines, never pooled" in text
    assert "8 of 8 planned blocks" in text


def test_every_record_is_there_once_with_its_hash(tmp_path):
    parts = [folder(tmp_path / name, seed=seed) for seed, name in enumerate("xyz")]
    before = [r for part in parts for r in store.read_records(part)]
    merged, _ = merge([*parts, parts[0]], tmp_path / "all")
    assert store.read_records(merged) == before
    stored = store.read_suite(merged)
    assert [part["run_id"] for part in stored["merged"][:3]] == ["run-x", "run-y", "run-z"]
    again, _ = merge([merged, folder(tmp_path / "w", seed=9)], tmp_path / "more")
    names = [part["name"] for part in store.read_suite(again)["merged"]]
    assert names[0] == "all, 1: x"
    assert names[-1] == "w"


def test_a_certificate_that_is_red_anywhere_is_the_one_shown(tmp_path):
    red, green = synthetic.certificate(green=False), synthetic.certificate()
    parts = [
        folder(tmp_path / "x", certificate=red),
        folder(tmp_path / "y", seed=1, certificate=green),
    ]
    merged, _ = merge(parts, tmp_path / "both")
    last = store.read_records(merged)[-1]
    assert last["certificate"]["green"] is False
    without = folder(tmp_path / "z", seed=2)
    merged, _ = merge([parts[1], without], tmp_path / "unproved")
    assert "certificate" not in {r["kind"] for r in store.read_records(merged)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": "full"}, r"not of one suite: their scale differ \(quick and full\)"),
        ({"suite": "mine"}, r"not of one suite: their suite differ \(quick and mine\)"),
        ({"cells": []}, r"not of one suite: their cells differ"),
        ({"settings": {"rounds": 4}}, r"not of one suite: their settings differ"),
    ],
)
def test_folders_of_different_suites_are_refused_in_one_line(tmp_path, capsys, changes, message):
    first = folder(tmp_path / "x", settings={"rounds": 2, "blocks": 3})
    other = folder(tmp_path / "y", **{"settings": {"rounds": 2, "blocks": 4}, **changes})
    with pytest.raises(UsageError, match=message):
        merge([first, other], tmp_path / "both")
    assert cli.main(["merge", str(first), str(other), "--out", str(tmp_path / "both")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "both").exists()


def test_what_cannot_be_merged_is_said(tmp_path):
    first = folder(tmp_path / "x")
    empty = synthetic.store(tmp_path / "empty", [synthetic.machine()])
    for folders, message in (
        ([first], "there is nothing to merge"),
        ([first, tmp_path / "none"], "there is no results folder"),
        ([first, empty], "holds no run yet"),
    ):
        with pytest.raises(UsageError, match=message):
            merge(folders, tmp_path / "both")
    with pytest.raises(UsageError, match="holds results already"):
        merge([first, folder(tmp_path / "y", seed=1)], first)


def test_nothing_is_measured_into_a_merged_folder(tmp_path):
    parts = [folder(tmp_path / name, seed=seed) for seed, name in enumerate("xy")]
    merged, _ = merge(parts, tmp_path / "both")
    with pytest.raises(UsageError, match="holds the records of other folders"):
        run_suite("quick", merged, resume=True)


def test_the_command_prints_the_answer_and_where_it_is(tmp_path, capsys):
    parts = [folder(tmp_path / name, seed=seed) for seed, name in enumerate("xy")]
    out = tmp_path / "both"
    assert cli.main(["merge", *map(str, parts), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "NNX is" in printed
    assert f"results: {out}" in printed
    assert (out / "report.html").is_file()
    more = ["merge", *map(str, parts), "--out", str(tmp_path / "json"), "--json"]
    assert cli.main(more) == 0
    assert json.loads(capsys.readouterr().out)["answer"]["cards"]
