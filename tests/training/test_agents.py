"""`--seeds` and `--sweep` where each agent is a job: folders, failures, Ctrl-C, resuming."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from training.many_agents import asked, stored, train, words

from tiebreak import Tracker, cli
from tiebreak.core.errors import UsageError
from tiebreak.envs.task import Task
from tiebreak.training import request
from tiebreak.training.request import Intervals
from tiebreak.training.session import TrainingFailed, TrainingInterrupted


def test_each_agent_has_a_folder_and_all_have_one_result(stub):
    result = train(jobs=2)
    assert (result.agents, result.steps) == (3, 64)
    assert result.returns == [[5.0, 7.0], [6.0, 8.0], [7.0, 9.0]]
    names = {path.name for path in Path("run").iterdir()}
    agents = range(3)
    assert names == {
        "config.json", "result.json", *(f"agent-00{i}" for i in agents),
        *(f"agent-00{i}.log" for i in agents), *(f"policy-00{i}.safetensors" for i in agents),
    }  # fmt: skip
    assert Path("run/policy-001.safetensors").read_text() == "policy 6"
    assert stored()["return_iqm"] == 7.0
    assert [agent["status"] for agent in stored()["agents"]] == ["ok"] * 3
    about = stored("config.json")
    assert about["agents"] == [{"seed": 5}, {"seed": 6}, {"seed": 7}]
    assert about["command"].endswith("--seeds 3 --jobs 2")


def test_an_agent_is_the_single_run_with_its_seed_and_settings(stub):
    train(
        seeds=2,
        sweep={"hidden_sizes": ["(8,)", "(16,16)"], "num_steps": ["4", "8"]},
        threads=2,
        jobs=2,
        intervals=Intervals(eval_episodes=3, eval_every=100),
    )
    agents = stored("config.json")["agents"]
    assert [(agent["seed"], agent["hidden_sizes"], agent["num_steps"]) for agent in agents] == [
        (seed, sizes, steps) for sizes in ([8], [16, 16]) for steps in (4, 8) for seed in (5, 6)
    ]
    line = " ".join(words(3))
    assert line.startswith("train ppo --framework torch --task gymnasium/CartPole-v1 --mode auto")
    for part in ("--seed 6", "--eval-episodes 3", "--eval-every 100", "--threads 2"):
        assert part in line
    assert "hidden_sizes=8," in line
    assert "num_steps" not in " ".join(words(1)).partition("num_envs")[0]
    table = stored()["by_settings"]
    assert [group["return_iqm"] for group in table] == sorted(
        (group["return_iqm"] for group in table), reverse=True
    )
    assert "--sweep 'hidden_sizes=[8],[16,16]'" in stored("config.json")["command"]


def test_an_agent_that_fails_does_not_end_the_others_and_is_tried_again(stub, tmp_path):
    (tmp_path / "fail-6").touch()
    result = train(jobs=1)
    assert len(result.returns) == 2
    assert result.summary["failed"] == ["agent-001: the environment of seed 6 is broken"]
    assert stored()["status"] == "failed"
    (tmp_path / "fail-6").unlink()
    before = (tmp_path / "run/agent-000/result.json").stat().st_mtime_ns
    result = train(jobs=1, resume=True)
    assert len(result.returns) == 3
    assert words(1)[-1] == "--resume"
    assert (tmp_path / "run/agent-000/result.json").stat().st_mtime_ns == before
    assert stored()["status"] == "ok"


def test_where_all_fail_the_first_error_is_told(stub, tmp_path):
    (tmp_path / "fail-5").touch()
    with pytest.raises(TrainingFailed, match="all 1 agents failed, agent-000: the environment of"):
        train(seeds=1)
    assert stored()["status"] == "failed"


def test_ctrl_c_ends_all_processes_and_resume_goes_on(stub, tmp_path):
    for seed in (6, 7):
        (tmp_path / f"wait-{seed}").touch()

    def interrupt():
        while not (tmp_path / "run/agent-002/metrics.jsonl").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(TrainingInterrupted, match=r"1 of 3 agents are trained; .*--resume$"):
        train(jobs=2)
    assert stored()["status"] == "interrupted"
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False)
    assert left.stdout.strip() == b""
    for seed in (6, 7):
        (tmp_path / f"wait-{seed}").unlink()
    assert len(train(resume=True).returns) == 3


def test_all_agents_go_on_with_more_steps(stub, tmp_path):
    def longer(steps):
        return dataclasses.replace(asked().config, total_steps=steps)

    (tmp_path / "fail-6").touch()
    train(jobs=1)
    (tmp_path / "fail-6").unlink()
    result = train(jobs=2, config=longer(128), resume=True)
    assert result.steps == 128
    assert len(result.returns) == 3
    assert stored("config.json")["config"]["total_steps"] == 128
    assert words(0)[-1] == "--resume"
    assert "total_steps=128" in stored("config.json")["command"]
    with pytest.raises(UsageError, match="has other settings"):
        train(config=longer(64), resume=True)
    with pytest.raises(UsageError, match=r"is complete, and goes on with: .* --seeds 3 .*N;"):
        train()


def test_what_cannot_be_resumed_is_refused(stub):
    with pytest.raises(UsageError, match=r"holds no run to resume"):
        train(resume=True)
    train(seeds=2)
    with pytest.raises(UsageError, match=r"has other settings; go on with: .*--seeds 2"):
        train(seeds=2, seed=1, resume=True)
    with pytest.raises(UsageError, match=r"is of many agents; go on with: .* --out run --resume"):
        train(seeds=None, resume=True)


@pytest.mark.parametrize(
    ("changes", "jobs"),
    [
        ({}, None),
        ({"sweep": {"learning_rate": [1e-3]}}, None),
        ({"sweep": {"num_steps": [4]}}, 2),
        ({"jobs": 3}, 3),
        ({"intervals": Intervals(checkpoint_every=100)}, 2),
        ({"mode": "eager"}, 2),
        ({"framework": "torch"}, 2),
        ({"task": Task.parse("gymnasium/CartPole-v1")}, 2),
        ({"framework": "torch", "device": "gpu"}, 1),
    ],
)
def test_agents_are_one_program_where_they_can_be(stub, monkeypatch, changes, jobs):
    monkeypatch.setattr(request, "affinity", lambda: [0, 1])
    on_device = {"framework": "linen", "task": Task.parse("gymnax/CartPole-v1")}
    assert asked(**{**on_device, **changes}).resolve().jobs == jobs


def test_processes_share_the_cpus_with_the_environments_processes(stub, monkeypatch):
    monkeypatch.setattr(request, "affinity", lambda: list(range(8)))
    resolved = asked(seeds=6, overrides={"env_processes": 2}).resolve()
    assert resolved.jobs == 4
    assert asked(seeds=2).resolve().jobs == 2


def test_wrong_numbers_are_refused(stub):
    for changes, said in (
        ({"jobs": 0}, "jobs is 0; it must be at least 1"),
        ({"seeds": None, "jobs": 2}, "--jobs is for many agents"),
        ({"seeds": 0}, "seeds is 0"),
        ({"sweep": {"num_step": [1]}}, "unknown setting 'num_step'; did you mean 'num_steps'"),
        ({"trackers": [Tracker()]}, r"cannot call a function of this program \(callback=, env=\)"),
    ):
        with pytest.raises(UsageError, match=said):
            asked(**changes).resolve()


@pytest.mark.slow
def test_two_seeds_in_torch_train_plot_and_evaluate(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("gymnasium")
    monkeypatch.chdir(tmp_path)
    command = "train ppo --framework torch --mode eager --task gymnasium/CartPole-v1 --seeds 2"
    command += " --set num_steps=16 --set total_steps=256 --set hidden_sizes=(8,)"
    command += " --eval-every 128 --eval-episodes 2 --out run"
    assert cli.main(command.split()) == 0
    said = capsys.readouterr().out
    assert said.startswith("2 agents, 256 steps each in ")
    assert "greedy returns " in said
    assert cli.main(["plot", "run", "--json"]) == 0
    lines = {row["line"]: row["seeds"] for row in json.loads(capsys.readouterr().out)}
    assert lines == {"ppo torch": 2}
    words = ["run/policy-001.safetensors", "--mode", "eager", "--episodes", "2", "--json"]
    assert cli.main(["evaluate", *words]) == 0
    assert json.loads(capsys.readouterr().out)["returns"] == stored()["returns"][1]
