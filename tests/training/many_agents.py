"""Trainings of many agents, with stubs for agents (agent_stub.py) in most tests."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from training.fakes import CONFIG

from tiebreak.envs.task import Task
from tiebreak.training.executors import start
from tiebreak.training.request import TrainingRequest

STUB = Path(__file__).with_name("agent_stub.py")


def asked(**changes):
    fields = {
        "algorithm": "ppo",
        "framework": "torch",
        "task": Task.parse("gymnasium/CartPole-v1"),
        "config": dataclasses.replace(CONFIG, total_steps=64),
        "seeds": 3,
        "seed": 5,
        "out": "run",
        **changes,
    }
    return TrainingRequest(**fields)


def train(**changes):
    return start(asked(**changes), progress=False)


def words(agent):
    return json.loads(Path(f"run/agent-00{agent}/config.json").read_text())["words"]


def stored(name="result.json"):
    return json.loads((Path("run") / name).read_text())
