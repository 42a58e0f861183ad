"""`tiebreak compare`: what a person reads, what a machine reads, and the status for a CI."""

from __future__ import annotations

import io
import json
import re

import pytest
from report import two_runs
from report.two_runs import CELLS, run
from rich.console import Console
from stats import synthetic

from tiebreak import cli
from tiebreak.core.errors import UsageError
from tiebreak.report.compare_tables import print_compared
from tiebreak.stats import regression_limit
from tiebreak.stats.compare import compare

SLOW = {**CELLS, "linen jit": CELLS["linen jit"] / 1.1}


@pytest.fixture
def compared(tmp_path, monkeypatch, capsys):
    """Store two runs, compare them, and return (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(a, b, *options: str) -> tuple[int, str, str]:
        for name, records in (("before", a), ("after", b)):
            synthetic.store(tmp_path / name, records)
        status = cli.main(["compare", "before", "after", *options])
        return (status, *capsys.readouterr())

    return call


def test_a_slower_cell_is_named_and_fails_the_limit(compared):
    status, out, err = compared(run("a"), run("b", SLOW), "--fail-over", "3%")
    assert status == 1
    assert re.fullmatch(
        r"tiebreak: slower by more than 3.0 %: linen jit · fused \(.* · train · num_envs 4\) "
        r"by \d+\.\d %\n", err
    )  # fmt: skip
    assert re.search(r"→ slower in B: linen jit · fused \(.*\): 0\.9\d× \[0\.", out)
    assert "of 4 cells judged: 1 SLOWER, 0 FASTER" in out
    assert compared(run("a"), run("b", SLOW))[0] == 0  # without a limit nothing fails
    assert compared(run("a"), run("b", SLOW), "--fail-over", "0.2")[0] == 0
    assert compared(run("b", SLOW), run("a"), "--fail-over", "3%")[0] == 0  # faster is no failure


def test_a_slowdown_that_is_not_certain_fails_nothing(compared):
    a, b = run("a"), run("b", SLOW, noise=0.06)
    assert next(p for p in compare(a, b).pairs if p.a.label == "linen jit").slowdown > 0.03
    assert compared(a, b, "--fail-over", "3%")[0] == 0


def test_the_same_program_passes_and_what_may_have_been_missed_is_said(compared):
    status, out, err = compared(run("a"), run("b", noise=0.03), "--fail-over=3%")
    assert (status, err) == (0, "")
    assert "Nothing else on record differs" in out
    assert "might have been missed in" in " ".join(out.split())
    assert "nothing is known to be slower by more, or broken" in out
    still = {"blocks": 30, "noise": 0.001, "restless": 0.001}
    _, out, _ = compared(run("a", **still), run("b", **still), "--fail-over", "3%")
    assert "missed" not in out


def test_a_cell_that_broke_fails_the_limit_with_its_reason(compared):
    broken = two_runs.crashed(run("b"), "nnx split")
    status, out, err = compared(run("a"), broken, "--fail-over", "3%")
    assert status == 1
    assert "failed in B, worked in A: nnx split · fused (" in err
    assert "crash: worker ended by signal 9" in err
    assert "✗ nnx split · fused in B: crash: worker ended by signal 9 (blocks 0" in out
    assert compared(broken, run("c"), "--fail-over", "3%")[0] == 0  # it was broken before
    once = two_runs.crashed(run("b"), "nnx split", range(1))
    status, out, _ = compared(run("a"), once, "--fail-over", "3%")
    assert status == 0
    assert "✗ nnx split · fused in B: crash: worker ended by signal 9 (block 0)" in out


def test_a_package_that_is_gone_fails_the_limit(compared):
    gone = {"status": "missing", "error": "jax not installed: pip install jax", "samples_s": []}
    lacking = two_runs.changed(run("b"), "nnx split", **gone)
    status, _, err = compared(run("a"), lacking, "--fail-over", "3%")
    assert status == 1
    assert "missing: jax not installed: pip install jax" in err


def test_a_flagged_cell_fails_nothing_but_is_known_to_be_unknown(compared):
    flagged = two_runs.changed(run("b", SLOW), "linen jit", flags={"work_mismatch": 1})
    status, out, _ = compared(run("a"), flagged, "--fail-over", "3%")
    assert status == 0
    assert "linen jit · fused: no verdict: flagged in B: work_mismatch" in out
    found = regression_limit.check_limit(compare(run("a"), flagged), 0.5)
    assert [p.a.label for p in found.unsure] == ["linen jit"]
    assert not found.suspect
    restless = two_runs.changed(run("b", SLOW), "linen jit", flags={"noisy": 0.3})
    assert compared(run("a"), restless, "--fail-over", "3%")[0] == 1  # a note: the interval stands


def test_a_cell_that_cannot_be_judged_and_looks_far_slower_is_named_and_can_fail(compared):
    """On a machine that moved too far, 21 times slower is no verdict, and no silence either."""
    slow = {**CELLS, "linen jit": CELLS["linen jit"] / 21, "nnx split": CELLS["nnx split"] / 27}
    both = run("a"), run("b", slow, moved=0.2)
    status, out, err = compared(*both, "--fail-over", "3%")
    assert (status, err) == (0, "")
    text = " ".join(out.split())
    assert re.search(r"→ UNSURE, perhaps slower by more than 3.0 %: nnx split · fused", text)
    assert re.search(
        r"linen jit · fused \([^)]*\) takes 2\d\.\d× as long, but the machine ch", text
    )
    assert "4 cells UNSURE (--fail-unsure: exit status 3)" in text
    status, _, err = compared(*both, "--fail-over", "3%", "--fail-unsure")
    assert status == 3
    assert err.count("\n") == 1
    assert re.match("tiebreak: unsure: perhaps slower by more than 3.0 %: nnx split", err)
    assert compared(run("a"), run("b", SLOW), "--fail-over", "3%", "--fail-unsure")[0] == 1


def test_what_is_known_to_be_within_the_limit_is_not_unsure(compared):
    still = {"blocks": 30, "noise": 0.001, "restless": 0.001}
    both = run("a", **still), run("b", **still)
    assert compared(*both, "--fail-over", "3%", "--fail-unsure")[0] == 0
    assert compared(*both, "--fail-over", "3%", "--fail-unsure", "--relative-to", "torch")[0] == 0
    noisy = run("a", noise=0.05), run("b", noise=0.05)
    assert compared(*noisy, "--fail-over", "3%", "--fail-unsure")[0] == 3
    faster = run("a"), run("b", {label: 2 * speed for label, speed in CELLS.items()}, noise=0.05)
    assert compared(*faster, "--fail-over", "3%", "--fail-unsure")[0] == 0


def test_one_block_that_looks_slower_is_unsure():
    slow = compare(run("a"), run("b", {**CELLS, "linen jit": 1.0}, blocks=1))
    found = regression_limit.check_limit(slow, 0.05)
    assert [p.a.label for p in found.suspect] == ["linen jit"]
    assert len(found.unsure) == 4


def test_markdown_says_what_the_terminal_says_and_escapes_it(compared):
    a = [{**r, "group": "ppo · my|task · <b>_x_ @someone"} if "group" in r else r for r in run("a")]
    b = [{**r, "group": "ppo · my|task · <b>_x_ @someone"} if "group" in r else r
         for r in two_runs.crashed(run("b", SLOW), "nnx split")]  # fmt: skip
    status, out, _ = compared(a, b, "--fail-over", "3%", "--markdown")
    assert status == 1
    assert out.startswith("### Speed: 1 cell slower by more than 3.0 %, 1 cell broken, of 4\n")
    assert r"my\|task · \<b\>\_x\_ &#64;someone" in out
    assert "@someone" not in out
    rows = [line for line in out.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows if "SLOWER" in row}) == 1
    (linen,) = (row for row in rows if "linen jit" in row)
    assert re.search(r"\| 0\.9\d× \\\[0\.\d+, 0\.9\d\\\] \| 🔴 SLOWER \|", linen)
    assert out.count("<details>") == out.count("</details>") == 1


def test_markdown_of_other_hardware_has_no_verdicts(compared):
    _, out, _ = compared(run("a"), run("b", SLOW, facts={"cpu": "Big CPU"}), "--markdown")
    assert out.startswith("### Speed: no verdicts\n")
    assert "SLOWER" not in out
    assert "Big CPU" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--fail-unsure",), "add --fail-over"), (("--json", "--markdown"), "use one of them")],
)
def test_options_that_need_or_exclude_each_other(compared, options, message):
    status, _, err = compared(run("a"), run("b"), *options)
    assert status == 2
    assert message in err


def test_other_hardware_has_values_and_no_ratio(compared):
    status, out, _ = compared(
        run("a"), run("b", SLOW, facts={"cpu": "Big CPU"}), "--fail-over", "3%"
    )
    assert status == 0
    assert "×" not in out
    assert "SLOWER" not in out
    assert "Different hardware" in out
    assert "Big CPU" in out
    assert "might have been missed in 4 cells" in out


def test_a_terminal_of_80_columns_shows_everything():
    slow = run("b", {**SLOW, "torch eager": 0.3}, facts={"packages": {"jax": "0.11"}})
    a = run("a", {**CELLS, "equinox flat": 1.0})
    for b in (slow, run("b", SLOW, facts={"cpu": "Big CPU"})):
        file = io.StringIO()
        console = Console(file=file, width=80, force_terminal=True, color_system=None)
        found = compare(a, b)
        check = regression_limit.check_limit(found, 0.03)
        print_compared(found, ("before", "after"), check, console)
        text = file.getvalue()
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text
        assert "only in A: ppo · gymnax/CartPole-v1 · train · num_envs 4: equinox flat" in text
        assert "tensorflow xla ·" in text


def test_relative_to_says_so(compared):
    b = run("b", {**CELLS, "linen jit": 1.5}, moved=0.15)
    status, out, _ = compared(run("a"), b, "--relative-to", "torch", "--fail-over", "3%")
    assert status == 1
    assert "slower in B, relative to torch: linen jit" in out
    assert re.search(r"torch compile · bridge .* 1 +reference", out)


def test_json_holds_everything_and_only_finite_numbers(compared):
    broken = two_runs.crashed(run("b", SLOW), "nnx split")
    status, out, _ = compared(run("a"), broken, "--fail-over", "3%", "--json")
    found = json.loads(out, parse_constant=pytest.fail)
    assert status == 1
    cells = {c["label"]: c for c in found["cells"]}
    assert cells["linen jit"]["change"]["verdict"] == "SLOWER"
    assert cells["nnx split"]["change"] is None
    assert cells["nnx split"]["no_verdict_because"] == "no visit finished in B"
    assert found["fail_over"]["slower"] == [cells["linen jit"]["cell_id"]]
    assert found["fail_over"]["broke"] == [cells["nnx split"]["cell_id"]]
    assert found["same_hardware"] is True
    assert found["a"]["folder"] == "before"


@pytest.mark.parametrize(
    ("text", "share"), [("3%", 0.03), ("0.03", 0.03), ("3 %", 0.03), ("2.5%", 0.025)]
)
def test_a_limit_is_a_percentage_or_a_share(text, share):
    assert regression_limit.parse_limit(text) == pytest.approx(share)


@pytest.mark.parametrize(
    "text", ["3", "1.9%", "0.01", "-5%", "three", "3%%", "100%", "nan", "", "%"]
)
def test_what_is_no_limit_is_refused(text):
    with pytest.raises(UsageError, match="--fail-over takes a percentage such as 3%"):
        regression_limit.parse_limit(text)


def test_damaged_records_are_left_out_and_counted(compared, tmp_path, capsys):
    compared(run("a"), run("b"))
    with open(tmp_path / "after" / "records.jsonl", "ab") as file:
        file.write(b'{"torn":\n')
    assert cli.main(["compare", "before", "after"]) == 0
    assert "after: left out 1 record (damaged: line 62: not JSON" in capsys.readouterr().err


def test_wrong_use_is_one_line(compared, capsys):
    assert compared(run("a"), run("a"))[0] == 2
    assert compared(run("a"), run("b"), "--relative-to", "linnen")[0] == 2
    assert cli.main(["compare", "before", "nowhere"]) == 2
    assert re.fullmatch(
        r"tiebreak: there is no results folder 'nowhere'.*\n", capsys.readouterr()[1]
    )
