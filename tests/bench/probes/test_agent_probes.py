"""Every probe over an agent does the work that it says, in either loop, whatever ran before it."""

from __future__ import annotations

import pytest

from tiebreak import registry
from tiebreak.bench.probes import agent as agent_probes
from tiebreak.bench.probes.subject import make_subject
from tiebreak.bench.suite.plan import Cell, Effort, Job
from tiebreak.bench.worker import main as worker

EFFORT = Effort(0.001, 2, 0.001, silent_calls=2, warmup_s=0.2, memory_calls=0)
SMALL = {
    "num_steps": 2, "num_updates": 2, "num_rounds": 4, "learning_starts": 70, "replay_size": 400,
    "batch_size": 16, "target_every": 8, "total_steps": 10_000,
}  # fmt: skip
ITERATION = 4 * 2 * 4
"""Environment steps: rounds, steps in a round, environments."""
PROBES = ("interact", "forward", "update", "iteration", "train", "interact")


def subject(framework="linen", mode="jit", task="gymnax/CartPole-v1", loop="fused", **changes):
    fields = {"size": "reference", "num_envs": 4, "config": SMALL, **changes}
    cell = Cell("dqn", framework, mode, task, loop, "", **fields)
    out = make_subject(Job((cell,), seed=3, threads=2))
    out.build()
    return out


def measured(made, probes=PROBES):
    results = [(name, worker.measure(made, name, EFFORT, None)) for name in probes]
    made.close()
    assert {name: result["error"] for name, result in results} == dict.fromkeys(probes, "")
    return dict(results)


IN_JAX = {name: row for name, row in registry.FRAMEWORKS.items() if row.runtime == "jax"}
ROWS = [
    pytest.param("linen", "jit", "gymnax/CartPole-v1", "fused", marks=pytest.mark.slow(share=0.2)),
    *(
        pytest.param(framework, mode, "gymnax/CartPole-v1", "fused", marks=pytest.mark.slow)
        for framework, row in IN_JAX.items()
        for mode in row.modes
        if mode != "eager" and framework != "linen"
    ),
    *(
        pytest.param(framework, mode, task, "host", marks=pytest.mark.slow)
        for framework, mode in (
            ("torch", "eager"), ("torch", "compile"), ("tensorflow", "function"),
            ("tensorflow", "xla"), *((name, row.default_mode) for name, row in IN_JAX.items()),
        )
        for task in ("gymnasium/CartPole-v1", "gymnax/CartPole-v1")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("framework", "mode", "task", "loop"), ROWS)
def test_dqn_works_under_every_probe_in_one_process(framework, mode, task, loop):
    if reason := registry.why_mode_unavailable(framework, mode):
        pytest.skip(reason)
    made = subject(framework, mode, task, loop)
    results = measured(made)
    units = {name: r["units_per_sample"] / r["calls_per_sample"] for name, r in results.items()}
    many = made.iterations_per_run
    assert units == {
        "interact": ITERATION, "forward": 4, "update": 2, "iteration": ITERATION,
        "train": many * ITERATION,
    }  # fmt: skip
    assert many == (1 if loop == "host" else 10_000 // ITERATION)
    work = results["iteration"]["work"]
    assert work["env_steps"] == work["calls"] * ITERATION == 4 * work["updates"]


def test_training_begins_with_a_filled_replay_however_much_was_collected():
    made = subject()
    for _ in range(9):
        made.loop.collect()
    assert made.loop.steps == made.loop.collected == 9 * ITERATION > SMALL["learning_starts"]
    assert made.loop.is_warmup
    agent_probes.iteration(made)
    assert int(made.loop._carry.replay.count) == 3 * ITERATION  # the first that reach 70
    assert not made.loop.is_warmup


def test_a_policy_that_does_not_look_is_found_out():
    made = subject()
    act = made.agent.act
    first = made.runtime.asarray(made.loop.obs)
    assert agent_probes.forward(made).varies()
    blind = made.agent._replace(act=lambda state, obs, noise: act(state, first, noise))
    made.agent = blind
    assert not agent_probes.forward(made).varies()
    same = made.agent.init(3)
    made.agent = blind._replace(act=lambda state, obs, noise: act(same, obs, noise))
    assert not agent_probes.forward(made).varies()


def test_a_policy_that_does_the_same_nearly_everywhere_is_not_taken_for_one_that_does_not_look():
    made = subject(num_envs=1, size="s", config={})
    for made.seed in range(20):  # of which two or three do, whatever is observed
        assert agent_probes.forward(made).varies()


def test_the_sizes_of_a_reference_are_its_own():
    assert subject(config={**SMALL, "hidden_sizes": [7]}).config.hidden_sizes == (7,)
    assert subject().config.hidden_sizes == (120, 84)
    assert subject(size="s").config.hidden_sizes == (64, 64)
