"""A σ for every episode: drawn where one begins, the same in host and fused loops, kept."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak import registry
from tiebreak.algorithms.fasttd3.config import Config
from tiebreak.core.off_policy import ActNoise, Exploring
from tiebreak.core.types import EnvSpec
from tiebreak.loops.base import make_loop, off_policy_draws
from tiebreak.loops.exploration import noise_scales

SMALL = Config(
    total_steps=20_000, num_envs=3, num_steps=10, num_updates=2, num_rounds=5, learning_starts=150,
    replay_size=600, batch_size=16, n_step=3, actor_sizes=(8,), critic_sizes=(8,), num_atoms=11,
    v_min=-100.0, v_max=0.0, noise_min=0.1, actor_lr=1e-4, critic_lr=1e-4,
)  # fmt: skip
SPEC = EnvSpec.make(observation_shape=(4,), action_low=(-1.0, 0.0), action_high=(1.0, 3.0))
PENDULUM = "gymnax/Pendulum-v1"
"""Episodes of 200 steps; an iteration is 50."""


def test_only_algorithms_that_say_so_have_them():
    assert noise_scales("fasttd3", SMALL) == (0.1, 0.4)
    assert noise_scales("td3", registry.reference_config("td3", SPEC)) is None
    act = off_policy_draws("fasttd3", SPEC, SMALL).act
    assert (act.normal.shape, act.uniform.shape) == ((50, 3, 2), (50, 3))


@pytest.mark.parametrize(
    ("framework", "mode"),
    [
        ("torch", "eager"),
        ("linen", "jit"),
        ("tensorflow", "eager"),
        pytest.param("tensorflow", "xla", marks=pytest.mark.slow),
        pytest.param("torch", "compile", marks=pytest.mark.slow),
        pytest.param("nnx", "cached", marks=pytest.mark.slow(share=0.1)),
        pytest.param("equinox", "jit", marks=pytest.mark.slow),
    ],
)
def test_a_scale_is_drawn_where_an_episode_begins_and_only_there(framework, mode):
    row = registry.framework(framework)
    if registry.missing_packages(row.packages):
        pytest.skip(f"{framework} is not installed")
    runtime, rng = registry.make_runtime(framework, mode), np.random.default_rng(0)
    raw = registry.make_raw_agent("fasttd3", SPEC, SMALL, runtime)
    agent, explore = runtime.agent(raw), runtime.compile_exploring_act(raw, (0.1, 0.4))
    state, obs = agent.init(0), rng.standard_normal((3, 4), dtype=np.float32)
    normal = rng.standard_normal((2, 3, 2), dtype=np.float32)
    uniform = rng.random((2, 3), dtype=np.float32)
    ends = np.array([True, False, False]), np.array([False, True, False])
    exploring = Exploring(np.array([0.15, 0.2, 0.25], np.float32), *ends)
    block = ActNoise(*map(runtime.asarray, (normal, uniform)))
    got = runtime.to_numpy(explore(state, obs, block, 1, exploring))
    fresh = 0.1 + 0.3 * uniform[1]
    np.testing.assert_allclose(got.scale, [fresh[0], fresh[1], 0.25], rtol=1e-6)
    want = agent.act(state, obs, np.float32(got.scale[:, None] * normal[1]))
    np.testing.assert_allclose(got.action, runtime.to_numpy(want).action, rtol=1e-5, atol=1e-6)


def trained(kind, framework="linen", mode="jit"):
    loop = make_loop(
        "fasttd3", framework, PENDULUM, loop=kind, mode=mode, config=SMALL, seed=5,
        chunk=1 if kind == "fused" else None,
    )  # fmt: skip
    scales = []
    for _ in range(SMALL.warmup_iterations + 5):
        loop.run()
        exploring = loop._exploring[0] if kind == "host" else loop._carry.exploring
        scales.append(loop.runtime.to_numpy(exploring).scale)
    return loop, np.array(scales), loop.agent.dump(loop.state)


@pytest.mark.slow(share=0.3)
def test_host_and_fused_give_the_same_numbers():
    host_loop, host_scales, host = trained("host")
    fused_loop, fused_scales, fused = trained("fused")
    assert (host_loop.steps, host_loop.updates) == (fused_loop.steps, fused_loop.updates)
    np.testing.assert_allclose(host_scales, fused_scales, rtol=1e-6)
    for name, want in host.items():
        np.testing.assert_allclose(fused[name], want, rtol=1e-3, atol=1e-4, err_msg=name)
    warm = SMALL.warmup_iterations
    assert (host_scales[:warm] == 0.0).all()  # uniform actions: none was used
    learning = host_scales[warm:]
    assert ((learning >= 0.1) & (learning < 0.4)).all()
    assert len(np.unique(learning[0])) == 3  # each environment has its own
    changed = (learning[1:] != learning[:-1]).any(axis=1)
    assert changed.sum() == 1  # 250 steps of learning: every environment ended one episode
