"""One training run under way: the loop, its folder, its log, and every way it can end."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_json
from tiebreak.training import checkpoints
from tiebreak.training.evaluate import evaluate
from tiebreak.training.trackers import Display, MetricsFile, summarize

LOG_EVERY_S = 1.0
"""Runs between two readings of the device are chosen so that they last about this long."""


class TrainResult(NamedTuple):
    """What a finished run tells."""

    out: Path
    """The run's folder."""
    returns: list[float]
    """Greedy returns, one per evaluation episode."""
    steps: int
    """Environment steps, over all environments."""
    updates: int
    """Gradient steps."""
    wall_s: float
    """Training from the first call on, compilation included, evaluation not."""
    first_s: float
    """The first run alone: compilation is in here."""
    steps_per_s: float
    """Environment steps per second after the first run; of everything if there was only one."""


class TrainingFailed(RuntimeError):
    """Training ran but cannot go on; the message says why and what is kept."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a run; the message says what is kept."""


class Session:
    """One run under way: its loop, its folder, its log."""

    def __init__(self, loop: Any, folder: Path, about: dict[str, Any], progress: bool):
        self.loop, self.folder, self.about = loop, folder, about
        self.fresh = not folder.exists()
        self.progress = progress
        self.total_steps = loop.config.num_iterations * loop.config.iteration_steps
        self.began_s = self.first_s = self.wall_s = 0.0
        self.first_steps = 0

    def complete(self) -> TrainResult:
        """Train, save, evaluate; whatever happens, the folder says how it ended."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "config.json", self.about)
            metrics = MetricsFile(self.folder / "metrics.jsonl")
        except OSError as error:
            raise UsageError(f"cannot write to {str(self.folder)!r}: {error.strerror}") from error
        name = f"{self.about['algorithm']} {self.about['framework']} {self.about['task']}"
        display = Display(name, self.total_steps, self.progress)
        try:
            with _interruptible(lambda: display.say(f"{name}: stopping after this run")) as stop:
                self._drive(metrics, display, stop)
                self._save()
            if stop.is_set():
                raise KeyboardInterrupt
            display.say(f"{name}: evaluating")
            returns = self._evaluate()
        except KeyboardInterrupt as error:
            raise TrainingInterrupted(self._interrupted(metrics.lines)) from error
        except Exception as error:
            self._end("failed", metrics.lines, error=" ".join(str(error).split()))
            raise
        finally:
            display.close()
            metrics.close()
        return self._finish(returns)

    def _drive(self, metrics: MetricsFile, display: Display, stop: threading.Event) -> None:
        """Run to the budget; the device is read once per interval of about LOG_EVERY_S."""
        runs, self.began_s = 1, time.perf_counter()
        while self.loop.steps < self.total_steps and not stop.is_set():
            before_s, before_steps = time.perf_counter(), self.loop.steps
            parts = [self._run()]
            while len(parts) < runs and self.loop.steps < self.total_steps and not stop.is_set():
                parts.append(self._run())
            parts = self.loop.runtime.to_numpy(tuple(parts))
            now_s = time.perf_counter()
            took_s, self.wall_s = now_s - before_s, now_s - self.began_s
            if not metrics.lines:
                self.first_s, self.first_steps = took_s, self.loop.steps
            line = {
                "steps": self.loop.steps,
                "updates": self.loop.updates,
                "seconds": self.wall_s,
                "steps_per_s": (self.loop.steps - before_steps) / took_s,
                **summarize(parts),
            }
            metrics.write(line)
            display.update(line)
            self._check_finite(line)
            # No more than doubled: the first run compiles, and says little about the next.
            runs = max(1, min(2 * runs, int(runs * LOG_EVERY_S / took_s)))

    def _run(self) -> Any:
        """One run of the loop, the last one shortened to the budget."""
        left = (self.total_steps - self.loop.steps) // self.loop.config.iteration_steps
        self.loop.iterations_per_run = min(self.loop.iterations_per_run, left)
        return self.loop.run()

    def _check_finite(self, line: dict[str, Any]) -> None:
        bad = [k for k, v in line.items() if isinstance(v, float) and not math.isfinite(v)]
        if bad:
            raise TrainingFailed(
                f"{bad[0]} is {line[bad[0]]} after {line['steps']} steps ({line['updates']} "
                f"updates); the log is kept in {self.folder}; try a lower learning_rate"
            )

    def _save(self) -> None:
        arrays = self.loop.agent.dump(self.loop.state)
        named = {k: self.about[k] for k in ("task", "framework", "mode", "loop", "seed")}
        checkpoints.save_policy(
            self.folder,
            arrays,
            self.about["algorithm"],
            self.loop.spec,
            self.loop.config,
            steps=self.loop.steps,
            **named,
        )

    def _evaluate(self) -> list[float]:
        episodes = self.about["eval_episodes"]
        if not episodes:
            return []
        about = self.about
        return evaluate(
            self.folder,
            mode=about["mode"],
            episodes=episodes,
            precision=about["precision"],
            device=about["device"],
            seed=about["seed"],
        ).returns

    def _interrupted(self, lines: int) -> str:
        """What is kept. Nothing is saved here: a run cut in its middle has consumed its state."""
        kept = (self.folder / checkpoints.POLICY).exists()
        self._end("interrupted", lines)
        after = f"interrupted after {self.loop.steps} steps"
        if kept:
            return f"{after}; the policy so far is kept: `tiebreak evaluate {self.folder}`"
        if lines:
            return f"{after}; the log is kept in {self.folder}, no policy; start again to get one"
        return f"{after}; nothing is kept; start again with the same command"

    def _end(self, status: str, lines: int, **more: Any) -> None:
        if lines or (self.folder / checkpoints.POLICY).exists():
            write_json(self.folder / "result.json", {"status": status, **more})
            return
        for name in ("config.json", "metrics.jsonl"):
            (self.folder / name).unlink(missing_ok=True)
        if self.fresh:
            self.folder.rmdir()

    def _finish(self, returns: list[float]) -> TrainResult:
        steps, wall_s = self.loop.steps - self.first_steps, self.wall_s - self.first_s
        if steps <= 0:
            steps, wall_s = self.loop.steps, self.wall_s
        result = TrainResult(
            self.folder,
            returns,
            self.loop.steps,
            self.loop.updates,
            self.wall_s,
            self.first_s,
            steps / wall_s,
        )
        stored = {k: v for k, v in result._asdict().items() if k != "out"}
        if returns:
            stored |= {"return_mean": float(np.mean(returns)), "return_std": float(np.std(returns))}
        write_json(self.folder / "result.json", {"status": "ok", **stored})
        return result


@contextlib.contextmanager
def _interruptible(notice: Callable[[], None]) -> Iterator[threading.Event]:
    """Within, the first Ctrl-C only sets the event; the next one interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals belong to the main thread
        return
    before = signal.getsignal(signal.SIGINT)

    def first(*_: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)
        notice()

    signal.signal(signal.SIGINT, first)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
