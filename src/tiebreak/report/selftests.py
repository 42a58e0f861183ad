"""Self-tests in a report: their checks, and whether a machine's stopwatch has been tested.

A self-test is a results folder with records of kind "selftest" (`tiebreak run self-test`). It says
something about a benchmark run that was made on the same hardware.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak.bench.manager.store import RECORDS, SUITE, read_records
from tiebreak.core.errors import UsageError
from tiebreak.core.text import printable
from tiebreak.selftest.checks import CHECKS

RESULTS = {True: "passed", False: "failed", None: "skipped"}


class CheckResult(NamedTuple):
    """Latest result of one check."""

    name: str
    title: str
    rule: str
    passed: bool | None
    """None if it was skipped."""
    detail: str
    measured: list[tuple[str, str]]
    """(name, value) of the numbers that the rule is about, as text."""
    seconds: float | None
    scale: str
    at: str
    hardware: str
    """Digest of the machine's hardware, or its fingerprint if an early record has no digest."""
    folder: str

    @property
    def result(self) -> str:
        """passed, failed or skipped."""
        return RESULTS[self.passed]


class MachineTest(NamedTuple):
    """The latest result of every check on some hardware."""

    passed: int
    """Number of checks that passed."""
    failed: list[str]
    skipped: list[str]
    missing: list[str]
    """Checks that were never run there."""
    scales: list[str]
    folders: list[str]
    first_at: str
    last_at: str

    @property
    def total(self) -> int:
        """Number of all checks."""
        return self.passed + len(self.failed) + len(self.skipped) + len(self.missing)


def hardware_by_fingerprint(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the digest of the hardware alone, whatever is installed, for each fingerprint."""
    return {r["fingerprint"]: _hardware(r) for r in records if r["kind"] == "machine"}


def _hardware(record: Mapping[str, Any]) -> str:
    digest = record["machine"].get("hardware")
    return digest if isinstance(digest, str) and digest else str(record["fingerprint"])


def check_results(records: Sequence[Mapping[str, Any]], folder: str) -> list[CheckResult]:
    """Return the latest result of each check in a folder, in the order of first appearance."""
    hardware = hardware_by_fingerprint(records)
    latest = {r["row"]: r for r in records if r["kind"] == "selftest"}
    return [
        _check_result(r, hardware.get(r["fingerprint"], str(r["fingerprint"])), folder)
        for r in latest.values()
    ]


def _check_result(record: Mapping[str, Any], hardware: str, folder: str) -> CheckResult:
    measured = record["measured"].items()
    return CheckResult(
        name=str(record["row"]),
        title=str(record["title"]),
        rule=str(record["rule"]),
        passed=record["passed"] if record["passed"] in (True, False) else None,
        detail=str(record["detail"]),
        measured=[(key.replace("_", " "), _as_text(value)) for key, value in measured],
        seconds=record.get("seconds"),
        scale=str(record.get("scale", "")),
        at=str(record.get("at", "")),
        hardware=hardware,
        folder=folder,
    )


def _as_text(value: Any) -> str:
    """Return a measured value in one line, nested values in parentheses."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_in_parentheses(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_in_parentheses, value))
    return value if isinstance(value, str) else json.dumps(value)


def _in_parentheses(value: Any) -> str:
    is_nested = isinstance(value, (Mapping, list, tuple))
    return f"({_as_text(value)})" if is_nested else _as_text(value)


def results_next_to(folder: Path) -> Iterator[CheckResult]:
    """Yield the results of self-test folders next to a results folder; skip unreadable ones.

    So a report of `tiebreak run quick` knows of a `tiebreak run self-test` before it.
    """
    try:
        suites = sorted(folder.resolve().parent.glob(f"*/{SUITE}"))
    except OSError:
        return
    for file in suites:
        try:
            suite = json.loads(file.read_text(encoding="utf-8"))
            if suite["suite"] == "self-test" and (file.parent / RECORDS).is_file():
                yield from check_results(read_records(file.parent), printable(file.parent.name))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError):
            continue


def machine_test(hardware: Iterable[str], results: Iterable[CheckResult]) -> MachineTest | None:
    """Summarize what is known of the stopwatch on all of this hardware.

    Results at scale smoke do not count: they only show that the checks run.

    Args:
      hardware: digests of the machines' hardware.
      results: results of any hardware.

    Returns:
      None if one of the machines was never tested.
    """
    digests = set(hardware)
    results = [r for r in results if r.scale != "smoke"]
    if not digests or not digests <= {r.hardware for r in results}:
        return None
    results = sorted((r for r in results if r.hardware in digests), key=lambda r: r.at)
    latest = {(r.hardware, r.name): r for r in results}.values()
    names = {r.name for r in latest}
    failed = {r.name for r in latest if r.passed is False}
    skipped = {r.name for r in latest if r.passed is None} - failed
    return MachineTest(
        passed=len(names - failed - skipped),
        failed=sorted(failed),
        skipped=sorted(skipped),
        missing=[check.name for check in CHECKS if check.name not in names],
        scales=sorted({r.scale for r in latest}),
        folders=sorted({r.folder for r in latest}),
        first_at=min(r.at for r in latest),
        last_at=max(r.at for r in latest),
    )


def badge(test: MachineTest | None) -> tuple[str, str]:
    """Return (good, bad or warn; a few words) on whether the stopwatch was tested here."""
    if test is None:
        return "warn", "stopwatch not tested on this machine: tiebreak run self-test"
    if test.failed:
        return "bad", f"✗ stopwatch failed on this machine: {', '.join(test.failed)}"
    if test.passed < test.total:
        return "warn", f"stopwatch: {test.passed} of {test.total} checks passed on this machine"
    return "good", "✓ stopwatch tested on this machine"


def describe(test: MachineTest | None) -> str:
    """Return which checks passed, failed or are missing; when, at which scale, and where stored."""
    if test is None:
        return (
            "its own checks were not run on this hardware, or their results are neither next to "
            "these nor given: tiebreak run self-test"
        )
    parts = [f"{test.passed} of {test.total} of its own checks passed on this hardware"]
    for word, names in (
        ("failed", test.failed),
        ("skipped", test.skipped),
        ("never run", test.missing),
    ):
        if names:
            parts.append(f"{word}: {', '.join(names)}")
    dates = f"{test.first_at} to {test.last_at}"
    origin = f"scale {', '.join(test.scales)}; {dates}; {', '.join(test.folders)}"
    return f"{'; '.join(parts)} ({origin})"
