"""The proof can fail: each planted bug turns it red, and without one it is green."""

from __future__ import annotations

import sys

import pytest
from parity.planted import PLANTS, Plant

from tiebreak import registry
from tiebreak.verify import cases, parity
from tiebreak.verify.compare import Book
from tiebreak.verify.worker import ACTIONS


def examine(framework: str) -> Book:
    """The L0 and L1 checks of the fixed cases, uncompiled, in float64, in this process."""
    runtime = registry.make_runtime(framework, "eager", precision="float64")
    book = Book("ppo", framework, "float64")
    parity.check_knobs(book, runtime, cases.fixed("discrete"))
    for actions in ACTIONS:
        case = cases.fixed(actions)
        parity.check_parts(book, runtime, case)
        parity.check_updates(book, runtime, case)
        parity.check_public(book, runtime, case)
    return book


def put(monkeypatch: pytest.MonkeyPatch, framework: str, plant: Plant) -> None:
    """Plant a bug in every module of the framework's PPO that knows the name."""
    implementation = registry.load(registry.IMPLEMENTATIONS["ppo", framework])
    runtime = registry.framework(framework).runtime
    names = [f"tiebreak.ops.{runtime}_ops", "tiebreak.algorithms.ppo.losses_jax"]
    modules = [implementation, *(sys.modules[n] for n in names if n in sys.modules)]
    owner, _, method = plant.target.rpartition(".")
    owners = [getattr(m, owner) for m in modules if hasattr(m, owner)] if owner else modules
    found = {id(o): o for o in owners if hasattr(o, method)}.values()
    assert found, f"nothing is called {plant.target!r}"
    for place in found:
        monkeypatch.setattr(place, method, plant.wrong(getattr(place, method)))


FRAMEWORKS = [
    "torch",
    pytest.param("tensorflow", marks=pytest.mark.slow),
    pytest.param("linen", marks=pytest.mark.slow),
]


@pytest.fixture
def framework(request: pytest.FixtureRequest):
    """Skips what is not installed; gives JAX its 32 bits back afterwards."""
    row = registry.framework(request.param)
    if registry.missing(row.packages):
        pytest.skip(f"{request.param} is not installed")
    yield request.param
    registry.make_runtime(request.param, "eager", precision="float32")


@pytest.mark.parametrize("framework", FRAMEWORKS, indirect=True)
def test_without_a_bug_everything_agrees(framework):
    book = examine(framework)
    assert book.ok, book.failed()
    assert len(book.rows) > 40


@pytest.mark.parametrize("name", PLANTS)
@pytest.mark.parametrize("framework", FRAMEWORKS, indirect=True)
def test_planted_bug_is_caught(framework, name, monkeypatch):
    put(monkeypatch, framework, PLANTS[name])
    failed = examine(framework).failed()
    assert failed
