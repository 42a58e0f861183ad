"""Make the certificate: check every framework in its own process and merge the results."""

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
from tiebreak.verify.process import Workers
from tiebreak.verify.show import bar, print_certificate
from tiebreak.verify.worker import Request

PRECISIONS = ("float64", "float32")
"""Precisions of every algorithm; those with mixed precision are also checked in bfloat16."""
__all__ = ["certify", "print_certificate"]


def certify(
    algorithms: Sequence[str],
    frameworks: Sequence[str],
    out: Path | None = None,
    progress: bool = False,
    quick: bool = False,
    seed: int | None = None,
) -> dict[str, Any]:
    """Check the frameworks against the float64 oracle and one another; return the certificate.

    `quick` restricts to default modes and fixed cases. Other cases are drawn from `seed`, which is
    drawn itself if it is None, and recorded. `progress` shows a bar on a terminal. Writes JSON to
    `out`, if given.
    """
    seed = secrets.randbelow(10**6) if seed is None else seed
    requests, skipped = plan(algorithms, frameworks, seed, quick)
    results = run(requests, progress)
    checks = [check for _, result in results for check in result["checks"]]
    for errors in spread(results):
        checks += errors.entries.values()
    certificate = {
        "schema": 1,
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": tiebreak.__version__,
        "algorithms": list(algorithms),
        "quick": quick,
        "seed": seed,
        "green": bool(checks) and all(check["ok"] for check in checks),
        "rows": checks,
        "skipped": _unique(skipped + [s for _, r in results for s in r["skipped"]]),
        "packages": {k: v for _, r in results for k, v in r["packages"].items()},
    }
    if out is not None:
        _write(Path(out), certificate)
    return certificate


def run(requests: Sequence[Request], progress: bool) -> list[tuple[Request, dict]]:
    """Run a worker per request, two at a time (nothing is timed); return requests and results."""
    pool, workers = ThreadPoolExecutor(2), Workers()
    try:
        with bar(progress, len(requests)) as advance:
            pending = [pool.submit(workers.start, request) for request in requests]
            results = []
            for request, future in zip(requests, pending, strict=True):
                advance(f"{request.algorithm} · {_name(request)} · {request.precision}")
                results.append((request, future.result()))
            return results
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        workers.stop()  # after Ctrl-C; otherwise there are none


def plan(
    algorithms: Sequence[str], frameworks: Sequence[str], seed: int, quick: bool
) -> tuple[list[Request], list[dict]]:
    """Return the requests to run, and what is not installed, with the remedy.

    A framework whose modes are array libraries has a request for each, as they need processes of
    their own. Algorithms that a framework does not have are left out.
    """
    requests, skipped = [], []
    for framework in frameworks:
        row = registry.framework(framework)
        for mode in ("",) if row.runtime else row.modes:
            try:
                registry.require_framework(framework, mode or None)
            except MissingDependency as problem:
                what = {"framework": framework, "mode": mode} if mode else {"framework": framework}
                skipped.append({**what, "reason": str(problem)})
                continue
            for algorithm, precision in _checked(algorithms, framework):
                requests.append(Request(algorithm, framework, precision, seed, quick, mode))
    return requests, skipped


def _checked(algorithms: Sequence[str], framework: str) -> Iterator[tuple[str, str]]:
    """Yield each algorithm that a framework has, at each precision that is checked."""
    for algorithm in algorithms:
        mixed = ("bfloat16",) if registry.algorithm(algorithm).bfloat16 else ()
        if (algorithm, framework) in registry.IMPLEMENTATIONS:
            yield from itertools.product((algorithm,), (*PRECISIONS, *mixed))


def _name(request: Request) -> str:
    """Return the name of what a worker checks: a framework, or one mode of it."""
    return f"{request.framework} {request.mode}".strip()


def spread(results: Sequence[tuple[Request, dict]]) -> Iterator[ErrorTable]:
    """Compare every two frameworks' weights after one step of the fixed cases, per precision."""
    dumps: dict[tuple[str, str], dict[str, dict]] = {}
    for request, result in results:
        key = request.algorithm, request.precision
        dumps.setdefault(key, {})[_name(request)] = result["weights"]
    for (algorithm, precision), by_framework in dumps.items():
        errors = ErrorTable(algorithm, "any two", precision)
        for (one, a), (two, b) in itertools.combinations(by_framework.items(), 2):
            _compare_dumps(errors, algorithm, f"{one} and {two}", a, b)
        yield errors


def _compare_dumps(errors: ErrorTable, algorithm: str, mode: str, one: dict, two: dict) -> None:
    """Enter the differences between two frameworks' dumps, for each kind of actions."""
    for actions, name in itertools.product(set(one) & set(two), GROUPS):
        if not group(one[actions], name):
            continue
        case = fixed(algorithm, actions)
        got, want = group(one[actions], name), group(two[actions], name)
        errors.compare(mode, case, "L1", f"step: {name}", got, want, "gradient")


def _write(path: Path, certificate: dict) -> None:
    try:
        write_json(path, certificate)
    except OSError as problem:
        raise UsageError(f"cannot write the certificate to {str(path)!r}: {problem}") from problem


def _unique(items: Sequence[dict]) -> list[dict]:
    return [item for i, item in enumerate(items) if item not in items[:i]]
