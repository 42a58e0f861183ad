"""docs/metrics.md names every field of a run's logs, and no other."""

from __future__ import annotations

import json
import re

from hygiene import tree
from training.test_resume import EVERY, evaluated  # noqa: F401 - a fixture
from training.test_training import lines, train

from tiebreak.algorithms.ppo.data import Metrics

OF_SIMULATORS = {"failures"}


def documented(file: str) -> set[str]:
    """Return the fields in the first column of the table below a heading."""
    text = (tree.ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    section = text.partition(f"## In every line of {file}\n")[2].partition("\n## ")[0]
    first = re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
    return {name for cell in first for name in re.findall(r"`(\w+)`", cell)}


def test_every_field_of_the_logs_is_documented(loop, evaluated, tmp_path):  # noqa: F811
    train(**EVERY)
    logged = set(lines(tmp_path / "run")[0]) - set(Metrics._fields)
    assert documented("metrics.jsonl") == logged | OF_SIMULATORS
    evaluation = (tmp_path / "run" / "eval.jsonl").read_text().splitlines()[0]
    assert documented("eval.jsonl") == set(json.loads(evaluation))
