"""A training as it was asked for, checked and resolved before anything is built.

`TrainingRequest(...).resolve()` is the door of every training: behind it names are valid, packages
installed, the configuration complete and the folder chosen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak import registry
from tiebreak.core import config as configs
from tiebreak.core import networks
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.process_env import affinity
from tiebreak.core.types import EnvSpec
from tiebreak.envs.base import make_spec
from tiebreak.envs.task import Task
from tiebreak.frameworks.threads import threads_for
from tiebreak.loops.base import choose_kind
from tiebreak.training import checkpoints, initial_policy, policy_files
from tiebreak.training.launchers import LOCAL, Executor, parse_executor
from tiebreak.training.memory_needs import require_training
from tiebreak.training.search import check_search, read_space
from tiebreak.training.trackers import Tracker, require_trackers


class Intervals(NamedTuple):
    """Evaluations and checkpoints beside training, in environment steps."""

    eval_episodes: int = 16
    """Greedy episodes per evaluation, the final one included; 0: no evaluation."""
    eval_every: int = 0
    """Steps between evaluations during training; 0: only a final one."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; None: ten per training, 0: none."""
    eval_max_steps: int | None = None
    """Steps of one environment after which an episode of an evaluation is cut; None: only the
    task's own limit counts, and 10 000 where it has none."""
    keep_best: bool = False
    """Keep the policy of the best evaluation (mean of its returns) beside the last one."""
    stop_at: float | None = None
    """End training as soon as an evaluation's mean return reaches this; None: never."""

    def check(self) -> None:
        """Raise UsageError for wrong numbers, and for what needs evaluations that are not made."""
        for name in ("eval_episodes", "eval_every", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UsageError(f"{name} is {value}; it must be at least 0 (0: none)")
        check_max_steps("eval_max_steps", self.eval_max_steps)
        if self.eval_every and not self.eval_episodes:
            raise UsageError(f"eval_every is {self.eval_every}, but eval_episodes is 0")
        if self.stop_at is not None and not math.isfinite(self.stop_at):
            raise UsageError(f"stop_at is {self.stop_at}; it must be a finite return")
        for name, is_set in (("keep_best", self.keep_best), ("stop_at", self.stop_at is not None)):
            if is_set and not self.eval_every:
                raise UsageError(
                    f"{name} needs evaluations during training: add eval_every (--eval-every STEPS)"
                )

    def checkpoint_steps(self, total_steps: int) -> int:
        """Return the steps between checkpoints of a training of `total_steps`; 0: none."""
        if self.checkpoint_every is None:
            return -(-total_steps // 10)
        return self.checkpoint_every


def check_max_steps(name: str, value: int | None) -> None:
    """Raise UsageError for a limit of an episode's steps that is none."""
    if value is not None and not 1 <= value < 2**31:
        raise UsageError(f"{name} is {value}; it must be in 1 to {2**31 - 1}")


@dataclasses.dataclass(frozen=True)
class TrainingRequest:
    """One training, or one of a whole population of agents.

    It is plain data, which another process can be sent, but for `trackers` and a task's function.
    """

    algorithm: str
    framework: str
    task: Task
    mode: str | None = None
    """None: what trains soonest: the framework's default mode, or `auto` (compile_ahead.py)."""
    loop: str | None = None
    """`host` or `fused`; None: `fused` where possible."""
    config: Any = None
    """The algorithm's Config; None: the reference for the task."""
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Settings to change in `config` (strings are parsed); empty once resolved."""
    seed: int = 0
    """Seed of the (first) agent."""
    seeds: int | None = None
    """Number of seeds, `seed` and up, trained as a population; None: one agent."""
    jobs: int | None = None
    """Jobs at once, where each agent of a population is one (launchers.py); None: as many as the
    CPUs allow, or one program where that is possible. Set by `resolve` for agents that are jobs."""
    executor: str = ""
    """Who trains the agents of a population: `local`, or a launcher with its options, as in
    `processes:4` or `submitit:partition=gpu`; "": one program where possible, else processes. Set
    by `resolve` for agents that are jobs."""
    sweep: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    """Setting -> values; the population has `seeds` agents for every combination. With a `sampler`
    the one value may be a range, `1e-4..1e-2:log`."""
    sampler: str = ""
    """Sampler of `trials` combinations out of `sweep` (search.py); "": all combinations."""
    trials: int | None = None
    """Combinations that the sampler draws."""
    prune: bool = False
    """End a trial that is below the median of the others at the same number of steps."""
    variants: Sequence[Mapping[str, Any]] = ({},)
    """Settings of each combination of `sweep`, the last name changing fastest; set by `resolve`."""
    precision: str = "float32"
    device: str = "cpu"
    threads: int | None = None
    """Threads of the framework's library, set for the whole process; 0: as many as are fastest,
    see frameworks/threads.py; None: as they are."""
    intervals: Intervals = dataclasses.field(default_factory=Intervals)
    out: str | Path | None = None
    """Folder of the run; None: a new one under `runs/`."""
    distributed: str | None = None
    """Where the other processes are that train this agent, too: `auto`, as the launcher's variables
    say, or HOST:PORT,RANK,COUNT; None: this process trains alone."""
    resume: bool = False
    """Continue the run in `out`, with the same settings; `total_steps` may be larger."""
    init_from: str | Path | None = None
    """Run, or policy file, whose weights the agent begins with; None: with new ones."""
    track: str | Sequence[str] = ()
    """Trackers beside the log and the display, by name (training/trackers.py)."""
    trackers: Sequence[Tracker] = ()
    """A user's own trackers, beside all of these; of this process only."""
    notes: Sequence[str] = ()
    """What the user is told about the request; set by `resolve`."""
    has_default_folder: bool = False
    """True if `resolve` chose `out`: where it is taken, the run gets the next number."""

    @property
    def combinations(self) -> int:
        """Combinations of settings, each of which `seeds` agents have."""
        return self.trials or math.prod(len(values) for values in self.sweep.values())

    @property
    def folder(self) -> Path:
        """The folder of a resolved request."""
        assert self.out is not None, "the request is not resolved"
        return Path(self.out)

    def resolve(self) -> TrainingRequest:
        """Check everything that can be known before the loop is built, and fill in defaults.

        Makes an environment, only to read its spec. Raises UsageError, MissingDependency.
        """
        return _without_aliases(self)._resolve()

    def _resolve(self) -> TrainingRequest:
        loop, intervals = self.loop, self.intervals
        executor = _choose_executor(self)
        if self.seeds is not None and executor is None:
            loop = loop or "fused"
            intervals = intervals._replace(checkpoint_every=0)

        mode = check_settings(
            self.algorithm,
            self.framework,
            self.task,
            mode=self.mode,
            loop=loop,
            precision=self.precision,
            seed=self.seed,
        )
        _check_numbers(self)
        folder = _choose_folder(self)

        spec = make_spec(self.task)
        config = resolve_config(self.algorithm, self.task, self.config, self.overrides, spec)
        jobs = None if executor is None else _choose_jobs(self, config, executor)
        kind = choose_kind(self.framework, self.task, loop, mode)
        _check_config(self, folder, spec, config, _agents_here(self, executor, jobs))
        return dataclasses.replace(
            self,
            mode=mode,
            loop=kind,
            config=config,
            overrides={},
            variants=self._choose_variants(config),
            jobs=jobs,
            executor="" if executor is None else self.executor or executor.name,
            intervals=intervals,
            threads=self._choose_threads(kind, config, executor, jobs),
            track=require_trackers(self.track),
            out=folder,
            init_from=None if self.init_from is None else str(Path(self.init_from).resolve()),
            has_default_folder=self.out is None,
        )

    @contextlib.contextmanager
    def hold_folder(self) -> Iterator[TrainingRequest]:
        """Make and lock the folder of a resolved request; yield the request with that folder.

        Raises UsageError if it is in use or cannot be made.
        """
        holding = policy_files.hold_folder(self.folder, self.has_default_folder, self.resume)
        with holding as folder:
            yield dataclasses.replace(self, out=folder)

    def _choose_variants(self, config: Any) -> list[dict[str, Any]]:
        """Return every combination of the sweep; [{}] where a sampler will draw them."""
        if not self.sampler:
            return resolve_variants(self.algorithm, config, self.sweep)
        read_space(self.algorithm, config, self.sweep)
        return [{}]

    def _choose_threads(
        self, loop: str, config: Any, executor: Executor | None, jobs: int | None
    ) -> int | None:
        """Return the threads of each process; without an executor it trains all agents at once."""
        if self.threads != 0:
            return self.threads
        return threads_for(
            registry.library(self.framework, self.mode),
            self.device,
            self.task.row,
            loop,
            config,
            cpus=len(affinity()) if not executor else executor.cpus(jobs or 1),
            agents=1 if jobs else (self.seeds or 1) * self.combinations,
        )


def check_settings(
    algorithm: str,
    framework: str,
    task: Task,
    *,
    mode: str | None = None,
    loop: str | None = None,
    precision: str = "float32",
    seed: int = 0,
) -> str:
    """Check names, seed, precision and installed packages without importing anything.

    Returns the mode, resolved. Raises UsageError or MissingDependency.
    """
    registry.require_implementation(algorithm, framework)
    mode = registry.training_mode(framework, mode)
    choose_kind(framework, task, loop, mode)
    if not 0 <= seed < 2**31:
        raise UsageError(f"seed is {seed}; it must be in 0 to {2**31 - 1}")
    if precision not in registry.PRECISIONS:
        raise unknown("precision", precision, registry.PRECISIONS)
    registry.require_framework(framework, mode)
    registry.require_packages(f"engine {task.engine!r}", task.row.packages, task.row.extra)
    return mode


def _check_numbers(request: TrainingRequest) -> None:
    """Refuse wrong threads, intervals and settings before an environment is made."""
    request.intervals.check()
    if request.threads is not None and request.threads < 0:
        raise UsageError(f"threads is {request.threads}; it must be at least 1, or 0: the fastest")
    if request.overrides:
        configs.override(registry.config_module(request.algorithm).Config(), request.overrides)


def _agents_here(request: TrainingRequest, executor: Executor | None, jobs: int | None) -> int:
    """Return how many agents share the memory of this machine; 1 where they go elsewhere."""
    if executor is None:
        return (request.seeds or 1) * request.combinations
    return (jobs or 1) if executor.runs_here else 1


def _check_config(
    request: TrainingRequest, folder: Path, spec: EnvSpec, config: Any, agents: int
) -> None:
    """Refuse a network for other observations, to resume a complete run, and too much memory."""
    networks.require(config.network, spec)
    if request.resume and request.seeds is None:
        checkpoints.require_more(folder, config.total_steps)
    episodes = request.intervals.eval_episodes
    require_training(spec, config, agents, request.device == "cpu", episodes)


def _check_initial_policy(request: TrainingRequest) -> None:
    if request.init_from is not None:
        initial_policy.load(request.init_from, request.algorithm)


def _without_aliases(request: TrainingRequest) -> TrainingRequest:
    """Return the request with the algorithm's own names of settings, and notes about others."""
    kind = registry.config_module(request.algorithm).Config
    overrides, notes = configs.without_aliases(kind, request.overrides)
    for name in request.sweep:
        meant = configs.meant_by(kind, name)
        if len(meant) > 1:
            raise UsageError(f"{name} is {' and '.join(meant)} here: sweep one of them")
    sweep, of_sweep = configs.without_aliases(kind, request.sweep)
    return dataclasses.replace(
        request, overrides=overrides, sweep=sweep, notes=[*request.notes, *notes, *of_sweep]
    )


def _choose_jobs(request: TrainingRequest, config: Any, executor: Executor) -> int:
    """Return how many jobs there are at once: one on an accelerator, which JAX takes whole.

    Those that do not share this machine are all queued at once.
    """
    agents = request.combinations * (request.seeds or 1)
    if executor.name == LOCAL:
        return 1
    cpus = len(affinity()) // config.env_processes if request.device == "cpu" else 1
    most = max(1, cpus) if executor.runs_here else agents
    return min(agents, executor.jobs or request.jobs or most)


def _choose_executor(request: TrainingRequest) -> Executor | None:
    """Return who trains the agents of a population one by one; None: this process, all at once.

    Raises UsageError for wrong numbers, and for options that do not go together.
    """
    executor = parse_executor(request.executor)
    for name, jobs in (("jobs", request.jobs), (f"executor {executor.name}", executor.jobs)):
        if jobs is not None and jobs < 1:
            raise UsageError(f"{name} is {jobs}; it must be at least 1")
    evaluates = bool(request.intervals.eval_every)
    check_search(request.sampler, request.trials, request.prune, request.sweep, evaluates)
    if request.seeds is None:
        has_jobs = request.jobs is not None
        given = {"jobs": has_jobs, "executor": executor.name, "sampler": request.sampler}
        for option in (name for name, is_set in given.items() if is_set):
            raise UsageError(f"--{option} is for many agents: add --seeds N or --sweep KEY=V1,V2,…")
        return None
    if request.jobs and (executor.jobs or executor.name == LOCAL):
        raise UsageError(f"--jobs {request.jobs} and --executor {request.executor}: give one")
    _check_seeds(request)
    if executor.name in ("", LOCAL) and _can_be_one_program(request):
        return None
    if request.trackers or request.task.is_function:
        raise UsageError(
            "these agents are trained in processes of their own, which cannot call a function of "
            "this program (callback=, env=): train them one by one, with seed="
        )
    return executor if executor.name else executor._replace(name="processes")


def _check_seeds(request: TrainingRequest) -> None:
    """Raise UsageError for a number of seeds that cannot be, and a search without evaluations."""
    seeds = request.seeds or 0
    if seeds < 1 or request.seed + seeds > 2**31:
        raise UsageError(f"seeds is {seeds}; it must be at least 1, and the last below {2**31}")
    if request.sampler and not request.intervals.eval_episodes:
        raise UsageError("--sampler compares evaluations, but eval_episodes is 0")


def _can_be_one_program(request: TrainingRequest) -> bool:
    """Return whether a population can be one compiled program, and nothing else is asked for."""
    mode = registry.training_mode(request.framework, request.mode)
    runtime = registry.RUNTIMES[registry.library(request.framework, request.mode)]
    is_fused = runtime.fused and mode != "eager" and request.loop != "host"
    numbers = configs.names_of(registry.config_module(request.algorithm).Config, float)
    intervals = request.intervals
    wants_processes = (
        request.jobs is not None
        or request.sampler
        or request.resume
        or request.init_from is not None
        or intervals.checkpoint_every
        or intervals.keep_best
        or intervals.stop_at is not None
    )
    return (
        is_fused
        and request.task.row.kind == "device"
        and all(name in numbers for name in request.sweep)
        and not wants_processes
    )


def _choose_folder(request: TrainingRequest) -> Path:
    """Return a run's folder; refuse one that is in use, and a policy that cannot be begun with.

    A run that has a checkpoint goes on without that policy.
    """
    if request.resume and request.seeds is not None:
        return checkpoints.require_out(request.out)
    if request.resume:
        folder = checkpoints.require_run(request.out)
        if not checkpoints.exists(folder):
            _check_initial_policy(request)
        return folder

    _check_initial_policy(request)
    name = f"{request.algorithm}-{request.framework}-{request.task}-s{request.seed}"
    if request.seeds is not None:
        name += f"-n{request.seeds * request.combinations}"
    return policy_files.choose_folder(request.out, name)


def resolve_config(
    algorithm: str,
    task: Task,
    config: Any,
    overrides: Mapping[str, Any] | None = None,
    spec: EnvSpec | None = None,
) -> Any:
    """Return `config`, or the reference for the task, with `overrides` put in and checked.

    The task's `spec` is found by making an environment, unless it is given.
    """
    if config is None:
        config = registry.reference_config(algorithm, spec or make_spec(task), str(task))
    if overrides:
        config = registry.config_module(algorithm).check(configs.override(config, overrides))
    return config


def resolve_variants(
    algorithm: str, config: Any, sweep: Mapping[str, Sequence[Any]]
) -> list[dict[str, Any]]:
    """Return every combination of a sweep's values, the last name changing fastest.

    Each combination is checked as a config of its own would be. An empty sweep is one combination
    that changes nothing. Raises UsageError for unknown settings and wrong values.
    """
    module = registry.config_module(algorithm)
    variants = []
    for values in itertools.product(*sweep.values()):
        changed = configs.override(config, dict(zip(sweep, values, strict=True)))
        if sweep:
            module.check(changed)
        variants.append({name: getattr(changed, name) for name in sweep})
    return variants
