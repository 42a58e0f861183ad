"""Trackers: objects that receive what happens in a training run.

To add one, write a module with `make(run: TrackedRun) -> Tracker` and add its row to TRACKERS.
Every tracker hears of every event, in the order of the rows; a user's own comes last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak import registry
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.text import one_line
from tiebreak.training.dotenv_file import variables_of_file


class TrackerRow(NamedTuple):
    """Facts about a tracker."""

    module: str
    """Where its `make` lies."""
    always: bool = False
    """True if every run has it; others are asked for by name (`--track`), and may fail without
    ending the run."""
    packages: tuple[str, ...] = ()
    """Importable names that must be installed."""
    extra: str = ""
    """The extra of this package that installs them."""
    variables: tuple[str, ...] = ()
    """Environment variables with its keys and addresses, which `.env` may hold."""


TRACKERS = {
    "jsonl": TrackerRow("tiebreak.training.metrics_log", always=True),
    "display": TrackerRow("tiebreak.training.display", always=True),
    "tensorboard": TrackerRow(
        "tiebreak.training.track_tensorboard", packages=("tensorboardX",), extra="tensorboard"
    ),
    "wandb": TrackerRow(
        "tiebreak.training.track_wandb",
        packages=("wandb", "dotenv"),
        extra="wandb",
        variables=(
            "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_MODE", "WANDB_PROJECT",
        ),
    ),
    "mlflow": TrackerRow(
        "tiebreak.training.track_mlflow",
        packages=("mlflow", "dotenv"),
        extra="mlflow",
        variables=(
            "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN",
            "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME",
        ),
    ),
}  # fmt: skip


NOT_HERE = {
    "trackio": "it needs a Pillow before 13, and constraints.txt has 13",
}
"""Trackers that somebody may ask for, and why they have no row."""


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

    @property
    def name(self) -> str:
        """Name of the folder; of an agent's in a run of many, with that run's before it."""
        folder = self.folder.resolve()
        is_agent = (folder.parent / "config.json").is_file()
        return f"{folder.parent.name}/{folder.name}" if is_agent else folder.name


class Tracker:
    """Receives a run's events; each method does nothing unless overridden.

    A run calls `start` once, then the others as things happen, `finish` when it has ended in any
    way, and `close`. A run that is resumed is a new tracker, whose `start` is told the step.
    """

    about = ""
    """A line for the user: where the output is, or how to see it."""
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


class Member(NamedTuple):
    """A tracker of a run."""

    name: str
    tracker: Tracker
    may_fail: bool = False
    """Whether the run goes on without it when it raises."""


class Trackers(Tracker):
    """Several trackers as one: passes every event on to each, in order."""

    def __init__(self, members: Iterable[Member] = (), stack: contextlib.ExitStack | None = None):
        """Take the trackers; `stack` is closed after them."""
        self._members = list(members)
        self._stack = stack or contextlib.ExitStack()

    @property
    def wants_stop(self) -> bool:  # type: ignore[override]
        return any(member.tracker.wants_stop for member in self._members)

    def abouts(self) -> list[str]:
        """Return the lines in which trackers tell the user where their output is."""
        return [member.tracker.about for member in self._members if member.tracker.about]

    def start(self, config: Mapping[str, Any], step: int = 0) -> None:
        """Start each; raise UsageError where one cannot start that was asked for by name."""
        for name, tracker, may_fail in self._members:
            with _refusal(name) if may_fail else contextlib.nullcontext():
                tracker.start(config, step)

    def log_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        self._tell(lambda tracker: tracker.log_metrics(step, metrics))

    def log_evaluation(self, step: int, evaluation: Mapping[str, Any]) -> None:
        self._tell(lambda tracker: tracker.log_evaluation(step, evaluation))

    def log_note(self, text: str) -> None:
        self._tell(lambda tracker: tracker.log_note(text))

    def log_status(self, text: str) -> None:
        self._tell(lambda tracker: tracker.log_status(text))

    def position(self) -> Mapping[str, tuple[int, int]]:
        positions: dict[str, tuple[int, int]] = {}
        self._tell(lambda tracker: positions.update(tracker.position()))
        return positions

    def finish(self, result: Mapping[str, Any]) -> None:
        self._tell(lambda tracker: tracker.finish(result))

    def close(self) -> None:
        with self._stack:
            self._tell(lambda tracker: tracker.close())

    def _tell(self, event: Callable[[Tracker], None]) -> None:
        """Call `event` with each tracker; leave out for good the optional ones that raise."""
        for member in list(self._members):
            try:
                event(member.tracker)
            except Exception as error:
                if not member.may_fail:
                    raise
                self._members.remove(member)
                with contextlib.suppress(Exception):
                    member.tracker.close()
                self.log_note(
                    f"{member.name} has failed and receives nothing more: {_reason(error)}"
                )


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


def require_trackers(asked: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names of trackers that are asked for, as a list or with commas between them.

    Imports nothing. Raises UsageError for unknown names, MissingDependency for missing packages.
    """
    names = asked.split(",") if isinstance(asked, str) else asked
    names = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    optional = [name for name, row in TRACKERS.items() if not row.always]
    for name in names:
        if name in NOT_HERE:
            raise UsageError(
                f"tracker {name!r} is not here: {NOT_HERE[name]}; use one of {', '.join(optional)} "
                f"or, where {name} is installed, callback= in Python (docs/training.md)"
            )
        if name not in optional:
            raise unknown("tracker", name, optional)
        row = TRACKERS[name]
        registry.require_packages(f"tracker {name!r}", row.packages, row.extra)
    return names


def make_trackers(
    run: TrackedRun, names: Collection[str] = (), own: Sequence[Tracker] = ()
) -> Trackers:
    """Build the trackers of every run and those of `names`; `own` are the user's and come last.

    Raises UsageError where one of `names` cannot be built.
    """
    members: list[Member] = []
    stack = contextlib.ExitStack()
    try:
        variables = [variable for name in names for variable in TRACKERS[name].variables]
        stack.enter_context(variables_of_file(variables))
        for name, row in TRACKERS.items():
            if not row.always and name not in names:
                continue
            with contextlib.nullcontext() if row.always else _refusal(name):
                tracker = registry.load(row.module).make(run)
            members.append(Member(name, tracker, may_fail=not row.always))
        members += [Member("callback", tracker) for tracker in own]
    except BaseException:
        Trackers(members, stack).close()
        raise
    return Trackers(members, stack)


EVENTS = (
    "start", "log_metrics", "log_evaluation", "log_note", "log_status", "position", "finish",
    "close",
)  # fmt: skip
"""Methods of a Tracker."""


def as_tracker(callback: Any) -> Tracker:
    """Return a tracker for a Tracker, an object with some of its methods, or a function.

    Raises UsageError for anything else.
    """
    if isinstance(callback, Tracker):
        return callback
    tracker = Tracker()
    methods = [name for name in EVENTS if callable(getattr(callback, name, None))]
    for name in methods:
        setattr(tracker, name, getattr(callback, name))
    if methods:
        return tracker
    if callable(callback):
        return Callback(callback)
    raise UsageError(
        f"callback is {one_line(callback)[:100]}; it must be a function of (step, line), a Tracker "
        f"or an object with some of its methods: {', '.join(EVENTS)}"
    )


@contextlib.contextmanager
def _refusal(name: str) -> Iterator[None]:
    """Raise what goes wrong inside as a UsageError that names the tracker."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"tracker {name!r} cannot start: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return one_line(error)[:300] or type(error).__name__
