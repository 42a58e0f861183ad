"""The page: complete, offline, escaped, atomic, and nothing pooled."""

from __future__ import annotations

import hashlib
import html
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from stats import synthetic

from tiebreak.core.errors import UsageError
from tiebreak.report import answer
from tiebreak.report.html import read_page, write_report
from tiebreak.report.page import OPEN_CARDS, OPEN_CHARTS

EVIL = "<script>alert(1)</script>"
RESULTS = Path(__file__).parents[2] / "results" / "amd-epyc-2-cores"


class Page(HTMLParser):
    """What a reader sees: elements and text."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.text += " " if tag in ("td", "th", "tr", "p", "dd", "li") else ""

    def handle_data(self, data):
        self.text += data if self.lasttag != "style" else ""

    def attributes(self, name: str) -> list[str]:
        return [a[name] for _, a in self.elements if name in a]

    def classes(self, tag: str) -> list[str]:
        return [a.get("class", "") for t, a in self.elements if t == tag]

    @property
    def words(self) -> str:
        """The text with single spaces."""
        return re.sub(r"\s+", " ", self.text)


def page(tmp_path: Path, records: list[dict], **suite) -> Page:
    folder = synthetic.store(tmp_path / "quick-run", records, **suite)
    return Page(write_report([folder], tmp_path / "out" / "report.html"))


def test_everything_that_a_reader_needs_is_there(tmp_path):
    found = page(tmp_path, synthetic.typical())
    for part in (
        "3.00× [2.98, 3.02]", "3.43 µs", "292k", "412 MB", "10 of 10 planned blocks", "seed 7",
        "tiebreak run quick", "0.1.0, commit 0123abcd",
        "2026-01-02T03:04:00Z to 2026-01-02T03:04:09Z", "✓ proved equal", "4.0e-12",
        "equinox was not checked: not installed", "Some CPU @ 2.4 GHz",
        "jax 0.10.2, torch 2.13.0", "f" * 16, "10 of 140 runs did not finish",
        "crash: worker ended by signal 9", "noisy 8.1 % (3 of 10 visits)", "canary, numpy",
        hashlib.sha256((tmp_path / "quick-run" / "records.jsonl").read_bytes()).hexdigest(),
    ):  # fmt: skip
        assert part in found.words, part


def test_the_first_line_says_what_was_measured_and_where(tmp_path):
    found = page(tmp_path, synthetic.typical())
    first = found.words.partition("How long")[0]
    assert "TIEBREAK · PPO · Some CPU @ 2.4 GHz · 2 cores · 2026-01-02 · 10 blocks" in first


def test_the_answer_is_the_heading(tmp_path):
    found = page(tmp_path, synthetic.typical())
    (heading,) = re.findall(r"<h1>(.*?)</h1>", found.source)
    title = read_page([tmp_path / "quick-run"]).folders[0].data.answer.title
    assert html.unescape(re.sub("<.*?>", "", heading)) == title
    assert f"<title>{html.escape(title)} · Tiebreak</title>" in found.source
    assert '<span class="nb">HalfCheetah-v4,</span>' in heading


def test_each_task_has_its_sentence_and_its_chart(tmp_path):
    found = page(tmp_path, synthetic.typical())
    view = read_page([tmp_path / "quick-run"]).folders[0]
    assert len(view.data.answer.cards) == len(view.charts) == 2
    for card, chart in view.charts:
        assert f"{card.confidence} {card.title}" in found.words
        assert card.sentence in found.words
        assert chart.title in found.words
    assert found.classes("table").count("bars ") == 2


def test_all_but_answer_charts_and_table_is_closed(tmp_path):
    found = page(tmp_path, synthetic.typical())
    assert not found.attributes("open")
    first = found.source.partition("<details")[0]
    assert '<table class="bars' in first
    assert '<table class="heat' in first
    assert '<table class="data' not in first


def test_many_tasks_are_folded_after_the_first(tmp_path):
    records = []
    for task in range(OPEN_CARDS + 2):
        group = f"ppo · gymnax/Task-{task} · train · num_envs 4"
        records += synthetic.race({"torch compile": 1.0, "linen jit": 2.0}, 3, group=group)
    found = page(tmp_path, records)
    assert "2 more tasks" in found.words
    assert f"{OPEN_CARDS + 2 - OPEN_CHARTS} more charts" in found.words
    assert found.classes("table").count("bars ") == OPEN_CARDS + 2
    assert found.source.count("<details") == found.source.count("</details>")


def test_every_probe_and_mode_is_explained_where_it_is_used(tmp_path):
    found = page(tmp_path, synthetic.typical())
    heat, _, rest = found.words.partition("Every number")
    for text in ("choosing actions", "the policy alone"):
        assert text not in heat
    for text in (
        "training, all in all", "the training loop, as tiebreak train runs it", "learning",
        "compile: compiled by TorchInductor.", "jit: compiled by the library's own jit.",
        "split and flat: the state is taken apart into arrays once, then plain jax.jit.",
    ):  # fmt: skip
        assert text in heat, text
    assert "update: gradient steps on one batch that is on the device already" in rest


def test_the_times_of_the_terminal_are_in_the_details(tmp_path):
    found = page(tmp_path, synthetic.typical())
    view = read_page([tmp_path / "quick-run"]).folders[0]
    rows = answer.table(view.data.answer)
    assert len(rows) == 10
    for row in rows:
        assert " ".join(filter(None, row)) in found.words


def test_an_interval_of_rounds_has_that_of_blocks_beside_it(tmp_path):
    few = page(tmp_path / "few", synthetic.race(blocks=3))
    assert "by blocks alone" not in few.text
    records = synthetic.race({f"torch {i}": 1 + i / 10 for i in range(10)}, blocks=3)
    for record in records:
        record["turns"] = f"turns-{record['block']}"
    found = page(tmp_path, records)
    assert found.classes("table").count("data") > 0
    assert "<th>by blocks alone</th>" in found.source


def test_the_first_calls_are_three_numbers(tmp_path):
    records = synthetic.race(blocks=2)
    for record in records:
        record["first_calls_s"] = [4.0, 0.3, 0.2, 0.2, 0.2, 0.2, 0.1, 0.1]
    found = page(tmp_path, records)
    assert "first call calls 2 to 7 8th call" in found.words
    assert "<td>4.10 s</td><td>200 ms</td><td>100 ms</td>" in found.source
    old = page(tmp_path / "old", synthetic.race(blocks=2))
    assert "8th call" not in old.words


def test_nothing_is_loaded_and_nothing_runs(tmp_path):
    found = page(tmp_path, synthetic.typical())
    assert found.attributes("src") == []
    assert found.attributes("href") == []
    tags = {tag for tag, _ in found.elements}
    assert tags.isdisjoint({"script", "link", "iframe", "img", "object", "form", "noscript"})
    assert not re.search(r"\son\w+=", found.source)
    assert "http" not in found.source.replace("http-equiv", "")
    assert not re.search(r"@import|url\(", found.source)
    assert "default-src 'none'; style-src 'unsafe-inline'" in found.attributes("content")
    assert "\r" not in found.source


def test_the_page_can_be_mailed(tmp_path):
    """Mail programs drop what is placed, variables, and style sheets of more than 8 kB."""
    (style,) = re.findall(r"<style>(.*?)</style>", page(tmp_path, synthetic.typical()).source, re.S)
    assert "var(" not in style
    assert "position" not in style
    assert 4000 < len(style) < 8192
    assert style.count("{") == style.count("}")


@pytest.mark.parametrize("folder", sorted(p.parent.name for p in RESULTS.glob("*/suite.json")))
def test_pages_of_published_results_are_small(folder, tmp_path):
    out = write_report([RESULTS / folder], tmp_path / "page.html")
    assert out.stat().st_size < 150_000


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
    assert found.text.count("alert(1)") > 10
    assert EVIL not in found.source
    assert "<script" not in found.source


def test_red_is_red(tmp_path):
    records = [*synthetic.race(blocks=2), synthetic.certificate(green=False)]
    found = page(tmp_path, records)
    assert "DIFFERENT The frameworks do not compute the same numbers here" in found.words
    assert "proved equal" not in found.text
    failed = [a for tag, a in found.elements if tag == "td" and a.get("class") == "fail"]
    assert [a["title"] for a in failed] == ["compile, discrete, obs 5, act 3, hidden 17-9"]


def test_without_certificate_machine_or_canary_it_says_so(tmp_path):
    found = page(tmp_path, synthetic.race(blocks=1))
    assert "this run has no certificate" in found.text
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
    assert "1 of 1 run did not finish" in found.words
    assert found.classes("table").count("bars ") == 0


def test_another_reference_is_the_one_of_ratios(tmp_path):
    folder = synthetic.store(tmp_path / "run", synthetic.race(blocks=4))
    found = Page(write_report([folder], tmp_path / "linen.html", reference="linen jit"))
    assert "Speed against linen jit" in found.words
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
