"""`--track`: the numbers of the log, elsewhere too; and a user's own tracker, `callback=`."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hygiene import tree
from training import recorder
from training.test_resume import EVERY, cut, evaluated  # noqa: F401 - a fixture
from training.test_trackers import ManyAgents, train_population
from training.test_training import lines, train

from tiebreak import Tracker, UsageError, registry
from tiebreak.core.errors import MissingDependency
from tiebreak.training import track_mlflow, trackers
from tiebreak.training.dotenv_file import variables_of_file
from tiebreak.training.track_wandb import WandB

needs_tensorboard = pytest.mark.skipif(
    "tensorboardX" in registry.missing_packages(("tensorboardX",)), reason="no tensorboardX"
)


def events(folder):
    """Every scalar of the event files in a folder, as (tag, step) -> values in order."""
    from tensorboardX.proto.event_pb2 import Event

    scalars: dict[tuple[str, int], list[float]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):  # length, its checksum, the event, its checksum
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 12 + length + 4
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    scalars.setdefault((value.tag, event.step), []).append(value.simple_value)
    return scalars


def logged(folder, agent=None):
    """The same of metrics.jsonl and eval.jsonl, in the precision of event files."""
    scalars = {}
    for name, file in (("train", "metrics.jsonl"), ("eval", "eval.jsonl")):
        text = (folder / file).read_text() if (folder / file).exists() else ""
        for line in map(json.loads, text.splitlines()):
            for key, value in line.items():
                if agent is not None and isinstance(value, list):
                    value = value[agent]
                elif agent is not None:
                    continue
                if key not in ("steps", "returns") and value is not None:
                    scalars[f"{name}/{key}", line["steps"]] = [float(np.float32(value))]
    return scalars


@needs_tensorboard
def test_an_event_file_has_the_numbers_of_the_log(loop, evaluated, tmp_path):  # noqa: F811
    train(track="tensorboard", eval_every=200)
    expected = logged(tmp_path / "run")
    assert events(tmp_path / "run") == expected
    assert len({tag for tag, _ in expected}) == 18
    assert json.loads((tmp_path / "run/config.json").read_text())["command"].endswith(
        "--track tensorboard --set total_steps=1000 --set num_envs=2 --set num_steps=8"
    )


@needs_tensorboard
def test_a_run_that_goes_on_has_no_point_twice(loop, evaluated, tmp_path):  # noqa: F811
    cut(loop, 800, track="tensorboard", **EVERY)
    train(resume=True, track="tensorboard", **EVERY)
    assert events(tmp_path / "run") == logged(tmp_path / "run")
    assert len(list((tmp_path / "run").glob("events.*"))) == 2


@needs_tensorboard
def test_a_part_without_a_tracker_leaves_its_files_alone(loop, evaluated, tmp_path):  # noqa: F811
    cut(loop, 500, track="tensorboard", **EVERY)
    cut(loop, 800, resume=True, **EVERY)
    train(resume=True, track="tensorboard", **EVERY)
    assert logged(tmp_path / "run").items() >= events(tmp_path / "run").items()
    assert {step for _, step in events(tmp_path / "run")} >= {208, 992}


@needs_tensorboard
def test_of_a_population_every_agent_has_a_folder(tmp_path):
    train_population(ManyAgents(), tmp_path / "run", track=("tensorboard",))
    for agent in range(2):
        assert events(tmp_path / f"run/agent_00{agent}") == logged(tmp_path / "run", agent)


def test_a_wrong_name_and_a_missing_package_are_refused_in_words(loop, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"unknown tracker 'tensorbord'; did you mean 'tensorboa"):
        train(track="tensorbord")
    with pytest.raises(
        UsageError, match=r"'trackio' is not here: .* use one of tensorboard, wandb"
    ):
        train(track="wandb,trackio")
    monkeypatch.setattr(registry, "missing_packages", lambda packages: list(packages))
    row = trackers.TRACKERS["wandb"]
    with pytest.raises(MissingDependency, match=r"tracker 'wandb' needs .*pip install .*\[wandb\]"):
        registry.require_packages("tracker 'wandb'", row.packages, row.extra)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def optional(monkeypatch):
    """A tracker that can be asked for by the name `recorder`."""
    monkeypatch.setitem(
        trackers.TRACKERS, "recorder", trackers.TrackerRow("training.recorder", variables=("KEY",))
    )
    recorder.EVENTS.clear()
    return recorder.Recorder


def test_a_tracker_that_fails_is_one_line_and_training_goes_on(loop, optional, capsys, monkeypatch):
    def fail(self, step, metrics):
        raise ConnectionError("no route\nto the server")

    monkeypatch.setattr(optional, "log_metrics", fail)
    assert train(track=["recorder"], checkpoint_every=0, progress=True).steps == 992
    said = [line for line in capsys.readouterr().err.splitlines() if "recorder" in line]
    assert len(said) == 1
    assert said[0].endswith("recorder has failed and receives nothing more: no route to the server")


def test_a_tracker_that_cannot_start_is_refused_and_leaves_nothing(
    loop, optional, tmp_path, monkeypatch
):
    def fail(self, config, step=0):
        raise PermissionError("wrong key")

    monkeypatch.setattr(optional, "start", fail)
    with pytest.raises(UsageError, match="tracker 'recorder' cannot start: wrong key"):
        train(track=["recorder"])
    assert list(tmp_path.iterdir()) == []


def test_only_keys_of_the_trackers_in_use_are_read_from_dotenv(
    loop, optional, tmp_path, monkeypatch
):
    pytest.importorskip("dotenv")
    (tmp_path / ".env").write_text("# keys\nexport KEY='secret-1'\nPATH=nowhere\nOTHER=secret-2\n")
    seen = []
    monkeypatch.setattr(
        optional, "start", lambda *_: seen.append((os.environ["KEY"], os.environ.get("OTHER")))
    )
    train(track=["recorder"])
    assert seen == [("secret-1", None)]
    assert "KEY" not in os.environ
    texts = [p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert not any(b"secret" in text for text in texts)
    monkeypatch.setenv("KEY", "of the shell")
    with variables_of_file(["KEY"]):
        assert os.environ["KEY"] == "of the shell"


def test_dotenv_is_not_opened_where_no_tracker_needs_a_key_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_bytes(b"WANDB_API_KEY=\xff\xfe")
    with variables_of_file(()):
        pass


@pytest.mark.parametrize("names", [(), ("WANDB_API_KEY",)])
def test_python_dotenv_is_not_needed_without_such_a_file(tmp_path, monkeypatch, names):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "dotenv", None)
    with variables_of_file(names):
        pass


def test_every_name_in_dotenv_example_is_read_and_every_one_read_is_there():
    text = (tree.ROOT / ".env.example").read_text(encoding="utf-8")
    names = re.findall(r"^([A-Z_]+)=$", text, re.MULTILINE)
    assert sorted(names) == sorted(v for row in trackers.TRACKERS.values() for v in row.variables)


def test_a_function_hears_of_metrics_and_evaluations(loop, evaluated, tmp_path):  # noqa: F811
    heard = []
    train(callback=lambda step, metrics: heard.append((step, metrics)), eval_every=200)
    assert [line for _, line in heard if "loss" in line] == lines(tmp_path / "run")
    assert [step for step, line in heard if "return_mean" in line] == [208, 400, 608, 800, 992]


def test_an_object_with_some_methods_is_a_tracker(loop):
    ended = []
    train(callback=SimpleNamespace(finish=lambda result: ended.append(result["status"])))
    assert ended == ["ok"]
    with pytest.raises(UsageError, match=r"callback is 3; it must be a function"):
        train(out="other", callback=3)


def test_a_callback_ends_the_training_as_complete(loop, tmp_path):
    class Enough(Tracker):
        def log_metrics(self, step, metrics):
            if step >= 300:
                self.wants_stop = True

    result = train(callback=Enough())
    assert 300 <= result.steps < 992
    assert result.returns
    stored = json.loads((tmp_path / "run/result.json").read_text())
    assert (stored["status"], stored["stopped_at"]) == ("ok", result.steps)


def test_an_error_in_a_callback_is_the_user_s(loop, tmp_path):
    def callback(step, metrics):
        raise LookupError("a mistake")

    with pytest.raises(LookupError, match="a mistake"):
        train(callback=callback)
    assert json.loads((tmp_path / "run/result.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_without_a_network_tensorboard_and_wandb_have_the_run(tmp_path):
    """The command line in a network namespace of its own, in which there is no network."""
    for package in ("torch", "gymnasium", "tensorboardX", "wandb"):
        pytest.importorskip(package)
    if subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode:
        pytest.skip("unshare -n is not permitted here")
    words = "train ppo --framework torch --mode eager --task gymnasium/CartPole-v1 --out run"
    more = "--track tensorboard,wandb --eval-every 128 --eval-episodes 2 --set total_steps=256"
    more += " --set num_steps=16 --set hidden_sizes=(8,)"
    command = ["unshare", "-n", sys.executable, "-m", "tiebreak", *words.split(), *more.split()]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**clean, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert events(tmp_path / "run") == logged(tmp_path / "run")
    (offline,) = (tmp_path / "run/wandb").glob("offline-run-*")
    assert list(offline.glob("*.wandb"))
    assert "wandb sync run/wandb/offline-run-*" in done.stderr


@pytest.mark.slow
def test_mlflow_keeps_a_run_that_goes_on_without_a_point_twice(tmp_path):
    pytest.importorskip("sqlalchemy")
    mlflow = pytest.importorskip("mlflow.tracking")
    run = trackers.TrackedRun(tmp_path, "title", 100, evaluates=True, positions={})
    config = {"algorithm": "ppo", "config": {"num_envs": 2}}
    for first in (0, 32):  # the first process is killed behind its checkpoint at step 32
        tracker = track_mlflow.make(run)
        tracker.start(config, first)
        for step in (first + 16, first + 32, first + 48):
            tracker.log_metrics(step, {"steps": step, "loss": step / 2, "none": None})
        evaluation = {"steps": first + 32, "returns": [1.0], "return_mean": 1.0}
        tracker.log_evaluation(first + 32, evaluation)
    tracker.finish({"status": "ok"})
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (stored,) = client.search_runs([client.get_experiment_by_name("tiebreak").experiment_id])
    assert (stored.info.status, stored.data.params["num_envs"]) == ("FINISHED", "2")
    history = client.get_metric_history(stored.info.run_id, "train/loss")
    points = [(metric.step, metric.value) for metric in history]
    assert points == [(16, 8.0), (32, 16.0), (48, 24.0), (64, 32.0), (80, 40.0)]
    history = client.get_metric_history(stored.info.run_id, "eval/return_mean")
    assert [metric.step for metric in history] == [32, 64]


@pytest.mark.parametrize(
    ("variables", "mode"),
    [
        ({}, "offline"),
        ({"WANDB_API_KEY": "a"}, "online"),
        ({"WANDB_MODE": "disabled"}, "disabled"),
        ({"WANDB_MODE": "offline", "WANDB_API_KEY": "a"}, "offline"),
    ],
)
def test_wandb_is_online_where_there_is_a_key_unless_a_mode_is_named(
    tmp_path, monkeypatch, variables, mode
):
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.netrc
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tracker = WandB(trackers.TrackedRun(tmp_path, "title", 100, evaluates=False, positions={}))
    assert tracker._mode == mode
    assert ("wandb sync" in tracker.about) == (mode == "offline")


@pytest.mark.parametrize(
    ("goes_on", "history", "last"), [(True, [], -1), (True, [5, 3], 5), (False, [5, 3], -1)]
)
def test_mlflow_goes_on_behind_the_last_step_of_each_metric(tmp_path, goes_on, history, last):
    asked = []

    def get_metric_history(run_id, name):
        asked.append(name)
        return [SimpleNamespace(step=step) for step in history]

    tracker = track_mlflow.make(
        trackers.TrackedRun(tmp_path, "title", 100, evaluates=False, positions={})
    )
    tracker._goes_on = goes_on
    tracker._client = SimpleNamespace(get_metric_history=get_metric_history)
    assert [tracker._last_step("loss") for _ in range(2)] == [last, last]
    assert asked == ["loss"] * goes_on  # once
