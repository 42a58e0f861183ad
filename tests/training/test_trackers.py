"""A tracker that is one file and one row receives everything, in order."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from training import recorder
from training.fakes import CONFIG, SPEC, FakeLoop
from training.test_resume import EVERY, cut, evaluated  # noqa: F401 - a fixture
from training.test_training import ASKED, lines, train

from tiebreak.algorithms.ppo.data import Metrics, initial_weights
from tiebreak.envs.task import Task
from tiebreak.training import trackers
from tiebreak.training.checkpoints import Marks
from tiebreak.training.executors import EXECUTORS, LocalExecutor, start
from tiebreak.training.population import PopulationSession
from tiebreak.training.request import Intervals, TrainingRequest
from tiebreak.training.session import TrainingFailed


@pytest.fixture
def events(monkeypatch):
    """All that the recorder receives, beside the trackers of every run."""
    row = trackers.TrackerRow("training.recorder", always=True)
    monkeypatch.setitem(trackers.TRACKERS, "recorder", row)
    recorder.EVENTS.clear()
    return recorder.EVENTS


def kinds(events):
    return [kind for kind, _ in events if kind != "open"]


def of_kind(events, kind):
    return [value for name, value in events if name == kind]


def test_a_tracker_receives_all_that_is_logged_in_order(
    loop,
    evaluated,  # noqa: F811
    events,
    tmp_path,
):
    train(**EVERY)
    assert kinds(events)[0] == "start"
    assert of_kind(events, "open") == [None]
    assert of_kind(events, "start") == [("ppo", 0)]
    assert kinds(events)[-2:] == ["finish", "close"]
    assert of_kind(events, "finish") == ["ok"]

    logged = of_kind(events, "metrics")
    assert [line for _, line in logged] == lines(tmp_path / "run")
    steps = [value[0] for kind, value in events if kind in ("metrics", "evaluation")]
    assert steps == sorted(steps)
    evaluations = [json.loads(x) for x in (tmp_path / "run/eval.jsonl").read_text().splitlines()]
    expected = [(line["steps"], line["returns"]) for line in evaluations]
    assert of_kind(events, "evaluation") == expected
    assert len(expected) == 5


def test_a_resumed_run_starts_its_trackers_at_the_checkpoint(
    loop,
    evaluated,  # noqa: F811
    events,
    tmp_path,
):
    cut(loop, 800, **EVERY)
    assert of_kind(events, "finish") == ["failed"]
    events.clear()
    train(resume=True, **EVERY)
    assert of_kind(events, "start") == [("ppo", 608)]
    ((position, _),) = of_kind(events, "open")  # what `position` returned at the checkpoint
    assert position > 0
    steps = [step for step, _ in of_kind(events, "metrics")]
    assert steps[0] > 608
    assert steps == [line["steps"] for line in lines(tmp_path / "run") if line["steps"] > 608]
    assert kinds(events)[-2:] == ["finish", "close"]


def test_a_tracker_hears_of_a_run_that_fails(loop, events):
    loop.loss = float("nan")
    with pytest.raises(TrainingFailed):
        train()
    assert kinds(events) == ["start", "metrics", "finish", "close"]
    assert of_kind(events, "finish") == ["failed"]


def test_a_run_that_fails_keeps_what_a_tracker_has_written(events, monkeypatch, loop, tmp_path):
    def fail():
        (tmp_path / "run" / "recorder.txt").write_text("output of a tracker")
        raise ValueError("the environment is broken")

    own = {name: trackers.TRACKERS[name] for name in ("jsonl", "recorder")}
    monkeypatch.setattr(trackers, "TRACKERS", own)  # no other writes into the folder
    monkeypatch.setattr(loop, "run", fail)
    with pytest.raises(ValueError, match="the environment is broken"):
        train()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["recorder.txt"]


class ManyAgents(FakeLoop):
    """Two agents side by side: every number has an axis of agents."""

    agents = 2

    def __init__(self):
        super().__init__()
        weights = initial_weights(SPEC, self.config, 0)
        stacked = {name: np.stack([array, array]) for name, array in weights.items()}
        self.agent = SimpleNamespace(dump=lambda state: stacked)

    def run(self):
        progress = super().run()
        both = [np.array([value, value]) for value in progress[1:]]
        metrics = Metrics(*(np.array([value, 2 * value]) for value in progress.metrics))
        return type(progress)(metrics, *both)


def train_population(loop, folder, track=()):
    """Train the agents of a loop without evaluation."""
    population = SimpleNamespace(loop=loop, seeds=(0, 1), settings=({}, {}))
    request = TrainingRequest(
        "ppo",
        "linen",
        Task.parse(ASKED[2]),
        config=CONFIG,
        seeds=2,
        intervals=Intervals(eval_episodes=0, checkpoint_every=0),
        track=track,
        out=folder,
    )
    config = {"algorithm": "ppo", "config_hash": ""}
    PopulationSession(request, population, config, progress=False).run(Marks())


def test_of_a_population_a_tracker_receives_a_number_for_each_agent(events, tmp_path):
    train_population(ManyAgents(), tmp_path / "run")
    assert kinds(events)[0] == "start"
    assert kinds(events)[-2:] == ["finish", "close"]
    logged = of_kind(events, "metrics")
    assert [line for _, line in logged] == lines(tmp_path / "run")
    assert all(line["loss"] == [0.5, 1.0] for _, line in logged)
    assert sum(line["episodes"][1] for _, line in logged) == 62


def test_trackers_that_are_open_are_closed_where_a_later_one_fails(events, monkeypatch, loop):
    row = trackers.TrackerRow("training.no_such_tracker", always=True)
    monkeypatch.setitem(trackers.TRACKERS, "broken", row)
    with pytest.raises(ModuleNotFoundError):
        train()
    assert kinds(events) == ["close"]


def test_an_executor_that_is_one_row_is_given_the_resolved_request(loop, monkeypatch):
    received = []

    class Elsewhere(LocalExecutor):
        def train(self, request, *, progress=True):
            received.append(request)
            return super().train(request, progress=progress)

    monkeypatch.setitem(EXECUTORS, "elsewhere", Elsewhere)
    request = TrainingRequest("ppo", "linen", Task.parse(ASKED[2]), config=CONFIG, out="run")
    result = start(request, executor="elsewhere", progress=False)
    assert result.steps == 992
    (resolved,) = received
    assert (resolved.mode, resolved.loop) == ("jit", "fused")
