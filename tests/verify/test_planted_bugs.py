"""Each planted bug makes a check fail; without a bug all checks pass."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
from verify import planted_mpo
from verify.planted import Plant
from verify.runtimes import eager_runtime, library_here, packages_of

from tiebreak import registry
from tiebreak.verify import parity
from tiebreak.verify.case import cases_of
from tiebreak.verify.compare import ErrorTable

PLANTED = {
    algorithm: importlib.import_module(f"verify.planted_{algorithm}").PLANTS
    for algorithm in registry.ALGORITHMS
}
"""Algorithm -> its planted bugs by name, from `planted_NAME.py`."""


def examine(algorithm: str, framework: str) -> ErrorTable:
    """Run the L0 and L1 checks of the fixed cases, uncompiled, in float64, in this process.

    Stop at the first check that fails; the knobs come last, because there are many.
    """
    runtime = eager_runtime(framework, "float64")
    errors, cases = ErrorTable(algorithm, framework, "float64"), cases_of(algorithm)
    fixed = [cases.fixed(actions) for actions in cases.ACTIONS]
    checks = cases.check_losses, cases.check_updates, parity.check_public
    jobs = [(check, case) for case in fixed for check in checks]
    for check, case in [*jobs, (cases.check_knobs, fixed[0])]:
        check(errors, runtime, case)
        if not errors.ok:
            break
    return errors


def implementation_modules(algorithm: str, framework: str) -> list[ModuleType]:
    """Return the loaded modules that make up an implementation, without what the oracle shares.

    They are the framework's own room and the algorithm's files in that framework.
    """
    row = registry.framework(framework)
    if row.backends:
        registry.runtime_module(framework, library_here())
    implementation = registry.load(registry.IMPLEMENTATIONS[algorithm, framework])
    room = row.runtime or framework
    files = [f"tiebreak.algorithms.{algorithm}.{part}_{room}" for part in ("losses", "dual")]
    modules = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith(f"tiebreak.frameworks.{room}.") or name in files
    ]
    return [implementation, *modules]


def plant_bug(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, framework: str, plant: Plant
) -> None:
    """Plant a bug in every module of the framework's implementation that has the name."""
    modules = implementation_modules(algorithm, framework)
    owner, _, attribute = plant.target.rpartition(".")
    owners = [getattr(m, owner) for m in modules if hasattr(m, owner)] if owner else modules
    places = {id(place): place for place in owners if hasattr(place, attribute)}.values()
    assert places, f"no module of {algorithm} in {framework} has {plant.target!r}"
    for place in places:
        right = getattr(place, attribute)
        monkeypatch.setattr(place, attribute, called_by_position(plant.wrong(right), like=right))


def called_by_position(wrong: Callable, like: Callable) -> Callable:
    """Call `wrong` with positional arguments, however `like`, which it replaces, is called."""
    signature = inspect.signature(like)

    def call(*args, **keywords):
        return wrong(*signature.bind(*args, **keywords).args)

    return call


IN_TORCH = pytest.mark.slow(each=("algorithm",), share=0.02)
ELSEWHERE = pytest.mark.slow(each=("algorithm", "framework"), share=0.0)
"""In a sampled run one planted bug for every algorithm, in torch and in one of the others, and one
for every other framework: the checks are the same for all frameworks (decision 0034)."""
BUGS = [(algorithm, name) for algorithm, plants in PLANTED.items() for name in plants]
DUAL_BUGS = [("mpo", name) for name in planted_mpo.DUAL]
"""Each framework has a dual problem of its own."""


def in_all_frameworks(bugs: list[tuple[str, str]]) -> list:
    """Return (framework, algorithm, name) for every bug and framework that has its algorithm."""
    return [
        pytest.param(framework, *bug, marks=IN_TORCH if framework == "torch" else ELSEWHERE)
        for bug in bugs
        for framework in registry.frameworks_of(bug[0])
    ]


@pytest.fixture
def framework(request: pytest.FixtureRequest):
    """Skip frameworks that are not installed; reset JAX to 32 bits afterwards."""
    if registry.missing_packages(packages_of(request.param)):
        pytest.skip(f"{request.param} is not installed")
    yield request.param
    eager_runtime(request.param, "float32")


def skip_where_it_is_not(algorithm: str, framework: str) -> None:
    """Skip an algorithm that a framework does not have."""
    if (algorithm, framework) not in registry.IMPLEMENTATIONS:
        pytest.skip(f"{framework} has no {algorithm}")


@pytest.mark.parametrize("algorithm", PLANTED)
@pytest.mark.parametrize(
    "framework",
    ["torch", *(pytest.param(f, marks=pytest.mark.slow) for f in ("tensorflow", "linen", "keras"))],
    indirect=True,
)
def test_without_a_bug_everything_agrees(framework, algorithm):
    skip_where_it_is_not(algorithm, framework)
    errors = examine(algorithm, framework)
    assert errors.ok, errors.failed()
    assert len(errors.entries) > 30


@pytest.mark.parametrize(
    ("framework", "algorithm", "name"),
    in_all_frameworks([bug for bug in BUGS if bug not in DUAL_BUGS]),
    indirect=["framework"],
)
def test_planted_bug_is_caught(framework, algorithm, name, monkeypatch):
    plant_bug(monkeypatch, algorithm, framework, PLANTED[algorithm][name])
    assert examine(algorithm, framework).failed()


@pytest.mark.slow(share=0.04)
@pytest.mark.parametrize(("algorithm", "name"), DUAL_BUGS)
@pytest.mark.parametrize("framework", registry.frameworks_of("mpo"), indirect=True)
def test_planted_bug_in_the_dual_problem_is_caught(framework, algorithm, name, monkeypatch):
    plant_bug(monkeypatch, algorithm, framework, PLANTED[algorithm][name])
    assert examine(algorithm, framework).failed()
