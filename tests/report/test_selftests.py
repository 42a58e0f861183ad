"""Self-test of the stopwatch on the page, and what a race says of the machine's stopwatch."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from report.test_html import EVIL, Page
from stats import synthetic

from tiebreak.report import selftests
from tiebreak.report.html import write_report
from tiebreak.selftest.checks import CHECKS

NAMES = [check.name for check in CHECKS]


def every_row(**outcomes: bool | None) -> list[dict]:
    """A self-test of all rows; those named (with underscores) end otherwise than passed."""
    ended = {name.replace("_", "-"): passed for name, passed in outcomes.items()}
    return [synthetic.machine(), *(synthetic.selftest(n, ended.get(n, True)) for n in NAMES)]


def text_of(*folders: Path) -> str:
    out = folders[0].parent / "out" / "page.html"
    return re.sub(r"\s+", " ", Page(write_report(folders, out)).text)


def test_a_folder_of_tests_alone_is_a_page(tmp_path):
    folder = synthetic.self_test(tmp_path / "self-test", every_row(hog=False, traps=None))
    text = text_of(folder)
    for part in (
        f"The stopwatch failed 1 of its {len(NAMES)} tests.", "Self-test of the stopwatch",
        "the title of kills",
        "3.6 to 6.5 % called different", "coverage: 48 of 1000 called different",
        f"{len(NAMES) - 2} checks passed", "1 check failed", "1 check skipped",
        "false different 0.048",
        "by noise high (1, 2), low 0.0471", "12.5 s", f"{len(NAMES)} checks, SHA-256",
    ):  # fmt: skip
        assert part in text, part
    found = Page(write_report([folder], tmp_path / "page.html"))
    ended = [a["class"] for tag, a in found.elements if tag == "span" and "class" in a]
    assert ended.count("badge good") == len(NAMES) - 2
    assert ended.count("badge bad") == ended.count("badge warn") == 1
    for part in ("Every number", "certificate", "own checks were not run"):
        assert part not in text, part


def test_a_small_scale_is_said_to_prove_less(tmp_path):
    shown = {
        scale: text_of(synthetic.self_test(tmp_path / scale / "s", every_row(), scale=scale))
        for scale in ("smoke", "quick", "full")
    }
    assert "only show that the checks run" in shown["smoke"]
    assert "At scale quick the counts are smaller" in shown["quick"]
    assert "At scale" not in shown["full"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "✓ stopwatch tested on this machine"),
        ({"hog": False}, "✗ stopwatch failed on this machine: hog"),
        ({"traps": None}, f"{len(NAMES) - 1} of {len(NAMES)} checks passed on this machine"),
    ],
)
def test_a_race_names_the_self_test_that_is_given(tmp_path, changes, expected):
    race = synthetic.store(tmp_path / "a" / "race", synthetic.typical())
    assert "stopwatch not tested on this machine: tiebreak run self-test" in text_of(race)
    tested = synthetic.self_test(tmp_path / "b" / "tested", every_row(**changes))
    text = text_of(race, tested)
    assert expected in text
    assert "stopwatch not tested" not in text
    assert "Self-test of the stopwatch" in text
    assert "side by side" not in text  # only one of the two is a race
    assert "of its own checks passed on this hardware" in text


def test_a_self_test_lying_beside_is_found_and_broken_folders_are_not(tmp_path):
    race = synthetic.store(tmp_path / "race", [*synthetic.race(blocks=2), synthetic.machine()])
    for name, content in (("torn", "{"), ("list", "[]"), ("odd", '{"suite": "self-test"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "suite.json").write_text(content)
    (tmp_path / "odd" / "records.jsonl").write_text("no record\n")
    assert "stopwatch not tested on this machine" in text_of(race)
    synthetic.self_test(tmp_path / "tested", every_row())
    text = text_of(race)
    assert "✓ stopwatch tested on this machine" in text
    every = f"{len(NAMES)} of {len(NAMES)}"
    assert f"{every} of its own checks passed on this hardware (scale full;" in text
    assert "Self-test of the stopwatch" not in text


def test_the_hardware_decides_and_not_what_is_installed(tmp_path):
    def machine(fingerprint: str, hardware: str) -> dict:
        record = synthetic.machine(fingerprint * 16)
        return {**record, "machine": {**record["machine"], "hardware": hardware}}

    race = [*synthetic.race(blocks=2, fingerprint="a" * 16), machine("a", "board")]
    folder = synthetic.store(tmp_path / "race", race)
    rows = [{**r, "fingerprint": "b" * 16} for r in every_row()[1:]]
    for hardware, tested in (("other", False), ("board", True)):
        synthetic.self_test(tmp_path / "tested", [machine("b", hardware), *rows])
        assert ("✓ stopwatch tested on this machine" in text_of(folder)) is tested


def found(**changes) -> selftests.CheckResult:
    (row,) = selftests.check_results([synthetic.machine(), synthetic.selftest(**changes)], "folder")
    return row


def test_the_latest_outcome_of_a_test_counts():
    old, new = "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"
    rows = [found(row="hog", passed=True, at=new), found(row="hog", passed=False, at=old)]
    for order in (rows, rows[::-1]):
        known = selftests.machine_test(["f" * 16], order)
        assert known
        assert known.passed == 1
        assert not known.failed
        assert known.missing == [n for n in NAMES if n != "hog"]


def test_what_failed_elsewhere_is_no_matter_here():
    elsewhere = found(row="kills", passed=False)._replace(hardware="other")
    known = selftests.machine_test(["f" * 16], [elsewhere, found(row="hog")])
    assert known
    assert not known.failed
    assert "kills" in known.missing


def test_what_is_not_known_is_not_claimed():
    rows = [found(scale="smoke")]
    assert selftests.machine_test(["f" * 16], rows) is None
    assert selftests.machine_test([], [found()]) is None
    assert selftests.machine_test(["f" * 16, "e" * 16], [found()]) is None
    partly = selftests.machine_test(["f" * 16], [found(row="hog")])
    expected = f"stopwatch: 1 of {len(NAMES)} checks passed on this machine"
    assert selftests.badge(partly) == ("warn", expected)


def test_everything_in_a_row_is_escaped(tmp_path):
    evil = synthetic.selftest(
        EVIL, title=EVIL, rule=EVIL, detail=EVIL, measured={EVIL: {EVIL: [EVIL]}}, at=EVIL,
        scale=f'"{EVIL}', passed=False,
    )  # fmt: skip
    folder = synthetic.self_test(tmp_path / "run", [synthetic.machine(), evil])
    race = synthetic.store(tmp_path / "race", [*synthetic.race(blocks=2), synthetic.machine()])
    page = Page(write_report([folder, race], tmp_path / "page.html"))
    assert EVIL not in page.source
    assert page.text.count("alert(1)") > 6
    assert json.loads((folder / "suite.json").read_text())["suite"] == "self-test"
