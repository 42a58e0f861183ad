"""A training begins with another run's weights, in any framework; what does not fit is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from training.test_policy import SPECS, TASKS, save
from training.test_resume import cut
from training.test_training import ASKED, train

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.envs.task import Task
from tiebreak.frameworks import weights
from tiebreak.loops.base import make_loop
from tiebreak.training import initial_policy, policy_files
from tiebreak.training import train as training
from tiebreak.training.request import TrainingRequest


def a_loop(framework, actions="discrete", algorithm="ppo", **settings):
    config = registry.reference_config(algorithm, SPECS[actions])
    config = replace(config, normalize_obs=True, **settings)
    return make_loop(algorithm, framework, TASKS[actions], mode="eager", config=config, seed=1)


@pytest.mark.parametrize("framework", ["torch", "linen"])
def test_weights_and_statistics_are_the_policy_s_and_the_rest_is_new(tmp_path, framework):
    save(tmp_path, steps=4096)
    path = tmp_path / policy_files.POLICY
    stored = policy_files.load_policy(tmp_path)
    stored.weights["adam/count"] += 7
    stored.weights["adam/mu/actor/0/kernel"] += 1.0
    weights.save(path, stored.weights, stored.metadata)
    loop = a_loop(framework, num_envs=2, learning_rate=1e-3)
    (note,) = initial_policy.put_into(loop, path, "ppo", 1)
    assert "(torch, gymnasium/CartPole-v1, 4,096 steps); optimizer and schedules are new" in note

    found = loop.agent.dump(loop.state)
    loop.close()
    for name in ("actor/0/kernel", "critic/2/bias", "obs_moments/mean", "obs_moments/count"):
        expected = stored.weights[name].astype(np.float32)
        np.testing.assert_array_equal(found[name], expected, err_msg=name)
    assert found["adam/count"] == 0
    assert not found["adam/mu/actor/0/kernel"].any()
    assert found["running_return"].shape == (2,)


@pytest.mark.parametrize(
    ("actions", "algorithm", "settings", "said"),
    [
        ("discrete", "dqn", {}, "is ppo's: dqn cannot begin with it; train ppo, or"),
        ("box", "ppo", {}, r"observations differ \(observation_shape \(4,\) there, \(3,\) here\)"),
        (
            "discrete", "ppo", {"hidden_sizes": (8, 8)},
            r"kernel is \[4, 64\] there, and \[4, 8\] here; take its settings \(--config .*json\)",
        ),
        ("discrete", "ppo", {"hidden_sizes": (64,)}, r"actor/1/kernel is .* and \[64, 2\] here"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path, actions, algorithm, settings, said):
    save(tmp_path)
    loop = a_loop("torch", actions, algorithm, **settings)
    with pytest.raises(UsageError, match=said):
        initial_policy.put_into(loop, tmp_path, algorithm, 0)
    loop.close()


def test_another_activation_is_told(tmp_path):
    save(tmp_path)
    loop = a_loop("torch", activation="relu")
    (note,) = initial_policy.put_into(loop, tmp_path, "ppo", 0)
    loop.close()
    assert "activation was tanh there and is relu here, so that it acts differently" in note


def test_a_run_says_where_it_begins_and_goes_on_without_it(loop, tmp_path, capsys):
    train(out="first")
    cut(loop, 400, init_from="first", checkpoint_every=300)
    stored = json.loads((tmp_path / "run/config.json").read_text())
    assert stored["init_from"] == str(tmp_path / "first")
    assert f"--init-from {tmp_path / 'first'}" in stored["command"]

    with pytest.raises(UsageError, match=r"other settings: init_from .* \(here None\)"):
        train(resume=True)
    shutil.rmtree("first")
    training.train(*ASKED, out="run", init_from="first", resume=True, checkpoint_every=300,
                   config=loop.config)  # fmt: skip
    assert "begins with" not in capsys.readouterr().err


def test_what_cannot_be_begun_with_is_refused_before_anything_is_made(loop, tmp_path):
    with pytest.raises(UsageError, match="'nowhere' is not a training run"):
        train(init_from="nowhere")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="'nowhere' is not a training run"):
        TrainingRequest(
            "ppo", "linen", Task.parse(ASKED[2]), seeds=2, init_from="nowhere"
        ).resolve()
