"""The certificate: every framework checked in a process of its own, all in one table."""

from __future__ import annotations

import datetime
import itertools
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tiebreak
from tiebreak import registry
from tiebreak.core.errors import MissingDependency, UsageError
from tiebreak.core.files import write_json
from tiebreak.verify.case import fixed
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.parity import GROUPS, group
from tiebreak.verify.process import start, stop_all
from tiebreak.verify.show import bar, print_certificate
from tiebreak.verify.worker import Request

PRECISIONS = ("float64", "float32")
"""Of every algorithm; those that can compute in bfloat16 are checked in it, too."""
__all__ = ["certify", "print_certificate"]


def certify(
    algorithms: Sequence[str],
    frameworks: Sequence[str],
    out: Path | None = None,
    progress: bool = False,
    quick: bool = False,
    seed: int | None = None,
) -> dict[str, Any]:
    """Check the frameworks against the float64 oracle and one another; returns the certificate.

    `quick` keeps to the default modes and fixed cases. Other cases are drawn from `seed`, itself
    drawn and written down when None. `progress` shows a bar on a terminal. Writes JSON to `out`.
    """
    seed = secrets.randbelow(10**6) if seed is None else seed
    requests, skipped = plan(algorithms, frameworks, seed, quick)
    results = run(requests, progress)
    rows = [row for _, result in results for row in result["rows"]]
    rows += [row for book in spread(results) for row in book.rows.values()]
    certificate = {
        "schema": 1,
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": tiebreak.__version__,
        "algorithms": list(algorithms),
        "quick": quick,
        "seed": seed,
        "green": bool(rows) and all(row["ok"] for row in rows),
        "rows": rows,
        "skipped": _unique(skipped + [s for _, r in results for s in r["skipped"]]),
        "packages": {k: v for _, r in results for k, v in r["packages"].items()},
    }
    if out is not None:
        _write(Path(out), certificate)
    return certificate


def run(requests: Sequence[Request], progress: bool) -> list[tuple[Request, dict]]:
    """Every request with its worker's result, two workers at a time: nothing is timed here."""
    pool = ThreadPoolExecutor(2)
    try:
        with bar(progress, len(requests)) as advance:
            pending = [pool.submit(start, request) for request in requests]
            results = []
            for request, future in zip(requests, pending, strict=True):
                advance(f"{request.algorithm} · {request.framework} · {request.precision}")
                results.append((request, future.result()))
            return results
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        stop_all()  # after Ctrl-C; otherwise there are none


def plan(
    algorithms: Sequence[str], frameworks: Sequence[str], seed: int, quick: bool
) -> tuple[list[Request], list[dict]]:
    """The workers to start, and the frameworks that are not installed, each with its remedy."""
    requests, skipped = [], []
    for framework in frameworks:
        row = registry.framework(framework)
        try:
            registry.require_packages(f"framework {framework!r}", row.packages, row.extra)
        except MissingDependency as problem:
            skipped.append({"framework": framework, "reason": str(problem)})
            continue
        for algorithm in algorithms:
            registry.algorithm(algorithm)
            mixed = ("bfloat16",) if registry.ALGORITHMS[algorithm].bfloat16 else ()
            for precision in (*PRECISIONS, *mixed):
                requests.append(Request(algorithm, framework, precision, seed, quick))
    return requests, skipped


def spread(results: Sequence[tuple[Request, dict]]) -> Iterator[ErrorTable]:
    """The largest difference between any two frameworks after one step of the fixed cases."""
    dumps: dict[tuple[str, str], dict[str, dict]] = {}
    for request, result in results:
        key = request.algorithm, request.precision
        dumps.setdefault(key, {})[request.framework] = result["weights"]
    for (algorithm, precision), by_framework in dumps.items():
        book = ErrorTable(algorithm, "any two", precision)
        for (one, a), (two, b) in itertools.combinations(by_framework.items(), 2):
            _compare_dumps(book, algorithm, f"{one} and {two}", a, b)
        yield book


def _compare_dumps(book: ErrorTable, algorithm: str, mode: str, one: dict, two: dict) -> None:
    """Enter the differences between two frameworks' dumps, for each kind of actions."""
    for actions, name in itertools.product(set(one) & set(two), GROUPS):
        if not group(one[actions], name):
            continue
        pair = group(one[actions], name), group(two[actions], name)
        book.compare(mode, fixed(algorithm, actions), "L1", f"step: {name}", *pair, "gradient")


def _write(path: Path, certificate: dict) -> None:
    try:
        write_json(path, certificate)
    except OSError as problem:
        raise UsageError(f"cannot write the certificate to {str(path)!r}: {problem}") from problem


def _unique(items: Sequence[dict]) -> list[dict]:
    return [item for i, item in enumerate(items) if item not in items[:i]]
