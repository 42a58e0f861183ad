"""A loop driven to its budget, with logging, evaluations and checkpoints on the way."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak.loops.evaluate import Evaluator
from tiebreak.training import checkpoints
from tiebreak.training.metrics_log import Display, MetricsFile, summarize
from tiebreak.training.options import Intervals

LOG_EVERY_S = 1.0
"""Runs between two readings of the device are chosen so that they last about this long."""


class TrainingFailed(RuntimeError):
    """Training ran but cannot go on; the message says why and what is kept."""


class Driver:
    """Runs a loop; stops at multiples of the intervals, at the end of the iteration they fall in.

    How it is cut into runs changes no number: neither do evaluations, which use environments of
    their own, nor checkpoints.
    """

    summarize = staticmethod(summarize)
    """What a line of the log says of the runs since the last one."""

    def __init__(
        self, loop: Any, folder: Path, about: dict[str, Any], intervals: Intervals,
        marks: checkpoints.Marks, display: Display,
    ):  # fmt: skip
        self.loop, self.folder, self.about, self.marks = loop, folder, about, marks
        self.total_steps = loop.config.num_iterations * loop.config.iteration_steps
        self._eval_every = intervals.eval_every
        self._checkpoint_every = intervals.checkpoint_steps(self.total_steps)
        self._chunk, self._display = loop.iterations_per_run, display
        self._evaluator: Any = None
        self.metrics = MetricsFile(folder / "metrics.jsonl", *marks.metrics)
        self._evaluations = None
        if self._eval_every:
            self._evaluations = MetricsFile(folder / "eval.jsonl", *marks.evaluations)

    def drive(self, stop: threading.Event) -> None:
        """Run to the budget, or until `stop`; the device is read about every LOG_EVERY_S."""
        runs, first = 1, True
        while self.loop.steps < self.total_steps and not stop.is_set():
            if _passed(self._eval_every, self.marks.evaluated_at, self.loop.steps):
                self._evaluate()
            if _passed(self._checkpoint_every, self.marks.saved_at, self.loop.steps):
                self.checkpoint()
            runs, first = self._interval(runs, first, stop), False
        if failed := np.sum(self.loop.failures or 0):
            self._display.note(f"the simulator failed {failed} times (NaN): new episodes began")

    def _interval(self, runs: int, first: bool, stop: threading.Event) -> int:
        """Up to `runs` runs and one line of the log -> how many to try next."""
        before_s, before_steps, until = time.perf_counter(), self.loop.steps, self._next_stop()
        parts = [self._run(until)]
        while len(parts) < runs and self.loop.steps < until and not stop.is_set():
            parts.append(self._run(until))
        read = self.loop.runtime.to_numpy(tuple(parts))
        took_s, steps = time.perf_counter() - before_s, self.loop.steps - before_steps
        self.marks.wall_s += took_s
        if first:
            self.marks.first_s += took_s
            self.marks.first_steps += steps
        self._log({"steps_per_s": self.loop.agents * steps / took_s, **self.summarize(read)})
        # No more than doubled: the first run compiles, and says little about the next.
        return max(1, min(2 * runs, int(len(parts) * LOG_EVERY_S / took_s)))

    def _run(self, until: int) -> Any:
        """One run of the loop, shortened to the iteration in which step `until` falls."""
        left = math.ceil((until - self.loop.steps) / self.loop.config.iteration_steps)
        self.loop.iterations_per_run = min(self._chunk, left)
        return self.loop.run()

    def _next_stop(self) -> int:
        every = [n for n in (self._eval_every, self._checkpoint_every) if n]
        return min([self.total_steps, *((self.loop.steps // n + 1) * n for n in every)])

    def _log(self, summary: dict[str, Any]) -> None:
        counts = {"steps": self.loop.steps, "updates": self.loop.updates}
        line = {**counts, "seconds": self.marks.wall_s, **summary}
        if (failures := self.loop.failures) is not None:
            line["failures"] = failures
        self.metrics.write(line)
        self._display.update(line)
        bad = [name for name, value in line.items() if _lost(value)]
        if bad:
            raise TrainingFailed(
                f"{bad[0]} is {np.ravel(line[bad[0]])[0]} after {line['steps']} steps "
                f"({line['updates']} updates); the log is kept in {self.folder}; try a lower "
                "learning_rate"
            )

    def _evaluate(self) -> None:
        if self._evaluator is None:
            about, loop = self.about, self.loop
            self._evaluator = Evaluator(
                about["algorithm"], loop.runtime, loop.raw_agent, about["task"],
                about["eval_episodes"], about["seed"], loop.config.env_processes,
            )  # fmt: skip
        self.evaluated(self._evaluator.returns(self.loop.state))

    def evaluated(self, returns: list[Any]) -> None:
        """Note greedy returns of the policy as it is now, where evaluations are kept."""
        if self._evaluations is None:
            return
        self.marks.evaluated_at = self.loop.steps
        line = {
            "steps": self.loop.steps,
            "updates": self.loop.updates,
            "return_mean": float(np.mean(returns)),
            "return_std": float(np.std(returns)),
            "returns": returns,
        }
        self._evaluations.write(line)
        self._display.evaluated(line)

    def checkpoint(self) -> None:
        """Store all that a new process needs to go on here, unless that is done or not wanted."""
        if not self._checkpoint_every or self.marks.saved_at == self.loop.steps:
            return
        self.marks.saved_at = self.loop.steps
        self.marks.metrics = self.metrics.mark()
        if self._evaluations:
            self.marks.evaluations = self._evaluations.mark()
        try:
            checkpoints.save(self.folder, self.loop.dump(), self.about["config_hash"], self.marks)
        except OSError as error:
            raise TrainingFailed(
                f"cannot write the checkpoint of step {self.loop.steps} to {self.folder}: "
                f"{error.strerror}; make room and go on with --resume, or use --checkpoint-every 0"
            ) from error

    def close(self) -> None:
        """Make sure that the logs are on the disk."""
        if self._evaluator:
            self._evaluator.close()
        for log in (self.metrics, self._evaluations):
            if log:
                log.close()


def _lost(value: Any) -> bool:
    """Whether a number of the log is none; of a population, whether it is none of any agent."""
    values = value if isinstance(value, list) else [value]
    return all(isinstance(v, float) and not math.isfinite(v) for v in values)


def _passed(every: int, last: int, steps: int) -> bool:
    """Whether a multiple of `every` lies in (last, steps]."""
    return bool(every) and steps // every > last // every
