"""A task's name is parsed once, into a value that knows its engine, name and physics."""

from __future__ import annotations

import pytest

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.envs.task import Task


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("gymnax/CartPole-v1", ("gymnax", "CartPole-v1", "")),
        ("playground/CheetahRun@warp", ("playground", "CheetahRun", "warp")),
        ("brax/ant@", ("brax", "ant@", "")),
        ("gymnasium/my_module:Mine-v0", ("gymnasium", "my_module:Mine-v0", "")),
        ("gymnasium/mine/Nested-v0", ("gymnasium", "mine/Nested-v0", "")),
    ],
)
def test_a_task_reads_and_prints_as_it_is_written(text, parts):
    task = Task.parse(text)
    assert (task.engine, task.name, task.physics) == parts
    assert str(task) == text
    assert Task.parse(task) is task
    assert task.row is registry.ENGINES[task.engine]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CartPole-v1", "a task is written engine/name, e.g. gymnax/CartPole-v1; got 'CartPole"),
        ("gymnax/", "a task is written engine/name"),
        ("gymnx/CartPole-v1", "unknown engine 'gymnx'; did you mean 'gymnax'"),
    ],
)
def test_anything_else_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        Task.parse(text)
