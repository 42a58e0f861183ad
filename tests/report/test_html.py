"""The page: complete, offline, escaped, atomic, and nothing pooled."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from stats import synthetic

from tiebreak.core.errors import UsageError
from tiebreak.report import charts
from tiebreak.report.html import write_report

EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What a browser would see: elements, text, scripts, embedded JSON."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.data: list[dict] = []
        self.text = ""
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if self.lasttag != "script":
            self.text += data if self.lasttag != "style" else ""
        elif tag == "script" and attributes.get("type") == "application/json":
            self.data.append(json.loads(data))
            self.elements.append(("", {}))
        elif tag == "script" and data.strip():
            self.scripts.append(data)
            self.elements.append(("", {}))

    def attributes(self, name: str) -> list[str]:
        return [a[name] for _, a in self.elements if name in a]


def page(tmp_path: Path, records: list[dict], **suite) -> Page:
    folder = synthetic.store(tmp_path / "quick-run", records, **suite)
    return Page(write_report([folder], tmp_path / "out" / "report.html"))


def test_everything_that_a_reader_needs_is_there(tmp_path):
    found = page(tmp_path, synthetic.typical())
    text = re.sub(r"\s+", " ", found.text)
    for part in (
        "3.0× as fast as compiled torch [3.0, 3.0]", "nnx split · fused",
        "3.43 µs", "292k", "412 MB", "10 of 10 planned blocks", "seed 7", "tiebreak run quick",
        "0.1.0, commit 0123abcd", "2026-01-02T03:04:00Z to 2026-01-02T03:04:09Z",
        "implementations verified equal", "4.0e-12", "equinox was not checked: not installed",
        "Some CPU @ 2.4 GHz", "jax 0.10.2, torch 2.13.0", "f" * 16, "130 of 140 visits finished",
        "crash: worker ended by signal 9", "noisy 8.1 % (3 of 10 visits)", "canary, numpy",
        hashlib.sha256((tmp_path / "quick-run" / "records.jsonl").read_bytes()).hexdigest(),
    ):  # fmt: skip
        assert part in text, part


def test_every_chart_finds_its_data(tmp_path):
    found = page(tmp_path, synthetic.typical())
    wanted = found.attributes("data-chart")
    assert len(wanted) == len(set(wanted)) == len(found.data) == 1 + 2 * 3
    assert set(wanted) <= set(found.attributes("id"))
    charted = json.dumps(found.data, ensure_ascii=False)
    for part in ("first call", "torch compile · bridge", "3.00× [2.98, 3.02]", "noisy 8.1 %"):
        assert part in charted
    assert sum("window.vegaEmbed=" in script for script in found.scripts) == 1


def test_nothing_is_loaded_from_elsewhere_and_only_its_own_scripts_may_run(tmp_path):
    found = page(tmp_path, synthetic.typical())
    assert found.attributes("src") == []
    assert all(link.startswith("#") for link in found.attributes("href"))
    assert {tag for tag, _ in found.elements}.isdisjoint({"link", "iframe", "img", "object"})
    own = found.source
    for script in found.scripts:
        own = own.replace(script, "")
    assert "http" not in own.replace("http-equiv", "")
    assert not re.search(r"@import|url\(", own)
    policy = next(c for c in found.attributes("content") if "script-src" in c)
    assert policy.startswith("default-src 'none';")
    allowed = re.findall(r"sha256-([^']+)'", policy)
    hashes = [hashlib.sha256(script.encode()).digest() for script in found.scripts]
    assert [base64.b64encode(h).decode() for h in hashes] == allowed
    assert "unsafe-eval" not in policy
    assert "\r" not in found.source


def test_everything_foreign_is_escaped(tmp_path):
    records = synthetic.race({f"torch {EVIL}": 1.0, "nnx split": 2.0}, blocks=2)
    records += [synthetic.failed("nnx jit", 0, error=EVIL), synthetic.machine()]
    records += [synthetic.certificate()]
    for r in records:
        if r["kind"] == "visit":
            r.update(group=f"ppo · {EVIL}", unit=EVIL, flags={EVIL: EVIL})
    records[-1]["certificate"]["rows"][0]["case"] = f'"{EVIL}'
    records[-2]["machine"]["cpu"] = EVIL
    found = page(tmp_path, records, command=EVIL, commit=EVIL, suite=EVIL)
    assert "alert(1)" in found.text
    assert len(found.scripts) == 2
    assert EVIL not in found.source
    assert "<script>alert" not in found.source


def test_red_is_red(tmp_path):
    records = [*synthetic.race(blocks=2), synthetic.certificate(green=False)]
    found = page(tmp_path, records)
    assert "✗ implementations differ" in found.text
    assert "verified equal" not in found.text
    failed = [a for tag, a in found.elements if tag == "td" and a.get("class") == "fail"]
    assert [a["title"] for a in failed] == ["compile, discrete, obs 5, act 3, hidden 17-9"]


def test_without_certificate_machine_or_canary_it_says_so(tmp_path):
    found = page(tmp_path, synthetic.race(blocks=1))
    assert "no certificate in this run" in found.text
    assert "No machine was recorded." in found.text
    assert "no interval and no verdict without a second one" in found.text


def test_planned_but_unvisited_cells_are_missing(tmp_path):
    records = synthetic.race(blocks=2)
    groups = {synthetic.TRAIN: [*{r["cell_id"] for r in records}, "c" * 16]}
    found = page(tmp_path, records, groups=groups)
    assert "missing: planned, but never visited" in found.text


def test_what_the_scale_costs_is_said(tmp_path):
    shared = {"settings": {"share_process": True}, "scale": "smoke"}
    found = page(tmp_path / "smoke", synthetic.race(blocks=1), **shared)
    assert "its numbers mean nothing" in found.text
    assert "at this scale it measures all probes" in found.text
    other = page(tmp_path / "full", synthetic.race(blocks=1))
    assert "its numbers mean nothing" not in other.text
    assert "at this scale it measures all probes" not in other.text


def test_nothing_finished_is_still_a_page(tmp_path):
    found = page(tmp_path, [synthetic.failed("torch compile", 0)])
    assert "no cell finished." in found.text
    assert found.data == []


def test_several_runs_stand_side_by_side_unpooled(tmp_path):
    two = {"torch compile": 1.0, "nnx split": 2.0}
    folders = [
        synthetic.store(tmp_path / name, synthetic.race({**two, "nnx split": speed}, blocks=4))
        for name, speed in (("laptop", 2.0), ("server", 4.0))
    ]
    found = Page(write_report(folders, tmp_path / "both.html"))
    assert "2 runs side by side" in found.text
    ratios = re.findall(r"NNX is (\d\.\d)× as fast", found.text)
    assert set(ratios) <= {"1.9", "2.0", "3.9", "4.0", "4.1"}
    assert len({r[0] in "12" for r in ratios}) == 2
    ids = found.attributes("id")
    assert len(ids) == len(set(ids))


def test_another_reference_is_the_one_of_ratios(tmp_path):
    folder = synthetic.store(tmp_path / "run", synthetic.race(blocks=4))
    found = Page(write_report([folder], tmp_path / "linen.html", reference="linen jit"))
    assert "speed relative to linen jit" in json.dumps(found.data)
    with pytest.raises(UsageError, match=r"unknown reference 'line'; did you mean 'linen'"):
        write_report([folder], tmp_path / "line.html", reference="line")
    assert not (tmp_path / "line.html").exists()


def test_two_machines_in_one_folder_are_two_rows(tmp_path):
    records = synthetic.race(blocks=2, fingerprint="a" * 16)
    records += synthetic.race(blocks=2, fingerprint="b" * 16, run_id="run-b")
    found = page(tmp_path, records)
    assert "machine aaaaaa" in found.text
    assert "machine bbbbbb" in found.text


def test_wrong_folders_are_one_clear_line(tmp_path):
    training = tmp_path / "training"
    training.mkdir()
    (training / "metrics.jsonl").write_text("{}\n")
    empty = synthetic.store(tmp_path / "empty", [])
    blank = tmp_path / "blank"
    blank.mkdir()
    good = synthetic.store(tmp_path / "good", synthetic.race(blocks=1))
    for folders, message in (
        ([training], "is a training run"),
        ([good, empty], "holds no visit yet"),
        ([blank], "not a results folder"),
        ([tmp_path / "nowhere"], "no results folder"),
        ([], "at least one results folder"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            write_report(folders, tmp_path / "report.html")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_a_failed_write_keeps_the_old_page(tmp_path, monkeypatch):
    folder = synthetic.store(tmp_path / "run", synthetic.race(blocks=1))
    out = tmp_path / "pages" / "report.html"
    out.parent.mkdir()
    out.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"cannot write the report .* No space left"):
        write_report([folder], out)
    assert out.read_text() == "old"
    assert list(out.parent.iterdir()) == [out]


def test_ticks_hold_one_and_leave_room():
    for low, high in ((0.9, 1.1), (0.5, 40.0), (0.99, 1.03), (0.01, 900.0)):
        ticks = charts._ticks([low, high])
        assert 1 in ticks
        assert len(ticks) <= 10
        assert ticks == sorted(set(ticks))
        assert low <= ticks[0]
        assert ticks[-1] <= high
