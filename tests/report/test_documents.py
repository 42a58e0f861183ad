"""Tables of documents are those of the records, and the records those of the code or listed."""

from __future__ import annotations

import re

import pytest
from hygiene import tree

from tiebreak.bench.machine.fingerprint import source
from tiebreak.core.errors import UsageError
from tiebreak.report import bench_tables, documents, learning_evidence
from tiebreak.report.bench_tables import StaleFolder, find_stale
from tiebreak.report.training_tables import rate_of_log, returns

RESULTS = tree.ROOT / "results"
DOCUMENTS = [
    tree.ROOT / "README.md",
    tree.ROOT / "docs" / "choosing.md",
    tree.ROOT / "docs" / "devices.md",
    tree.ROOT / "docs" / "findings.md",
    tree.ROOT / "docs" / "metrics.md",
    *sorted(RESULTS.glob("**/README.md")),
]
FIGURE = re.compile(
    r"\d[\d.,]*\s?(?:×|%|ms\b|µs\b|s\b(?! [`.])|minutes?\b|k? (?:environment )?steps per second)"
)
"""A measured figure: a ratio, a share, a time, a rate."""


def text_of(document) -> str:
    return document.read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=tree.name)
def test_tables_are_those_of_the_records(document):
    text = text_of(document)
    assert documents.render(text, RESULTS) == text, "run `make tables`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=tree.name)
def test_no_figure_is_written_by_hand(document):
    prose = documents.prose(text_of(document))
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", prose, flags=re.M | re.S)
    prose = prose.partition("## What there is")[0]  # of README.md; below it nothing is measured
    found = [line for line in prose.splitlines() if FIGURE.search(line)]
    allowed = ("0.4 s instead of 0.2",)  # settings of a scale
    wrong = [line for line in found if not any(text in line for text in allowed)]
    assert not wrong, "measured figures outside of generated tables:\n" + "\n".join(wrong)


def test_records_are_of_the_code_or_listed_as_stale_with_a_reason():
    entries = bench_tables.stale_folders(RESULTS)
    folders = bench_tables.measured_folders(RESULTS)
    wrong = []
    for folder in folders:
        digest, entry = bench_tables.recorded_source(RESULTS / folder), find_stale(entries, folder)
        if digest == source():
            wrong += [f"{folder} is of today's code: remove its entry"] if entry else []
        elif entry is None or digest not in entry.sources:
            wrong.append(f"{folder} is older than the code: measure again, or list {digest!r}")
    wrong += [f"{e.folder}: give a reason" for e in entries if len(e.reason) < 10]
    used = {entry.folder for folder in folders if (entry := find_stale(entries, folder))}
    wrong += [f"there is no {e.folder}" for e in entries if e.folder not in used]
    assert not wrong, "results/stale.toml:\n" + "\n".join(wrong)


def test_an_entry_stands_for_the_folders_inside():
    outer, inner = StaleFolder("m/a", ("1",), "old"), StaleFolder("m/a/b", ("2",), "older")
    assert find_stale([outer, inner], "m/a/b") is inner
    assert find_stale([outer, inner], "m/a/c/d") is outer
    assert find_stale([outer, inner], "m/ab") is None


def test_a_changed_figure_is_found_and_made_right(tmp_path, capsys):
    (tmp_path / "results").symlink_to(RESULTS)
    path = tmp_path / "doc.md"
    spec = "race amd-epyc-2-cores/update-steps value=thousand group=many"
    path.write_text(f"before\n<!-- table: {spec} -->\n<!-- end of table -->\nafter\n")
    assert documents.main(["--check", str(path)]) == 1
    assert "doc.md" in capsys.readouterr().out
    assert documents.main([str(path)]) == 0
    made = path.read_text()
    assert re.search(r"^\| torch compile \| 3\.\d+, reference \|", made, re.M)
    assert made.startswith("before\n")
    assert made.endswith("\nafter\n")
    assert documents.main(["--check", str(path)]) == 0
    path.write_text(made.replace("3.", "1.", 1))
    assert documents.main(["--check", str(path)]) == 1


def test_an_answer_is_what_the_command_prints(capsys):
    from tiebreak.cli import main

    lines = bench_tables.answers(RESULTS, ["amd-epyc-2-cores/quick"], {"group": "gymnax"})
    assert main(["show", "--markdown", str(RESULTS / "amd-epyc-2-cores/quick")]) == 0
    printed = capsys.readouterr().out
    made = "\n".join(lines)
    assert made.startswith("### CartPole-v1 (gymnax")
    assert made.rpartition("\n\n")[0] in printed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "<!-- table: races x -->\n<!-- end of table -->",
            "unknown kind of table 'races'; did you",
        ),
        ("<!-- table: race x -->\nno end", "a table has no end"),
        (
            "<!-- table: answer amd-epyc-2-cores/quick group=none -->\n<!-- end of table -->",
            "no answer of",
        ),
        ("<!-- table: metrics ppo -->\n<!-- end of table -->", "takes no words"),
        ("<!-- table: race x y -->\n<!-- end of table -->", "takes one folder or file"),
        ("<!-- table: race m/quikc -->\n<!-- end of table -->", "no suite of that name"),
        ("<!-- table: returns none/* -->\n<!-- end of table -->", "no training below"),
    ],
)
def test_what_is_no_table_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        documents.render(text, RESULTS)


def test_a_suite_that_is_not_measured_yet_says_how_to_measure_it(tmp_path):
    text = "<!-- table: race m/leaks -->\n<!-- end of table -->"
    made = documents.render(text, tmp_path)
    assert "\nNot measured yet: `tiebreak run leaks --out results/m/leaks`.\n" in made
    rows = list(bench_tables.suites(tmp_path, ["m"], {}))
    assert any(row.startswith("| `tiebreak run leaks` | ") and "not yet" in row for row in rows)


def test_every_suite_is_listed_with_the_day_of_its_records():
    rows = list(bench_tables.suites(RESULTS, ["amd-epyc-2-cores"], {}))
    (quick,) = (row for row in rows if "`tiebreak run quick`" in row)
    assert re.search(r"\| 2026-\d\d-\d\d \| quick \|", quick)


def line(steps: int, seconds: float, updates: int, **more) -> dict:
    return {"steps": steps, "seconds": seconds, "updates": updates, **more}


def test_the_rate_of_a_log_begins_after_the_last_compilation():
    old = [line(100, 5.0, 0), line(200, 50.0, 10), line(300, 51.0, 20), line(500, 53.0, 40)]
    assert rate_of_log(old) == pytest.approx(100.0)
    new = [{**entry, "compiled": n} for entry, n in zip(old, (3, 2, 1, 0), strict=True)]
    assert rate_of_log(new) == pytest.approx(100.0)
    assert rate_of_log(old[:2]) is None


def test_agents_of_a_population_are_trainings_of_their_own(tmp_path):
    for name, stored in (("one", [1.0, 3.0]), ("two", [[2.0, 4.0], [5.0, 9.0]])):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text('{"algorithm": "pqn", "framework": "nnx"}')
        (folder / "result.json").write_text(f'{{"returns": {stored}, "steps": 1000}}')
    *_, row = returns(tmp_path, ["*"], {})
    assert row == "| PQN, nnx | 3 | 1.00k | 6 | 4.0 | 1.0 to 9.0 |"


def test_a_part_of_studies_without_a_row_says_so(monkeypatch):
    folder = ["amd-epyc-2-cores/learning"]
    whole = list(learning_evidence.learning(RESULTS, folder, {"part": "controls"}))
    assert len(whole) > 2
    for rows in ([], ["| row |"]):
        part = ["| head |", "|---|", *rows]
        monkeypatch.setitem(learning_evidence.PARTS, "controls", lambda *_, part=part: iter(part))
        (first, *_) = learning_evidence.learning(RESULTS, folder, {"part": "controls"})
        assert first.startswith("| head |" if rows else "No such study is complete yet")
