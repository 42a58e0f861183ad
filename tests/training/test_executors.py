"""What every launcher of agents promises: the same folder and numbers, and jobs that go on.

The agents are stubs. tests/training/test_executors_train.py trains, and kills at random.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from training.many_agents import asked, stored, train, words

from tiebreak import registry
from tiebreak.commands import train as command
from tiebreak.core.errors import MissingDependency, UsageError
from tiebreak.core.files import hold
from tiebreak.core.process_env import affinity
from tiebreak.training import agents, jobs, launchers
from tiebreak.training.launchers import parse_executor
from tiebreak.training.request import Intervals
from tiebreak.training.session import TrainingInterrupted

EXECUTORS = [
    "processes:2",
    pytest.param("submitit:2,cluster=local", marks=pytest.mark.slow(share=0.1)),
    pytest.param("ray:2", marks=pytest.mark.slow(share=0.05)),
]


@pytest.fixture
def executor(request):
    """An executor with what it needs; Ray has two nodes of one CPU each."""
    text = request.param
    if not text.startswith("ray"):
        pytest.importorskip("submitit") if "submitit" in text else None
        yield text
        return
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield f"{text},address={cluster.address}"
    cluster.shutdown()


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
def test_killed_jobs_go_on_and_the_folder_is_that_of_one_after_the_other(stub, tmp_path, executor):
    (tmp_path / "kill-6").write_text("2")
    (tmp_path / "fail-7").touch()
    result = train(executor=executor)
    assert result.returns == [[5.0, 7.0], [6.0, 8.0]]
    assert result.summary["failed"] == ["agent-002: the environment of seed 7 is broken"]
    assert "--resume" not in words(0)
    assert words(1)[-1] == "--resume"
    (tmp_path / "fail-7").unlink()
    train(executor=executor, resume=True)
    assert stored()["status"] == "ok"
    names = {path.name for path in Path("run").iterdir()} - {"submitit"}
    folders, before = dict(files(Path("run"))), stored()
    train(executor="local", out="one-by-one")
    assert names == {path.name for path in Path("one-by-one").iterdir()}
    assert folders == dict(files(Path("one-by-one")))
    for name in ("returns", "agents", "return_mean", "return_iqm"):
        assert before[name] == stored("../one-by-one/result.json")[name]


def files(run):
    """Yield name and contents of the results and policies of a run's agents."""
    for path in sorted(run.glob("agent-*/*")):
        if path.name in ("result.json", "policy.safetensors", "metrics.jsonl"):
            yield str(path.relative_to(run)), path.read_bytes()


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
def test_ctrl_c_ends_all_jobs_and_another_executor_goes_on(stub, tmp_path, executor):
    for seed in (6, 7):
        (tmp_path / f"wait-{seed}").touch()

    def interrupt():
        while not all((tmp_path / f"run/agent-00{i}/metrics.jsonl").exists() for i in (1, 2)):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(
        TrainingInterrupted, match=r"1 of 3 agents are trained; .*--resume$"
    ) as told:
        train(executor=executor)
    assert executor.partition(":")[0] in str(told.value) or "--jobs 2" in str(told.value)
    assert signal.getsignal(signal.SIGTERM) == before
    assert Path("run/agent-001/policy.safetensors").read_text() == "policy 6"
    for seed in (6, 7):
        (tmp_path / f"wait-{seed}").unlink()
    assert len(train(executor="local", resume=True).returns) == 3


def test_jobs_that_are_killed_again_and_again_without_a_checkpoint_fail(stub, tmp_path):
    (tmp_path / "kill-5").write_text("100")
    (tmp_path / "kill-6-stored").write_text(str(agents.MOST_LOST + 2))
    result = train(jobs=3)
    times = agents.MOST_LOST
    assert result.summary["failed"] == [
        f"agent-000: its job was killed {times} times in a row without a new checkpoint"
    ]
    assert result.returns == [[6.0, 8.0], [7.0, 9.0]]
    assert (tmp_path / "kill-5").read_text() == str(100 - times)


def test_a_remote_job_ends_its_training_with_its_manager_and_at_sigterm(stub, tmp_path):
    (tmp_path / "wait-5").touch()
    line = ("train", "--seed", "5", "--set", "total_steps=64")
    command = jobs.Command((*jobs.PROGRAM, *line), "agent-000", "log", str(tmp_path))
    gone = jobs.RemoteJob(command, manager=2**22 + 1)  # above the largest pid
    assert gone() in (130, -signal.SIGTERM)

    def end():
        while not Path("agent-000/metrics.jsonl").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    Path("agent-000/metrics.jsonl").unlink(missing_ok=True)
    threading.Thread(target=end).start()
    assert jobs.RemoteJob(command)() == 130


def test_a_remote_job_waits_for_its_folder_and_can_be_ended_meanwhile(stub, tmp_path):
    line = (*jobs.PROGRAM, "train", "--seed", "5", "--set", "total_steps=64")
    command = jobs.Command(line, "agent-000", "log", str(tmp_path))
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    with hold("agent-000", "training"):
        timer.start()
        assert jobs.RemoteJob(command)() == 128 + signal.SIGTERM
    assert list(Path("agent-000").iterdir()) == []
    with contextlib.ExitStack() as stack:
        stack.enter_context(hold("agent-000", "training"))
        threading.Timer(0.2, stack.close).start()
        assert jobs.RemoteJob(command)() == 0


def test_submitit_gets_a_job_that_goes_on_where_it_ended(stub, tmp_path):
    pytest.importorskip("submitit")
    command = jobs.Command(jobs.PROGRAM, "agent-000", "log", str(tmp_path))
    again = jobs.RemoteJob(command, manager=7).checkpoint()
    assert (again.function.command, again.function.manager) == (command, 7)


def test_executors_are_parsed_and_resolved(stub, monkeypatch):
    chosen = parse_executor("submitit:3,partition=gpu,timeout_min=240,exclusive=true")
    assert (chosen.name, chosen.jobs) == ("submitit", 3)
    assert chosen.options == {"partition": "gpu", "timeout_min": 240, "exclusive": True}
    address = parse_executor("ray:address=10.0.0.1:6379,num_cpus=2")
    assert (address.options["address"], address.cpus(8)) == ("10.0.0.1:6379", 2)
    assert asked(executor="ray").resolve().jobs == 3
    assert asked(executor="ray:2").resolve().jobs == 2
    assert asked(executor="ray", jobs=2).resolve().jobs == 2
    assert asked(executor="local").resolve().jobs == 1
    assert asked(executor="submitit:cluster=local").resolve().jobs <= len(affinity())
    assert asked(executor="submitit:cluster=slurm").resolve().jobs == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"executor": "rai"}, "unknown executor 'rai'; did you mean 'ray'"),
        ({"executor": "ray:adress=auto"}, "unknown option of executor ray 'adress'; did you mean"),
        ({"executor": "processes:cpus=2"}, "executor processes has no options, got 'cpus'"),
        (
            {"executor": "ray:auto"},
            "--executor takes NAME:N or NAME:OPTION=VALUE,…, got 'ray:auto'",
        ),
        ({"executor": "processes:0"}, "executor processes is 0; it must be at least 1"),
        ({"executor": "ray", "seeds": None}, "--executor is for many agents: add --seeds N"),
        ({"executor": "processes:2", "jobs": 3}, "--jobs 3 and --executor processes:2: give one"),
    ],
)
def test_wrong_executors_are_refused(stub, changes, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        asked(**changes).resolve()


def test_options_of_the_command_line_reach_the_request():
    line = "ppo --framework torch --task gymnasium/CartPole-v1 --sweep learning_rate=1e-4..1e-2"
    line += " --sampler tpe --trials 9 --prune --executor ray:address=auto"
    asked_for = command._request(command.parser().parse(line.split()))
    fields = ("seeds", "executor", "sampler", "trials", "prune", "sweep")
    sweep = {"learning_rate": ["1e-4..1e-2"]}
    expected = (1, "ray:address=auto", "tpe", 9, True, sweep)
    assert tuple(getattr(asked_for, name) for name in fields) == expected


@pytest.mark.parametrize("name", ["submitit", "ray"])
def test_a_missing_package_is_one_line_with_the_command_that_installs_it(stub, monkeypatch, name):
    monkeypatch.setattr(registry, "missing_packages", lambda packages: list(packages))
    with pytest.raises(MissingDependency, match=f"executor '{name}' needs {name}, .*pip install"):
        parse_executor(name)


def test_options_that_submitit_does_not_have_are_refused(stub):
    pytest.importorskip("submitit")
    said = "submitit refuses these options: .*no_such"
    with pytest.raises(UsageError, match=said):
        train(executor="submitit:cluster=local,no_such=1")
    with pytest.raises(UsageError, match="cluster is 'moon'; submitit has slurm and local"):
        train(executor="submitit:cluster=moon", out="other")


def test_a_run_of_one_program_stays_one_where_the_executor_is_local(stub):
    from tiebreak.envs.task import Task

    on_device = {"framework": "linen", "task": Task.parse("gymnax/CartPole-v1")}
    for changes, is_jobs in (
        ({}, False),
        ({"executor": "local"}, False),
        ({"executor": "ray"}, True),
    ):
        assert (asked(**on_device, **changes).resolve().jobs is not None) == is_jobs
    checkpoints = Intervals(checkpoint_every=100)
    resolved = asked(**on_device, executor="local", intervals=checkpoints).resolve()
    assert (resolved.jobs, resolved.executor) == (1, "local")
    assert set(launchers.LAUNCHERS) == {"processes", "submitit", "ray"}
