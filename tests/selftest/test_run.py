"""The self-test as a run: checks recorded as they end, resumed, interrupted, shown."""

from __future__ import annotations

import io

import pytest
from hygiene import tree
from rich.console import Console

from tiebreak.bench.manager import store
from tiebreak.bench.manager.manager import Interrupted
from tiebreak.core.errors import UsageError
from tiebreak.selftest import show
from tiebreak.selftest.base import Context, Outcome
from tiebreak.selftest.checks import CHECKS, Check
from tiebreak.selftest.run import run

NAMES = [
    "simulated-aa", "coverage", "simulated-quick", "slowdown", "linearity", "sample-length", "hog",
    "traps", "leak", "faults", "kills", "damage", "writers", "real-aa", "second-clock",
]  # fmt: skip


def check(name, function):
    return Check(name, f"the title of {name}", "its rule", function, seconds=(1, 60, 600))


def fine(ctx):
    (ctx.folder / "raw.txt").write_text("kept")
    ctx.say("half way")
    return Outcome(True, {"rate": 0.05, "lost": float("nan")}, "5 of 100", {"scale": ctx.scale})


def fails(ctx):
    return Outcome(False, {"rate": 0.5}, "50 of 100")


def breaks(ctx):
    raise ValueError("this check\nis broken")


def skips(ctx):
    return Outcome(None, {}, "torch is not installed")


FAKES = (
    check("fine", fine),
    check("fails", fails),
    check("breaks", breaks),
    check("skips", skips),
)


def checks_of(folder):
    return [r for r in store.read_records(folder) if r["kind"] == "selftest"]


@pytest.fixture
def folder(tmp_path):
    return run(tmp_path / "out", "smoke", progress=False, checks=FAKES)


def test_every_check_has_a_record_whatever_happens(folder):
    first, *others = store.read_records(folder)
    assert first["kind"] == "machine"
    assert [(r["row"], r["passed"]) for r in others] == [
        ("fine", True), ("fails", False), ("breaks", False), ("skips", None),
    ]  # fmt: skip
    good, _, broken, _ = others
    assert good["measured"] == {"rate": 0.05, "lost": None}
    assert good["detail"] == "5 of 100"
    assert good["raw"] == {"scale": "smoke"}
    assert good["title"] == "the title of fine"
    assert good["rule"] == "its rule"
    assert good["scale"] == "smoke"
    assert good["seconds"] >= 0
    assert broken["detail"] == "the check itself broke: ValueError: this check is broken"


def test_files_of_checks_are_kept_and_empty_folders_are_not(folder):
    assert (folder / "fine" / "raw.txt").read_text() == "kept"
    assert "in breaks" in (folder / "breaks" / "error.txt").read_text()
    assert not (folder / "fails").exists()
    suite = store.read_suite(folder)
    assert (suite["suite"], suite["scale"], suite["cells"]) == ("self-test", "smoke", [])


def test_checks_may_be_chosen_by_name(tmp_path):
    folder = run(tmp_path / "out", "smoke", ["skips", "fine"], progress=False, checks=FAKES)
    assert [r["row"] for r in checks_of(folder)] == ["fine", "skips"]


def test_resume_runs_the_checks_that_are_missing(tmp_path):
    folder = run(tmp_path / "out", "smoke", ["fails"], progress=False, checks=FAKES)
    run(folder, resume=True, progress=False, checks=FAKES)
    assert [r["row"] for r in checks_of(folder)] == ["fails", "fine", "breaks", "skips"]


def test_an_interrupt_keeps_what_is_done_and_seeds_stay(tmp_path):
    seeds, stopping = [], [True]

    def once(ctx):
        seeds.append(ctx.seed)
        if stopping.pop() if stopping else False:
            raise KeyboardInterrupt
        return fine(ctx)

    checks = (FAKES[0], check("once", once), FAKES[1])
    out = tmp_path / "out"
    with pytest.raises(Interrupted, match=r"1 check stored.*self-test --out .*out --resume"):
        run(out, "smoke", progress=False, checks=checks)
    assert [r["row"] for r in checks_of(out)] == ["fine"]
    run(out, resume=True, progress=False, checks=checks)
    assert [r["row"] for r in checks_of(out)] == ["fine", "once", "fails"]
    assert seeds[0] == seeds[1]


def test_wrong_use_is_one_line_and_leaves_nothing(tmp_path, folder):
    out = tmp_path / "new"
    with pytest.raises(UsageError, match="unknown check of the self-test 'fin'; did you mean"):
        run(out, "smoke", ["fin"], progress=False, checks=FAKES)
    with pytest.raises(UsageError, match="unknown scale 'fast'"):
        run(out, "fast", progress=False, checks=FAKES)
    assert not out.exists()
    with pytest.raises(UsageError, match="holds results already"):
        run(folder, "smoke", progress=False, checks=FAKES)
    with pytest.raises(UsageError, match="holds another run"):
        run(folder, "full", resume=True, progress=False, checks=FAKES)
    with pytest.raises(UsageError, match="--resume needs the folder"):
        run(None, resume=True, progress=False, checks=FAKES)


def test_progress_says_what_runs_and_how_it_ended(tmp_path, capsys):
    run(tmp_path / "out", "quick", progress=True, checks=FAKES)
    said = capsys.readouterr().err
    assert "4 checks, scale quick, about 4 min on a quiet machine" in said
    assert "[1/4] fine: half way" in said
    assert "[2/4] fails: FAILED in" in said


def test_the_table_names_what_failed(folder):
    out = io.StringIO()
    show.print_checks(store.read_records(folder), Console(file=out, width=60))
    text = out.getvalue()
    assert "5 of 100" in text
    assert "1 check passed, 2 failed (fails, breaks), 1 skipped (skips)" in text
    assert [line.partition(":")[0] for line in show.failures(checks_of(folder))] == [
        "fails",
        "breaks",
    ]


def test_the_table_has_every_check_of_the_protocol():
    assert sorted(c.name for c in CHECKS) == sorted(NAMES)
    assert sum(c.seconds[2] for c in CHECKS) <= 4800


@pytest.mark.parametrize("check", CHECKS, ids=[check.name for check in CHECKS])
def test_every_check_leads_to_a_function_and_loads_no_framework(check):
    code = f"import sys; from tiebreak.selftest.checks import CHECKS; c = {check.name!r}\n"
    code += "assert callable(next(x for x in CHECKS if x.name == c).run.load())\n"
    code += f"loaded = {set(tree.LIBRARIES)} & {{m.partition('.')[0] for m in sys.modules}}\n"
    result = tree.run_python(code + "assert not loaded, loaded")
    assert result.returncode == 0, result.stderr


def test_listing_checks_does_not_load_the_manager():
    code = "import sys, tiebreak.selftest.checks\n"
    code += "assert 'tiebreak.bench.manager.manager' not in sys.modules"
    result = tree.run_python(code)
    assert result.returncode == 0, result.stderr


def test_counts_go_by_scale(tmp_path):
    counts = [Context(tmp_path, s, 0, print).count(1, 2, 3) for s in ("smoke", "quick", "full")]
    assert counts == [1, 2, 3]
