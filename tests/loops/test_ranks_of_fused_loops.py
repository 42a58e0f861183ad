"""Fused loops of two processes, one program on the devices of both, train what one trains."""

from __future__ import annotations

import json

import numpy as np
import pytest
from loops.test_population import CARTPOLE, LOOSE, PENDULUM, TIGHT, config_of
from processes_together import run_together

from tiebreak.core.config import override, to_dict
from tiebreak.core.errors import UsageError
from tiebreak.core.prefixes import strip_prefix
from tiebreak.core.ranks import Ranks
from tiebreak.loops.base import make_loop
from tiebreak.loops.fused_population import make_population
from tiebreak.loops.population_evaluation import PopulationEvaluator

START = """
import json, sys
import numpy as np
from tiebreak import registry
from tiebreak.core import config as configs
from tiebreak.core.prefixes import add_prefix
from tiebreak.core.ranks import Address
from tiebreak.frameworks.jax.ranks import joined
from tiebreak.loops.base import make_loop
from tiebreak.loops.fused_population import make_population
from tiebreak.loops.population_evaluation import PopulationEvaluator

address, folder = sys.argv[1], sys.argv[2]
*case, given = json.loads(sys.argv[3])
config = configs.from_dict(registry.config_module(case[0]).Config, given)
options = {"config": config, "seed": 5, "chunk": 2}

def copied(arrays):
    return {name: np.array(x) for name, x in arrays.items()}

with joined(Address.parse(address), "cpu") as ranks:
"""
ONE_AGENT = """
    assert ranks.tell({"text": "é" * 2000, "rank": ranks.rank}) == {"text": "é" * 2000, "rank": 0}
    loop = make_loop(*case, loop="fused", ranks=ranks, **options)
    progress = [loop.runtime.to_numpy(loop.run()) for _ in range(4)]
    counts = np.array([(p.episodes, p.length_sum) for p in progress])
    assert not loop.obs.is_fully_addressable
    assert len(loop.obs.addressable_shards[0].data) * ranks.count == config.num_envs

    stored = copied(loop.dump())
    before = loop.runtime.compile_count()
    loop.run()
    assert loop.runtime.compile_count() == before
    later = copied(loop.agent.dump(loop.state))
    again = make_loop(*case, loop="fused", ranks=ranks, **options)
    assert again.load(stored)
    again.run()
    for name, want in copied(again.agent.dump(again.state)).items():
        np.testing.assert_array_equal(later[name], want, err_msg=name)

    obs = np.array(loop.obs.addressable_data(0))
    loop.agent.act(loop.local_state, obs, np.zeros((len(obs), loop.spec.action_size), np.float32))
    arrays = {**add_prefix("stored", stored), **add_prefix("later", later), "counts": counts}
    np.savez(f"{folder}/{ranks.rank}.npz", **arrays)
"""
MANY_AGENTS = """
    many = make_population(*case, 4, ranks=ranks, **options)
    progress = [many.loop.runtime.to_numpy(many.loop.run()) for _ in range(4)]
    weights = copied(many.loop.agent.dump(many.loop.state))
    returns = np.array(PopulationEvaluator(case[0], many, case[2], 2).returns(many.loop.state))
    counts = np.array([p.episodes for p in progress])
    np.savez(f"{folder}/{ranks.rank}.npz", returns=returns, counts=counts, **weights)
"""
PPO = ("ppo", "linen", CARTPOLE)
CASES = [PPO, ("sac", "nnx", PENDULUM), ("fasttd3", "equinox", PENDULUM)]


def options_of(algorithm):
    own = {"num_minibatches": 4} if algorithm == "ppo" else {}
    config = override(config_of(algorithm), {"num_envs": 4, **own})
    return {"config": config, "seed": 5, "chunk": 2}


def of_both(program, case, folder):
    """Run a program in two processes; return what both have found, which has to be the same."""
    asked = json.dumps([*case, to_dict(options_of(case[0])["config"])])
    for status, _, errors in run_together(["-c", START + program, "ADDRESS", str(folder), asked]):
        assert status == 0, errors[-3000:]
    first, second = (np.load(folder / f"{rank}.npz") for rank in (0, 1))
    for name in first.files:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    return first


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_two_processes_train_the_agent_that_one_trains(case, tmp_path):
    bound = TIGHT if case[0] == "ppo" else LOOSE
    both = of_both(ONE_AGENT, case, tmp_path)
    one = make_loop(*case, loop="fused", **options_of(case[0]))
    progress = [one.runtime.to_numpy(one.run()) for _ in range(4)]
    np.testing.assert_array_equal(both["counts"], [(p.episodes, p.length_sum) for p in progress])
    stored = strip_prefix("stored", both)
    for name, want in one.dump().items():
        np.testing.assert_allclose(stored[name], want, **bound, err_msg=name)

    again = make_loop(*case, loop="fused", **options_of(case[0]))
    assert again.load(stored)  # what two processes have stored goes on in one
    again.run()
    later = strip_prefix("later", both)
    for name, want in again.agent.dump(again.state).items():
        np.testing.assert_allclose(later[name], want, **bound, err_msg=name)


@pytest.mark.slow
def test_agents_of_two_processes_are_those_of_one(tmp_path):
    both = of_both(MANY_AGENTS, PPO, tmp_path)
    many = make_population(*PPO, 4, **options_of("ppo"))
    progress = [many.loop.runtime.to_numpy(many.loop.run()) for _ in range(4)]
    np.testing.assert_array_equal(both["counts"], [p.episodes for p in progress])
    for name, want in many.loop.agent.dump(many.loop.state).items():
        np.testing.assert_allclose(both[name], want, **TIGHT, err_msg=name)
    returns = PopulationEvaluator("ppo", many, CARTPOLE, 2).returns(many.loop.state)
    np.testing.assert_allclose(both["returns"], returns, rtol=0.02)


class Five(Ranks):
    count = 5


def test_devices_that_cannot_share_out_the_environments_are_refused(monkeypatch):
    import jax

    from tiebreak.loops.env_sharding import devices_for

    monkeypatch.setattr(jax, "devices", lambda platform: [object()] * 5)
    with pytest.raises(UsageError, match=r"num_envs is 4, which the 5 devices of 5 processes"):
        devices_for(jax.local_devices()[0], 4, Five())
