"""Off-policy loops: host and fused give the same numbers, counted work, one compilation."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak.algorithms.dqn.config import Config
from tiebreak.core.errors import UsageError
from tiebreak.loops.base import make_loop

SMALL = Config(
    total_steps=2000, num_envs=3, num_steps=2, num_updates=2, num_rounds=4, learning_starts=60,
    replay_size=200, batch_size=16, n_step=3, target_every=12, hidden_sizes=(8,),
    learning_rate=1e-2, exploration_fraction=0.2,
)  # fmt: skip
WARM = SMALL.warmup_iterations


def train(framework, kind, iterations, task="gymnax/CartPole-v1", config=SMALL, **options):
    loop = make_loop("dqn", framework, task, loop=kind, config=config, seed=5, **options)
    progress = [loop.runtime.to_numpy(loop.run()) for _ in range(iterations)]
    return loop, progress, loop.agent.dump(loop.state)


@pytest.mark.parametrize(
    ("framework", "mode"),
    [
        ("linen", "jit"),
        pytest.param("nnx", "split", marks=pytest.mark.slow(share=0.1)),
        pytest.param("nnx", "jit", marks=pytest.mark.slow(share=0.1)),
        pytest.param("nnx", "cached", marks=pytest.mark.slow(share=0.1)),
        pytest.param("equinox", "flat", marks=pytest.mark.slow),
        pytest.param("equinox", "jit", marks=pytest.mark.slow),
        pytest.param("plain", "jit", marks=pytest.mark.slow),
    ],
)
def test_host_and_fused_give_the_same_numbers(framework, mode):
    many = WARM + 8
    host_loop, host_progress, host = train(framework, "host", many, mode=mode)
    fused_loop, fused_progress, fused = train(framework, "fused", many, mode=mode, chunk=1)
    assert (host_loop.steps, host_loop.updates) == (fused_loop.steps, fused_loop.updates)
    assert int(host["adam/count"]) == host_loop.updates == 8 * SMALL.updates_per_iteration
    for name, want in host.items():
        np.testing.assert_allclose(fused[name], want, rtol=1e-3, atol=1e-4, err_msg=name)
    for a, b in zip(host_progress, fused_progress, strict=True):
        assert (a.episodes, a.length_sum) == (b.episodes, b.length_sum)
    assert sum(p.episodes for p in host_progress) > 3  # ends and resets were among the steps


def test_nothing_is_learnt_before_learning_starts():
    loop = make_loop("dqn", "linen", "gymnax/CartPole-v1", config=SMALL, seed=5, chunk=100)
    before = loop.agent.dump(loop.state)
    progress = loop.run()
    assert progress.metrics is None
    assert loop.steps == WARM * SMALL.iteration_steps >= SMALL.learning_starts
    assert all((v == before[k]).all() for k, v in loop.agent.dump(loop.state).items())
    assert not loop.is_warmup


def test_chunks_of_any_length_are_one_program_and_the_same_training():
    whole = make_loop("dqn", "linen", "gymnax/CartPole-v1", config=SMALL, seed=5, chunk=7)
    pieces = make_loop("dqn", "linen", "gymnax/CartPole-v1", config=SMALL, seed=5, chunk=4)
    for loop in (whole, pieces):
        while loop.is_warmup:
            loop.run()
    whole.run()
    pieces.run()
    before = pieces.runtime.compile_count()
    pieces.iterations_per_run = 3
    pieces.run()
    assert pieces.runtime.compile_count() == before
    assert (pieces.steps, pieces.updates) == (whole.steps, whole.updates)
    one, two = (loop.agent.dump(loop.state) for loop in (whole, pieces))
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)


@pytest.mark.parametrize("framework", ["torch", "tensorflow", "linen"])
@pytest.mark.parametrize("task", ["gymnasium/CartPole-v1", "gymnax/CartPole-v1"])
def test_every_framework_trains_on_every_kind_of_engine(framework, task):
    mode = "function" if framework == "tensorflow" else None
    mode = "eager" if framework == "torch" else mode
    loop, progress, dump = train(framework, "host", WARM + 2, task, mode=mode)
    loop.close()
    assert int(dump["adam/count"]) == loop.updates == 2 * SMALL.updates_per_iteration
    learnt = [p.metrics for p in progress if p.metrics is not None and hasattr(p.metrics, "loss")]
    assert len(learnt) == 2
    assert all(np.isfinite(np.asarray(metrics)).all() for metrics in learnt)


@pytest.mark.parametrize("kind", ["host", "fused"])
def test_collect_interacts_without_learning(kind):
    loop = make_loop("dqn", "linen", "gymnax/CartPole-v1", loop=kind, config=SMALL, seed=5)
    before = loop.agent.dump(loop.state)
    loop.collect()
    assert (loop.steps, loop.updates) == (SMALL.iteration_steps, 0)
    assert all((v == before[k]).all() for k, v in loop.agent.dump(loop.state).items())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"replay_size": 3}, "need at least 12"),
        ({"total_steps": 60}, "nothing would be learnt"),
        ({"target_every": 7}, "multiple of the environment steps"),
        ({"batch_size": 0}, "at least 1"),
        ({"gamma": 1.5}, r"in \[0, 1\]"),
        ({"epsilon_end": -1.0}, r"in \[0, 1\]"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(settings, said):
    from dataclasses import replace

    with pytest.raises(UsageError, match=said):
        make_loop("dqn", "linen", "gymnax/CartPole-v1", config=replace(SMALL, **settings))


def test_a_box_is_refused_in_words():
    with pytest.raises(UsageError, match="td3, sac, mpo or ppo"):
        make_loop("dqn", "linen", "gymnax/Pendulum-v1")
