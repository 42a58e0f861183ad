"""Policies with memory are trained, resumed exactly, evaluated, loaded; and not exported."""

from __future__ import annotations

import io

import numpy as np
import pytest

import tiebreak
from tiebreak import registry
from tiebreak.core.config import override
from tiebreak.core.errors import UsageError
from tiebreak.core.seeding import derive
from tiebreak.core.types import EnvSpec
from tiebreak.envs.base import make_spec
from tiebreak.loops.base import make_loop
from tiebreak.training import policy_files

SPEC = EnvSpec.make(observation_shape=(4,), num_actions=2)
CARTPOLE, CHAIN = "gymnasium/CartPole-v1", "gymnax/MemoryChain-bsuite"
SETTINGS = {
    "network": "gru", "num_envs": 4, "num_steps": 9, "num_minibatches": 2, "num_epochs": 1,
    "hidden_sizes": (6, 5), "total_steps": 720,
}  # fmt: skip


def save(folder):
    """Store a policy with memory and initial weights."""
    config = override(registry.reference_config("ppo", SPEC), SETTINGS)
    arrays = registry.data_module("ppo").initial_weights(SPEC, config, 0)
    rng = np.random.default_rng(0)
    for name in arrays:
        if name.startswith(("actor/", "memory/")):  # first actors act nearly at random
            arrays[name] = arrays[name] + rng.normal(size=arrays[name].shape).astype(np.float32)
    policy_files.save_policy(
        folder, arrays, "ppo", SPEC, config, task=CARTPOLE, framework="torch", seed=3
    )
    return folder


@pytest.mark.parametrize(
    ("framework", "mode", "kind", "task"),
    [
        ("torch", "eager", "host", CARTPOLE),
        pytest.param("linen", "jit", "fused", CHAIN, marks=pytest.mark.slow(share=0.1)),
        pytest.param("nnx", "split", "host", CHAIN, marks=pytest.mark.slow),
        pytest.param("equinox", "flat", "fused", CHAIN, marks=pytest.mark.slow),
        pytest.param("tensorflow", "function", "host", CARTPOLE, marks=pytest.mark.slow),
    ],
)
def test_a_loop_goes_on_as_if_it_had_never_ended(framework, mode, kind, task):
    config = override(registry.reference_config("ppo", make_spec(task), task), SETTINGS)

    def make():
        return make_loop(
            "ppo", framework, task, mode=mode, loop=kind, config=config, seed=5, chunk=1
        )

    whole, again, file = make(), make(), io.BytesIO()
    for _ in range(5):
        whole.run()
    stored = whole.dump()
    hidden = [name for name in stored if name.endswith("hidden")]
    assert len(hidden) == 1
    assert stored[hidden[0]].any()  # rollouts end within episodes
    np.savez(file, **stored)
    file.seek(0)
    assert again.load(np.load(file))
    for _ in range(5):
        whole.run()
        again.run()
    one, two = whole.dump(), again.dump()
    assert one.keys() == two.keys()
    for name, want in one.items():
        np.testing.assert_array_equal(two[name], want, err_msg=name)
    whole.close()
    again.close()


def test_acting_by_hand_is_the_evaluation(tmp_path):
    policy = tiebreak.load_policy(save(tmp_path))
    env = tiebreak.make_env(CARTPOLE, 3, derive(3, "evaluation"))
    obs, total, running = env.reset(), np.zeros(3), np.ones(3, bool)
    while running.any():
        out = env.step(policy.act(obs))
        policy.reset(out.terminated | out.truncated)
        total += np.where(running, out.reward, 0.0)
        running &= ~(out.terminated | out.truncated)
        obs = out.obs
    env.close()
    found = tiebreak.evaluate(tmp_path, mode="eager", episodes=3)
    assert found.returns == total.tolist()


def test_a_loaded_policy_remembers_until_it_is_reset(tmp_path):
    policy = tiebreak.load_policy(save(tmp_path))
    rng = np.random.default_rng(1)
    obs = rng.normal(size=(6, 5, 4)).astype(np.float32)

    def play(policy, steps=obs):
        policy.reset()
        return np.stack([policy.act(x, deterministic=False, rng=i) for i, x in enumerate(steps)])

    first = play(policy)
    np.testing.assert_array_equal(play(policy), first)
    for framework in ("linen", "tensorflow"):
        if not registry.missing_packages(registry.FRAMEWORKS[framework].packages):
            np.testing.assert_array_equal(play(tiebreak.load_policy(tmp_path, framework)), first)

    hidden = policy._memory[0].hidden.clone()
    policy.reset()
    policy.act(obs[-1])
    assert not np.allclose(policy._memory[0].hidden, hidden)  # what came before counts
    policy.reset([False, True, False, False, False])
    np.testing.assert_array_equal(policy._memory[0].begins, [0, 1, 0, 0, 0])


def test_what_cannot_be_is_said(tmp_path):
    policy = tiebreak.load_policy(save(tmp_path))
    policy.reset(np.ones(3, bool))  # nothing has been seen yet
    assert policy.act(np.zeros(4)).shape == ()
    with pytest.raises(
        UsageError, match=r"a memory for a batch of 1, and got 2 .*: call reset\(\)"
    ):
        policy.act(np.zeros((2, 4)))
    with pytest.raises(UsageError, match="reset takes as many, got an array of the shape"):
        policy.reset(np.ones(2, bool))
    policy.reset()
    assert policy.act(np.zeros((2, 4))).shape == (2,)
    with pytest.raises(UsageError, match=r"network 'gru' cannot be exported \(valid: mlp, cnn, s"):
        tiebreak.export_policy(tmp_path, "numpy")


def test_a_policy_without_memory_has_nothing_to_forget(tmp_path):
    spec, module = SPEC, registry.config_module("ppo")
    arrays = registry.data_module("ppo").initial_weights(spec, module.Config(), 0)
    about = {"task": CARTPOLE, "framework": "torch"}
    policy_files.save_policy(tmp_path, arrays, "ppo", spec, module.Config(), **about)
    policy = tiebreak.load_policy(tmp_path)
    assert policy.act(np.zeros((2, 4))).shape == (2,)
    policy.reset([True, False])
    assert policy.act(np.zeros((3, 4))).shape == (3,)


@pytest.mark.slow(share=0.1)
def test_a_training_ends_with_a_policy_that_is_evaluated(tmp_path):
    result = tiebreak.train(
        "ppo", "linen", CHAIN, out=tmp_path / "run", overrides={**SETTINGS, "total_steps": 144},
        eval_episodes=4, eval_every=72, progress=False,
    )  # fmt: skip
    assert set(result.returns) <= {-1.0, 1.0}
    found = tiebreak.evaluate(tmp_path / "run", framework="torch", episodes=4)
    assert set(found.returns) <= {-1.0, 1.0}


@pytest.mark.learning
def test_memory_solves_what_no_policy_without_it_can(tmp_path):
    returns = {}
    for network in ("gru", "mlp"):
        result = tiebreak.train(
            "ppo", "linen", CHAIN, out=tmp_path / network, eval_episodes=64, progress=False,
            overrides={"network": network, "total_steps": 100_000},
        )  # fmt: skip
        returns[network] = np.mean(result.returns)
    assert returns["gru"] >= 0.9
    assert abs(returns["mlp"]) < 0.5
