"""The terminal's tables: nothing lost at 100 columns, plain when nobody watches."""

from __future__ import annotations

import io
import json
import re

from rich.console import Console
from stats import synthetic

from tiebreak.report import formatting, phrases, tables
from tiebreak.stats.ratios import summarize


def printed(records: list[dict], **options) -> str:
    file = io.StringIO()
    console = Console(file=file, **options)
    tables.print_summary(summarize(records), console)
    return file.getvalue()


def test_a_terminal_of_100_columns_shows_everything():
    text = printed(synthetic.typical(), width=100, force_terminal=True, color_system=None)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert "…" not in text
    for part in ("nnx split · fused", "tensorflow xla · bridge", "412 MB", "4.10 s", "FASTER",
                 "ppo · gymnasium/HalfCheetah-v4 · update · num_envs 4", "reference"):  # fmt: skip
        assert part in text
    row = next(line for line in lines if "tensorflow xla · bridge" in line)
    assert "SLOWER" in row
    assert "412 MB" in row


def test_a_terminal_of_80_columns_loses_no_result():
    text = printed(synthetic.typical(), width=80, force_terminal=True, color_system=None)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    row = next(line for line in lines if "torch compile · bridge" in line)
    assert row.split() == ["4", "torch", "compile", "·", "bridge", "97.4k", "1", "reference",
                           "4.10", "s", "412", "MB"]  # fmt: skip
    assert "0.799× [0.795, 0.803] SLOWER" in text


def test_a_flag_is_explained_once_and_only_where_it_occurs():
    text = printed(synthetic.typical(), width=100)
    assert text.count("⚑ noisy: the samples of a visit scatter") == 1
    assert "⚑ contended" not in text
    assert "⚑" not in printed(synthetic.race(blocks=2), width=100)


def test_blocks_without_pairs_are_no_interval():
    alone = [r for r in synthetic.race(blocks=1) if "torch" in r["cell"]["label"]]
    others = [r for r in synthetic.race(blocks=3) if r["block"] and "nnx" in r["cell"]["label"]]
    (group,) = summarize([*alone, *others])
    assert phrases.confidence(group).startswith("3 blocks, but no two in which a cell and the ref")
    (group,) = summarize(alone)
    assert phrases.confidence(group) == "1 block: no interval and no verdict without a second one"


def test_drift_is_said_where_a_canary_moved_and_nowhere_else():
    records = synthetic.staged()
    text = printed(records, width=100)
    train, update = text.split("update · num_envs 4")
    assert "a canary changed by 40.0 % within a block" in update
    assert "canary" not in train


def test_flags_failures_and_power_are_said():
    text = printed(synthetic.typical(), width=100)
    assert "⚑ linen jit: noisy 8.1 % (3 of 10 visits), recompiled 2 (3 of 10 visits)" in text
    assert "✗ tensorflow xla: crash: worker ended by signal 9 (blocks 0–9)" in text
    assert re.search(r"10 blocks; intervals within ±\d\.\d %; a difference of 2\.", text)


def test_a_file_gets_plain_text_of_full_width():
    text = printed(synthetic.typical(), width=60)
    assert "\x1b" not in text
    assert "3.00× [2.98, 3.02]" in text
    assert any(len(line.rstrip()) > 60 for line in text.splitlines())


def test_labels_are_text_and_never_markup():
    records = synthetic.race({"torch compile": 1.0, "nnx [bold]x[/bold]": 2.0}, blocks=2)
    assert "nnx [bold]x[/bold]" in printed(records, width=100, force_terminal=True)


def test_json_holds_the_headline_and_only_finite_numbers():
    records = synthetic.typical()
    for r in records:
        r.get("flags", {}).update({"nan": float("inf")} if r.get("block") == 1 else {})
    value = json.loads(json.dumps(tables.to_json(summarize(records)), allow_nan=False))
    assert len(value) == 3
    assert value[0]["cells"][0]["comparison"]["ratio"] > 1
    assert value[0]["cells"][0]["flags"] == [{"name": "nan", "value": None, "visits": 1}]
    assert value[0]["headline"].startswith("No conclusion: every cell that finished is barred (nan")


def test_numbers_in_words():
    assert [formatting.si(x) for x in (149_400, 2_512, 999_700, 86.04, 4.1e9)] == [
        "149k", "2.51k", "1.00M", "86.0", "4.10G",
    ]  # fmt: skip
    assert [formatting.measured_time(x) for x in (6.714e-6, 2.4, 0.01, 9.9996e-4, 5e-9)] == [
        "6.71 µs", "2.40 s", "10.0 ms", "1.00 ms", "5.00 ns",
    ]  # fmt: skip
    assert [formatting.size(x) for x in (412_000_000, 1_200_000_000, None)] == [
        "412 MB", "1.20 GB", "–",
    ]  # fmt: skip
    assert [formatting.size(x) for x in (1_310_000.0, -3100.0, 12, 0.4)] == [
        "1.31 MB", "-3.10 kB", "12 B", "0 B",
    ]  # fmt: skip
    assert [formatting.measured_time(x) for x in (119.0, 450.0, 7200.0)] == [
        "119 s",
        "7.5 min",
        "2.0 h",
    ]
    assert [formatting.share(x) for x in (0.042, 11.0, float("inf"))] == ["4.2 %", "12×", "> 1000×"]
    assert formatting.join(["a", "b", "c"]) == "a, b and c"
