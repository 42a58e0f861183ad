"""N agents in one program against one torch agent: the number, and its interval."""

from __future__ import annotations

import numpy as np
import pytest
from stats import synthetic

from tiebreak.stats.agents_per_time import agent_races
from tiebreak.stats.ratios import summarize

TRAIN = "ppo · {}/CartPole-v1 · train · num_envs 4"
MANY = "ppo · gymnax/CartPole-v1 · population · num_envs 4 · agents {}"


def one(task="gymnax", speeds=(("torch compile", 1.0),), **changes):
    return synthetic.race(dict(speeds), group=TRAIN.format(task), **{"blocks": 4, **changes})


def many(agents, speed, **changes):
    """Populations whose agents together are so many times as fast as the torch agent of `one`."""
    changes = {"blocks": 4, "seed": agents, **changes}
    records = synthetic.race({"linen jit": speed}, group=MANY.format(agents), **changes)
    for record in records:
        record["cell"] = {**record["cell"], "agents": agents}
    return records


def test_agents_in_the_time_of_one_are_the_ratio_of_all_their_steps():
    (race,) = agent_races(summarize([*one(), *many(64, 50.0), *many(1, 4.0), *many(512, 100.0)]))
    assert race.baseline.label == "torch compile"
    assert [found.agents for found in race.populations] == [1, 64, 512]
    for found, speed in zip(race.populations, (4.0, 50.0, 100.0), strict=True):
        assert found.trained == pytest.approx(speed, rel=0.2)
        assert found.low < speed < found.high
    assert race.best.agents == 512


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Whatever the machine does to blocks: here it changes by 5 % from block to block."""
    covered = 0
    for seed in range(300):
        records = [*one(seed=seed, blocks=3), *many(8, 20.0, seed=1000 + seed, blocks=3)]
        (race,) = agent_races(summarize(records))
        covered += race.populations[0].low < 20.0 < race.populations[0].high
    assert covered >= 0.93 * 300


def test_a_single_run_has_no_interval():
    (race,) = agent_races(summarize([*one(blocks=1), *many(8, 20.0, blocks=3)]))
    (found,) = race.populations
    assert (found.low, found.high) == (None, None)
    assert found.trained == pytest.approx(20.0, rel=0.5)


def test_the_one_agent_is_torchs_fastest_wherever_it_is_simulated():
    bridge = one(speeds=(("torch compile", 1.0), ("torch eager", 0.7), ("linen jit", 9.0)))
    host = one("gymnasium", speeds=(("torch compile", 2.0),))
    (race,) = agent_races(summarize([*bridge, *host, *many(8, 20.0)]))
    assert race.baseline.cell["task"] == "gymnasium/CartPole-v1"
    assert race.populations[0].trained == pytest.approx(10.0, rel=0.2)


@pytest.mark.parametrize(
    "change",
    [
        {"cell": {"num_envs": 16}},
        {"cell": {"config": {"gamma": 0.9}}},
        {"cell": {"algorithm": "dqn"}},
        {"cell": {"task": "gymnax/Pendulum-v1"}},
        {"cell": {"device": "gpu"}},
        {"fingerprint": "another"},
        {"flags": {"fell_to_eager": True}},
    ],
)
def test_other_settings_machines_and_barred_cells_are_no_baseline(change):
    records = one()
    for record in records:
        record.update({**change, "cell": {**record["cell"], **change.get("cell", {})}})
    assert agent_races(summarize([*records, *many(8, 20.0)])) == []


def test_a_cell_keeps_the_value_of_each_run():
    (group,) = summarize(one(noise=0.0, blocks=3))
    (cell,) = group.cells
    assert len(cell.values_s) == 3
    assert np.median(cell.values_s) == pytest.approx(cell.seconds_per_unit)
