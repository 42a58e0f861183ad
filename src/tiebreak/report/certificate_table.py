"""A certificate as a table: the worst error per quantity and framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class WorstError(NamedTuple):
    """The worst error of one quantity in one framework, over modes and cases."""

    text: str
    ok: bool
    """True if all errors are within their bound."""
    detail: str
    """Mode, kind of actions, and case."""


class QuantityRow(NamedTuple):
    """One row of the table."""

    quantity: str
    precision: str
    rung: str
    bound: str
    errors: list[WorstError | None]
    """One per framework; None if it was not checked."""


@dataclass(frozen=True)
class CertificateTable:
    """A certificate as a table."""

    green: bool
    """True if every check passed."""
    created_at: str
    version: str
    algorithms: list[str]
    frameworks: list[str]
    rows: list[QuantityRow]
    skipped: list[tuple[str, str]]
    """(framework, reason)."""
    count: int
    """Number of checks."""


def certificate_table(certificate: Mapping[str, Any]) -> CertificateTable:
    """Build the table of a certificate: quantities as rows, frameworks as columns."""
    frameworks = list(dict.fromkeys(check["framework"] for check in certificate["rows"]))
    checks: dict[tuple, dict[str, list[Mapping[str, Any]]]] = {}
    for check in certificate["rows"]:
        key = (check["rung"], check["quantity"], check["precision"])
        checks.setdefault(key, {}).setdefault(check["framework"], []).append(check)
    rows = [
        QuantityRow(
            quantity=quantity,
            precision=precision,
            rung=rung,
            bound=_bounds([check for part in by_framework.values() for check in part]),
            errors=[_worst(by_framework[f]) if f in by_framework else None for f in frameworks],
        )
        for (rung, quantity, precision), by_framework in checks.items()
    ]
    return CertificateTable(
        green=bool(certificate["green"]),
        created_at=str(certificate.get("created_at", "")),
        version=str(certificate.get("version", "")),
        algorithms=list(certificate.get("algorithms", [])),
        frameworks=frameworks,
        rows=rows,
        skipped=[(s["framework"], s["reason"]) for s in certificate.get("skipped", [])],
        count=len(certificate["rows"]),
    )


def _bounds(checks: Sequence[Mapping[str, Any]]) -> str:
    return " / ".join(f"{bound:.0e}" for bound in sorted({check["bound"] for check in checks}))


def _worst(checks: Sequence[Mapping[str, Any]]) -> WorstError:
    """Return a failed check if there is one, else the largest error relative to its bound."""
    worst = max(checks, key=lambda c: (not c["ok"], c["worst"] / c["bound"]))
    return WorstError(
        text=f"{worst['worst']:.1e}",
        ok=all(check["ok"] for check in checks),
        detail=f"{worst['mode']}, {worst['actions']}, {worst['case']}",
    )
