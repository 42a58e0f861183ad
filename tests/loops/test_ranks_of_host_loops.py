"""Host loops of two ranks, each with half of the environments, train the agent that one trains."""

from __future__ import annotations

import numpy as np
import pytest
from loops.test_population import FAST, LOOSE, OFF_POLICY, TIGHT
from thread_ranks import in_ranks

from tiebreak import registry
from tiebreak.core.config import override
from tiebreak.core.errors import UsageError
from tiebreak.core.ranks import ALONE, Ranks
from tiebreak.loops.base import make_loop

CARTPOLE, PENDULUM = "gymnasium/CartPole-v1", "gymnasium/Pendulum-v1"
ROLLOUT = {"num_envs": 4, "num_steps": 16, "num_minibatches": 2, "num_epochs": 2}
PLAIN = {
    **ROLLOUT, "hidden_sizes": (8,), "normalize_obs": True, "normalize_reward": True,
}  # fmt: skip
REPLAY = {**OFF_POLICY, "num_envs": 4, "num_updates": 2}
CASES = {
    "ppo": ("ppo", CARTPOLE, PLAIN, TIGHT),
    "ppo with memory": (
        "ppo",
        CARTPOLE,
        {**ROLLOUT, "network": "gru", "hidden_sizes": (8, 6)},
        TIGHT,
    ),
    "sac": ("sac", PENDULUM, {**REPLAY, "hidden_sizes": (8,)}, LOOSE),
    "fasttd3": ("fasttd3", PENDULUM, {**REPLAY, **FAST, "normalize_obs": True}, LOOSE),
}
"""Name -> algorithm, task, settings, and the bound that host and fused loops have to meet, too."""
RUNS, MORE = 6, 2


def made(case, ranks: Ranks = ALONE):
    algorithm, task, settings, _ = CASES[case]
    config = override(registry.config_module(algorithm).Config(), settings)
    return make_loop(
        algorithm, "torch", task, mode="eager", loop="host", config=config, seed=5, ranks=ranks
    )


def trained(case, ranks: Ranks = ALONE):
    """Return progress of some runs, all that is stored then, and the weights some runs later."""
    loop = made(case, ranks)
    progress = [loop.runtime.to_numpy(loop.run()) for _ in range(RUNS)]
    stored = {name: np.array(x) for name, x in loop.dump().items()}
    for _ in range(MORE):
        loop.run()
    return progress, stored, loop.agent.dump(loop.state)


SLOW = pytest.mark.slow(share=0.3)


@pytest.mark.parametrize(
    "case",
    [
        "ppo",
        "fasttd3",
        pytest.param("ppo with memory", marks=SLOW),
        pytest.param("sac", marks=SLOW),
    ],
)
def test_two_ranks_train_the_agent_that_one_trains(case):
    _, task, _, bound = CASES[case]
    progress, stored, weights = trained(case)
    first, second = in_ranks(2, lambda ranks: trained(case, ranks))

    assert first[1].keys() == second[1].keys() == stored.keys()
    for name, want in stored.items():
        np.testing.assert_array_equal(first[1][name], second[1][name], err_msg=name)
        np.testing.assert_allclose(first[1][name], want, **bound, err_msg=name)
    for name, want in weights.items():
        np.testing.assert_array_equal(first[2][name], second[2][name], err_msg=name)
        np.testing.assert_allclose(first[2][name], want, **bound, err_msg=name)
    for a, b in zip(first[0], progress, strict=True):
        assert (a.episodes, a.length_sum) == (b.episodes, b.length_sum)
        if isinstance(b.metrics, tuple):
            np.testing.assert_allclose(a.metrics, b.metrics, rtol=1e-2, atol=1e-3)
    if task == CARTPOLE:
        assert sum(p.episodes for p in progress) > 3  # ends and resets were among the steps


@pytest.mark.parametrize("case", ["fasttd3", pytest.param("ppo with memory", marks=SLOW)])
def test_what_two_ranks_store_goes_on_in_one_process_and_in_two(case):
    (_, stored, weights), _ = in_ranks(2, lambda ranks: trained(case, ranks))

    def resumed(ranks: Ranks):
        loop = made(case, ranks)
        assert loop.load(stored)
        for _ in range(MORE):
            loop.run()
        return loop.agent.dump(loop.state)

    one = resumed(ALONE)
    two, _ = in_ranks(2, resumed)
    for name, want in weights.items():
        np.testing.assert_array_equal(two[name], want, err_msg=name)
        np.testing.assert_allclose(one[name], want, **CASES[case][3], err_msg=name)


class Three(Ranks):
    rank, count = 2, 3


def test_environments_that_cannot_be_shared_out_are_refused():
    with pytest.raises(UsageError, match=r"num_envs is 4, which 3 processes"):
        made("ppo", Three())
    with pytest.raises(UsageError, match=r"processes can share out .* gymnasium or dm_control"):
        make_loop("ppo", "torch", "gymnax/CartPole-v1", mode="eager", ranks=Three())
