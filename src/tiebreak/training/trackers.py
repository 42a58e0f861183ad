"""Trackers: objects that receive what happens in a training run.

To add one, write a module with `make(run: TrackedRun) -> Tracker` and add its row to TRACKERS.
Every tracker hears of every event, in the order of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak import registry

TRACKERS = {
    "jsonl": "tiebreak.training.metrics_log",
    "display": "tiebreak.training.display",
}
"""Tracker -> the module whose `make` builds it."""


class TrackedRun(NamedTuple):
    """What trackers are built from."""

    folder: Path
    title: str
    """Algorithm, framework and task, for people."""
    total_steps: int
    """Environment steps of the whole run."""
    evaluates: bool
    """Whether the policy is evaluated during training."""
    positions: Mapping[str, tuple[int, int]]
    """`position()` of all trackers at the checkpoint that the run continues from."""
    show_progress: bool = True


class Tracker:
    """Receives a run's events; each method does nothing unless overridden.

    A run calls `start` once, then the others as things happen, `finish` when it has ended in any
    way, and `close`. A run that is resumed is a new tracker, whose `start` is told the step.
    """

    wants_stop = False
    """True ends training soon, before it has taken all its steps."""

    def start(self, config: Mapping[str, Any], step: int = 0) -> None:
        """Receive the contents of config.json, and the step that training starts from."""

    def log_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Receive one line of metrics; of a population, lists with a number for each agent."""

    def log_evaluation(self, step: int, evaluation: Mapping[str, Any]) -> None:
        """Receive greedy returns: `returns`, `return_mean`, `return_std`, `steps`, `updates`."""

    def log_note(self, text: str) -> None:
        """Receive a message for the user."""

    def log_status(self, text: str) -> None:
        """Receive what the run is doing now, e.g. `evaluating`."""

    def position(self) -> Mapping[str, tuple[int, int]]:
        """Make everything received durable, and return where the output ends.

        Stored with a checkpoint; a tracker that continues from it truncates its output there.
        """
        return {}

    def finish(self, result: Mapping[str, Any]) -> None:
        """Receive the contents of result.json: `status` is ok, interrupted or failed."""

    def close(self) -> None:
        """Release files and connections."""


class Trackers(Tracker):
    """Several trackers as one: passes every event on to each, in order."""

    def __init__(self, trackers: Sequence[Tracker]):
        self._trackers = tuple(trackers)

    @property
    def wants_stop(self) -> bool:  # type: ignore[override]
        return any(tracker.wants_stop for tracker in self._trackers)

    def start(self, config: Mapping[str, Any], step: int = 0) -> None:
        for tracker in self._trackers:
            tracker.start(config, step)

    def log_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        for tracker in self._trackers:
            tracker.log_metrics(step, metrics)

    def log_evaluation(self, step: int, evaluation: Mapping[str, Any]) -> None:
        for tracker in self._trackers:
            tracker.log_evaluation(step, evaluation)

    def log_note(self, text: str) -> None:
        for tracker in self._trackers:
            tracker.log_note(text)

    def log_status(self, text: str) -> None:
        for tracker in self._trackers:
            tracker.log_status(text)

    def position(self) -> Mapping[str, tuple[int, int]]:
        positions: dict[str, tuple[int, int]] = {}
        for tracker in self._trackers:
            positions |= tracker.position()
        return positions

    def finish(self, result: Mapping[str, Any]) -> None:
        for tracker in self._trackers:
            tracker.finish(result)

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.close()


class Callback(Tracker):
    """Passes metrics and evaluations to a user's function, which may end training."""

    def __init__(self, function: Callable[[int, Mapping[str, Any]], Any]):
        """Take `function(step, line)`: a line of metrics.jsonl or, with `returns`, of eval.jsonl.

        Training ends if it returns False.
        """
        self._function = function

    def log_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        self._call(step, metrics)

    def log_evaluation(self, step: int, evaluation: Mapping[str, Any]) -> None:
        self._call(step, evaluation)

    def _call(self, step: int, line: Mapping[str, Any]) -> None:
        answer = self._function(step, line)
        if answer is not None and not answer:
            self.wants_stop = True


def make_default_trackers(run: TrackedRun) -> Trackers:
    """Build the trackers of every run: one for each row of TRACKERS."""
    trackers: list[Tracker] = []
    try:
        for module in TRACKERS.values():
            trackers.append(registry.load(module).make(run))
    except BaseException:
        Trackers(trackers).close()
        raise
    return Trackers(trackers)
