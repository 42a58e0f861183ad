"""Reference settings that depend on the task: chosen without being asked, said, and changeable."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace

import pytest
from training.fakes import CONFIG

from tiebreak import registry
from tiebreak.algorithms.fasttd3.config import Config
from tiebreak.core.ranks import ALONE
from tiebreak.core.types import EnvSpec
from tiebreak.envs.task import Task
from tiebreak.training import request, versions
from tiebreak.training import train as training
from tiebreak.training.request import TrainingRequest, resolve_config
from tiebreak.training.run_config import describe, task_notes
from tiebreak.verify.case import cases_of

BOX = EnvSpec.make(observation_shape=(3,), action_low=(-1.0,), action_high=(1.0,))
DISCRETE = EnvSpec.make(observation_shape=(3,), num_actions=2)


def reference(task):
    return registry.reference_config("fasttd3", BOX, task)


def test_fasttd3_is_set_for_playground():
    assert reference("") == reference("gymnax/Pendulum-v1") == Config()
    for task in ("G1JoystickFlatTerrain", "T1JoystickFlatTerrain@warp"):
        found = reference(f"playground/{task}")
        assert found == Config(gamma=0.97)
        assert found.span == (-10.0, 10.0)


AUTHORS = {
    # task: (γ, n-step, span, target noise, σ of exploration, updates, total_timesteps)
    "AcrobotSwingup": (0.97, 1, 10.0, 0.001, (0.001, 0.4), 2, 150_000),
    "ApolloJoystickFlatTerrain": (0.97, 1, 10.0, 0.001, (0.001, 0.4), 2, 150_000),
    "CheetahRun": (0.97, 3, 500.0, 0.1, (0.1, 0.4), 2, 150_000),
    "G1JoystickFlatTerrain": (0.97, 1, 10.0, 0.001, (0.001, 0.4), 2, 100_000),
    "G1JoystickRoughTerrain": (0.97, 1, 10.0, 0.001, (0.001, 0.4), 2, 100_000),
    "T1JoystickFlatTerrain": (0.97, 1, 10.0, 0.001, (0.001, 0.4), 2, 100_000),
    "T1JoystickRoughTerrain": (0.97, 1, 10.0, 0.001, (0.001, 0.4), 2, 100_000),
    "Go1JoystickFlatTerrain": (0.97, 1, 10.0, 0.2, (0.2, 0.8), 8, 50_000),
    "Go1JoystickRoughTerrain": (0.97, 1, 10.0, 0.2, (0.2, 0.8), 8, 50_000),
    "Go1Getup": (0.97, 1, 10.0, 0.2, (0.2, 0.8), 8, 50_000),
    "Go1Handstand": (0.97, 1, 10.0, 0.001, (0.001, 0.4), 2, 150_000),
    "Go1Footstand": (0.97, 1, 10.0, 0.001, (0.001, 0.4), 2, 150_000),
    "LeapCubeReorient": (0.99, 3, 50.0, 0.2, (0.001, 0.4), 2, 150_000),
    "LeapCubeRotateZAxis": (0.99, 1, 10.0, 0.2, (0.001, 0.4), 2, 150_000),
}
"""Read from fast_td3/hyperparams.py of younggyoseo/FastTD3, commit 229ed59."""


@pytest.mark.parametrize("task", AUTHORS)
@pytest.mark.parametrize("variant", ["", "@warp"])
def test_settings_are_the_authors_for_each_task(task, variant):
    found = reference(f"playground/{task}{variant}")
    gamma, n_step, span, target_noise, noise, num_updates, total_timesteps = AUTHORS[task]
    assert (found.gamma, found.n_step) == (gamma, n_step)
    assert found.span == (-span, span)
    assert found.target_noise == target_noise
    assert (found.noise_min, found.noise_max) == noise
    assert found.num_updates == num_updates
    assert found.num_envs == 1024
    assert found.total_steps == total_timesteps * found.num_envs
    assert (found.batch_size, found.tau, found.weight_decay) == (32_768, 0.1, 0.1)
    assert (found.noise_clip, found.policy_delay, found.num_atoms) == (0.5, 2, 101)
    assert found.replay_size == 10_240 * found.num_envs
    assert found.learning_starts == 10 * found.num_envs


@pytest.mark.parametrize("algorithm", registry.ALGORITHMS)
def test_every_setting_that_a_task_chooses_is_one_and_valid(algorithm):
    module = registry.config_module(algorithm)
    names = {field.name for field in fields(module.Config)}
    spec = BOX if "continuous" in cases_of(algorithm).ACTIONS else DISCRETE
    for task, settings in getattr(module, "TASKS", {}).items():
        assert settings.keys() <= names, task
        module.check(registry.reference_config(algorithm, spec, task))


def test_what_is_asked_for_counts_more(monkeypatch):
    monkeypatch.setattr(request, "make_spec", lambda task: BOX)
    asked = {"gamma": "0.9", "num_envs": "64"}
    found = resolve_config("fasttd3", Task.parse("playground/CheetahRun"), None, asked)
    assert (found.gamma, found.num_envs, found.n_step) == (0.9, 64, 3)


def test_the_command_that_repeats_a_run_leaves_the_tasks_own_settings_out():
    task = "playground/CheetahRun"
    runtime = SimpleNamespace(memory=None, mode="split", precision="float32", device="cpu")
    loop = SimpleNamespace(
        runtime=runtime, kind="fused", memory=None, spec=BOX, config=reference(task), ranks=ALONE
    )
    about = describe(TrainingRequest("fasttd3", "nnx", Task.parse(task)), loop)
    assert "--set" not in about["command"]
    assert about["config"]["gamma"] == 0.97


def test_what_the_task_has_chosen_is_said_as_far_as_it_holds():
    task = "playground/T1JoystickFlatTerrain"
    (said,) = task_notes("fasttd3", task, reference(task))
    assert said.endswith("gamma 0.97, total_steps 102400000")
    assert task_notes("fasttd3", task, Config(gamma=0.9, total_steps=1)) == []
    assert task_notes("fasttd3", "gymnax/Pendulum-v1", Config()) == []
    assert task_notes("ppo", task, CONFIG) == []


def test_it_is_among_the_first_lines_of_a_training(loop, monkeypatch, capsys):
    chosen = {"total_steps": CONFIG.total_steps}
    monkeypatch.setattr(registry, "task_settings", lambda algorithm, task: chosen)
    training.train("ppo", "linen", "gymnax/CartPole-v1", out="run", config=CONFIG)
    first = capsys.readouterr().err.splitlines()[0]
    assert f"as this task's reference has it: total_steps {CONFIG.total_steps}" in first


@pytest.mark.parametrize(
    ("engine", "wanted"),
    [
        ("playground", {"mujoco", "mujoco-mjx", "mujoco_playground"}),
        ("brax", {"mujoco", "mujoco-mjx", "brax"}),
        ("gymnax", {"gymnax"}),
    ],
)
def test_a_run_names_the_simulators_versions(monkeypatch, engine, wanted):
    monkeypatch.setattr(versions, "version", lambda package: "1.0")
    found = versions.run_versions("torch", engine)
    assert wanted <= found.keys()
    assert ("mujoco" in found) == ("mujoco" in wanted)
