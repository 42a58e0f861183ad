"""Keep certificates on the disk: the same code with the same packages computes the same numbers.

A certificate is found again for the same source of everything that it verifies, the same versions
of all packages, the same Python and the same instruction set of the CPU. Only green ones are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tiebreak.bench.machine import fingerprint
from tiebreak.core.cache import cache_folder, read_cached, write_cached
from tiebreak.core.config import digest

NOT_VERIFIED = {"cli.py", "commands", "report", "selftest", "stats", "bench", "training"}
"""Parts of this package that no certificate depends on."""


def find_certificate(
    algorithms: Collection[str], frameworks: Collection[str], quick: bool
) -> dict[str, Any] | None:
    """Return the newest kept certificate of all these; None if there is none.

    A full certificate also serves where a `quick` one would do. Rows of other algorithms and
    frameworks are left out.
    """
    kept = [read_cached(path) for path in _folder().glob(f"{_key()}-*.json")]
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
    return cache_folder() / "certificates"


def _key() -> str:
    """Return a digest of all that the numbers depend on."""
    return digest({"source": fingerprint.source(NOT_VERIFIED), **fingerprint.numerics()})


def _covers(
    certificate: Mapping[str, Any], algorithms: Collection[str], frameworks: Collection[str]
) -> bool:
    """Return True for a whole, green certificate of all these algorithms and frameworks."""
    try:
        return (
            certificate["green"] is True
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
