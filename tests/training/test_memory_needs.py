"""What cannot fit into memory is refused before anything is allocated, with the number."""

from __future__ import annotations

import dataclasses

import pytest
from training.fakes import CONFIG, SPEC

from tiebreak import registry
from tiebreak.algorithms.ppo.data import initial_weights
from tiebreak.core import procfs
from tiebreak.core.errors import MissingMemory, UsageError
from tiebreak.core.types import EnvSpec
from tiebreak.envs.task import Task
from tiebreak.frameworks.weights import least_parameters
from tiebreak.training import memory_needs, policy_files
from tiebreak.training import train as training
from tiebreak.training.evaluate import evaluate
from tiebreak.training.request import TrainingRequest
from tiebreak.verify.case import cases_of

ASKED = ("ppo", "linen", "gymnax/CartPole-v1")
GIB = 2.0**30


@pytest.fixture(autouse=True)
def free(monkeypatch):
    monkeypatch.setattr(memory_needs, "available_bytes", lambda: 4 * GIB)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_envs": 10**9}, "num_envs=1000000000"),
        ({"num_steps": 10**9}, "num_envs × num_steps = 2000000000"),
        ({"num_envs": 10**18}, "num_envs"),
        ({"hidden_sizes": (10**9,)}, r"hidden_sizes=\(1000000000,\)"),
        ({"hidden_sizes": (10**5, 10**5)}, "hidden_sizes"),
    ],
)
def test_settings_that_cannot_fit_are_named_with_the_bytes(loop, tmp_path, options, said):
    config = dataclasses.replace(CONFIG, **options)
    message = rf"takes at least [0-9,.]+ GiB, and 4\.0 GiB are free here; most .*{said}"
    with pytest.raises(MissingMemory, match=message):
        training.train(*ASKED, out="run", config=config, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_episodes_at_once_that_cannot_fit_are_refused(loop):
    with pytest.raises(MissingMemory, match="1000000000 evaluation episodes"):
        training.train(*ASKED, out="run", config=CONFIG, eval_episodes=10**9)


@pytest.mark.parametrize(
    "many", [{"seeds": 10**8}, {"seeds": 10**4, "sweep": {"gamma": [0.9] * 10**4}}]
)
def test_agents_that_cannot_fit_are_refused_before_they_are_listed(loop, many):
    asked = TrainingRequest(ASKED[0], ASKED[1], Task.parse(ASKED[2]), config=CONFIG, **many)
    with pytest.raises(MissingMemory, match="times 100000000 agents"):
        asked.resolve()


def test_a_replay_that_cannot_fit_is_refused():
    config = registry.config_module("dqn").Config(replay_size=10**12)
    with pytest.raises(MissingMemory, match="replay_size=1000000000000"):
        memory_needs.require_training(SPEC, config, 1, True, 16)
    memory_needs.require_training(SPEC, config, 1, False, 16)  # on an accelerator: it will say


def test_an_evaluation_that_cannot_fit_is_refused(loop, tmp_path):
    policy_files.save_policy(
        tmp_path, initial_weights(SPEC, CONFIG, 0), "ppo", SPEC, CONFIG, task=ASKED[2],
        framework="linen", seed=0,
    )  # fmt: skip
    with pytest.raises(MissingMemory, match=r"the evaluation takes .*1000000000 episodes at once"):
        evaluate(tmp_path, episodes=10**9)


@pytest.mark.parametrize(
    ("spec", "config", "larger"),
    [
        (SPEC, dataclasses.replace(CONFIG, hidden_sizes=(10**9, 10**9)), "larger layers"),
        (EnvSpec.make(observation_shape=(10**12,), num_actions=2), CONFIG, "larger layers"),
        (SPEC, dataclasses.replace(CONFIG, num_envs=10**17), "more environments"),
    ],
)
def test_a_policy_that_claims_giant_shapes_is_refused_before_they_are_drawn(
    tmp_path, spec, config, larger
):
    arrays = initial_weights(SPEC, CONFIG, 0)
    about = {"task": ASKED[2], "framework": "linen", "seed": 0}
    policy_files.save_policy(tmp_path, arrays, "ppo", spec, config, **about)
    with pytest.raises(UsageError, match=f"has {larger} than the file"):
        policy_files.load_policy(tmp_path)


@pytest.mark.parametrize("algorithm", registry.ALGORITHMS)
def test_the_bound_of_parameters_is_one(algorithm):
    box = EnvSpec.make(observation_shape=(3,), action_low=[-1.0] * 2, action_high=[1.0] * 2)
    spec = SPEC if "discrete" in cases_of(algorithm).ACTIONS else box
    config = registry.config_module(algorithm).Config()
    arrays = registry.data_module(algorithm).initial_weights(spec, config, 0)
    assert 0 < least_parameters(spec, config) <= sum(a.size for a in arrays.values())


MEMINFO = "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\n"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("", {}, 8000000 * 1024),
        ("0::/", {"memory.max": "max", "memory.current": "5"}, 8000000 * 1024),
        ("0::/", {"memory.max": "1000", "memory.current": "900"}, 100),
        (
            "0::/",
            {"memory.max": "1000", "memory.current": "900", "memory.stat": "inactive_file 300"},
            400,
        ),
        (
            "4:memory:/",
            {
                "memory/memory.limit_in_bytes": "1000",
                "memory/memory.usage_in_bytes": "800",
                "memory/memory.stat": "total_inactive_file 50",
            },
            250,
        ),
        ("0::/", {"memory.max": "1000", "memory.current": "2000"}, 0),
    ],
)
def test_a_containers_limit_counts(tmp_path, membership, files, expected):
    content = {"proc/meminfo": MEMINFO, "proc/self/cgroup": membership}
    content |= {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in content.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert procfs.available_bytes(tmp_path) == expected
