"""Options that replace a part of an algorithm: by hand, in five frameworks, and planted bugs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from verify.oracle_inputs import off_policy_inputs, on_policy_inputs
from verify.planted import Plant, columns_of, config_of, partly_detached
from verify.runtimes import inner_runtime, packages_of
from verify.test_planted_bugs import plant_bug

from tiebreak import registry
from tiebreak.algorithms.dqn import dqn_numpy
from tiebreak.algorithms.dqn.config import Config as DqnConfig
from tiebreak.algorithms.ppo import ppo_numpy
from tiebreak.algorithms.ppo.config import Config as PpoConfig
from tiebreak.core.errors import UsageError
from tiebreak.core.off_policy import Batch
from tiebreak.verify import parity
from tiebreak.verify.case import Case, cases_of, options
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.worker import Request, plan

STEP = 1e-6
SLOW = pytest.mark.slow(share=0.1)
OPTIONS = [
    (algorithm, name)
    for algorithm in registry.ALGORITHMS
    for name in getattr(cases_of(algorithm), "OPTIONS", {})
]
every_option = pytest.mark.parametrize(("algorithm", "name"), OPTIONS)


def case_of(algorithm: str, name: str) -> Case:
    """Return the small case with an option."""
    names = list(cases_of(algorithm).OPTIONS)
    return list(options(algorithm))[names.index(name)]


def examine(algorithm: str, framework: str, name: str) -> ErrorTable:
    """Check losses, gradients, updates, `act` and a step of an option's case in float64."""
    if registry.missing_packages(packages_of(framework)):
        pytest.skip(f"{framework} is not installed")
    runtime = inner_runtime(framework)
    errors, cases = ErrorTable(algorithm, framework, "float64"), cases_of(algorithm)
    for check in (cases.check_losses, cases.check_updates, parity.check_public):
        check(errors, runtime, case_of(algorithm, name))
    return errors


def one_row(reward: float, discount: float) -> Batch:
    return Batch(
        obs=np.zeros((1, 1)), action=np.array([0]), reward=np.array([reward]),
        discount=np.array([discount]), next_obs=np.zeros((1, 1)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("reward", "discount", "expected"),
    [
        (0.0, 1.0, [0.25, 0.5, 0.25]),  # as it was
        (0.5, 0.0, [0.5, 0.5, 0.0]),  # between the first and the second
        (1.0, 0.0, [0.0, 1.0, 0.0]),
        (0.0, 0.5, [0.5, 0.5, 0.0]),  # returns 0, 0.5 and 1
        (9.0, 1.0, [0.0, 0.0, 1.0]),  # beyond the last
        (-9.0, 1.0, [1.0, 0.0, 0.0]),
    ],
)
def test_a_distribution_moves_as_the_paper_says(reward, discount, expected):
    config = DqnConfig(num_atoms=3, v_min=0.0, v_max=2.0)
    logits = np.log([[0.25, 0.5, 0.25]])
    got = dqn_numpy.shifted_distribution(config, logits, one_row(reward, discount))
    np.testing.assert_allclose(got, [expected], atol=1e-15)


def test_drift_by_hand():
    config = PpoConfig(drift="dpo")
    ratio, advantage = np.array([1.5, 1.5, 0.5, 1.0]), np.array([2.0, -1.0, -1.0, 3.0])
    drift, slope = ppo_numpy.dpo_drift(config, np.log(ratio), advantage)
    better, worse = 1.0, np.log(2.0)  # (ρ − 1)·A of the first, A·log ρ of the third
    expected = [better - 2.0 * np.tanh(better / 2.0), 0.0, worse - 0.6 * np.tanh(worse / 0.6), 0.0]
    np.testing.assert_allclose(drift, expected, atol=1e-15)
    slopes = [3.0 * np.tanh(better / 2.0) ** 2, 0.0, -(np.tanh(worse / 0.6) ** 2), 0.0]
    np.testing.assert_allclose(slope, slopes, atol=1e-15)


@every_option
def test_the_oracle_s_gradient_is_the_slope_of_its_loss(algorithm, name):
    case = case_of(algorithm, name)
    off_policy = registry.algorithm(algorithm).off_policy
    weights, *inputs = off_policy_inputs(case) if off_policy else on_policy_inputs(case)
    _, grads = case.oracle.gradients(case.spec, case.config, weights, *inputs)
    rng = np.random.default_rng(0)
    for key, grad in grads.items():
        direction = rng.standard_normal(grad.shape)
        high, low = (
            case.oracle.gradients(
                case.spec, case.config, {**weights, key: weights[key] + h * direction}, *inputs
            )[0].loss
            for h in (STEP, -STEP)
        )
        assert (high - low) / (2 * STEP) == pytest.approx((grad * direction).sum(), abs=1e-6)


@every_option
@pytest.mark.parametrize(
    "framework",
    ["torch", *(pytest.param(f, marks=SLOW) for f in registry.FRAMEWORKS if f != "torch")],
)
def test_every_framework_agrees_with_the_oracle(framework, algorithm, name):
    errors = examine(algorithm, framework, name)
    assert errors.ok, errors.failed()
    assert len(errors.entries) > 15


BUGS = {
    ("dqn", "c51"): {
        "distributions stay where they are": Plant(
            "project_distribution", lambda f: lambda p, v, low, high: f(p, v, low, high) * 0 + p
        ),
        "rewards forgotten": Plant("shifted_distribution", columns_of(1, reward=lambda x: 0.0 * x)),
        "terminal states bootstrap": Plant(
            "shifted_distribution", columns_of(1, discount=lambda x: 0.0 * x + 0.9)
        ),
        "atoms end elsewhere": Plant("expected_values", config_of(1, v_max=3.0)),
        "value of the first atom's logit": Plant(
            "expected_values", lambda f: lambda out, c: out[..., 0]
        ),
        "target not a distribution": Plant(
            "distribution_loss", lambda f: lambda logits, t, c: f(logits, t * t, c)
        ),
        "gradient partly detached": Plant(
            "distribution_loss", lambda f: lambda logits, t, c: f(partly_detached(logits), t, c)
        ),
    },
    ("ppo", "dpo"): {
        "clipped instead": Plant("policy_loss", config_of(2, drift="clip")),
        "alpha and beta swapped": Plant(
            "dpo_drift",
            lambda f: (
                lambda r, a, c: f(r, a, replace(c, dpo_alpha=c.dpo_beta, dpo_beta=c.dpo_alpha))
            ),
        ),
        "signs of the advantage swapped": Plant("dpo_drift", lambda f: lambda r, a, c: f(r, -a, c)),
        "drift forgotten": Plant("dpo_drift", lambda f: lambda r, a, c: 0.0 * f(r, a, c)),
        "drift of the wrong sign": Plant("dpo_drift", lambda f: lambda r, a, c: -f(r, a, c)),
        "drift partly detached": Plant(
            "dpo_drift", lambda f: lambda r, a, c: f(partly_detached(r), a, c)
        ),
    },
}
PLANTED = [(*option, bug) for option, bugs in BUGS.items() for bug in bugs]


@pytest.mark.slow(share=0.02)
@pytest.mark.parametrize(("algorithm", "name", "bug"), PLANTED)
@pytest.mark.parametrize("framework", registry.FRAMEWORKS)
def test_planted_bug_is_caught(framework, algorithm, name, bug, monkeypatch):
    if registry.missing_packages(packages_of(framework)):
        pytest.skip(f"{framework} is not installed")
    plant_bug(monkeypatch, algorithm, framework, BUGS[algorithm, name][bug])
    assert examine(algorithm, framework, name).failed()


def test_every_option_has_planted_bugs():
    assert set(BUGS) == set(OPTIONS)


@every_option
def test_certificates_have_the_small_case(algorithm, name):
    jobs = list(plan(Request(algorithm, "torch", "float64", seed=0, quick=False)))
    checks = [job.check for job in jobs if job.case == case_of(algorithm, name)]
    assert len(checks) == 3


def test_atoms_need_a_span():
    config = DqnConfig(num_atoms=5, v_min=1.0, v_max=1.0)
    with pytest.raises(UsageError, match=r"^v_min is 1.0; it must be below v_max \(1.0\)$"):
        registry.config_module("dqn").check(config)
