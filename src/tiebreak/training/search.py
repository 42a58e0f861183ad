"""Search: settings that a sampler of Optuna draws, trial after trial, from ranges and choices.

The study is a journal in the run's folder, `optuna.jsonl`; config.json has the number of each trial
that was started. A search that was killed goes on with both.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tiebreak import registry
from tiebreak.core import config as configs
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.text import quoted

SAMPLERS = ("random", "tpe")
"""Drawn independently, or where trials before were best (Tree-structured Parzen Estimator)."""
JOURNAL = "optuna.jsonl"
STUDY = "tiebreak"
"""Name of the study in the journal, as Optuna's own tools show it."""
MOST_DRAWS = 100
"""Settings that are drawn for one trial until they go together."""


class Range(NamedTuple):
    """An interval of numbers."""

    low: float
    high: float
    is_log: bool

    def __str__(self) -> str:
        return f"{self.low}..{self.high}{':log' if self.is_log else ''}"


Space = Mapping[str, Range | list[Any]]
"""Setting -> its range, or its choices."""


def is_range(value: Any) -> bool:
    """Return whether a value of a sweep is the text of a range: `1e-4..1e-2`, `1..8:log`."""
    return isinstance(value, str) and ".." in value


def read_space(algorithm: str, config: Any, sweep: Mapping[str, Sequence[Any]]) -> Space:
    """Return the ranges and choices of a sweep, each value read as its setting's type.

    Raises UsageError for unknown settings, wrong values and empty ranges.
    """
    counts = configs.names_of(type(config), int)
    space: dict[str, Range | list[Any]] = {}
    for name, values in sweep.items():
        if any(is_range(value) for value in values):
            if len(values) > 1:
                raise UsageError(f"{name} takes one range or several values, got {quoted(values)}")
            space[name] = _read_range(config, name, values[0])
            if name not in (*counts, *configs.names_of(type(config), float)):
                raise UsageError(f"{name} is no number: name its values, {name}=V1,V2,…")
        else:
            space[name] = [getattr(configs.override(config, {name: v}), name) for v in values]
    return space


def _read_range(config: Any, name: str, text: str) -> Range:
    """Return the range of a setting that stands in a text."""
    ends, _, scale = text.partition(":")
    low, high = (
        getattr(configs.override(config, {name: end}), name) for end in ends.split("..", 1)
    )
    if scale not in ("", "log"):
        raise UsageError(f"{name} has the scale {scale!r}; a range is LOW..HIGH or LOW..HIGH:log")
    if isinstance(low, int | float) and not low < high:
        raise UsageError(f"{name} has the range {text}: its low end must be below its high end")
    if scale == "log" and low <= 0:
        raise UsageError(f"{name} has the range {text}: a logarithmic one begins above 0")
    return Range(low, high, scale == "log")


def check_search(
    sampler: str, trials: int | None, prune: bool, sweep: Mapping[str, Any], evaluates: bool
) -> None:
    """Raise UsageError for options that do not go together.

    Args:
        evaluates: Whether there are evaluations during training.
    """
    if not sampler:
        for name, is_set in (("trials", trials is not None), ("prune", prune)):
            if is_set:
                raise UsageError(f"--{name} needs --sampler random or --sampler tpe")
        for name, values in sweep.items():
            if any(is_range(value) for value in values):
                raise UsageError(
                    f"{name} has a range: add --sampler random (or tpe) and --trials N, or name "
                    f"values, {name}=V1,V2,…"
                )
        return
    if sampler not in SAMPLERS:
        raise unknown("sampler", sampler, SAMPLERS)
    registry.require_packages(f"--sampler {sampler}", ("optuna",), "optuna")
    if not sweep:
        raise UsageError("--sampler needs something to draw: add --sweep KEY=LOW..HIGH")
    if trials is None or trials < 1:
        raise UsageError(f"--sampler needs --trials N, at least 1; trials is {trials}")
    if prune and not evaluates:
        raise UsageError("--prune needs evaluations during training: add --eval-every STEPS")


class Search:
    """The trials of one run; one process at a time, which holds the run's folder."""

    def __init__(
        self, algorithm: str, config: Any, space: Space, sampler: str, seed: int, folder: Path
    ):
        """Open the study in a folder, or begin it."""
        self._algorithm, self._config, self._space = algorithm, config, space
        self._sampler, self._seed = sampler, seed
        self._study = _open_study(folder / JOURNAL)

    def ask(self, number: int) -> tuple[int, dict[str, Any]]:
        """Draw the settings of the run's trial `number`; return Optuna's number of it, and them.

        The random numbers are those of the seed and of this trial, so that a search that goes on
        draws what it would have drawn. Raises UsageError where no settings go together.
        """
        import optuna

        module = registry.config_module(self._algorithm)
        problem = ""
        for draw in range(MOST_DRAWS):
            self._study.sampler = self._make_sampler([self._seed, number, draw])
            trial = self._study.ask(self._distributions())
            settings = {name: self._value(name, trial.params[name]) for name in self._space}
            try:
                module.check(configs.override(self._config, settings))
            except UsageError as error:
                problem = str(error)
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            return trial.number, settings
        raise UsageError(f"no settings of {MOST_DRAWS} that were drawn go together: {problem}")

    def tell(self, trial: int, value: float | None) -> None:
        """End a trial with its mean return, or as failed; one that has ended stays as it is."""
        import optuna

        state = optuna.trial.TrialState
        is_number = value is not None and math.isfinite(value)
        if self.is_running(trial):
            self._study.tell(
                trial,
                value if is_number else None,
                state=state.COMPLETE if is_number else state.FAIL,
            )

    def report(self, trial: int, steps: Sequence[int], returns: Sequence[float]) -> None:
        """Report the evaluations of a trial that has not ended.

        Args:
            steps: Steps at which it was evaluated.
            returns: Its mean return at each of them.
        """
        live, known = self._live(trial)
        for step, value in zip(steps, returns, strict=True):
            if step not in known:
                live.report(value, step)

    def prune(self, trial: int) -> bool:
        """End a trial that is below the median of complete ones at its last evaluation.

        Returns whether it was ended.
        """
        import optuna

        if not self._live(trial)[0].should_prune():
            return False
        self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return True

    def _live(self, trial: int) -> tuple[Any, Mapping[int, float]]:
        """Return a trial that can be reported of, and what was reported."""
        import optuna

        frozen = self._study.get_trials(deepcopy=False)[trial]
        return optuna.trial.Trial(self._study, frozen._trial_id), frozen.intermediate_values

    def is_running(self, trial: int) -> bool:
        """Return whether a trial has not ended."""
        import optuna

        return self._state(trial) == optuna.trial.TrialState.RUNNING

    def is_pruned(self, trial: int) -> bool:
        """Return whether a trial was ended by `prune`."""
        import optuna

        return self._state(trial) == optuna.trial.TrialState.PRUNED

    def go_on(self, trials: Sequence[int]) -> None:
        """End trials as failed that were drawn, but not started before this process.

        Raises UsageError where `trials`, which were started, are not in the study.
        """
        import optuna

        if max(trials, default=-1) >= len(self._study.get_trials(deepcopy=False)):
            raise UsageError(f"{JOURNAL} lacks trials of this run's config.json: it was changed")
        for frozen in self._study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            if frozen.number not in trials:
                self._study.tell(frozen.number, state=optuna.trial.TrialState.FAIL)

    def _state(self, trial: int) -> Any:
        return self._study.get_trials(deepcopy=False)[trial].state

    def _make_sampler(self, seeds: Sequence[int]) -> Any:
        """Return a sampler with random numbers of its own."""
        from optuna.samplers import RandomSampler, TPESampler

        seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
        return TPESampler(seed=seed) if self._sampler == "tpe" else RandomSampler(seed=seed)

    def _distributions(self) -> dict[str, Any]:
        """Return what Optuna draws each setting from."""
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        found: dict[str, Any] = {}
        for name, values in self._space.items():
            if not isinstance(values, Range):
                found[name] = CategoricalDistribution([_as_choice(value) for value in values])
            elif isinstance(values.low, int):
                found[name] = IntDistribution(values.low, int(values.high), log=values.is_log)
            else:
                found[name] = FloatDistribution(values.low, values.high, log=values.is_log)
        return found

    def _value(self, name: str, drawn: Any) -> Any:
        """Return the setting's value for what Optuna has drawn."""
        values = self._space[name]
        if isinstance(values, Range):
            return drawn
        return next(value for value in values if _as_choice(value) == drawn)


def _as_choice(value: Any) -> Any:
    """Return a value as Optuna stores choices: numbers and texts as they are, lists as text."""
    return value if isinstance(value, bool | int | float | str) else str(list(value))


def _open_study(journal: Path) -> Any:
    """Return the study that is stored in a file, or a new one there."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    _cut_half_line(journal)
    backend: Any = JournalFileBackend(str(journal), lock_obj=NoLock())  # type: ignore[arg-type]
    with _quiet_optuna():
        try:
            storage = optuna.storages.JournalStorage(backend)
        except (KeyError, ValueError) as error:
            raise UsageError(f"cannot read {str(journal)!r}: {error!r}") from error
        return optuna.create_study(
            storage=storage,
            study_name=STUDY,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(),
            load_if_exists=True,
        )


class NoLock:
    """Locks nothing: the run's folder is locked, and nobody else writes.

    It stands for Optuna's lock of the journal.
    """

    def acquire(self) -> bool:
        """Return True: it is always free."""
        return True

    def release(self) -> None:
        """Do nothing."""


def _cut_half_line(journal: Path) -> None:
    """Cut off the line that a killed process or a full disk has left unfinished."""
    if not journal.is_file():
        return
    data = journal.read_bytes()
    if not data.endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Let Optuna print no more than warnings, until the block ends."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
