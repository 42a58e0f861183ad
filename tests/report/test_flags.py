"""Flags in words: one table, complete, with values that a reader understands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from report.test_html import page
from stats import synthetic

import tiebreak
from tiebreak.report import flags
from tiebreak.stats.ratios import summarize

SET = (
    ("bench/**/*.py", r'invalidate\(\s*result, "([a-z_]+)"', "nan"),
    ("bench/**/*.py", r'flags"?\]?\["([a-z_]+)"\]', "contended"),
    ("bench/worker/sampling.py", r'measured\["([a-z_]+)"\] = ', "too_short"),
    ("stats/sample_flags.py", r'flags\["([a-z_]+)"\] = ', "noisy"),
    ("bench/**/*.py", r'flags"?\]? = \{\*\*[^}]*"([a-z_]+)": ', "clock_mismatch"),
)
"""How flags are set: where, the pattern, and one that it must find."""


@pytest.mark.parametrize(("files", "pattern", "known"), SET)
def test_every_flag_that_is_set_is_explained(files, pattern, known):
    sources = Path(tiebreak.__file__).parent.glob(files)
    found = {n for p in sources for n in re.findall(pattern, p.read_text(encoding="utf-8"))}
    assert known in found, f"{pattern} finds nothing any more"
    assert found <= flags.FLAGS.keys()


def test_the_meanings_are_one_line_of_the_terminal():
    for name, meaning in flags.FLAGS.items():
        assert len(f"⚑ {name}: {meaning.text}") <= 100
        assert meaning.value in ("", *flags.VALUES)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("noisy", 0.1234, " 12.3 %"),
        ("unsteady", -0.2, " -20.0 %"),
        ("contended", 0.0127, " 1.3 %"),
        ("memory_growing", 1_310_000.0, " 1.31 MB per call"),
        ("timeout", 150.2, " 2.5 min"),
        ("clock_mismatch", -0.02, " 20.0 ms"),
        ("still_running", 1.52, " 1.5 CPUs"),
        ("recompiled", 2, " 2"),
        ("too_short", 0.01234, " 0.0123"),
        ("parity_mismatch", "threads 4", " threads 4"),
        ("noisy", "often", " often"),
        ("fell_to_eager", True, ""),
        ("of_tomorrow", 0.5, " 0.5"),
    ],
)
def test_values_are_written_in_their_unit(name, value, expected):
    assert flags.flag_value(name, value) == expected


def test_a_glossary_holds_what_is_asked_for_in_the_order_of_the_table():
    assert [n for n, _ in flags.glossary({"crash", "noisy", "of_tomorrow"})] == [
        "noisy", "crash", "of_tomorrow",
    ]  # fmt: skip
    assert flags.glossary({"of_tomorrow"})[0][1] == "a flag that this version does not know"
    records = synthetic.typical()
    assert flags.flag_names(summarize(records)) == {"noisy", "recompiled"}


def test_the_page_explains_the_flags_that_occur(tmp_path):
    found = page(tmp_path, synthetic.typical())
    flagged = found.words.partition("bars a cell")[2].partition("What did not finish")[0]
    assert "linen jit ⚑" in flagged
    assert flags.meaning("noisy") in flagged
    assert flags.meaning("recompiled") in flagged
    assert flags.meaning("throttled") not in found.words


def test_a_chart_says_why_a_cell_is_barred(tmp_path):
    found = page(tmp_path, synthetic.typical())
    assert (
        f"⚑ Linen is kept out of conclusions: recompiled, {flags.meaning('recompiled')}"
        in found.words
    )
