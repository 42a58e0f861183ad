"""Keep certificates on the disk: the same code with the same packages computes the same numbers.

A certificate is found again for the same source of everything that it verifies, the same versions
of all packages, the same Python and the same instruction set of the CPU. Only green ones are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from tiebreak import registry
from tiebreak.bench.machine import fingerprint
from tiebreak.bench.record_fields import Certificate
from tiebreak.bench.suite.plan import Plan
from tiebreak.core.cache import cache_folder, read_cached, write_cached
from tiebreak.core.config import digest
from tiebreak.core.schema import check

CERTIFICATES = "certificates"
"""Folder of certificates: in the cache, and in a results folder that another host has sent some."""

NOT_VERIFIED = {"cli.py", "commands", "report", "selftest", "stats", "bench", "training"}
"""Parts of this package that no certificate depends on."""


def raced(plan: Plan) -> tuple[list[str], list[str]]:
    """Return the algorithms and the installed frameworks of a race."""
    named = {cell.framework for cell in plan.cells}
    frameworks = [
        name
        for name, row in registry.FRAMEWORKS.items()
        if name in named and not registry.missing_packages(row.packages_in(row.default_mode))
    ]
    return sorted({cell.algorithm for cell in plan.cells}), frameworks


def make_certificate(plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    """Verify the frameworks of a race, and keep the certificate if it is green."""
    from tiebreak.verify.certify import certify

    say("verifying that the frameworks compute the same numbers")
    certificate = certify(*raced(plan), quick=plan.scale != "full")
    keep_certificate(certificate)
    return certificate


def kept_files() -> dict[str, bytes]:
    """Return the names and contents of the certificates of this code with these packages."""
    return {path.name: path.read_bytes() for path in _folder().glob(f"{_key()}-*.json")}


def find_certificate(
    algorithms: Collection[str],
    frameworks: Collection[str],
    quick: bool,
    also: Path | None = None,
) -> dict[str, Any] | None:
    """Return the newest kept certificate of all these; None if there is none.

    A full certificate also serves where a `quick` one would do. Rows of other algorithms and
    frameworks are left out. `also` is a further folder to look in.
    """
    folders = [_folder(), *([also] if also else [])]
    kept = [read_cached(path) for f in folders for path in f.glob(f"{_key()}-*.json")]
    good = [c for c in kept if _covers(c, algorithms, frameworks) and c["quick"] <= quick]
    if not good:
        return None
    newest = max(good, key=lambda certificate: str(certificate.get("created_at")))
    rows = [row for row in newest["rows"] if _concerns(row, algorithms, frameworks)]
    return {**newest, "algorithms": sorted(algorithms), "rows": rows, "skipped": []}


def keep_certificate(certificate: Mapping[str, Any]) -> None:
    """Keep a green certificate."""
    if not certificate["green"]:
        return
    checked = {
        "algorithms": sorted(certificate["algorithms"]),
        "frameworks": sorted(_frameworks(certificate)),
        "quick": certificate["quick"],
    }
    write_cached(_folder() / f"{_key()}-{digest(checked)}.json", certificate)


def _folder() -> Path:
    return cache_folder() / CERTIFICATES


def _key() -> str:
    """Return a digest of all that the numbers depend on."""
    return digest({"source": fingerprint.source(NOT_VERIFIED), **fingerprint.numerics()})


def _covers(
    certificate: Mapping[str, Any], algorithms: Collection[str], frameworks: Collection[str]
) -> bool:
    """Return True for a whole, green certificate of all these algorithms and frameworks."""
    try:
        return (
            not check(certificate, Certificate)
            and certificate["green"] is True
            and isinstance(certificate["quick"], bool)
            and set(algorithms) <= set(certificate["algorithms"])
            and set(frameworks) <= _frameworks(certificate)
        )
    except (KeyError, TypeError):
        return False


def _frameworks(certificate: Mapping[str, Any]) -> set[str]:
    return {row["framework"] for row in certificate["rows"]}


def _concerns(
    row: Mapping[str, Any], algorithms: Collection[str], frameworks: Collection[str]
) -> bool:
    """Return True for a row of these algorithms and frameworks, or of two of the frameworks."""
    any_two = row["framework"] == "any two"  # its mode names them: `torch and keras jax`
    names = row["mode"].split(" and ") if any_two else [row["framework"]]
    compared = [name.partition(" ")[0] for name in names]
    return row["algorithm"] in algorithms and set(compared) <= set(frameworks)
