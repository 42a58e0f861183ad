"""One training run: its loop, its folder, its trackers, and every way in which it can end."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple, NoReturn

import numpy as np

from tiebreak.core.errors import UsageError
from tiebreak.core.files import DISK_ERRORS, describe_disk_error, write_json
from tiebreak.core.text import nan_to_null, one_line
from tiebreak.frameworks.weights import Weights
from tiebreak.loops.base import make_loop
from tiebreak.loops.evaluate import Evaluator
from tiebreak.training import checkpoints, policy_files
from tiebreak.training.checkpoints import Marks
from tiebreak.training.evaluate import evaluate
from tiebreak.training.request import TrainingRequest
from tiebreak.training.run_config import describe, memory_notes, task_notes
from tiebreak.training.summaries import summarize
from tiebreak.training.trackers import TrackedRun, Trackers, make_default_trackers
from tiebreak.training.train_loop import Interval, passes_multiple, run_intervals


class TrainResult(NamedTuple):
    """A finished run."""

    out: Path
    """The run's folder."""
    returns: list[Any]
    """Greedy returns, one per evaluation episode; of a population, a list of them per agent."""
    steps: int
    """Environment steps, over all environments; of a population, of each agent."""
    updates: int
    """Gradient steps."""
    wall_s: float
    """Seconds of all training, compilation included, evaluations and checkpoints excluded."""
    first_s: float
    """Seconds of `wall_s` that `steps_per_s` leaves out: filling the replay, each process's first
    iteration of that and of learning, and every interval in which something compiled."""
    steps_per_s: float
    """Environment steps per second outside `first_s`; of everything if nothing else was left.
    Of a population, of all agents together."""
    summary: dict[str, Any]
    """Statistics of the final evaluation: return_mean and return_std; of a population return_iqm,
    …_min and …_max, too, and these by_settings where settings differ. Empty without evaluation."""
    agents: int = 1
    """Agents trained at once."""


class TrainingFailed(RuntimeError):
    """Training ran but cannot continue; the message says why and what is kept."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a run; the message says what is kept."""


def run_training(request: TrainingRequest, progress: bool = True) -> TrainResult:
    """Train one agent as a resolved request says, from its checkpoint if it resumes."""
    loop = make_loop(
        request.algorithm,
        request.framework,
        request.task,
        mode=request.mode,
        loop=request.loop,
        config=request.config,
        precision=request.precision,
        device=request.device,
        seed=request.seed,
    )
    with contextlib.closing(loop):
        config = describe(request, loop)
        marks, notes = Marks(), []
        if request.resume:
            marks, notes = checkpoints.load(request.folder, loop, config)
        return Session(request, loop, config, progress).run(marks, notes)


class Session:
    """One run of one agent under way; `run` takes it to its end.

    The run folder says how a run ended, whatever happens: `result.json` holds the status.
    """

    summarize = staticmethod(summarize)
    """Progress of some runs of the loop -> a line of metrics."""
    policy_file = policy_files.POLICY
    """File that exists once a policy is kept."""

    def __init__(
        self, request: TrainingRequest, loop: Any, config: Mapping[str, Any], progress: bool = True
    ):
        self.request, self.loop, self.config = request, loop, config
        self.folder = request.folder
        self.total_steps = loop.config.num_iterations * loop.config.iteration_steps
        self.marks = Marks()
        self.trackers = Trackers([])
        self._progress = progress
        self._eval_every = request.intervals.eval_every
        self._checkpoint_every = request.intervals.checkpoint_steps(self.total_steps)
        self._evaluator: Any = None
        self._has_log = False

    def run(self, marks: Marks, notes: Sequence[str] = ()) -> TrainResult:
        """Train from `marks` to the end, save the policy and evaluate it.

        `notes` are shown first. Raises TrainingFailed, TrainingInterrupted, UsageError where the
        folder cannot be written, and whatever the loop raises.
        """
        self.marks, self._has_log = marks, marks.metrics[0] > 0
        with contextlib.ExitStack() as stack:
            stack.callback(self._close)
            try:
                self._open(notes)
                return self._train_to_the_end()
            except KeyboardInterrupt as error:
                raise TrainingInterrupted(self._end_interrupted()) from error

    def _train_to_the_end(self) -> TrainResult:
        """Train and evaluate; record an error before it is passed on."""
        try:
            return self._end_complete(self._train())
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                self._end("failed", error=one_line(error))
                raise
            raise TrainingFailed(self._end_unwritable(error)) from error
        except Exception as error:
            self._end("failed", error=one_line(error))
            raise

    def _open(self, notes: Sequence[str]) -> None:
        """Make the folder and the trackers; resumed, truncate logs to the checkpoint's marks.

        The first file is `config.json`: a process that is killed leaves a folder that can be
        resumed, or nothing.
        """
        request, marks = self.request, self.marks
        run = TrackedRun(
            folder=self.folder,
            title=f"{request.algorithm} {request.framework} {request.task}",
            total_steps=self.total_steps,
            evaluates=bool(self._eval_every),
            positions=marks.positions(),
            show_progress=self._progress,
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not marks.resumed:  # else it says when the run began, and with which versions
                write_json(self.folder / policy_files.CONFIG, self.config)
            self.trackers = make_default_trackers(run)
            (self.folder / policy_files.RESULT).unlink(missing_ok=True)
        except OSError as error:
            if not request.resume:
                self._remove_files()
            raise UsageError(f"cannot write to {str(self.folder)!r}: {error.strerror}") from error
        self.trackers.start(self.config, self.loop.steps)
        of_task = task_notes(request.algorithm, str(request.task), self.loop.config)
        for note in (*of_task, *memory_notes(self.config), *notes):
            self.trackers.log_note(note)

    def _close(self) -> None:
        if self._evaluator is not None:
            self._evaluator.close()
        self.trackers.close()

    def _train(self) -> list[Any]:
        """Train, store policy and checkpoint, and return the greedy returns of the end."""
        with interruptible(lambda: self.trackers.log_status("stopping soon")) as stop:
            self._run_loop(stop)
            self._save_policies()
            self._save_checkpoint()
        if stop.is_set():
            _interrupt()

        self.trackers.log_status("evaluating")
        returns = self._final_returns()
        self._log_evaluation(returns)
        return returns

    def _run_loop(self, stop: threading.Event) -> None:
        """Run the loop to its end or until `stop`; log every interval, evaluate and store."""
        stop_every = (self._eval_every, self._checkpoint_every)
        self._do_what_is_due(stop)
        for interval in run_intervals(self.loop, self.total_steps, stop_every, stop):
            self._log_interval(interval)
            self._do_what_is_due(stop)

        failures = np.sum(self.loop.failures or 0)
        if failures:
            self.trackers.log_note(
                f"the simulator failed {failures} times (NaN): new episodes began"
            )

    def _do_what_is_due(self, stop: threading.Event) -> None:
        """Evaluate and store a checkpoint where an interval was reached during training.

        The end of training has its own evaluation and checkpoint.
        """
        steps, marks = self.loop.steps, self.marks
        if steps >= self.total_steps or stop.is_set():
            return
        if passes_multiple(self._eval_every, marks.evaluated_at, steps):
            self._log_evaluation(self._returns_during_training())
        if passes_multiple(self._checkpoint_every, marks.saved_at, steps):
            self._save_checkpoint()

    def _log_interval(self, interval: Interval) -> None:
        """Log one line of metrics; TrainingFailed where one of them is no number any more."""
        loop, marks = self.loop, self.marks
        marks.wall_s += interval.seconds
        if not interval.is_steady:
            marks.first_s += interval.seconds
            marks.first_steps += interval.steps

        line = {
            "steps": loop.steps,
            "updates": loop.updates,
            "seconds": marks.wall_s,
            "steps_per_s": loop.agents * interval.steps / interval.seconds,
            "compiled": interval.compiled,
            **self.summarize(interval.progress),
        }
        failures = loop.failures
        if failures is not None:
            line["failures"] = failures
        self.trackers.log_metrics(loop.steps, line)
        self._has_log = True

        diverged = [name for name, value in line.items() if is_diverged(value)]
        if diverged:
            name = diverged[0]
            raise TrainingFailed(
                f"{name} is {np.ravel(line[name])[0]} after {line['steps']} steps "
                f"({line['updates']} updates); the log is kept in {self.folder}; try a lower "
                "learning_rate"
            )

    def _returns_during_training(self) -> list[Any]:
        """Evaluate the current state on environments that are built once per run."""
        if self._evaluator is None:
            self._evaluator = self._make_evaluator()
        return self._evaluator.returns(self.loop.state)

    def _make_evaluator(self) -> Any:
        request, loop = self.request, self.loop
        return Evaluator(
            algorithm=request.algorithm,
            runtime=loop.runtime,
            raw_agent=loop.raw_agent,
            task=request.task,
            episodes=request.intervals.eval_episodes,
            seed=request.seed,
            processes=loop.config.env_processes,
        )

    def _log_evaluation(self, returns: list[Any]) -> None:
        """Log greedy returns of the current policy, in runs that evaluate during training."""
        if not self._eval_every:
            return
        self.marks.evaluated_at = self.loop.steps
        evaluation = {
            "steps": self.loop.steps,
            "updates": self.loop.updates,
            "return_mean": float(np.mean(returns)),
            "return_std": float(np.std(returns)),
            "returns": returns,
        }
        self.trackers.log_evaluation(self.loop.steps, evaluation)

    def _save_checkpoint(self) -> None:
        """Store all that a new process needs to continue here, unless stored or not wanted."""
        if not self._checkpoint_every or self.marks.saved_at == self.loop.steps:
            return
        self.marks.saved_at = self.loop.steps
        self.marks = self.marks.with_positions(self.trackers.position())
        checkpoints.save(self.folder, self.loop.dump(), self.config["config_hash"], self.marks)

    def _save_policies(self) -> None:
        weights = self.loop.agent.dump(self.loop.state)
        self._save_policy(self.policy_file, weights, self.request.seed, self.loop.config)

    def _save_policy(self, name: str, weights: Weights, seed: int, config: Any) -> None:
        policy_files.save_policy(
            self.folder,
            weights,
            self.request.algorithm,
            self.loop.spec,
            config,
            name,
            steps=self.loop.steps,
            task=str(self.request.task),
            framework=self.request.framework,
            mode=self.loop.runtime.mode,
            loop=self.loop.kind,
            seed=seed,
        )

    def _final_returns(self) -> list[Any]:
        """Evaluate the stored policy, as `tiebreak evaluate` does; [] without evaluation."""
        episodes = self.request.intervals.eval_episodes
        if not episodes:
            return []
        runtime = self.loop.runtime
        result = evaluate(
            self.folder,
            mode=runtime.mode,
            episodes=episodes,
            precision=runtime.precision,
            device=runtime.device,
            seed=self.request.seed,
        )
        return result.returns

    def _end_complete(self, returns: list[Any]) -> TrainResult:
        """Write the result, and keep only the last checkpoint."""
        result = self._result(returns)
        stored = result._asdict()
        del stored["out"], stored["summary"], stored["agents"]
        stored |= result.summary
        if self.marks.resumed:
            stored["resumed"] = self.marks.resumed
        self._end("ok", **stored)
        checkpoints.prune(self.folder, 1)
        return result

    def _result(self, returns: list[Any]) -> TrainResult:
        loop, marks = self.loop, self.marks
        steps, seconds = loop.steps - marks.first_steps, marks.wall_s - marks.first_s
        if steps <= 0:  # a run so short that all of it compiled or came first
            steps, seconds = loop.steps, marks.wall_s
        return TrainResult(
            out=self.folder,
            returns=returns,
            steps=loop.steps,
            updates=loop.updates,
            wall_s=marks.wall_s,
            first_s=marks.first_s,
            steps_per_s=loop.agents * steps / seconds,
            summary=self._summary(returns) if returns else {},
            agents=loop.agents,
        )

    def _summary(self, returns: list[Any]) -> dict[str, Any]:
        """Return statistics of the final evaluation; they are stored in `result.json`, too."""
        return {"return_mean": float(np.mean(returns)), "return_std": float(np.std(returns))}

    def _end_interrupted(self) -> str:
        """Record the interruption, and return what is kept.

        Nothing is saved here: a run that is cut in its middle has consumed its state.
        """
        policy = self.folder / self.policy_file
        has_policy = policy.exists()
        self._end("interrupted")

        after, resume = f"interrupted after {self.loop.steps} steps", self._how_to_resume()
        if has_policy:
            where = self.folder if self.policy_file == policy_files.POLICY else policy
            use = f"`tiebreak evaluate {quote(str(where))}`"
            return f"{after}; the policy so far is kept: {use}{resume}"
        if self._has_log:
            verb = "go on" if resume else "start again"
            return (
                f"{after}; the log is kept in {self.folder}, no policy; {verb} to get one{resume}"
            )
        return f"{after}; nothing is kept; start again with the same command"

    def _how_to_resume(self) -> str:
        """Return the command that goes on from the last checkpoint; "" if there is none."""
        if not checkpoints.exists(self.folder):
            return ""
        out = quote(str(self.folder))
        return f"; go on with: {self.config['command']} --out {out} --resume"

    def _end_unwritable(self, error: OSError) -> str:
        """Record, where that can still be written, that the disk is full; return what to do."""
        what = f"{describe_disk_error(error)} (after {self.loop.steps} steps)"
        self._end("failed", error=one_line(what))
        room = f"; make room in {str(self.folder)!r}"
        return what + room + (self._how_to_resume() or " and start again, in a new folder")

    def _end(self, status: str, **details: Any) -> None:
        """Record how the run ended; a run that has logged and saved nothing leaves no files."""
        result = {"status": status, **details}
        try:
            self.trackers.finish(result)
            if self._has_log or (self.folder / self.policy_file).exists():
                write_json(self.folder / policy_files.RESULT, nan_to_null(result))
                return
        except OSError:
            if status == "ok":
                raise
            return  # the disk is full: why the run ended is more useful to know
        self._remove_files()

    def _remove_files(self) -> None:
        for name in (policy_files.CONFIG, "metrics.jsonl", "eval.jsonl"):
            (self.folder / name).unlink(missing_ok=True)


def is_diverged(value: Any) -> bool:
    """Return whether a number of the log is NaN or infinite; of a population, every agent's."""
    values = value if isinstance(value, list) else [value]
    return all(isinstance(v, float) and not math.isfinite(v) for v in values)


def _interrupt() -> NoReturn:
    """Raise KeyboardInterrupt as Ctrl-C does: its handler is to know that cleaning up begins."""
    signal.raise_signal(signal.SIGINT)
    raise KeyboardInterrupt  # where Ctrl-C is ignored


@contextlib.contextmanager
def interruptible(notify: Callable[[], None]) -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, and call `notify`; the next one interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals belong to the main thread
        return
    previous = signal.getsignal(signal.SIGINT)

    def on_first(*_: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, previous)
        notify()

    signal.signal(signal.SIGINT, on_first)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)
