"""`--device cpu:all`: one agent's environments on eight devices train the agent that one trains."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest
from loops.eight_devices import assert_equal
from loops.test_population import CARTPOLE, PENDULUM, config_of

from tiebreak.core.config import override, to_dict
from tiebreak.core.errors import UsageError
from tiebreak.envs.bridge import find_device
from tiebreak.loops.base import make_loop
from tiebreak.loops.env_sharding import _shardings

SHARED = """
import json, sys
import jax
import numpy as np
from tiebreak import registry
from tiebreak.core import config as configs
from tiebreak.core.memory import first_memory
from tiebreak.loops.base import make_loop

algorithm, framework, task, given = json.loads(sys.argv[1])
config = configs.from_dict(registry.config_module(algorithm).Config, given)

def made(device):
    return make_loop(
        algorithm, framework, task, loop="fused", config=config, seed=5, chunk=2, device=device
    )

many, one = made("cpu:all"), made("cpu")
progress = [[loop.runtime.to_numpy(loop.run()) for _ in range(4)] for loop in (many, one)]
assert len(many.obs.sharding.device_set) == 8, many.obs.sharding
assert many.obs.addressable_shards[0].data.shape[0] == 1
acted = many.agent.act(
    many.local_state, one.obs, np.zeros((8, many.spec.action_size), np.float32),
    *first_memory(config, np.ones(8, bool), np.asarray),
)
assert len(jax.tree.leaves(acted)[0].sharding.device_set) == 1  # as evaluations do, on one device
before = many.runtime.compile_count()
stored = {name: np.array(x) for name, x in many.dump().items()}
many.run()
assert many.runtime.compile_count() == before
again = made("cpu:all")
again.load(stored)
again.run()
for name, want in many.dump().items():
    np.testing.assert_array_equal(again.dump()[name], want, err_msg=name)
one.run()
theirs, ours = many.agent.dump(many.state), one.agent.dump(one.state)
for name, want in ours.items():
    np.testing.assert_allclose(theirs[name], want, rtol=1e-3, atol=1e-4, err_msg=name)
for a, b in zip(*progress, strict=True):
    assert (a.episodes, a.length_sum) == (b.episodes, b.length_sum)
print("equal")
"""
MEMORY = {"network": "gru", "hidden_sizes": (8, 6)}
OWN = {"ppo": {"num_minibatches": 4}, "dqn": {"target_every": 16}}


@pytest.mark.parametrize(
    ("algorithm", "framework", "more"),
    [
        pytest.param("ppo", "linen", {}, marks=pytest.mark.slow(share=0.3)),
        pytest.param("ppo", "equinox", MEMORY, marks=pytest.mark.slow),
        pytest.param("dqn", "nnx", {}, marks=pytest.mark.slow),
        pytest.param("fasttd3", "equinox", {}, marks=pytest.mark.slow),
    ],
)
def test_environments_on_eight_devices_train_the_same_agent(algorithm, framework, more):
    config = override(config_of(algorithm), {"num_envs": 8, **OWN.get(algorithm, {}), **more})
    task = PENDULUM if algorithm == "fasttd3" else CARTPOLE
    assert_equal(SHARED, [algorithm, framework, task, to_dict(config)])


@pytest.mark.parametrize("framework", ["linen", "torch"])
def test_only_a_fused_loop_has_environments_to_share_out(framework):
    with pytest.raises(UsageError, match=r"'cpu:all' .*host loop.* --device cpu$"):
        make_loop("ppo", framework, "gymnasium/CartPole-v1", device="cpu:all")


def test_of_all_devices_the_first_one_evaluates():
    assert find_device("cpu:all") == find_device("cpu")


def test_arrays_with_a_row_per_environment_are_split_and_all_others_are_everywhere():
    class Carry(NamedTuple):
        env_state: dict
        obs: jax.Array
        iteration: jax.Array

    num_envs = 4
    state = {
        "position": jnp.zeros((num_envs, 2)),
        "gravity": jnp.zeros(()),
        "map": jnp.zeros((7, num_envs)),
    }
    counts = jnp.zeros(num_envs)  # not of the environments, by its field
    split = _shardings(Carry(state, jnp.zeros((num_envs, 3)), counts), num_envs, "rows", "all")
    assert split == Carry({"position": "rows", "gravity": "all", "map": "all"}, "rows", "all")
