"""The stopwatch's own tests in a report: their rows, and whether this machine has been tested.

A self-test is a results folder with records of kind "selftest" (`tiebreak run self-test`). It says
something about a bench run if it was made on the same hardware.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak.bench.manager.store import RECORDS, SUITE, read_records
from tiebreak.core.errors import UsageError
from tiebreak.selftest.checks import ROWS

OUTCOMES = {True: "passed", False: "failed", None: "skipped"}


class Row(NamedTuple):
    """The latest outcome of one of the tests."""

    row: str
    title: str
    rule: str
    passed: bool | None
    """None: skipped."""
    detail: str
    measured: list[tuple[str, str]]
    seconds: float | None
    scale: str
    at: str
    hardware: str
    """Of the machine: its digest, or its fingerprint where an early record has none."""
    folder: str

    @property
    def outcome(self) -> str:
        """passed, failed or skipped."""
        return OUTCOMES[self.passed]


class Tested(NamedTuple):
    """What the self-tests on some hardware say together: per test the latest outcome."""

    passed: int
    failed: list[str]
    skipped: list[str]
    missing: list[str]
    """Tests that nobody has run there."""
    scales: list[str]
    folders: list[str]
    first_at: str
    last_at: str

    @property
    def total(self) -> int:
        """All the tests that there are."""
        return self.passed + len(self.failed) + len(self.skipped) + len(self.missing)


def hardware(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Fingerprint -> what stands for the hardware alone, whatever is installed on it."""
    machines = (r for r in records if r["kind"] == "machine")
    return {r["fingerprint"]: _digest(r) for r in machines}


def _digest(record: Mapping[str, Any]) -> str:
    found = record["machine"].get("hardware")
    return found if isinstance(found, str) and found else str(record["fingerprint"])


def rows(records: Sequence[Mapping[str, Any]], folder: str) -> list[Row]:
    """The tests of a folder, each with its latest record, in the order of first appearance."""
    where = hardware(records)
    found = {r["row"]: r for r in records if r["kind"] == "selftest"}
    on = {row: where.get(r["fingerprint"], str(r["fingerprint"])) for row, r in found.items()}
    return [_row(r, on[row], folder) for row, r in found.items()]


def _row(record: Mapping[str, Any], hardware: str, folder: str) -> Row:
    return Row(
        row=str(record["row"]),
        title=str(record["title"]),
        rule=str(record["rule"]),
        passed=record["passed"] if record["passed"] in (True, False) else None,
        detail=str(record["detail"]),
        measured=[(k.replace("_", " "), _written(v)) for k, v in record["measured"].items()],
        seconds=record.get("seconds"),
        scale=str(record.get("scale", "")),
        at=str(record.get("at", "")),
        hardware=hardware,
        folder=folder,
    )


def _written(value: Any) -> str:
    """A measured value in one line: four significant digits, nested values in parentheses."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_nested(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_nested, value))
    return value if isinstance(value, str) else json.dumps(value)


def _nested(value: Any) -> str:
    inner = isinstance(value, (Mapping, list, tuple))
    return f"({_written(value)})" if inner else _written(value)


def beside(folder: Path) -> Iterator[Row]:
    """The tests in self-test folders next to a results folder; what is unreadable says nothing.

    So `tiebreak run quick` knows of the `tiebreak run self-test` before it.
    """
    try:
        suites = sorted(folder.resolve().parent.glob(f"*/{SUITE}"))
    except OSError:
        return
    for suite in suites:
        try:
            about = json.loads(suite.read_text(encoding="utf-8"))
            if about["suite"] == "self-test" and (suite.parent / RECORDS).is_file():
                yield from rows(read_records(suite.parent), suite.parent.name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError):
            continue


def tested(digests: Iterable[str], found: Iterable[Row]) -> Tested | None:
    """What is known of the stopwatch on all of this hardware; None where one was never tested.

    Scale smoke only shows that the tests run, so it counts for nothing.
    """
    on, here = set(digests), [r for r in found if r.scale != "smoke"]
    if not on or not on <= {r.hardware for r in here}:
        return None
    here = sorted((r for r in here if r.hardware in on), key=lambda r: r.at)
    latest = {(r.hardware, r.row): r for r in here}.values()
    names = {r.row for r in latest}
    bad = {r.row for r in latest if r.passed is False}
    idle = {r.row for r in latest if r.passed is None} - bad
    return Tested(
        passed=len(names - bad - idle),
        failed=sorted(bad),
        skipped=sorted(idle),
        missing=[row.name for row in ROWS if row.name not in names],
        scales=sorted({r.scale for r in latest}),
        folders=sorted({r.folder for r in latest}),
        first_at=min(r.at for r in latest),
        last_at=max(r.at for r in latest),
    )


def badge(known: Tested | None) -> tuple[str, str]:
    """(good, bad or warn; in a few words) whether the stopwatch was tested on this machine."""
    if known is None:
        return "warn", "stopwatch not tested on this machine: tiebreak run self-test"
    if known.failed:
        return "bad", f"✗ stopwatch failed on this machine: {', '.join(known.failed)}"
    if known.passed < known.total:
        return "warn", f"stopwatch: {known.passed} of {known.total} tests passed on this machine"
    return "good", "✓ stopwatch tested on this machine"


def account(known: Tested | None) -> str:
    """The same in full: which tests ended how, when, at which scale, and where that is stored."""
    if known is None:
        return (
            "its own tests were not run on this hardware, or their results are neither beside "
            "these nor given: tiebreak run self-test"
        )
    parts = [f"{known.passed} of {known.total} of its own tests passed on this hardware"]
    named = (("failed", known.failed), ("skipped", known.skipped), ("never run", known.missing))
    parts += [f"{word}: {', '.join(names)}" for word, names in named if names]
    when = f"{known.first_at} to {known.last_at}"
    where = f"scale {', '.join(known.scales)}; {when}; {', '.join(known.folders)}"
    return f"{'; '.join(parts)} ({where})"
