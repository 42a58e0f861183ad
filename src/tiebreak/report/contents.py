"""One results folder, read into what the page shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak.bench.store import RECORDS, read_log, read_suite
from tiebreak.core.errors import UsageError
from tiebreak.report import words
from tiebreak.stats.ratios import summarize
from tiebreak.stats.summaries import CellSummary, GroupSummary


class Worst(NamedTuple):
    """One cell of the certificate's table: the worst error over modes and cases."""

    text: str
    ok: bool
    detail: str


class ProofRow(NamedTuple):
    """One line of the certificate's table."""

    quantity: str
    precision: str
    rung: str
    bound: str
    errors: list[Worst | None]
    """One per framework, None where it was not tested."""


@dataclass(frozen=True)
class Proof:
    """The certificate as a table."""

    green: bool
    created_at: str
    version: str
    algorithms: list[str]
    frameworks: list[str]
    rows: list[ProofRow]
    skipped: list[tuple[str, str]]
    count: int


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
    blocks: int
    visits: int
    finished: int
    first_at: str
    last_at: str
    canaries: list[tuple[str, str]]
    damaged: int
    sha256: str
    """Of records.jsonl."""
    records_name: str = RECORDS


def read_run(folder: Path) -> Run:
    """Read and summarise a results folder; UsageError for one that a report cannot be made of."""
    if not (folder / RECORDS).exists() and (folder / "metrics.jsonl").exists():
        raise UsageError(
            f"{str(folder)!r} is a training run; a report is made from a results folder "
            "(tiebreak run SUITE --out DIR makes one)"
        )
    log = read_log(folder)
    visits = [r for r in log.records if r["kind"] == "visit"]
    if not visits:
        raise UsageError(
            f"{str(folder)!r} holds no visit yet: nothing to report "
            "(tiebreak run SUITE --out DIR --resume goes on)"
        )
    suite = read_suite(folder)
    groups = summarize(visits)
    machines = {r["fingerprint"]: r["machine"] for r in log.records if r["kind"] == "machine"}
    proofs = [r["certificate"] for r in log.records if r["kind"] == "certificate"]
    cells = [(g.group, c) for g in groups for c in g.cells]
    failures = [(g, words.name(c), words.failure(f)) for g, c in cells for f in c.failures]
    times = sorted(r["started_at"] for r in visits)
    return Run(
        name=folder.resolve().name,
        suite=suite,
        groups=groups,
        machines=[(mark, _facts(machine)) for mark, machine in machines.items()],
        machine_title=_title(list(machines.values())),
        proof=_proof(proofs[-1]) if proofs else None,
        failures=failures + _never_visited(suite, cells),
        flags=[(g, words.name(c), words.flags(c)) for g, c in cells if c.flags],
        blocks=len({(r["run_id"], r["block"]) for r in visits}),
        visits=len(visits),
        finished=sum(c.visits for _, c in cells),
        first_at=times[0],
        last_at=times[-1],
        canaries=_canaries([r for r in log.records if r["kind"] == "canary"]),
        damaged=len(log.corrupt) + log.newer,
        sha256=hashlib.sha256((folder / RECORDS).read_bytes()).hexdigest(),
    )


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


def _canaries(records: Sequence[dict]) -> list[tuple[str, str]]:
    """How far each canary moved over the run: the machine's own unrest."""
    values: dict[str, list[float]] = {}
    for r in records:
        for name, seconds in r["values_s"].items():
            values.setdefault(name, []).append(seconds)
    return [
        (name.replace("_", " "), f"{words.duration(min(v))} to {words.duration(max(v))}")
        for name, v in values.items()
    ]


def _title(machines: Sequence[dict]) -> str:
    names = dict.fromkeys(
        f"{m.get('cpu', 'unknown CPU')} · {words.plural(m['cores'], 'core')}"
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
            facts.append((key.removesuffix("_bytes"), words.size(value)))
        elif isinstance(value, dict) and all(
            not isinstance(v, (dict, list)) for v in value.values()
        ):
            facts.append((key, ", ".join(f"{k} {v}" for k, v in value.items()) or words.DASH))
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            facts.append((key, text or words.DASH))
    return [(key.replace("_", " "), text) for key, text in facts]


def _proof(certificate: dict) -> Proof:
    """Worst error per quantity (lines) and framework (columns)."""
    frameworks = list(dict.fromkeys(r["framework"] for r in certificate["rows"]))
    found: dict[tuple, dict[str, list[dict]]] = {}
    for row in certificate["rows"]:
        key = (row["rung"], row["quantity"], row["precision"])
        found.setdefault(key, {}).setdefault(row["framework"], []).append(row)
    return Proof(
        green=bool(certificate["green"]),
        created_at=str(certificate.get("created_at", "")),
        version=str(certificate.get("version", "")),
        algorithms=list(certificate.get("algorithms", [])),
        frameworks=frameworks,
        rows=[
            ProofRow(
                quantity,
                precision,
                rung,
                _bounds([r for part in rows.values() for r in part]),
                [_worst(rows[f]) if f in rows else None for f in frameworks],
            )
            for (rung, quantity, precision), rows in found.items()
        ],
        skipped=[(s["framework"], s["reason"]) for s in certificate.get("skipped", [])],
        count=len(certificate["rows"]),
    )


def _bounds(rows: Sequence[dict]) -> str:
    return " / ".join(f"{bound:.0e}" for bound in sorted({r["bound"] for r in rows}))


def _worst(rows: Sequence[dict]) -> Worst:
    """Failed rows first, then the largest error in units of its bound."""
    worst = max(rows, key=lambda r: (not r["ok"], r["worst"] / r["bound"]))
    detail = f"{worst['mode']}, {worst['actions']}, {worst['case']}"
    return Worst(f"{worst['worst']:.1e}", all(r["ok"] for r in rows), detail)
