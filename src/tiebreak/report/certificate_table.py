"""The certificate that a run holds, as a table: worst error per quantity and framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


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


def read_proof(certificate: dict) -> Proof:
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
