"""Agents of one population that differ in settings: each is the agent that has them alone."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from loops.test_population import FUSED, LOOSE, SEED, alone, config_of, population, run

from tiebreak.core.config import override
from tiebreak.core.errors import UsageError
from tiebreak.frameworks.jax.ops import make_optimizer

SWEPT = {
    "ppo": {
        "learning_rate": 1e-3,
        "gamma": 0.9,
        "clip": 0.1,
        "entropy_coef": 0.1,
        "max_grad_norm": 0.01,
    },
    "dqn": {"learning_rate": 1e-3, "gamma": 0.9, "epsilon_end": 0.3, "exploration_fraction": 0.9},
    "pqn": {
        "learning_rate": 1e-3,
        "q_lambda": 0.5,
        "reward_scale": 1.0,
        "epsilon_end": 0.5,
        "exploration_fraction": 0.9,
        "max_grad_norm": 0.01,
    },
    "td3": {
        "actor_lr": 1e-3,
        "critic_lr": 1e-2,
        "tau": 0.1,
        "target_noise": 0.5,
        "noise_clip": 0.1,
    },
    "sac": {
        "critic_lr": 1e-2,
        "alpha_lr": 1e-2,
        "init_alpha": 0.1,
        "target_entropy_scale": 0.5,
        "max_grad_norm": 0.01,
    },
    "mpo": {"learning_rate": 1e-3, "epsilon": 0.5, "epsilon_mean": 0.1},
    "fasttd3": {
        "actor_lr": 1e-3,
        "critic_lr": 1e-2,
        "noise_max": 0.8,
        "v_min": -40.0,
        "v_max": 1.0,
        "weight_decay": 3.0,
    },
    "fastsac": {
        "critic_lr": 1e-2,
        "init_alpha": 0.1,
        "target_entropy_scale": 1.0,
        "v_min": -40.0,
        "weight_decay": 3.0,
        "alpha_weight_decay": 1.0,
    },
}


@pytest.mark.parametrize(
    ("algorithm", "framework"),
    [
        pytest.param("fasttd3", "equinox", marks=pytest.mark.slow(share=0.1)),
        *(
            pytest.param(algorithm, framework, marks=pytest.mark.slow)
            for algorithm in SWEPT
            for framework in FUSED
            if (algorithm, framework) != ("fasttd3", "equinox")
        ),
    ],
)
def test_an_agent_with_settings_of_its_own_is_the_same_agent_alone(algorithm, framework):
    own = SWEPT[algorithm]
    usual = {name: getattr(config_of(algorithm), name) for name in own}
    many = population(algorithm, framework, agents=2, variants=[usual, own])
    assert (many.seeds, many.settings) == ((SEED, SEED + 1) * 2, (usual, usual, own, own))
    _, together = run(many.loop)
    single = alone(algorithm, framework, SEED + 1, config=override(config_of(algorithm), own))
    for name, want in run(single)[1].items():
        np.testing.assert_allclose(together[name][3], want, **LOOSE, err_msg=name)
    first = next(name for name in together if name.endswith("0/kernel"))
    assert not np.allclose(together[first][3], together[first][1], **LOOSE)


def test_what_decides_the_program_cannot_differ_in_it():
    """MPO without a penalty has a dual variable less."""
    variants = [{"epsilon_penalty": x, "learning_rate": 1e-3} for x in (0.0, 0.1)]
    with pytest.raises(UsageError, match=r"^epsilon_penalty cannot differ between agents"):
        population("mpo", agents=1, variants=variants)


@pytest.mark.parametrize("max_grad_norm", [0.0, 0.5])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_an_optimizer_of_arguments_is_that_of_numbers(max_grad_norm, weight_decay):
    """0 switches either off, though what is compiled is for all agents, those with more as well."""
    params = {"w": np.array([3.0, -4.0], np.float32)}
    grads = {"w": np.array([0.6, 0.8], np.float32)}

    def updates(*settings):
        rule = make_optimizer("sgd", lambda count: 0.1, 1e-8, *settings)
        return rule.update(grads, rule.init(params), params)[0]

    want = updates(max_grad_norm, weight_decay)["w"]
    found = jax.jit(updates)(max_grad_norm, weight_decay)["w"]
    np.testing.assert_allclose(found, want, rtol=1e-6)
    by_hand = (max_grad_norm or 1.0) * grads["w"] + weight_decay * params["w"]
    np.testing.assert_allclose(want, -0.1 * by_hand, rtol=1e-6)
