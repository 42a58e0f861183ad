"""The temperature found on the device is SciPy's, in every library, for values of any kind."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from tiebreak import registry
from tiebreak.algorithms.mpo import dual_scipy
from tiebreak.algorithms.mpo import mpo_numpy as oracle
from tiebreak.core.errors import UsageError
from tiebreak.verify.case import cast, fixed, perturbed_weights
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.parity import check_step, make_agent

LIBRARIES = {"torch": "torch", "tensorflow": "tensorflow", "jax": "linen"}
"""Whose dual file -> a framework whose runtime sets the precision."""

EPSILON = 0.1


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


def one_huge() -> np.ndarray:
    values = normal(20, 64)
    values[3, 5] = 1e8
    return values


def mixed() -> np.ndarray:
    return normal(20, 64) * np.logspace(-4, 4, 64)


KINDS = {
    "usual": normal(20, 64),
    "far from zero": normal(20, 64) + 1e4,
    "tiny": 1e-4 * normal(20, 64),
    "huge": 1e5 * normal(20, 64),
    "all equal": np.full((20, 64), 3.0),
    "one huge": one_huge(),
    "one huge per state": np.where(np.arange(20)[:, None] == 0, 1e6, normal(20, 64)),
    "scales mixed": mixed(),
    "two samples": normal(2, 64),
    "one state": normal(20, 1),
    "mostly within bounds": -np.maximum(np.abs(normal(20, 64)) - 2.0, 0.0),
    "below the range": 1e-9 * normal(20, 64),
    "above the range": 1e9 * normal(20, 64),
}


@pytest.mark.slow(each=("kind", "library"), share=0.0)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_newton_finds_the_minimum(library, kind):
    values = KINDS[kind]
    runtime = registry.make_runtime(LIBRARIES[library], "eager", "float64")
    duals = importlib.import_module(f"tiebreak.algorithms.mpo.dual_{library}")
    (found,) = runtime.to_numpy(duals.newton(runtime.asarray(values[None]), (EPSILON,)))
    (host,) = dual_scipy.slsqp(values[None], (EPSILON,))
    assert dual_scipy.LOWEST * 0.999999 <= found <= dual_scipy.HIGHEST * 1.000001
    below = values - values.max(axis=0)
    one, other = (dual_scipy.dual(below, EPSILON, eta)[0] for eta in (found, host))
    size = max(abs(other), found, host)
    assert one <= other + 1e-9 * size + 1e-12  # no worse than SciPy's
    assert one == pytest.approx(other, abs=1e-6 * size + 1e-9)
    assert found == pytest.approx(oracle.best_temperature(values, EPSILON), rel=1e-6)


@pytest.mark.parametrize("kind", ["usual", "tiny", "huge", "far from zero", "two samples"])
def test_scipy_finds_the_same_temperature(kind):
    """Where the minimum is not flat: there the temperatures themselves agree."""
    (host,) = dual_scipy.slsqp(KINDS[kind][None], (EPSILON,))
    assert host == pytest.approx(oracle.best_temperature(KINDS[kind], EPSILON), rel=1e-5)


@pytest.mark.parametrize("library", LIBRARIES)
def test_both_ways_take_several_objectives(library):
    values, epsilons = np.stack([KINDS["usual"], KINDS["mostly within bounds"]]), (0.1, 0.001)
    runtime = registry.make_runtime(LIBRARIES[library], "eager", "float64")
    duals = importlib.import_module(f"tiebreak.algorithms.mpo.dual_{library}")
    both = [
        runtime.to_numpy(find(runtime.asarray(values), epsilons))
        for find in (duals.newton, duals.slsqp)
    ]
    assert both[0].shape == (2,)
    np.testing.assert_allclose(both[0], both[1], rtol=1e-5)


def tensorflow_slsqp(mode):
    """A runtime, and the fixed case with its temperature by SciPy."""
    runtime = registry.make_runtime("tensorflow", mode, "float64")
    return runtime, fixed("mpo", "continuous").changed(dual="slsqp")


def test_a_graph_of_tensorflow_calls_scipy_in_every_update():
    runtime, case = tensorflow_slsqp("function")
    errors = ErrorTable("mpo", "tensorflow", "float64")
    check_step(errors, runtime, case, cast(perturbed_weights(case), "float64"), "L1", "step")
    assert errors.ok, errors.failed()


def test_a_program_of_xla_refuses_scipy_before_anything_runs():
    runtime, case = tensorflow_slsqp("xla")
    with pytest.raises(UsageError, match=r"'slsqp'.*'xla'.*dual=newton.*--mode function"):
        make_agent(runtime, case)


def test_dual_files_have_the_same_names_in_the_same_order():
    from hygiene import tree

    def public(library):
        found = tree.top_level_names(tree.SRC / "algorithms" / "mpo" / f"dual_{library}.py")
        return [name for name in found if not name.startswith("_")]

    assert public("torch") == public("jax") == public("tensorflow")
