"""Several discrete choices at once: the oracle, all frameworks, planted bugs, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats
from verify.planted import Plant
from verify.runtimes import inner_runtime, packages_of
from verify.test_planted_bugs import plant_bug

from tiebreak import registry
from tiebreak.algorithms.ppo import ppo_numpy as oracle
from tiebreak.core.errors import UsageError
from tiebreak.core.types import EnvSpec
from tiebreak.verify import parity
from tiebreak.verify.case import MULTI_DISCRETE, cases_of, fixed
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.worker import Request, plan

CHOICES = EnvSpec.make(observation_shape=(2,), nvec=(3, 1, 4))
SLOW = pytest.mark.slow(share=0.1)


def examine(framework: str) -> ErrorTable:
    """Check losses, gradients, updates, `act` and a step of the small case in float64."""
    runtime = inner_runtime(framework)
    errors, cases = ErrorTable("ppo", framework, "float64"), cases_of("ppo")
    for check in (cases.check_losses, cases.check_updates, parity.check_public):
        check(errors, runtime, fixed("ppo", MULTI_DISCRETE))
    return errors


def test_log_prob_and_entropy_are_sums_over_choices():
    rng = np.random.default_rng(0)
    out, action = rng.standard_normal((6, 8)), rng.integers((3, 1, 4), size=(6, 3))
    log_prob, entropy = oracle.log_prob_entropy(CHOICES, {}, out, action)
    parts = [special.softmax(out[:, at], axis=1) for at in (slice(3), slice(3, 4), slice(4, 8))]
    chosen = [p[np.arange(6), action[:, i]] for i, p in enumerate(parts)]
    np.testing.assert_allclose(log_prob, np.log(chosen).sum(axis=0), rtol=1e-13)
    expected = [sum(stats.entropy(p[row]) for p in parts) for row in range(6)]
    np.testing.assert_allclose(entropy, expected, rtol=1e-13)


def test_one_choice_is_a_discrete_action():
    rng = np.random.default_rng(1)
    out, action = rng.standard_normal((5, 4)), rng.integers(4, size=5)
    one = EnvSpec.make(observation_shape=(2,), num_actions=4)
    many = EnvSpec.make(observation_shape=(2,), nvec=[4])
    assert many.action_shape == (1,)
    ours = oracle.log_prob_entropy(many, {}, out, action[:, None])
    np.testing.assert_array_equal(ours, oracle.log_prob_entropy(one, {}, out, action))


@pytest.mark.parametrize(
    "framework",
    ["torch", *(pytest.param(f, marks=SLOW) for f in registry.FRAMEWORKS if f != "torch")],
)
def test_every_framework_agrees_with_the_oracle(framework):
    if registry.missing_packages(packages_of(framework)):
        pytest.skip(f"{framework} is not installed")
    errors = examine(framework)
    assert errors.ok, errors.failed()
    assert len(errors.entries) > 20


BUGS = {
    "only the first choice has a probability": Plant(
        "MultiCategorical.log_prob", lambda f: lambda d, a: d.choices[0].log_prob(a[..., 0])
    ),
    "mean of the entropies": Plant(
        "MultiCategorical.entropy", lambda f: lambda d: f(d) / len(d.choices)
    ),
    "noise of the first choice negated": Plant(
        "MultiCategorical.sample", lambda f: lambda d, n: f(d, -n)
    ),
}


@pytest.mark.slow(share=0.05)
@pytest.mark.parametrize("name", BUGS)
@pytest.mark.parametrize("framework", registry.FRAMEWORKS)
def test_planted_bug_is_caught(framework, name, monkeypatch):
    if registry.missing_packages(packages_of(framework)):
        pytest.skip(f"{framework} is not installed")
    plant_bug(monkeypatch, "ppo", framework, BUGS[name])
    assert examine(framework).failed()


def test_certificates_have_the_small_case():
    jobs = list(plan(Request("ppo", "torch", "float64", seed=0, quick=False)))
    assert any(job.case == fixed("ppo", MULTI_DISCRETE) for job in jobs)
    assert fixed("ppo", MULTI_DISCRETE).describe().startswith("seed 0, multidiscrete")


@pytest.mark.parametrize("algorithm", [n for n, r in registry.ALGORITHMS.items() if r.off_policy])
def test_other_algorithms_refuse_in_one_line(algorithm):
    with pytest.raises(UsageError, match=rf"^{algorithm} needs .* use ppo$") as caught:
        registry.reference_config(algorithm, CHOICES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spaces", "says"),
    [
        ({"nvec": []}, r"nvec is \(\)"),
        ({"nvec": [2, 0]}, r"nvec is \(2, 0\); it needs choices of at least 1 value each"),
        ({"nvec": [2], "num_actions": 2}, "give one of num_actions"),
        ({"nvec": [2], "action_low": [0.0]}, "give one of num_actions"),
        ({}, "give one of num_actions"),
        ({"action_low": [0.0]}, "give both action_low and action_high"),
        ({"action_low": [0.0], "action_high": [1.0, 1.0]}, "must be of one length"),
        ({"action_low": [1.0], "action_high": [1.0]}, "finite with low < high"),
    ],
)
def test_spaces_that_are_none_are_refused(spaces, says):
    with pytest.raises(UsageError, match=says):
        EnvSpec.make(observation_shape=(2,), **spaces)
