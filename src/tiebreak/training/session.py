"""One training run: its loop, its folder, its trackers, and every way in which it can end."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from shlex import quote
from typing import Any, NoReturn

import numpy as np

from tiebreak.core import config as configs
from tiebreak.core.errors import UsageError
from tiebreak.core.files import DISK_ERRORS, describe_disk_error, write_json
from tiebreak.core.prefixes import Arrays
from tiebreak.core.ranks import ALONE, INTERRUPTED, Ranks
from tiebreak.core.text import nan_to_null, one_line
from tiebreak.frameworks.weights import Weights
from tiebreak.loops.base import make_loop
from tiebreak.loops.evaluate import Evaluator, describe_cut
from tiebreak.training import checkpoints, compile_ahead, initial_policy, policy_files
from tiebreak.training.checkpoints import Marks
from tiebreak.training.evaluate import evaluate
from tiebreak.training.request import TrainingRequest
from tiebreak.training.result import TrainResult
from tiebreak.training.run_config import budget_notes, describe, memory_notes, task_notes
from tiebreak.training.summaries import summarize
from tiebreak.training.trackers import TrackedRun, Trackers, make_trackers
from tiebreak.training.train_loop import Change, Interval, passes_multiple, run_intervals


class TrainingFailed(RuntimeError):
    """Training ran but cannot continue; the message says why and what is kept."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a run; the message says what is kept."""


def run_training(
    request: TrainingRequest, progress: bool = True, ranks: Ranks = ALONE
) -> TrainResult:
    """Train one agent as a resolved request says, from its checkpoint if it resumes.

    Of several ranks, each calls this; the result of rank 0 is that of all.
    """
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
        ranks=ranks,
    )
    session = Session if ranks.rank == 0 else Follower
    with contextlib.closing(loop):
        config = describe(request, loop)
        marks, notes = Marks(), []
        if request.resume:
            marks, notes, config = checkpoints.load(request.folder, loop, config)
        if request.init_from is not None and not marks.resumed:
            notes += initial_policy.put_into(
                loop, request.init_from, request.algorithm, request.seed
            )
        return session(request, loop, config, progress).run(marks, notes)


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
        self._cut = 0
        self._stopped_at: int | None = None
        self._policy_at = -1
        self._best: dict[str, Any] | None = None
        self._compiler = compile_ahead.Compiler()

    def run(self, marks: Marks, notes: Sequence[str] = ()) -> TrainResult:
        """Train from `marks` to the end, save the policy and evaluate it.

        `notes` are shown first. Raises TrainingFailed, TrainingInterrupted, UsageError where the
        folder cannot be written, and whatever the loop raises.
        """
        self.marks = marks
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
            if not marks.resumed:
                self._write_config()
            self.trackers = make_trackers(run, request.track, request.trackers)
            if marks.resumed:  # the logs are there, so that the run can go on
                self._write_config()
            (self.folder / policy_files.RESULT).unlink(missing_ok=True)
            self.trackers.start(self.config, self.loop.steps)
        except (OSError, UsageError) as error:
            if not request.resume:
                self._remove_files()
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"cannot write to {str(self.folder)!r}: {error.strerror}") from error
        if request.intervals.keep_best:
            self._best = policy_files.best_evaluation(self.folder)
        for note in (*self._first_notes(), *notes):
            self.trackers.log_note(note)

    def _write_config(self) -> None:
        write_json(self.folder / policy_files.CONFIG, self.config)

    def _first_notes(self) -> list[str]:
        """Return what the user is told before training begins."""
        request, config = self.request, self.loop.config
        return [
            *request.notes,
            *task_notes(request.algorithm, str(request.task), config),
            *budget_notes(config),
            *memory_notes(self.config),
            *self.trackers.abouts(),
        ]

    @property
    def _has_log(self) -> bool:
        """Whether a line of metrics is kept."""
        log = self.folder / "metrics.jsonl"
        return log.is_file() and log.stat().st_size > 0

    def _close(self) -> None:
        self._compiler.close()
        if self._evaluator is not None:
            self._evaluator.close()
        self.trackers.close()

    def _train(self) -> list[Any]:
        """Train, store policy and checkpoint, and return the greedy returns of the end."""
        with interruptible(lambda: self.trackers.log_status("stopping soon")) as stop:
            self._run_loop(stop)
            self._save()
        if stop.is_set():
            interrupt()

        self.trackers.log_status("evaluating")
        returns = self._final_returns()
        if self.marks.evaluated_at < self.loop.steps:
            self._log_evaluation(returns)
        return returns

    def _run_loop(self, stop: threading.Event) -> None:
        """Run the loop to its end, to `stop` or `stop_at`; log intervals, evaluate and store.

        Several ranks end together, between two intervals.
        """
        is_alone = self.loop.ranks.count == 1
        at_once = stop if is_alone else threading.Event()
        self._do_what_is_due(at_once)
        intervals = run_intervals(
            self.loop,
            self.total_steps,
            stop_every=(self._eval_every, self._checkpoint_every),
            stop=at_once,
            announce=self.trackers.log_status,
            change=self._start_compiler(),
            agree=lambda runs: runs if is_alone else self._agree(runs, stop),
        )
        while not (why := self._why_ended()) and (interval := next(intervals, None)):
            self._log_interval(interval)
            self._do_what_is_due(at_once)
        if why:
            self.loop.ranks.agree(0)
            self._stopped_at = self.loop.steps
            self.trackers.log_note(f"training ends at {self.loop.steps:,} steps: {why}")

        failures = np.sum(self.loop.failures or 0)
        if failures:
            self.trackers.log_note(
                f"the simulator failed {failures} times (NaN): new episodes began"
            )

    def _agree(self, runs: int, stop: threading.Event) -> int:
        """Return the runs of the next interval of all ranks; 0 where rank 0 ends training."""
        agreed = self.loop.ranks.agree(INTERRUPTED if stop.is_set() else runs)
        if agreed == INTERRUPTED:
            stop.set()
        return max(agreed, 0)

    def _start_compiler(self) -> Change:
        """Return where mode `auto` goes on compiled; a process compiles meanwhile."""
        request, loop = self.request, self.loop
        at = compile_ahead.compile_at(request.algorithm, loop)
        if loop.steps < at:
            self._compiler.start(
                request.task,
                compile_ahead.Job(
                    parent=os.getpid(),
                    algorithm=request.algorithm,
                    framework=request.framework,
                    task=str(request.task),
                    config=configs.to_dict(loop.config),
                    precision=request.precision,
                    device=request.device,
                    threads=request.threads,
                ),
            )
            self.trackers.log_note(
                f"begins in mode eager, and goes on compiled from {at:,} steps on (mode auto)"
            )
        return Change(at, self._compiler.wait)

    def _do_what_is_due(self, stop: threading.Event) -> None:
        """Evaluate and store a checkpoint where an interval was reached during training.

        The end of training has its own evaluation and checkpoint.
        """
        steps, marks = self.loop.steps, self.marks
        if steps >= self.total_steps or stop.is_set():
            return
        if passes_multiple(self._eval_every, marks.evaluated_at, steps):
            self._log_evaluation(self._returns_during_training())
        if passes_multiple(self._checkpoint_every, self.marks.saved_at, steps):
            self._save()

    def _why_ended(self) -> str:
        """Return why training ends before it has taken all its steps; "" if it does not."""
        stop_at, marks = self.request.intervals.stop_at, self.marks
        if self.loop.steps >= self.total_steps:
            return ""
        if self.trackers.wants_stop:
            return "a callback asked for it"
        if stop_at is None or marks.last_return is None or marks.evaluated_at < self.loop.steps:
            return ""
        is_reached = marks.last_return >= stop_at
        return f"greedy return {marks.last_return:.1f} reaches {stop_at:g}" if is_reached else ""

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

        diverged = [name for name, value in line.items() if is_diverged(value)]
        if diverged:
            name = diverged[0]
            has_policy = (self.folder / self.policy_file).exists()
            kept = "the log and the last policy are" if has_policy else "the log is"
            raise TrainingFailed(
                f"{name} is {np.ravel(line[name])[0]} after {line['steps']} steps "
                f"({line['updates']} updates); {kept} kept in {self.folder}; try a lower "
                "learning_rate"
            )

    def _returns_during_training(self) -> list[Any]:
        """Evaluate the current state on environments that are built once per run."""
        if self._evaluator is None:
            self._evaluator = self._make_evaluator()
        returns = self._evaluator.returns(self.loop.local_state)
        self._report_cut(self._evaluator.cut, np.size(returns), self._evaluator.limit)
        return returns

    def _report_cut(self, cut: int, episodes: int, limit: int) -> None:
        """Tell the user, once, if episodes of an evaluation were cut."""
        if cut and not self._cut:
            self.trackers.log_note(describe_cut(cut, episodes, limit))
        self._cut = cut

    def _make_evaluator(self) -> Any:
        request, loop = self.request, self.loop
        return Evaluator(
            algorithm=request.algorithm,
            runtime=loop.runtime,
            raw_agent=loop.raw_agent,
            config=loop.config,
            task=request.task,
            episodes=request.intervals.eval_episodes,
            seed=request.seed,
            processes=loop.config.env_processes,
            max_steps=request.intervals.eval_max_steps,
        )

    def _log_evaluation(self, returns: list[Any]) -> None:
        """Log greedy returns of the current policy, in runs that evaluate during training."""
        if not self._eval_every:
            return
        mean = float(np.mean(returns))
        self.marks.evaluated_at, self.marks.last_return = self.loop.steps, mean
        evaluation = {
            "steps": self.loop.steps,
            "updates": self.loop.updates,
            "return_mean": mean,
            "return_std": float(np.std(returns)),
            "returns": returns,
            "cut": self._cut,
        }
        self.trackers.log_evaluation(self.loop.steps, evaluation)
        if self.request.intervals.keep_best:
            self._keep_best(mean)

    def _keep_best(self, mean: float) -> None:
        """Store the current policy if no evaluation in this folder had a higher mean return."""
        if self._best is not None and mean <= self._best["return_mean"]:
            return
        weights = self.loop.agent.dump(self.loop.state)
        seed, config = self.request.seed, self.loop.config
        self._save_policy(policy_files.BEST_POLICY, weights, seed, config, return_mean=mean)
        self._best = policy_files.best_evaluation(self.folder)

    def _save(self) -> None:
        """Store the policy and, where they are wanted, a checkpoint."""
        self._save_policies()
        self._policy_at = self.loop.steps
        self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        """Store all that a new process needs to continue here, unless stored or not wanted."""
        if not self._checkpoint_every or self.marks.saved_at == self.loop.steps:
            return
        self.marks.saved_at = self.loop.steps
        self._store(self.loop.dump())

    def _store(self, arrays: Arrays) -> None:
        """Store the arrays of a loop's `dump` as the checkpoint of this moment."""
        self.marks = self.marks.with_positions(self.trackers.position())
        checkpoints.save(self.folder, arrays, self.config["config_hash"], self.marks)

    def _save_policies(self) -> None:
        weights = self.loop.agent.dump(self.loop.state)
        self._save_policy(self.policy_file, weights, self.request.seed, self.loop.config)

    def _save_policy(
        self, name: str, weights: Weights, seed: int, config: Any, **more: Any
    ) -> None:
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
            **more,
        )

    def _final_returns(self) -> list[Any]:
        """Evaluate the stored policy, as `tiebreak evaluate` does; [] without evaluation."""
        episodes = self.request.intervals.eval_episodes
        if not episodes:
            return []
        runtime = self.loop.runtime
        result = evaluate(
            self.folder,
            task=self.request.task,
            mode=runtime.mode,
            episodes=episodes,
            precision=runtime.precision,
            device=runtime.device,
            seed=self.request.seed,
            max_steps=self.request.intervals.eval_max_steps,
        )
        self._report_cut(result.cut, len(result.returns), result.max_steps)
        return result.returns

    def _end_complete(self, returns: list[Any]) -> TrainResult:
        """Write the result, and keep only the last checkpoint."""
        result = self._result(returns)
        stored = result.to_json()
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
            stopped_at=self._stopped_at,
            best=self._best,
            cut=self._cut,
            task=self.request.task,
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
            which = "so far" if self._policy_at == self.loop.steps else "of the last checkpoint"
            return f"{after}; the policy {which} is kept: {use}{resume}"
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
        return f"; go on with: {checkpoints.describe_resuming(self.config, self.folder)}"

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


class Follower(Session):
    """A rank other than 0 of a run: it computes the same, and leaves all records to rank 0."""

    def _open(self, notes: Sequence[str]) -> None:
        del notes

    def _why_ended(self) -> str:
        return ""  # rank 0 says so

    def _returns_during_training(self) -> list[Any]:
        return []

    def _log_evaluation(self, returns: list[Any]) -> None:
        del returns
        self.marks.evaluated_at = self.loop.steps

    def _save_policies(self) -> None:
        pass

    def _store(self, arrays: Arrays) -> None:
        del arrays

    def _final_returns(self) -> list[Any]:
        return []

    def _end_complete(self, returns: list[Any]) -> TrainResult:
        return self._result(returns)

    def _end_interrupted(self) -> str:
        return f"interrupted after {self.loop.steps} steps; rank 0 says what is kept"

    def _end(self, status: str, **details: Any) -> None:
        pass


def is_diverged(value: Any) -> bool:
    """Return whether a number of the log is NaN or infinite; of a population, every agent's."""
    values = value if isinstance(value, list) else [value]
    return all(isinstance(v, float) and not math.isfinite(v) for v in values)


def interrupt() -> NoReturn:
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
