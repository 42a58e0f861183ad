"""`TrainResult.curves`: one agent, many in one program, and many in processes of their own."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tiebreak.core.errors import UsageError
from tiebreak.training.curves import read_curves


def write_logs(folder, returns, metrics, steps=(100, 200)):
    """Write a run's config.json, evaluations and metrics."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    lines = [{"steps": s, "returns": r} for s, r in zip(steps, returns, strict=True)]
    (folder / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    lines = [{"steps": s, "mean_return": r} for s, r in metrics.items()]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_one_agent_has_points_and_episodes(tmp_path):
    write_logs(tmp_path / "run", [[1, 3], [5, 7]], {64: None, 128: 2.0})
    greedy, exploring = read_curves(tmp_path / "run")
    assert greedy.steps.tolist() == [100, 200]
    assert greedy.returns.tolist() == [[1, 3], [5, 7]]
    np.testing.assert_array_equal(exploring.returns, [np.nan, 2.0])


def test_agents_in_processes_have_an_axis_and_nan_where_they_have_no_point(tmp_path):
    run = tmp_path / "run"
    write_logs(run / "agent-000", [[1, 3], [5, 7]], {64: 1.0, 128: 2.0})
    write_logs(run / "agent-001", [[2, 4]], {64: 3.0, 100: 4.0}, steps=(100,))
    greedy, exploring = read_curves(run)
    assert greedy.steps.tolist() == [100, 200]
    assert greedy.returns.shape == (2, 2, 2)  # points, agents, episodes
    np.testing.assert_array_equal(greedy.returns[0], [[1, 3], [2, 4]])
    np.testing.assert_array_equal(greedy.returns[1], [[5, 7], [np.nan, np.nan]])
    assert exploring.steps.tolist() == [64, 100, 128]
    np.testing.assert_array_equal(exploring.returns, [[1, 3], [np.nan, 4], [2, np.nan]])


def test_without_evaluations_there_are_no_points(tmp_path):
    for agent in ("agent-000", "agent-001"):
        write_logs(tmp_path / "run" / agent, [], {64: 1.0}, steps=())
    greedy, exploring = read_curves(tmp_path / "run")
    assert len(greedy.steps) == len(greedy.returns) == 0
    assert exploring.returns.tolist() == [[1.0, 1.0]]
    (tmp_path / "new").mkdir()
    assert read_curves(tmp_path / "new").greedy.returns.shape == (0, 0)


def test_a_line_that_is_none_is_named(tmp_path):
    (tmp_path / "eval.jsonl").write_text('{"steps": 1}\n')
    with pytest.raises(UsageError, match=r"cannot read '.*eval.jsonl': KeyError\('returns'\)"):
        read_curves(tmp_path)
