"""The oracle's gradients are the slopes of its losses, for every algorithm and optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from verify.oracle_inputs import off_policy_inputs, on_policy_inputs

from tiebreak import registry
from tiebreak.verify.case import Case, all_actions, cases_of

STEP = 1e-6
"""Length of half a difference, along a direction of length 1."""


class Gradient(NamedTuple):
    """A function of the oracle that returns loss terms and gradients."""

    algorithm: str
    optimizer: str
    actions: str
    function: str
    term: str
    """Loss term whose gradient is in the optimizer's networks; others are constant there."""

    @property
    def name(self) -> str:
        return f"{self.algorithm}-{self.actions}-{self.optimizer}"


TERMS = {
    ("mpo", "critic"): "critic_loss",
    ("mpo", "actor"): "policy_loss",
    ("mpo", "dual"): "dual_loss",
}
"""Loss terms of algorithms whose `gradients` has one for each optimizer."""


def gradients_of(algorithm: str) -> list[Gradient]:
    """Return all of an algorithm's: one function for all optimizers, or one for each."""
    together = hasattr(registry.oracle_module(algorithm), "gradients")
    return [
        Gradient(
            algorithm,
            optimizer,
            actions=actions,
            function="gradients" if together else f"{optimizer}_gradients",
            term=TERMS.get((algorithm, optimizer), "loss"),
        )
        for actions in all_actions(algorithm)
        for optimizer in registry.data_module(algorithm).COUNTS
    ]


GRADIENTS = [gradient for name in registry.ALGORITHMS for gradient in gradients_of(name)]


def draw_case(gradient: Gradient, seed: int) -> Case:
    """Draw a case in which the loss depends on the weights as the gradient says."""
    case = cases_of(gradient.algorithm).draw(seed, gradient.actions)
    if hasattr(case.config, "double_q"):
        case = case.changed(double_q=False)  # otherwise the target depends on the weights too
    return case


def evaluator(gradient: Gradient, case: Case) -> tuple[dict, Callable]:
    """Return weights, and the function weights -> terms, gradients on the case's first update."""
    off_policy = registry.ALGORITHMS[gradient.algorithm].off_policy
    weights, *inputs = off_policy_inputs(case) if off_policy else on_policy_inputs(case)
    function = getattr(case.oracle, gradient.function)
    return weights, lambda moved: function(case.spec, case.config, moved, *inputs)


@pytest.mark.parametrize("gradient", GRADIENTS, ids=lambda gradient: gradient.name)
@pytest.mark.parametrize("seed", range(6))
def test_gradient_is_the_slope_of_the_loss(seed, gradient):
    """Along random directions: each weight array alone, then all of the optimizer's together."""
    case = draw_case(gradient, seed)
    weights, evaluate = evaluator(gradient, case)
    _, grads = evaluate(weights)

    networks = registry.data_module(gradient.algorithm).NETWORKS[gradient.optimizer]
    trained = set(case.oracle.trained(weights))
    network_names = {name for name in trained if name.partition("/")[0] in networks}
    assert set(grads) == (trained if gradient.function == "gradients" else network_names)

    rng = np.random.default_rng(seed)
    names = [name for name in grads if name in network_names]
    for chosen in (*([name] for name in names), names):
        direction = {k: np.asarray(rng.standard_normal(weights[k].shape)) for k in chosen}
        size = np.sqrt(sum((d**2).sum() for d in direction.values()))

        def loss(h, direction=direction, size=size):
            moved = {k: weights[k] + h * d / size for k, d in direction.items()}
            terms, _ = evaluate({**weights, **moved})
            return getattr(terms, gradient.term)

        slope = (loss(STEP) - loss(-STEP)) / (2.0 * STEP)
        expected = sum((grads[k] * d).sum() for k, d in direction.items()) / size
        # MPO's losses are large where its gradients are small: rounding is relative to the loss.
        scale = abs(loss(0.0)) if gradient.algorithm == "mpo" else 0.0
        assert slope == pytest.approx(expected, abs=1e-6 * max(1.0, scale, abs(expected)))


def test_every_optimizer_has_a_gradient_here():
    tested = {(gradient.algorithm, gradient.optimizer) for gradient in GRADIENTS}
    assert tested == {
        (algorithm, optimizer)
        for algorithm in registry.ALGORITHMS
        for optimizer in registry.data_module(algorithm).COUNTS
    }
