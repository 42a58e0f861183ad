"""Memory in loops: what was acted from is what is learnt from, in every loop and framework."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from loops.test_loops import NORMALIZED, SMALL

from tiebreak import registry
from tiebreak.algorithms.ppo import ppo_numpy as oracle
from tiebreak.core.config import override
from tiebreak.envs.base import make_spec
from tiebreak.frameworks.numpy.ops import to_float64
from tiebreak.loops.base import make_loop
from tiebreak.loops.evaluate import Evaluator
from tiebreak.loops.fused_population import make_population
from tiebreak.loops.population_evaluation import PopulationEvaluator

GRU = {"network": "gru", "hidden_sizes": (6, 5)}
CONFIG = dataclasses.replace(SMALL, **GRU)
CHAIN, CARTPOLE, PENDULUM = "gymnax/MemoryChain-bsuite", "gymnax/CartPole-v1", "gymnax/Pendulum-v1"
SLOW = pytest.mark.slow(share=0.1)


def make(framework, task, kind, mode=None, config=CONFIG, **options):
    return make_loop("ppo", framework, task, loop=kind, mode=mode, config=config, seed=5, **options)


def collect(loop):
    """Collect a rollout as NumPy arrays."""
    batch = loop.collect()
    return type(batch)(*map(np.asarray, loop.runtime.to_numpy(batch)))


@pytest.mark.parametrize(
    ("framework", "mode", "kind", "task"),
    [
        ("linen", "jit", "fused", CHAIN),
        ("torch", "eager", "host", "gymnasium/CartPole-v1"),
        pytest.param("torch", "eager", "host", CHAIN, marks=SLOW),
        pytest.param("tensorflow", "eager", "host", CHAIN, marks=SLOW),
        pytest.param("tensorflow", "function", "host", "gymnasium/CartPole-v1", marks=SLOW),
        pytest.param("linen", "jit", "host", CHAIN, marks=SLOW),
        pytest.param("linen", "eager", "host", CHAIN, marks=SLOW),
        pytest.param("nnx", "split", "fused", CHAIN, marks=SLOW),
        pytest.param("nnx", "cached", "host", CHAIN, marks=SLOW),
        pytest.param("equinox", "flat", "fused", CHAIN, marks=SLOW),
        pytest.param("equinox", "jit", "host", "gymnasium/CartPole-v1", marks=SLOW),
    ],
)
def test_a_rollout_is_what_the_oracle_would_have_acted(framework, mode, kind, task):
    """Two rollouts without learning: memory ends with episodes, and goes on between rollouts."""
    config = dataclasses.replace(CONFIG, num_steps=40)  # CartPole's episodes end within them
    loop = make(framework, task, kind, mode, config)
    exact = to_float64(loop.agent.dump(loop.state))
    first, second = collect(loop), collect(loop)
    loop.close()
    assert first.begins.all()
    assert not first.hidden.any()
    assert (first.terminated | first.truncated)[:-1].any()
    np.testing.assert_array_equal(second.begins, (first.terminated | first.truncated)[-1])
    last = oracle.states(loop.spec, config, exact, first)[-1]
    np.testing.assert_allclose(second.hidden, last, atol=1e-5)

    for batch in (first, second):
        states = oracle.states(loop.spec, config, exact, batch).reshape(batch.value.size, -1)
        out, value = oracle.forward(loop.spec, config, exact, states)
        action = batch.action.reshape(-1)
        log_prob, _ = oracle.log_prob_entropy(loop.spec, exact, out, action)
        np.testing.assert_allclose(batch.value.reshape(-1), value, atol=1e-5)
        np.testing.assert_allclose(batch.log_prob.reshape(-1), log_prob, atol=1e-5)


@pytest.mark.parametrize(
    ("framework", "task", "config"),
    [
        pytest.param("linen", CHAIN, CONFIG, marks=SLOW),
        pytest.param("nnx", CARTPOLE, CONFIG, marks=pytest.mark.slow),
        pytest.param(
            "equinox", PENDULUM, dataclasses.replace(NORMALIZED, **GRU), marks=pytest.mark.slow
        ),
    ],
)
def test_host_and_fused_give_the_same_numbers(framework, task, config):
    dumps = []
    for kind in ("host", "fused"):
        loop = make(framework, task, kind, config=config, chunk=1)
        for _ in range(4):
            loop.run()
        dumps.append(loop.agent.dump(loop.state))
    host, fused = dumps
    assert host.keys() == fused.keys() >= {"memory/0/kernel", "memory/2/bias"}
    for name, expected in host.items():
        np.testing.assert_allclose(fused[name], expected, rtol=1e-4, atol=2e-5, err_msg=name)


@SLOW
@pytest.mark.parametrize("framework", ["linen", "nnx", "equinox"])
def test_an_agent_of_a_population_is_the_same_agent_alone(framework):
    many = make_population("ppo", framework, CHAIN, 3, config=CONFIG, seed=5, chunk=2)
    alone = make_loop("ppo", framework, CHAIN, loop="fused", config=CONFIG, seed=7, chunk=2)
    for _ in range(3):
        many.loop.run()
        alone.run()
    together = many.loop.agent.dump(many.loop.state)
    for name, want in alone.agent.dump(alone.state).items():
        np.testing.assert_allclose(together[name][2], want, rtol=1e-4, atol=2e-5, err_msg=name)

    returns = PopulationEvaluator("ppo", many, CHAIN, 8).returns(many.loop.state)
    evaluator = Evaluator(
        algorithm="ppo", runtime=alone.runtime, raw_agent=alone.raw_agent, config=CONFIG,
        task=CHAIN, episodes=8, seed=7,
    )  # fmt: skip
    assert evaluator.returns(alone.state) == returns[2]


def first_bit_again(weights: dict) -> dict:
    """Return weights of a policy that answers with the context, which it has seen at the start.

    Of a unit of width 1 without dense layers: the update gate stays shut but for contexts, which
    are 1 or -1 and 0 later, so that the state keeps the sign of the last one.
    """
    out = {name: np.zeros_like(x) for name, x in weights.items()}
    gates = out["memory/0/kernel"]  # [time left, query, context] -> reset, update, candidate
    gates[2, 2] = 10.0
    gates[0, 1] = -200.0  # time left is 1 at the start, and at most 0.8 later: the gate opens
    out["memory/0/bias"][1] = 180.0
    out["actor/0/kernel"][0, 0] = out["actor/1/kernel"][0, 1] = 1.0
    for name in ("return_moments/var", "obs_moments/var"):
        out[name] = weights[name]
    return out


@pytest.mark.parametrize(
    ("framework", "mode"), [("linen", "jit"), pytest.param("torch", "eager", marks=SLOW)]
)
def test_a_policy_that_remembers_the_context_earns_all_and_one_without_memory_cannot(
    framework, mode
):
    config = override(CONFIG, {"hidden_sizes": (1,), "activation": "tanh"})
    runtime = registry.make_runtime(framework, mode)
    raw = registry.make_raw_agent("ppo", make_spec(CHAIN), config, runtime)
    evaluator = Evaluator(
        algorithm="ppo", runtime=runtime, raw_agent=raw, config=config, task=CHAIN, episodes=32,
        seed=0,
    )  # fmt: skip
    agent = runtime.agent(raw)
    weights = first_bit_again(agent.dump(agent.init(0)))
    assert evaluator.returns(agent.load(weights)) == [1.0] * 32
    weights["memory/0/bias"][1] = -180.0  # the gate is always open: nothing is kept
    forgetful = evaluator.returns(agent.load(weights))
    assert abs(np.mean(forgetful)) < 0.6
