"""`tiebreak train --seeds N`: one folder, a policy and a line of numbers for each agent."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from commands.test_cli_train import SMALL, TASK
from training.fakes import CONFIG, SPEC, FakeLoop

from tiebreak import cli
from tiebreak.algorithms.ppo.data import Metrics, initial_weights
from tiebreak.core.errors import UsageError
from tiebreak.envs.task import Task
from tiebreak.loops.base import Progress
from tiebreak.training import checkpoints, policy_files, session
from tiebreak.training.evaluate import evaluate
from tiebreak.training.metrics_log import JsonLinesFile
from tiebreak.training.population import PopulationSession, across_agents, by_settings
from tiebreak.training.request import TrainingRequest
from tiebreak.training.summaries import mean_over_agents, summarize, summarize_agents

TRAIN = ("train", "ppo", "--framework", "linen", "--task", TASK, "--out", "run", *SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["linen", "nnx"])
def test_a_small_population_trains_and_evaluates_in_one_folder(
    monkeypatch, tmp_path, capsys, framework
):
    monkeypatch.chdir(tmp_path)
    argv = ("train", "ppo", "--framework", framework, "--task", TASK, "--out", "run", *SMALL)
    more = ("--seeds", "3", "--seed", "7", "--eval-episodes", "2", "--eval-every", "128")
    assert cli.main([*argv, *more]) == 0
    told = capsys.readouterr().out
    assert told.startswith("3 agents, 256 steps each in ")
    assert "tiebreak evaluate run/policy-000.safetensors" in told
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == {
        "config.json", "metrics.jsonl", "eval.jsonl", "result.json",
        *(f"policy-00{i}.safetensors" for i in range(3)),
    }  # fmt: skip
    about, result = (json.loads((tmp_path / "run" / n).read_text())
                     for n in ("config.json", "result.json"))  # fmt: skip
    assert (about["seeds"], len(about["devices"])) == (3, 1)
    assert about["memory"]["total_bytes"] > 0
    assert about["command"].endswith("--seeds 3")
    assert (result["steps"], np.shape(result["returns"])) == (256, (3, 2))
    assert result["return_min"] <= result["return_iqm"] <= result["return_max"]
    for name in ("metrics.jsonl", "eval.jsonl"):
        lines = [json.loads(x) for x in (tmp_path / "run" / name).read_text().splitlines()]
        key = "loss" if name == "metrics.jsonl" else "returns"
        assert all(len(line[key]) == 3 for line in lines)
    one = evaluate("run/policy-002.safetensors", episodes=2)
    assert (one.seed, one.returns) == (9, result["returns"][2])
    assert cli.main(["evaluate", "run"]) == 2
    assert "the policies of 3 agents" in capsys.readouterr().err


def progress(seed, agents=3):
    rng = np.random.default_rng(seed)
    episodes = rng.integers(0, 2, agents).astype(np.float32)
    episodes[0] = 0
    metrics = Metrics(*rng.standard_normal((len(Metrics._fields), agents)))
    return Progress(metrics, episodes, 5 * episodes, 9 * episodes)


def test_every_agent_stands_in_the_log_as_in_its_own():
    parts = [progress(seed) for seed in range(4)]
    together = summarize_agents([parts[0]._replace(metrics=None), *parts])
    for i in range(3):
        own = [
            Progress(None if m is None else Metrics(*(x[i] for x in m)), *(x[i] for x in rest))
            for m, *rest in [parts[0]._replace(metrics=None), *parts]
        ]
        expected = summarize(own)
        assert {name: values[i] for name, values in together.items()} == pytest.approx(expected)
    assert together["mean_return"][0] is None


def test_numbers_that_are_none_are_null_one_by_one(tmp_path):
    log = JsonLinesFile(tmp_path / "metrics.jsonl", lines=0, size=0)
    log.write({"loss": [1.0, float("nan")], "steps": 3})
    log.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"loss": [1.0, None], "steps": 3}


def test_a_population_goes_on_while_one_agent_has_a_number():
    nan = float("nan")
    assert session.is_diverged([nan, nan])
    assert session.is_diverged(nan)
    assert not session.is_diverged([nan, 1.0])
    assert not session.is_diverged([None, None])
    assert not session.is_diverged(3)


def test_means_over_agents_leave_out_those_without_a_number():
    assert mean_over_agents([None, 2.0, 4.0]) == 3.0
    assert mean_over_agents([None]) is None
    assert mean_over_agents(None) is None
    assert mean_over_agents(2.5) == 2.5
    returns = [[0.0, 2.0], [2.0, 2.0], [3.0, 3.0], [100.0, 0.0]]
    assert across_agents(returns) == {"iqm": 2.5, "min": 1.0, "max": 50.0}


@pytest.mark.parametrize(("seed", "seeds"), [(0, 0), (0, -1), (2**31 - 2, 3)])
def test_seeds_that_are_none_are_refused(seed, seeds):
    with pytest.raises(UsageError, match="at least 1"):
        TrainingRequest("ppo", "linen", Task.parse(TASK), seed=seed, seeds=seeds).resolve()


@pytest.mark.slow
def test_a_sweep_ends_with_a_line_for_each_of_its_settings(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    sweep = ("--sweep", "learning_rate=1e-4,1e-2", "--sweep", "clip=0.1,0.2")
    assert cli.main([*TRAIN, *sweep, "--seeds", "2", "--eval-episodes", "2"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("8 agents, ")
    setting = re.compile(r"  learning_rate 0\.(0001|01), clip 0\.[12]: IQM ")
    assert len({match[0] for line in told if (match := setting.match(line))}) == 4
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    assert about["agents"][2] == {"seed": 0, "learning_rate": 1e-4, "clip": 0.2}
    assert "--seeds 2 --sweep learning_rate=0.0001,0.01 --sweep clip=0.1,0.2" in about["command"]
    policy = policy_files.load_policy(tmp_path / "run" / "policy-007.safetensors")
    assert (policy.config.learning_rate, policy.config.clip, policy.metadata["seed"]) == (
        1e-2,
        0.2,
        1,
    )
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert len(result["by_settings"]) == 4


def test_settings_are_told_apart_best_first():
    slow, fast = {"learning_rate": 1e-4}, {"learning_rate": 1e-3}
    found = by_settings([slow, slow, fast, fast], [[1.0], [3.0], [5.0], [9.0]])
    assert [own for own, _ in found] == [fast, slow]
    assert found[0][1] == {"iqm": 7.0, "min": 5.0, "max": 9.0}


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ("gamma", "--sweep takes key=value,value,…, got 'gamma'"),
        ("gamma=0.9,,1", "--sweep takes key=value,value,…"),
        ("gama=0.9", "unknown setting 'gama'; did you mean 'gamma'?"),
        ("hidden_sizes=(8,),(a,)", "hidden_sizes takes int, got '(a,)'"),
        ("gamma=0.9,1.5", "gamma is 1.5; it must be in [0, 1]"),
        ("gamma=0.9,much", "gamma takes float, got 'much'"),
        ("gamma=0.9 gamma=0.8", "--sweep names gamma twice; put its values into one: gamma=…,…"),
    ],
)
def test_sweeps_that_are_none_are_refused(monkeypatch, tmp_path, capsys, sweep, said):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*TRAIN, *(word for s in sweep.split() for word in ("--sweep", s))]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_loop_that_is_none_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*TRAIN, "--seeds", "2", "--loop", "fussed"]) == 2
    assert "unknown loop 'fussed'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_single_run_goes_on_in_a_populations_folder(tmp_path):
    (tmp_path / "config.json").write_text('{"config": {}, "seeds": 3}')
    with pytest.raises(UsageError, match="is of many agents, of which no checkpoints are stored"):
        checkpoints.require_run(tmp_path)


def test_what_an_interrupted_population_has_kept_can_be_evaluated(tmp_path):
    (tmp_path / "policy-000.safetensors").touch()
    population = SimpleNamespace(loop=FakeLoop(), seeds=(0, 1), settings=({}, {}))
    request = TrainingRequest("ppo", "linen", Task.parse(TASK), seeds=2, out=tmp_path)
    run = PopulationSession(request, population, {}, progress=False)
    said = run._end_interrupted()
    assert said.endswith(f"`tiebreak evaluate {tmp_path}/policy-000.safetensors`")


def test_a_folder_of_many_policies_names_one(tmp_path):
    arrays = initial_weights(SPEC, CONFIG, 0)
    for i in range(2):
        name = policy_files.AGENT_POLICY.format(i)
        policy_files.save_policy(tmp_path, arrays, "ppo", SPEC, CONFIG, name, task=TASK, seed=i)
    with pytest.raises(UsageError, match=r"policies of 2 agents.* e\.g\. .*policy-000"):
        policy_files.load_policy(tmp_path)
    policy = policy_files.load_policy(tmp_path / "policy-001.safetensors")
    assert policy.metadata["seed"] == 1
