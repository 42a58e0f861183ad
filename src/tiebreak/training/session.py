"""One training run under way: the loop, its folder, its log, and every way it can end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import numpy as np

from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_json
from tiebreak.frameworks.weights import Weights
from tiebreak.training import checkpoints, policy_files
from tiebreak.training.evaluate import evaluate
from tiebreak.training.metrics_log import Display
from tiebreak.training.options import Intervals, of_memory, of_task
from tiebreak.training.train_loop import Driver


class TrainResult(NamedTuple):
    """What a finished run tells."""

    out: Path
    """The run's folder."""
    returns: list[Any]
    """Greedy returns, one per evaluation episode; of a population, a list of them per agent."""
    steps: int
    """Environment steps, over all environments; of a population, of each agent."""
    updates: int
    """Gradient steps."""
    wall_s: float
    """All runs together, compilation included, evaluations and checkpoints not."""
    first_s: float
    """The first run alone, of each process where it was resumed: compilation is in here."""
    steps_per_s: float
    """Environment steps per second after the first run; of everything if there was only one.
    Of a population, of all agents together."""
    summary: dict[str, Any]
    """Of the final evaluation: return_mean and return_std; of a population return_iqm, …_min and
    …_max, too, and the same by_settings where they differ. Empty without an evaluation."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a run; the message says what is kept."""


class Session:
    """One run under way: its loop, its folder, its log."""

    policy = policy_files.POLICY
    """The file that is there once a policy is kept."""

    def __init__(
        self, loop: Any, folder: Path, about: dict[str, Any], intervals: Intervals, progress: bool
    ):
        self.loop, self.folder, self.about, self.intervals = loop, folder, about, intervals
        self.fresh, self.progress = not folder.exists(), progress

    def complete(self, marks: checkpoints.Marks, notes: Sequence[str]) -> TrainResult:
        """Train on from `marks`, save, evaluate; whatever happens, the folder says how it ended."""
        name = f"{self.about['algorithm']} {self.about['framework']} {self.about['task']}"
        total_steps = self.loop.config.num_iterations * self.loop.config.iteration_steps
        display = Display(name, total_steps, self.progress)
        with contextlib.closing(display):
            driver = self._open(marks, display)
            of_this = of_task(self.about["algorithm"], self.about["task"], self.loop.config)
            for note in (*of_this, *of_memory(self.about), *notes):
                display.note(note)
            with contextlib.closing(driver):
                returns = self._train(driver, display, name)
        return self._finish(driver.marks, returns)

    def _open(self, marks: checkpoints.Marks, display: Display) -> Driver:
        """Make the folder, or take back what a run that goes on has written since `marks`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            driver = self._driver(marks, display)
            if not marks.resumed:  # else it says when the run began, and with which versions
                write_json(self.folder / "config.json", self.about)
            (self.folder / "result.json").unlink(missing_ok=True)
            return driver
        except OSError as error:
            raise UsageError(f"cannot write to {str(self.folder)!r}: {error.strerror}") from error

    def _driver(self, marks: checkpoints.Marks, display: Display) -> Driver:
        return Driver(self.loop, self.folder, self.about, self.intervals, marks, display)

    def _train(self, driver: Driver, display: Display, name: str) -> list[Any]:
        try:
            with _interruptible(lambda: display.say(f"{name}: stopping after this run")) as stop:
                driver.drive(stop)
                self._save()
                driver.checkpoint()
            if stop.is_set():
                raise KeyboardInterrupt
            display.say(f"{name}: evaluating")
            returns = self._evaluate()
            driver.evaluated(returns)
            return returns
        except KeyboardInterrupt as error:
            raise TrainingInterrupted(self._interrupted(driver.metrics.lines)) from error
        except Exception as error:
            self._end("failed", driver.metrics.lines, error=" ".join(str(error).split()))
            raise

    def _save(self) -> None:
        weights = self.loop.agent.dump(self.loop.state)
        self._save_policy(self.policy, weights, self.about["seed"], self.loop.config)

    def _save_policy(self, name: str, arrays: Weights, seed: int, config: Any) -> None:
        about = self.about
        named = {k: about[k] for k in ("task", "framework", "mode", "loop")} | {"seed": seed}
        policy_files.save_policy(
            self.folder,
            arrays,
            about["algorithm"],
            self.loop.spec,
            config,
            name,
            steps=self.loop.steps,
            **named,
        )

    def _evaluate(self) -> list[Any]:
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
        policy = self.folder / self.policy
        kept = policy.exists()
        self._end("interrupted", lines)
        after, end = f"interrupted after {self.loop.steps} steps", ""
        if checkpoints.exists(self.folder):
            end = f"; go on with: {self.about['command']} --out {quote(str(self.folder))} --resume"
        if kept:
            where = self.folder if self.policy == policy_files.POLICY else policy
            return f"{after}; the policy so far is kept: `tiebreak evaluate {where}`{end}"
        if lines:
            what = "no policy; " + ("go on" if end else "start again") + " to get one"
            return f"{after}; the log is kept in {self.folder}, {what}{end}"
        return f"{after}; nothing is kept; start again with the same command"

    def _end(self, status: str, lines: int, **more: Any) -> None:
        if lines or (self.folder / self.policy).exists():
            write_json(self.folder / "result.json", {"status": status, **more})
            return
        for name in ("config.json", "metrics.jsonl", "eval.jsonl"):
            (self.folder / name).unlink(missing_ok=True)
        if self.fresh:
            self.folder.rmdir()

    def _finish(self, marks: checkpoints.Marks, returns: list[float]) -> TrainResult:
        steps, wall_s = self.loop.steps - marks.first_steps, marks.wall_s - marks.first_s
        if steps <= 0:
            steps, wall_s = self.loop.steps, marks.wall_s
        result = TrainResult(
            self.folder,
            returns,
            self.loop.steps,
            self.loop.updates,
            marks.wall_s,
            marks.first_s,
            self.loop.agents * steps / wall_s,
            self._summary(returns) if returns else {},
        )
        stored = {k: v for k, v in result._asdict().items() if k not in ("out", "summary")}
        stored |= result.summary
        if marks.resumed:
            stored["resumed"] = marks.resumed
        write_json(self.folder / "result.json", {"status": "ok", **stored})
        checkpoints.prune(self.folder, 1)
        return result

    def _summary(self, returns: list[Any]) -> dict[str, Any]:
        """What there is to say of the final evaluation, in `result.json`, too."""
        return {"return_mean": float(np.mean(returns)), "return_std": float(np.std(returns))}


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
