"""Tables of documents that are made from the logs of trainings."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak.core.errors import UsageError
from tiebreak.core.text import duration
from tiebreak.report.formatting import DASH, si
from tiebreak.report.markdown import escape, table
from tiebreak.training import run_logs


class Training(NamedTuple):
    """A stored training: its settings, log, evaluations and result."""

    name: str
    config: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Mapping[str, Any]]
    result: Mapping[str, Any]

    @property
    def agent(self) -> str:
        """`SAC, nnx`."""
        return f"{self.config['algorithm'].upper()}, {self.config['framework']}"

    @property
    def returns(self) -> list[list[float]]:
        """Final greedy returns, a list for each agent of the run."""
        stored = self.result["returns"]
        return stored if isinstance(stored[0], list) else [stored]


def rate_of_log(log: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the steps per second of a log after everything has compiled; None if it ends before.

    The lines after the last that compiled or learnt for the first time. Logs of earlier versions
    do not say what compiled; there the rate of `result.json` is too low, and this one is not.
    """
    learning = [i for i, line in enumerate(log) if line["updates"]]
    last = max([learning[0], *(i for i, line in enumerate(log) if line.get("compiled"))])
    steps = log[-1]["steps"] - log[last]["steps"]
    return steps / (log[-1]["seconds"] - log[last]["seconds"]) if steps else None


def evaluations(results: Path, paths: Sequence[str], options: Mapping[str, str]) -> Iterator[str]:
    """Yield greedy mean returns at the `steps`, a row for each algorithm and framework.

    Seeds of one row are listed, `100, 171, 249`, or with `by=folder` are rows of their own.
    """
    steps = [int(float(text)) for text in options["steps"].split(",")]
    agents: dict[str, list[Training]] = {}
    for training in _trainings(results, paths):
        name = escape(training.name) if options.get("by") == "folder" else training.agent
        agents.setdefault(name, []).append(training)
    rows = []
    for agent, trainings in agents.items():
        seeds = ", ".join(str(training.config["seed"]) for training in trainings)
        entries = [", ".join(_return_at(t, step) for t in trainings) for step in steps]
        rows.append([agent, seeds, *entries])
    yield from table(["", "seeds", *(si(step) for step in steps)], rows)


def _return_at(training: Training, steps: int) -> str:
    """Return the mean return of the evaluation that is due at `steps`."""
    later = [line for line in training.evaluations if line["steps"] >= steps]
    return f"{later[0]['return_mean']:.0f}".replace("-", "−") if later else DASH


def returns(results: Path, paths: Sequence[str], options: Mapping[str, str]) -> Iterator[str]:
    """Yield the final greedy returns, a row for each algorithm and framework.

    Agents of a population count as trainings.
    """
    agents: dict[str, list[Training]] = {}
    for training in _trainings(results, paths):
        agents.setdefault(training.agent, []).append(training)
    rows = []
    for agent, trainings in agents.items():
        by_agent = [returns for training in trainings for returns in training.returns]
        episodes = [r for returns in by_agent for r in returns]
        mean = statistics.fmean(episodes)
        steps = {si(t.result["steps"]) for t in trainings}
        spread = f"{min(episodes):.1f} to {max(episodes):.1f}"
        numbers = [str(len(by_agent)), ", ".join(steps), str(len(episodes)), f"{mean:.1f}", spread]
        rows.append([agent, *(text.replace("-", "−") for text in numbers)])
    heads = ["", "trainings", "steps", "episodes", "mean return", "from, to"]
    yield from table(heads, rows, "lrrrrr")


def rates(results: Path, paths: Sequence[str], options: Mapping[str, str]) -> Iterator[str]:
    """Yield the speeds of trainings by their logs: a row for each."""
    rows = []
    for training in _trainings(results, paths):
        rate = rate_of_log(training.log)
        whole_s = training.log[-1]["seconds"]
        rows.append(
            [
                escape(training.name),
                training.agent,
                escape(training.config["task"]),
                si(training.log[-1]["steps"]),
                duration(whole_s),
                si(rate) if rate else DASH,
            ]
        )
    heads = ["folder", "", "task", "steps", "time, compilation included", "steps/s after it"]
    yield from table(heads, rows, "lllrrr")


def _trainings(results: Path, patterns: Sequence[str]) -> list[Training]:
    folders = [path for pattern in patterns for path in sorted(results.glob(pattern))]
    trainings = [_read(folder) for folder in folders if (folder / "result.json").is_file()]
    if not trainings:
        raise UsageError(f"no training below {results} fits {list(patterns)}")
    return trainings


def _read(folder: Path) -> Training:
    return Training(
        name=f"{folder.parent.name}/{folder.name}",
        config=run_logs.read_object(folder / run_logs.CONFIG),
        log=run_logs.read_lines(folder / run_logs.METRICS),
        evaluations=run_logs.read_lines(folder / run_logs.EVALUATIONS),
        result=run_logs.read_object(folder / run_logs.RESULT),
    )


KINDS = {"evaluations": evaluations, "returns": returns, "rates": rates}
