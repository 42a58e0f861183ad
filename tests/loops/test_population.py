"""Many agents at once are the same agents alone; on several devices as on one; and fit, or not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from loops.eight_devices import assert_equal
from loops.test_loops import SMALL as PPO
from loops.test_off_policy_loops import SMALL as DQN

from tiebreak import registry
from tiebreak.core.config import override, to_dict
from tiebreak.core.errors import UsageError
from tiebreak.core.ranks import ALONE
from tiebreak.core.seeding import derive
from tiebreak.loops import fused_population
from tiebreak.loops.base import make_loop
from tiebreak.loops.fused_population import make_population
from tiebreak.loops.population_evaluation import PopulationEvaluator
from tiebreak.verify.case import cases_of

CARTPOLE, PENDULUM = "gymnax/CartPole-v1", "gymnax/Pendulum-v1"
OFF_POLICY = {
    "total_steps": 2000, "num_envs": 2, "num_rounds": 4, "learning_starts": 40, "replay_size": 200,
    "batch_size": 8,
}  # fmt: skip
PQN = registry.config_module("pqn").Config(
    num_envs=2, num_steps=16, num_minibatches=2, total_steps=2000, hidden_sizes=(8,)
)
SMALL = {"ppo": PPO, "dqn": DQN, "pqn": PQN}
FAST = {"actor_sizes": (8,), "critic_sizes": (8,), "num_atoms": 11}
SIZES = {"fasttd3": FAST, "fastsac": FAST}
FUSED = {
    name: row.default_mode
    for name, row in registry.FRAMEWORKS.items()
    if row.runtime and registry.RUNTIMES[row.runtime].fused
}
"""Frameworks that can compile a whole loop, and their default modes."""
RUNS, AGENTS, SEED = 5, 3, 5
TIGHT, LOOSE = {"rtol": 1e-4, "atol": 2e-5}, {"rtol": 1e-3, "atol": 1e-4}
"""After so many runs, in float32, of PPO and of the others: what host and fused loops are held to,
too. Random numbers and initial weights are equal bit for bit; a batched matrix product and a fused
reduction may round otherwise than one agent's."""


def config_of(algorithm):
    if algorithm in SMALL:
        return SMALL[algorithm]
    settings = {**OFF_POLICY, **SIZES.get(algorithm, {"hidden_sizes": (8,)})}
    return override(registry.config_module(algorithm).Config(), settings)


def task_of(algorithm):
    return CARTPOLE if "discrete" in cases_of(algorithm).ACTIONS else PENDULUM


def population(algorithm="ppo", framework="linen", agents=AGENTS, **options):
    options = {"config": config_of(algorithm), "seed": SEED, "chunk": 2, **options}
    return make_population(algorithm, framework, task_of(algorithm), agents, **options)


def alone(algorithm, framework, seed, mode=None, config=None):
    return make_loop(
        algorithm, framework, task_of(algorithm), loop="fused", mode=mode,
        config=config or config_of(algorithm), seed=seed, chunk=2,
    )  # fmt: skip


def run(loop):
    progress = [loop.runtime.to_numpy(loop.run()) for _ in range(RUNS)]
    return progress, loop.agent.dump(loop.state)


ROWS = [
    ("ppo", "linen", "jit"),
    pytest.param("dqn", "equinox", "flat", marks=pytest.mark.slow(share=0.1)),
    *(
        pytest.param(algorithm, framework, mode, marks=pytest.mark.slow)
        for algorithm in registry.ALGORITHMS
        for framework, mode in FUSED.items()
        if (algorithm, framework) not in (("ppo", "linen"), ("dqn", "equinox"))
    ),
    *(
        pytest.param(algorithm, framework, mode, marks=pytest.mark.slow)
        for algorithm in ("ppo", "dqn")
        for framework, mode in (("nnx", "jit"), ("nnx", "cached"), ("equinox", "jit"))
    ),
]


@pytest.mark.parametrize(("algorithm", "framework", "mode"), ROWS)
def test_an_agent_of_a_population_is_the_same_agent_alone(algorithm, framework, mode):
    many = population(algorithm, framework, mode=mode).loop
    bound = TIGHT if algorithm == "ppo" else LOOSE
    progress, together = run(many)
    i = AGENTS - 1
    single = alone(algorithm, framework, SEED + i, mode)
    expected, dump = run(single)
    assert (many.steps, many.updates) == (single.steps, single.updates)
    assert together.keys() == dump.keys()
    for name, want in dump.items():
        np.testing.assert_allclose(together[name][i], want, **bound, err_msg=name)
    for a, b in zip(progress, expected, strict=True):
        assert (a.episodes[i], a.length_sum[i]) == (b.episodes, b.length_sum)
        np.testing.assert_allclose(a.return_sum[i], b.return_sum, rtol=1e-4)
        if b.metrics is not None:
            metrics = [value[i] for value in a.metrics]
            np.testing.assert_allclose(metrics, b.metrics, rtol=1e-2, atol=1e-3)
    first = next(name for name in together if name.endswith("0/kernel"))
    assert not np.array_equal(*together[first][:2])


def test_a_generator_without_keys_of_their_own_is_refused():
    config = override(config_of("ppo"), {"prng": "rbg"})
    with pytest.raises(UsageError, match=r"prng is 'rbg'; .* need threefry2x32"):
        population("ppo", config=config)


@pytest.mark.parametrize("framework", FUSED)
def test_agents_start_where_single_runs_start_bit_for_bit(framework):
    many = population("dqn", framework).loop
    weights = many.agent.dump(many.state)
    for i in range(AGENTS):
        single = alone("dqn", framework, SEED + i)
        np.testing.assert_array_equal(many.obs[i], single.obs)
        for name, want in single.agent.dump(single.state).items():
            np.testing.assert_array_equal(weights[name][i], want, err_msg=name)


def test_chunks_of_any_length_are_one_program():
    loop = population().loop
    loop.run()
    loop.run()
    before = loop.runtime.compile_count()
    loop.iterations_per_run = 1
    loop.run()
    assert loop.runtime.compile_count() == before
    assert loop.steps == 5 * PPO.iteration_steps


@pytest.mark.slow(share=0.3)
def test_episodes_of_an_evaluation_are_cut_where_they_are_to_be():
    made = population()
    evaluator = PopulationEvaluator("ppo", made, CARTPOLE, 3, max_steps=5)
    returns = evaluator.returns(made.loop.state)
    assert np.unique(returns).tolist() == [5.0]
    assert evaluator.cut == np.size(returns)


SHARED = """
import json, sys
import jax
import numpy as np
from tiebreak import registry
from tiebreak.core import config as configs
from tiebreak.loops.population_evaluation import PopulationEvaluator
from tiebreak.loops.fused_population import make_population

algorithm, framework, task, runs, given = json.loads(sys.argv[1])
config = configs.from_dict(registry.config_module(algorithm).Config, given)
found = []
for device in ("cpu", "cpu:0"):
    made = make_population(
        algorithm, framework, task, 16, config=config, seed=5, chunk=2, device=device
    )
    progress = [made.loop.runtime.to_numpy(made.loop.run()) for _ in range(runs)]
    returns = PopulationEvaluator(algorithm, made, task, 2).returns(made.loop.state)
    found.append((made, made.loop.agent.dump(made.loop.state), progress, returns))
(many, theirs, _, there), (one, ours, _, here) = found
assert len(set(many.devices)) == 8 and len(one.devices) == 1, (many.devices, one.devices)
leaf = jax.tree.leaves(many.loop.state)[0]
assert len(leaf.sharding.device_set) == 8 and leaf.addressable_shards[0].data.shape[0] == 2
before = many.loop.runtime.compile_count()
many.loop.run()
assert many.loop.runtime.compile_count() == before
for name, want in ours.items():
    np.testing.assert_allclose(theirs[name], want, rtol=1e-3, atol=1e-4, err_msg=name)
for a, b in zip(found[0][2], found[1][2], strict=True):
    np.testing.assert_array_equal(a.episodes, b.episodes)
assert np.shape(there) == np.shape(here) == (16, 2)
print("equal")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "framework"), [("ppo", "linen"), ("dqn", "nnx"), ("ppo", "equinox")]
)
def test_eight_devices_give_the_result_of_one(algorithm, framework):
    asked = [algorithm, framework, CARTPOLE, RUNS, to_dict(config_of(algorithm))]
    assert_equal(SHARED, asked)


@pytest.mark.parametrize(
    ("device", "agents", "used"), [("cpu", 16, 8), ("cpu", 10, 5), ("cpu", 7, 7), ("cpu:3", 16, 1)]
)
def test_as_many_devices_as_divide_the_agents(monkeypatch, device, agents, used):
    monkeypatch.setattr(fused_population.jax, "local_devices", lambda backend: list(range(8)))
    cpu = SimpleNamespace(platform="cpu")
    runtime = SimpleNamespace(native_device=cpu, device=device, ranks=ALONE)
    assert len(fused_population._devices(runtime, agents)) == used


def test_memory_is_told_beforehand():
    made = population("dqn")
    each = made.memory.agent_bytes
    weights = registry.data_module("dqn").initial_weights(made.loop.spec, DQN, derive(0, "weights"))
    replay = 2 * 198 * 4 * 4  # two observations of the rows that whole rounds fill
    assert each > sum(array.nbytes for array in weights.values()) + replay
    assert made.memory.total_bytes == AGENTS * (each + made.memory.working_bytes)


def test_what_does_not_fit_is_refused_with_what_does(monkeypatch):
    monkeypatch.setattr(fused_population, "available_bytes", lambda: 1e6)
    with pytest.raises(UsageError, match=r"4096 agents take .* at most --seeds \d+ fits"):
        population("dqn", agents=4096)


@pytest.mark.parametrize(("chunk_steps", "iterations"), [(1, 1), (71, 1), (72, 1), (144, 2)])
def test_a_run_has_about_as_many_steps_whatever_the_number_of_agents(
    monkeypatch, chunk_steps, iterations
):
    """An iteration of three agents has 3 · 2 · 12 steps; a run has at least one."""
    monkeypatch.setattr(fused_population, "CHUNK_STEPS", chunk_steps)
    config = override(config_of("ppo"), {"num_envs": 2, "num_steps": 12})
    population = make_population("ppo", "linen", CARTPOLE, agents=3, config=config)
    assert population.loop.iterations_per_run == iterations
