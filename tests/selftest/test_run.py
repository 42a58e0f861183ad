"""The self-test as a run: rows recorded as they end, resumed, interrupted, shown."""

from __future__ import annotations

import io

import pytest
from hygiene import tree
from rich.console import Console

from tiebreak.bench.manager import store
from tiebreak.bench.manager.manager import Interrupted
from tiebreak.core.errors import UsageError
from tiebreak.selftest import show
from tiebreak.selftest.checks import ROWS, Context, Outcome, Row
from tiebreak.selftest.run import run

NAMES = [
    "simulated-aa", "coverage", "slowdown", "linearity", "hog", "traps", "leak", "faults", "kills",
    "damage", "writers", "real-aa", "second-clock",
]  # fmt: skip


def row(name, function):
    return Row(name, f"the title of {name}", "its rule", function, real=False, seconds=(1, 60, 600))


def fine(ctx):
    (ctx.folder / "raw.txt").write_text("kept")
    ctx.say("half way")
    return Outcome(True, {"rate": 0.05, "lost": float("nan")}, "5 of 100", {"scale": ctx.scale})


def fails(ctx):
    return Outcome(False, {"rate": 0.5}, "50 of 100")


def breaks(ctx):
    raise ValueError("this row\nis broken")


def skips(ctx):
    return Outcome(None, {}, "torch is not installed")


FAKES = (row("fine", fine), row("fails", fails), row("breaks", breaks), row("skips", skips))


def rows_of(folder):
    return [r for r in store.read_records(folder) if r["kind"] == "selftest"]


@pytest.fixture
def folder(tmp_path):
    return run(tmp_path / "out", "smoke", progress=False, rows=FAKES)


def test_every_row_has_a_record_whatever_happens(folder):
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
    assert broken["detail"] == "the row itself broke: ValueError: this row is broken"


def test_files_of_rows_are_kept_and_empty_folders_are_not(folder):
    assert (folder / "fine" / "raw.txt").read_text() == "kept"
    assert "in breaks" in (folder / "breaks" / "error.txt").read_text()
    assert not (folder / "fails").exists()
    suite = store.read_suite(folder)
    assert (suite["suite"], suite["scale"], suite["cells"]) == ("self-test", "smoke", [])


def test_rows_may_be_chosen_by_name(tmp_path):
    folder = run(tmp_path / "out", "smoke", ["skips", "fine"], progress=False, rows=FAKES)
    assert [r["row"] for r in rows_of(folder)] == ["fine", "skips"]


def test_resume_runs_the_rows_that_are_missing(tmp_path):
    folder = run(tmp_path / "out", "smoke", ["fails"], progress=False, rows=FAKES)
    run(folder, resume=True, progress=False, rows=FAKES)
    assert [r["row"] for r in rows_of(folder)] == ["fails", "fine", "breaks", "skips"]


def test_an_interrupt_keeps_what_is_done_and_seeds_stay(tmp_path):
    seeds, stopping = [], [True]

    def once(ctx):
        seeds.append(ctx.seed)
        if stopping.pop() if stopping else False:
            raise KeyboardInterrupt
        return fine(ctx)

    rows = (FAKES[0], row("once", once), FAKES[1])
    out = tmp_path / "out"
    with pytest.raises(Interrupted, match=r"1 rows are kept.*self-test --out .*out --resume"):
        run(out, "smoke", progress=False, rows=rows)
    assert [r["row"] for r in rows_of(out)] == ["fine"]
    run(out, resume=True, progress=False, rows=rows)
    assert [r["row"] for r in rows_of(out)] == ["fine", "once", "fails"]
    assert seeds[0] == seeds[1]


def test_wrong_use_is_one_line_and_leaves_nothing(tmp_path, folder):
    out = tmp_path / "new"
    with pytest.raises(UsageError, match="unknown row of the self-test 'fin'; did you mean"):
        run(out, "smoke", ["fin"], progress=False, rows=FAKES)
    with pytest.raises(UsageError, match="unknown scale 'fast'"):
        run(out, "fast", progress=False, rows=FAKES)
    assert not out.exists()
    with pytest.raises(UsageError, match="holds results already"):
        run(folder, "smoke", progress=False, rows=FAKES)
    with pytest.raises(UsageError, match="holds another run"):
        run(folder, "full", resume=True, progress=False, rows=FAKES)
    with pytest.raises(UsageError, match="--resume needs the folder"):
        run(None, resume=True, progress=False, rows=FAKES)


def test_progress_says_what_runs_and_how_it_ended(tmp_path, capsys):
    run(tmp_path / "out", "quick", progress=True, rows=FAKES)
    said = capsys.readouterr().err
    assert "4 rows, scale quick, about 4 min on a quiet machine" in said
    assert "[1/4] fine: half way" in said
    assert "[2/4] fails: FAILED in" in said


def test_the_table_names_what_failed(folder):
    out = io.StringIO()
    show.print_rows(store.read_records(folder), Console(file=out, width=60))
    text = out.getvalue()
    assert "5 of 100" in text
    assert "1 rows passed, 2 failed (fails, breaks), 1 skipped (skips)" in text
    assert [line.partition(":")[0] for line in show.failures(rows_of(folder))] == [
        "fails",
        "breaks",
    ]


def test_the_table_has_every_row_of_the_protocol():
    assert sorted(r.name for r in ROWS) == sorted(NAMES)
    assert sum(r.seconds[2] for r in ROWS) <= 4800


@pytest.mark.parametrize("row", ROWS, ids=[r.name for r in ROWS])
def test_every_row_leads_to_a_function(row):
    module, function = row.run
    code = f"from tiebreak.selftest.{module} import {function}"
    result = tree.run_python(code)
    assert result.returncode == 0, result.stderr


def test_the_managers_side_of_the_rows_loads_no_framework():
    modules = [f"tiebreak.selftest.{p.stem}" for p in tree.files(tree.SRC / "selftest")]
    modules = [m for m in modules if not m.endswith(("__init__", "subjects"))]
    code = f"import importlib, sys\nfor m in {modules}: importlib.import_module(m)\n"
    code += f"found = {set(tree.LIBRARIES)} & {{m.partition('.')[0] for m in sys.modules}}\n"
    result = tree.run_python(code + "assert not found, found")
    assert result.returncode == 0, result.stderr


def test_counts_go_by_scale(tmp_path):
    counts = [Context(tmp_path, s, 0, print).count(1, 2, 3) for s in ("smoke", "quick", "full")]
    assert counts == [1, 2, 3]
