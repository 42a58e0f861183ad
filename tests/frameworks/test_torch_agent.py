"""PPO in torch against the oracle and against Linen, in every mode that a CPU has."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tiebreak
from tiebreak import registry
from tiebreak.algorithms.ppo import ppo_numpy as oracle
from tiebreak.frameworks.numpy.ops import to_float64
from tiebreak.verify import case as case_data
from tiebreak.verify import ppo_cases as cases
from tiebreak.verify.case import cast

torch = pytest.importorskip("torch")

MODES = ["eager", pytest.param("compile", marks=pytest.mark.slow)]
ACTIONS = ["discrete", "continuous"]


def make(case, mode="eager", precision="float32", framework="torch"):
    runtime = registry.make_runtime(framework, mode, precision)
    return runtime, runtime.agent(registry.make_raw_agent("ppo", case.spec, case.config, runtime))


def assert_close(got, want, bound):
    assert got.keys() == want.keys()
    for name, value in want.items():
        error = np.abs(got[name] - value).max() / max(1.0, np.abs(value).max())
        assert error <= bound, f"{name}: {error:.1e}"


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("seed", range(4))
def test_three_steps_equal_the_oracle_in_float64(actions, seed):
    case = cases.draw(seed, actions)
    weights = cast(case_data.perturbed_weights(case), "float64")
    _, agent = make(case, precision="float64")
    state, want = agent.load(weights), to_float64(weights)
    for index in range(3):
        rollout, noise = cast(cases.batch_near(case, weights, index), "float64")
        state, metrics = agent.step(state, rollout, noise)
        want, expected = oracle.step(case.spec, case.config, want, rollout, noise)
        assert np.allclose([float(x) for x in metrics], expected, rtol=1e-10, atol=1e-10)
    assert_close(agent.dump(state), want, 1e-10)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("actions", ACTIONS)
def test_three_steps_equal_linen_in_float32(actions, mode):
    pytest.importorskip("flax")
    case = cases.fixed(actions)
    weights = case_data.perturbed_weights(case)
    batches = [cases.batch_near(case, weights, index) for index in range(3)]
    results = []
    for framework, its_mode in (("linen", "jit"), ("torch", mode)):
        runtime, agent = make(case, its_mode, framework=framework)
        state = agent.load(results[0][0] if results else weights)  # torch loads what Linen dumped
        dumped = agent.dump(state)
        for batch in batches:
            state, metrics = agent.step(state, *batch)
        act = runtime.to_numpy(agent.act(state, *case_data.act_inputs(case)))
        numbers = runtime.to_numpy(metrics)._asdict() | act._asdict()
        results.append((dumped, agent.dump(state) | numbers))
    assert_close(results[1][1], results[0][1], 1e-5)


@pytest.mark.parametrize("actions", ACTIONS)
def test_load_of_a_dump_is_exact(actions):
    case = cases.fixed(actions)
    _, agent = make(case)
    weights = case_data.perturbed_weights(case)
    back = agent.dump(agent.load(weights))
    assert back.keys() == weights.keys()
    for name, value in weights.items():
        assert back[name].dtype == value.dtype
        assert np.array_equal(back[name], value), name
        assert back[name].flags.c_contiguous


def test_a_dump_does_not_change_while_training_goes_on():
    case = cases.fixed("discrete")
    _, agent = make(case)
    state = agent.init(0)
    before = agent.dump(state)
    kept = {name: value.copy() for name, value in before.items()}
    state, _ = agent.step(state, *cases.batch_near(case, before))
    assert all(np.array_equal(before[name], kept[name]) for name in kept)
    assert not np.array_equal(agent.dump(state)["actor/0/kernel"], kept["actor/0/kernel"])


def test_two_states_do_not_share_memory():
    _, agent = make(case := cases.fixed("discrete"))
    one, two = agent.init(0), agent.init(0)
    before = agent.dump(two)
    agent.step(one, *cases.batch_near(case, before))
    assert all(np.array_equal(before[name], value) for name, value in agent.dump(two).items())


def test_zero_noise_is_greedy_and_integer_observations_are_taken():
    case = cases.fixed("discrete")
    runtime, agent = make(case)
    state = agent.init(0)
    obs = np.arange(15).reshape(3, 5)
    zero = runtime.to_numpy(agent.act(state, obs, np.zeros((3, 3), np.float32)))
    want = oracle.act(
        case.spec, case.config, to_float64(agent.dump(state)), obs.astype(float), np.zeros((3, 3))
    )
    assert np.array_equal(zero.action, want.action)
    assert zero.action.dtype == np.int32


def test_actor_takes_row_t_of_a_block():
    case = cases.fixed("continuous")
    runtime, agent = make(case)
    raw = registry.make_raw_agent("ppo", case.spec, case.config, runtime)
    obs, noise = case_data.act_inputs(case)
    block = np.stack([0.0 * noise, noise])
    state = agent.init(0)
    got = runtime.compile_act(raw)(state, obs, runtime.asarray(block), 1)
    want = agent.act(state, obs, noise)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.slow
def test_compiled_agents_do_not_find_each_others_programs():
    """No guard looks at the configuration: each agent must have compiled code of its own."""
    case = cases.fixed("discrete")
    weights = case_data.perturbed_weights(case)
    batch = cases.batch_near(case, weights)
    for clip in (0.05, 0.5):
        changed = case._replace(config=dataclasses.replace(case.config, clip=clip))
        dumps = []
        for mode in ("eager", "compile"):
            _, agent = make(changed, mode)
            dumps.append(agent.dump(agent.step(agent.load(weights), *batch)[0]))
        assert_close(dumps[1], dumps[0], 1e-5)


@pytest.mark.slow
def test_compiled_once():
    spec = tiebreak.EnvSpec.make(observation_shape=(3,), num_actions=2)
    config = dataclasses.replace(
        tiebreak.reference_config("ppo", spec), num_steps=8, num_minibatches=2, hidden_sizes=(5,)
    )
    runtime = registry.make_runtime("torch", "compile")
    agent = runtime.agent(registry.make_raw_agent("ppo", spec, config, runtime))
    rng, counts = np.random.default_rng(0), [runtime.compile_count()]
    for seed in (0, 1):  # a second state, and one that was loaded, change nothing
        state = agent.load(agent.dump(agent.init(seed)))
        for _ in range(3):
            batch, noise = tiebreak.sample_batch("ppo", spec, config, rng)
            agent.act(state, batch.obs[0], np.zeros((4, 2), np.float32))
            state, _ = agent.step(state, batch, noise)
            counts.append(runtime.compile_count())
    assert counts[1] - counts[0] == 3  # act, prepare, and one minibatch
    assert len(set(counts[1:])) == 1


@pytest.mark.slow
def test_one_array_in_two_places_is_not_remembered():
    """A program compiled while two inputs were one array must not serve when they are two."""
    case = cases.fixed("discrete")
    weights = case_data.perturbed_weights(case)
    rollout, noise = cases.batch_near(case, weights)
    runtime, agent = make(case, "compile")
    _, eager = make(case)
    tensors = type(rollout)(*map(runtime.asarray, rollout))
    for batch in (tensors._replace(next_obs=tensors.obs, value=tensors.log_prob), tensors):
        got, want = (a.dump(a.step(a.load(weights), batch, noise)[0]) for a in (agent, eager))
        assert_close(got, want, 1e-5)
