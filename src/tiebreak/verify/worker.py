"""Run all checks of one framework at one precision, and write the result as one JSON file.

`python -m tiebreak.verify.worker '{"framework": …}' FD PARENT` with the file descriptor of the
result and the pid of the parent, with which it ends; process.py starts it.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from tiebreak import registry
from tiebreak.core import import_guard
from tiebreak.core.errors import UsageError
from tiebreak.core.process_env import die_with_parent
from tiebreak.verify import lockstep, network_cases, parity
from tiebreak.verify.case import Case, all_actions, cases_of, draws, fixed, options
from tiebreak.verify.compare import ErrorTable

SLOW_MODES = ("compile", "cudagraph", "torch")
"""Modes that compile for tens of seconds per shape: they get the fixed cases only."""


class Request(NamedTuple):
    """Arguments of one worker."""

    algorithm: str
    framework: str
    precision: str
    seed: int
    """First seed of the drawn cases."""
    quick: bool
    """Only the default mode and the fixed cases, without L0 and L2."""
    mode: str = ""
    """The only mode, for a framework whose modes need a process each; empty: all its modes."""


class Job(NamedTuple):
    """One check of one case in one mode."""

    mode: str
    case: Case
    check: Callable[[ErrorTable, Any, Case], Any]


def inner_mode(framework: str, only_mode: str = "") -> str:
    """Return the mode for checks inside a step: the first one that compiles quickly."""
    if only_mode:
        return only_mode if only_mode == "jax" else "eager"
    modes = registry.framework(framework).modes
    return "jit" if "jit" in modes else modes[0]


def make_runtime(framework: str, mode: str, precision: str, only_mode: str = "") -> Any:
    """Return a runtime; in mode `eager` of a framework that has none, it runs op by op.

    `only_mode`: that framework's mode in this process.
    """
    if mode in registry.framework(framework).modes:
        return registry.make_runtime(framework, mode, precision)
    runtime = registry.make_runtime(framework, only_mode, precision)
    runtime.mode = mode
    return runtime


def plan(request: Request) -> Iterator[Job]:
    """Yield every check of a request."""
    cases = cases_of(request.algorithm)
    row = registry.framework(request.framework)
    inner = inner_mode(request.framework, request.mode)
    default = request.mode or row.default_mode
    modes = (default,) if request.quick or request.mode else row.modes
    # bfloat16 rounds too much for knobs, drawn cases and long runs.
    whole = not request.quick and request.precision != "bfloat16"
    if whole:
        yield Job(inner, cases.fixed(cases.ACTIONS[0]), cases.check_knobs)
    for actions in cases.ACTIONS:
        small = cases.fixed(actions)
        drawn = _drawn(request, actions, max(2, len(modes))) if whole else []
        for case in (small, *drawn[:2]) if request.precision == "float64" else (small,):
            yield Job(inner, case, cases.check_losses)
            if not request.quick:
                yield Job(inner, case, cases.check_updates)
        for index, mode in enumerate(modes):
            yield Job(mode, small, parity.check_public)
            traced_per_op = row.runtime == "jax" and mode == "eager"
            if drawn and mode not in SLOW_MODES and not traced_per_op:
                yield Job(mode, drawn[index], parity.check_public)
        if whole:
            yield Job(default, small, lockstep.check_lockstep)
    if whole and request.precision == "float64":  # in float32 a ReLU may fall to either side
        for actions in set(all_actions(request.algorithm)) - set(cases.ACTIONS):
            for check in (cases.check_losses, cases.check_updates, parity.check_public):
                yield Job(inner, cases.fixed(actions), check)
        for case in network_cases.all_of(request.algorithm):
            yield Job(inner, case, cases.check_losses)
            yield Job(inner, case, parity.check_public)
        for case in options(request.algorithm):
            for check in (cases.check_losses, cases.check_updates, parity.check_public):
                yield Job(inner, case, check)


def _drawn(request: Request, actions: str, count: int) -> list[Case]:
    return draws(request.algorithm, request.seed, actions, request.precision, count)


def run(request: Request) -> dict:
    """Run the plan; return checks, skipped modes and the weights after the fixed cases' step."""
    errors = ErrorTable(request.algorithm, request.framework, request.precision)
    runtimes: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    weights: dict[str, dict] = {}
    default = request.mode or registry.framework(request.framework).default_mode
    for job in plan(request):
        if job.mode in skipped:
            continue
        try:
            if job.mode not in runtimes:
                runtimes[job.mode] = make_runtime(
                    request.framework, job.mode, request.precision, request.mode
                )
        except UsageError as problem:
            skipped[job.mode] = str(problem)
            continue
        dump = attempt(errors, runtimes[job.mode], job)
        if (
            dump is not None
            and job.mode == default
            and job.case == fixed(request.algorithm, job.case.actions)
        ):
            weights[job.case.actions] = {k: v.tolist() for k, v in dump.items()}
    checks = [{**check, "mode": request.mode or check["mode"]} for check in errors.entries.values()]
    return {
        "checks": checks,
        "skipped": [
            {"framework": request.framework, "mode": mode, "reason": reason}
            for mode, reason in skipped.items()
        ],
        "weights": weights,
        "packages": versions(registry.framework(request.framework).packages_in(default)),
    }


def attempt(errors: ErrorTable, runtime: Any, job: Job) -> dict | None:
    """Run one check; an exception becomes a failed entry with its message."""
    try:
        return job.check(errors, runtime, job.case)
    except Exception as problem:
        reason = f"{type(problem).__name__}: {problem}".splitlines()[0][:300]
        errors.enter(job.mode, job.case, "L1", job.check.__name__, None, 0.0, reason)
        return None


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return installed versions of the packages that a framework needs, NumPy included."""
    out = {}
    for package in ("numpy", *packages):
        for name in (package, f"{package}-cpu"):
            try:
                out[package] = importlib.metadata.version(name)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return out


def main() -> None:
    """Read the request, install the import guard, write the result."""
    die_with_parent(int(sys.argv[3]))
    request = Request(**json.loads(sys.argv[1]))
    row = registry.framework(request.framework)
    import_guard.install(registry.allowed_imports(row.packages_in(request.mode)))
    text = json.dumps(run(request), allow_nan=False)
    with open(int(sys.argv[2]), "w", encoding="utf-8") as result:
        result.write(text)


if __name__ == "__main__":
    main()
