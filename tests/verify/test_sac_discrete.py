"""SAC with discrete actions: by hand, in five frameworks, and planted bugs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from verify.planted import Plant, config_of, partly_detached
from verify.runtimes import inner_runtime, packages_of
from verify.test_planted_bugs import plant_bug

from tiebreak import registry
from tiebreak.algorithms.sac import data
from tiebreak.algorithms.sac import sac_numpy as oracle
from tiebreak.algorithms.sac.config import Config
from tiebreak.core.types import EnvSpec
from tiebreak.verify import parity
from tiebreak.verify.case import cases_of, fixed
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.worker import Request, plan

SLOW = pytest.mark.slow(share=0.1)


def examine(framework: str) -> ErrorTable:
    """Check losses, gradients, updates, `act` and a step of the small case in float64."""
    if registry.missing_packages(packages_of(framework)):
        pytest.skip(f"{framework} is not installed")
    runtime = inner_runtime(framework)
    errors, cases = ErrorTable("sac", framework, "float64"), cases_of("sac")
    for check in (cases.check_losses, cases.check_updates, parity.check_public):
        check(errors, runtime, fixed("sac", "discrete"))
    return errors


def test_terms_by_hand():
    """Networks without layers: weights 0, so that biases are logits and values."""
    spec = EnvSpec.make(observation_shape=(1,), num_actions=2)
    config = Config(hidden_sizes=(), target_entropy_scale=0.5, init_alpha=0.2)
    weights = data.initial_weights(spec, config, 0)
    weights = {name: np.asarray(0.0 * value, float) for name, value in weights.items()}
    weights["log_alpha"] = np.log(0.2)
    p = np.array([0.25, 0.75])
    weights["actor/0/bias"] = np.log(p)
    for name, values in (("critic1", [1.0, 5.0]), ("critic2", [2.0, 4.0])):
        weights[f"{name}/0/bias"] = np.array(values)
        weights[f"target/{name}/0/bias"] = 10.0 * np.array(values)
    batch = data.Batch(
        obs=np.zeros((1, 1)), action=np.array([1]), reward=np.array([3.0]),
        discount=np.array([0.5]), next_obs=np.zeros((1, 1)),
    )  # fmt: skip
    noise = data.Noise(np.zeros((1, 1)), np.zeros((1, 1)))
    entropy = -(p * np.log(p)).sum()

    critic, _ = oracle.critic_gradients(spec, config, weights, batch, noise)
    target = 3.0 + 0.5 * (0.25 * 10.0 + 0.75 * 40.0 + 0.2 * entropy)
    assert critic.target == pytest.approx(target)
    assert critic.loss == pytest.approx((5.0 - target) ** 2 + (4.0 - target) ** 2)
    actor, _ = oracle.actor_gradients(spec, config, weights, batch, noise)
    assert actor.q == pytest.approx(0.25 * 1.0 + 0.75 * 4.0)
    assert actor.entropy == pytest.approx(entropy)
    assert actor.loss == pytest.approx(-actor.q - 0.2 * entropy)
    alpha, _ = oracle.alpha_gradients(spec, config, weights, batch, noise)
    assert alpha.loss == pytest.approx(np.log(0.2) * (entropy - 0.5 * np.log(2.0)))


@pytest.mark.parametrize(
    "framework",
    ["torch", *(pytest.param(f, marks=SLOW) for f in registry.FRAMEWORKS if f != "torch")],
)
def test_every_framework_agrees_with_the_oracle(framework):
    errors = examine(framework)
    assert errors.ok, errors.failed()
    assert len(errors.entries) > 20


def partly_detached_policy(policy: Callable) -> Callable:
    """Halve the gradient of the policy's logits."""

    def call(obs):
        distribution = policy(obs)
        return type(distribution)(partly_detached(distribution[0]))

    return call


BUGS = {
    "no entropy": Plant("soft_terms", lambda f: lambda *a: (f(*a)[0], 0.0 * f(*a)[1])),
    "one critic": Plant("soft_terms", lambda f: lambda p, c, *a: f(p, (c[0], c[0]), *a)),
    "value of the first action": Plant("taken_value", lambda f: lambda q, b: q(b.obs)[:, 0]),
    "entropy halved": Plant("Categorical.entropy", lambda f: lambda d: 0.5 * f(d)),
    "target entropy of a box": Plant("alpha_loss", config_of(4, target_entropy_scale=-1.0)),
    "noise negated": Plant("Categorical.sample", lambda f: lambda d, n: f(d, -n)),
    "actor partly detached": Plant(
        "actor_loss", lambda f: lambda p, *a: f(partly_detached_policy(p), *a)
    ),
}


@pytest.mark.slow(share=0.03)
@pytest.mark.parametrize("name", BUGS)
@pytest.mark.parametrize("framework", registry.FRAMEWORKS)
def test_planted_bug_is_caught(framework, name, monkeypatch):
    if registry.missing_packages(packages_of(framework)):
        pytest.skip(f"{framework} is not installed")
    plant_bug(monkeypatch, "sac", framework, BUGS[name])
    assert examine(framework).failed()


def test_certificates_have_the_small_case():
    jobs = list(plan(Request("sac", "torch", "float64", seed=0, quick=False)))
    assert any(job.case == fixed("sac", "discrete") for job in jobs)


def test_the_reference_has_a_target_within_reach():
    spec = EnvSpec.make(observation_shape=(4,), num_actions=2)
    assert registry.reference_config("sac", spec).target_entropy_scale == 0.89
