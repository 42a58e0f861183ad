"""Host and fused loops: the same numbers, counted work, one compilation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tiebreak import registry
from tiebreak.algorithms.ppo.config import Config
from tiebreak.core.errors import UsageError
from tiebreak.loops.base import make_loop
from tiebreak.loops.episodes import Episodes

SMALL = Config(
    num_envs=3, num_steps=20, num_minibatches=3, num_epochs=2, hidden_sizes=(8,), total_steps=600
)
NORMALIZED = Config(
    num_envs=3, num_steps=20, num_minibatches=3, num_epochs=2, hidden_sizes=(8,), total_steps=600,
    normalize_obs=True, normalize_reward=True, truncation="terminal",
)  # fmt: skip
RBG = dataclasses.replace(NORMALIZED, prng="rbg")
OFTEN, SELDOM = pytest.mark.slow(share=0.3), pytest.mark.slow(share=0.1)


def train(framework, kind, task, config, iterations, **options):
    loop = make_loop("ppo", framework, task, loop=kind, config=config, seed=5, **options)
    progress = [loop.runtime.to_numpy(loop.run()) for _ in range(iterations)]
    return loop, progress, loop.agent.dump(loop.state)


@pytest.mark.parametrize(
    ("framework", "mode", "task", "config"),
    [
        ("linen", "jit", "gymnax/CartPole-v1", SMALL),
        pytest.param("nnx", "split", "gymnax/Pendulum-v1", NORMALIZED, marks=OFTEN),
        pytest.param("equinox", "flat", "gymnax/CartPole-v1", RBG, marks=OFTEN),
        pytest.param("linen", "jit", "gymnax/Pendulum-v1", NORMALIZED, marks=pytest.mark.slow),
        pytest.param("nnx", "jit", "gymnax/CartPole-v1", SMALL, marks=SELDOM),
        pytest.param("nnx", "cached", "gymnax/CartPole-v1", SMALL, marks=SELDOM),
        pytest.param("equinox", "jit", "gymnax/CartPole-v1", SMALL, marks=pytest.mark.slow),
        pytest.param("plain", "jit", "gymnax/Pendulum-v1", NORMALIZED, marks=pytest.mark.slow),
    ],
)
def test_host_and_fused_give_the_same_numbers(framework, mode, task, config):
    _, host_progress, host = train(framework, "host", task, config, 6, mode=mode)
    _, fused_progress, fused = train(framework, "fused", task, config, 6, mode=mode, chunk=1)
    assert host.keys() == fused.keys()
    for name, expected in host.items():
        np.testing.assert_allclose(fused[name], expected, rtol=1e-4, atol=2e-5, err_msg=name)
    for a, b in zip(host_progress, fused_progress, strict=True):
        assert (a.episodes, a.length_sum) == (b.episodes, b.length_sum)
        np.testing.assert_allclose(a.return_sum, b.return_sum, rtol=1e-5)
        np.testing.assert_allclose(a.metrics, b.metrics, rtol=1e-3, atol=1e-4)
    if "CartPole" in task:
        assert sum(p.episodes for p in host_progress) > 3  # ends and resets were among the steps


def test_the_generator_is_a_setting():
    made = {
        prng: make_loop("ppo", "linen", "gymnax/CartPole-v1", loop=kind, seed=5,
                        config=dataclasses.replace(SMALL, prng=prng))
        for prng, kind in (("threefry2x32", None), ("rbg", None), ("unsafe_rbg", "host"))
    }  # fmt: skip
    assert {prng: loop.runtime.settings()["prng"] for prng, loop in made.items()} == {
        prng: prng for prng in made
    }
    assert (np.asarray(made["rbg"].obs) != np.asarray(made["threefry2x32"].obs)).all()


def test_chunks_of_any_length_are_one_program_and_the_same_training():
    loop, _, whole = train("linen", "fused", "gymnax/CartPole-v1", SMALL, 1, chunk=7)
    loop.runtime.sync(loop.state)
    pieces = make_loop("ppo", "linen", "gymnax/CartPole-v1", config=SMALL, seed=5, chunk=4)
    pieces.run()
    before = pieces.runtime.compile_count()
    pieces.iterations_per_run = 3
    pieces.run()
    assert pieces.runtime.compile_count() == before
    assert pieces.steps == loop.steps == 7 * SMALL.batch_size
    assert pieces.updates == loop.updates == 7 * SMALL.updates_per_iteration
    for name, value in pieces.agent.dump(pieces.state).items():
        np.testing.assert_array_equal(value, whole[name], err_msg=name)


def test_the_seed_decides():
    first = train("linen", "fused", "gymnax/CartPole-v1", SMALL, 1)[2]
    again = train("linen", "fused", "gymnax/CartPole-v1", SMALL, 1)[2]
    other = make_loop("ppo", "linen", "gymnax/CartPole-v1", config=SMALL, seed=6)
    assert all((first[k] == again[k]).all() for k in first)
    assert (other.agent.dump(other.state)["actor/0/kernel"] != first["actor/0/kernel"]).any()


@pytest.mark.parametrize("kind", ["host", "fused"])
def test_collect_interacts_without_learning(kind):
    loop = make_loop("ppo", "linen", "gymnax/CartPole-v1", loop=kind, config=SMALL, seed=5)
    before = loop.agent.dump(loop.state)
    batch = loop.collect()
    assert batch.reward.shape == (SMALL.num_steps, SMALL.num_envs)
    assert (loop.steps, loop.updates) == (SMALL.batch_size, 0)
    assert all((v == before[k]).all() for k, v in loop.agent.dump(loop.state).items())


def test_a_host_engine_trains():
    loop, progress, _ = train("linen", "host", "gymnasium/CartPole-v1", SMALL, 3)
    loop.close()
    assert loop.steps == 3 * SMALL.batch_size
    assert all(np.isfinite(p.metrics).all() for p in progress)


@pytest.mark.parametrize(
    ("framework", "task", "kind", "mode", "said"),
    [
        ("tensorflow", "gymnax/CartPole-v1", "fused", None, "cannot run it"),
        ("torch", "gymnax/CartPole-v1", "fused", None, ", ".join(registry.fused_frameworks())),
        ("linen", "gymnasium/CartPole-v1", "fused", None, "gymnax, .*playground.*--loop host"),
        ("linen", "gymnax/CartPole-v1", "fused", "eager", "--loop host"),
        ("linen", "gymnax/CartPole-v1", "fussed", None, "valid: host, fused"),
        ("linen", "gymnax/CartPole-v1", "fused", "cached", "no mode 'cached'"),
    ],
)
def test_what_cannot_be_is_refused_in_words(framework, task, kind, mode, said):
    with pytest.raises(UsageError, match=said):
        make_loop("ppo", framework, task, loop=kind, mode=mode)


def test_episodes_are_counted_across_rollouts():
    episodes = Episodes(2)
    over = np.array([[False, False], [True, False]])
    assert episodes.take(np.array([[1.0, 2.0], [3.0, 4.0]]), over) == (1, 4.0, 2)
    assert episodes.take(np.array([[5.0, 6.0]]), np.array([[True, True]])) == (2, 17.0, 4)
