"""One results folder, read into what the page shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tiebreak.bench.manager.store import RECORDS, Log, read_log, read_suite
from tiebreak.core.errors import UsageError
from tiebreak.report import phrases, schedule, selftests
from tiebreak.report.certificate_table import Proof, read_proof
from tiebreak.report.memory import Key, Series, series
from tiebreak.report.selftests import Row, Tested
from tiebreak.stats.ratios import summarize
from tiebreak.stats.summaries import CellSummary, GroupSummary


@dataclass(frozen=True)
class Run:
    """Everything the page says about one folder."""

    name: str
    suite: dict[str, Any]
    groups: list[GroupSummary]
    machines: list[tuple[str, list[tuple[str, str]]]]
    """Fingerprint, and its facts as text."""
    machine_title: str
    proof: Proof | None
    failures: list[tuple[str, str, str]]
    """Group, cell, reason; planned cells that were never visited included."""
    flags: list[tuple[str, str, str]]
    visits: int
    """Of those for which everything was there."""
    finished: int
    first_at: str
    last_at: str
    schedule: list[tuple[str, str]]
    """Blocks, stages and canaries, as lines of text."""
    memory: dict[Key, Series]
    tests: list[Row]
    """The stopwatch's own tests, where this is a self-test."""
    hardware: set[str]
    """What stands for the machines, whatever is installed on them."""
    tested: Tested | None
    """What self-tests on this hardware say; see `read_runs`."""
    damaged: int
    sha256: str
    """Of records.jsonl."""
    records_name: str = RECORDS


def read_runs(folders: Sequence[Path], reference: str | None = None) -> list[Run]:
    """Folders as the page shows them; self-tests among or beside them speak for the others.

    reference: label or framework of the cell that others are compared with, where it is present.
    Raises UsageError for a folder that a report cannot be made of.
    """
    runs = [_read(folder, reference) for folder in folders]
    found = [row for folder in folders for row in selftests.beside(folder)]
    found += [row for run in runs for row in run.tests]
    return [replace(run, tested=selftests.tested(run.hardware, found)) for run in runs]


def _read(folder: Path, reference: str | None) -> Run:
    log = _log(folder)
    visits = [r for r in log.records if r["kind"] == "visit"]
    tests = selftests.rows(log.records, folder.resolve().name)
    suite = read_suite(folder)
    groups = summarize(log.records, reference)
    machines = {r["fingerprint"]: r["machine"] for r in log.records if r["kind"] == "machine"}
    proofs = [r["certificate"] for r in log.records if r["kind"] == "certificate"]
    cells = [(g.group, c) for g in groups for c in g.cells]
    failures = [(g, phrases.name(c), phrases.failure(f)) for g, c in cells for f in c.failures]
    times = sorted([*(r["started_at"] for r in visits), *(row.at for row in tests)])
    return Run(
        name=folder.resolve().name,
        suite=suite,
        groups=groups,
        machines=[(mark, _facts(machine)) for mark, machine in machines.items()],
        machine_title=_title(list(machines.values())),
        proof=read_proof(proofs[-1]) if proofs else None,
        failures=failures + _never_visited(suite, cells),
        flags=[(g, phrases.name(c), phrases.flags(c)) for g, c in cells if c.flags],
        visits=sum(r["status"] != "missing" for r in visits),
        finished=sum(c.visits for _, c in cells),
        first_at=times[0],
        last_at=times[-1],
        schedule=schedule.lines(suite, groups, log.records),
        memory=series(log.records),
        tests=tests,
        hardware=set(selftests.hardware(log.records).values()),
        tested=None,
        damaged=len(log.corrupt) + log.newer,
        sha256=hashlib.sha256((folder / RECORDS).read_bytes()).hexdigest(),
    )


def _log(folder: Path) -> Log:
    """The records of a folder that has something to report."""
    if not (folder / RECORDS).exists() and (folder / "metrics.jsonl").exists():
        raise UsageError(
            f"{str(folder)!r} is a training run; a report is made from a results folder "
            "(tiebreak run SUITE --out DIR makes one)"
        )
    log = read_log(folder)
    if not any(r["kind"] in ("visit", "selftest") for r in log.records):
        raise UsageError(
            f"{str(folder)!r} holds no visit yet: nothing to report "
            "(tiebreak run SUITE --out DIR --resume goes on)"
        )
    return log


def _never_visited(
    suite: dict[str, Any], cells: Sequence[tuple[str, CellSummary]]
) -> list[tuple[str, str, str]]:
    seen = {c.cell_id for _, c in cells}
    labels = {c.get("cell_id", c.get("id")): c.get("label") for c in suite["cells"]}
    return [
        (group, str(labels.get(cell) or cell), "missing: planned, but never visited")
        for group, ids in suite.get("groups", {}).items()
        for cell in ids
        if cell not in seen
    ]


def _title(machines: Sequence[dict]) -> str:
    names = dict.fromkeys(
        f"{m.get('cpu', 'unknown CPU')} · {phrases.plural(m['cores'], 'core')}"
        if isinstance(m.get("cores"), int)
        else str(m.get("cpu", "unknown CPU"))
        for m in machines
    )
    return " / ".join(names) or "unknown machine"


def _facts(machine: dict) -> list[tuple[str, str]]:
    """A machine record as lines of text, nested values in their JSON form."""
    facts = []
    for key, value in machine.items():
        if key.endswith("_bytes") and isinstance(value, int):
            facts.append((key.removesuffix("_bytes"), phrases.size(value)))
        elif isinstance(value, dict) and all(
            not isinstance(v, (dict, list)) for v in value.values()
        ):
            facts.append((key, ", ".join(f"{k} {v}" for k, v in value.items()) or phrases.DASH))
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            facts.append((key, text or phrases.DASH))
    return [(key.replace("_", " "), text) for key, text in facts]
