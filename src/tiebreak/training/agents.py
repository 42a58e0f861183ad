"""A run of many agents, each trained by a job of its own, so many of them at once.

The folder has the files of a population in one program (population.py): config.json, result.json
and policy-000.safetensors, … Each agent's folder, `agent-000`, …, is a run's with all that belongs
to one; what its jobs have printed is in `agent-000.log`. launchers.py says where jobs run. All that
is known of an agent stands in its folder, so that any launcher goes on with what another began.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, TypedDict

import numpy as np

from tiebreak.core.config import digest, override
from tiebreak.core.errors import UsageError
from tiebreak.core.files import read_json_or_empty, write_json
from tiebreak.core.schema import Count, check
from tiebreak.core.text import nan_to_null, one_line
from tiebreak.core.types import EnvSpec
from tiebreak.envs.base import make_spec
from tiebreak.training import checkpoints, jobs, policy_files
from tiebreak.training.curves import read_greedy
from tiebreak.training.display import Display
from tiebreak.training.jobs import Command
from tiebreak.training.launchers import LOCAL, Job, Launcher, parse_executor
from tiebreak.training.population import across_agents, by_settings, prefixed
from tiebreak.training.request import TrainingRequest
from tiebreak.training.result import TrainResult
from tiebreak.training.run_config import command_of, describe_request
from tiebreak.training.search import Search, read_space
from tiebreak.training.session import TrainingFailed, TrainingInterrupted, interrupt, interruptible

AGENT_FOLDER = "agent-{:03d}"
SHOW_S = 1.0
"""Seconds between updates of the display, and between looks at evaluations."""
END_S = 5.0
"""Seconds for jobs to end after the second Ctrl-C before they are killed."""
MOST_LOST = 5
"""Jobs of an agent that may be killed in a row without a new checkpoint before it has failed."""


class AgentRun:
    """One agent: its seed, its settings, its folder and, while it is trained, its job."""

    def __init__(self, number: int, agent: Mapping[str, Any], out: Path, total_steps: int):
        """Describe agent `number` of the run in `out`; `agent` has its `seed` and its settings."""
        self.name = AGENT_FOLDER.format(number)
        self.policy = out / policy_files.AGENT_POLICY.format(number)
        self.seed = agent["seed"]
        self.settings = {name: value for name, value in agent.items() if name != "seed"}
        self.folder = out / self.name
        self.total_steps = total_steps
        self.log = out / f"{self.name}.log"
        self.error = ""
        """Why it failed, in one line."""
        self.is_pruned = False
        """Whether its trial has ended before its steps (search.py)."""
        self.job: Job | None = None
        """Its job; None while it has none that has not ended."""
        self.first_steps = self.steps
        """Steps that it had before this process began."""
        self._lost = 0
        """Jobs in a row that were killed without a new checkpoint."""
        self._checkpoint = 0

    @property
    def steps(self) -> int:
        """Environment steps that it has logged."""
        return self.last_metrics().get("steps", 0)

    @property
    def result(self) -> dict[str, Any]:
        """Its result.json; {} before its end."""
        return read_json_or_empty(self.folder / policy_files.RESULT)

    @property
    def status(self) -> str:
        """How it has ended, as result.json of the whole run says it."""
        if self.is_pruned:
            return "pruned"
        return "failed" if self.error else self.result.get("status", "interrupted")

    @property
    def is_complete(self) -> bool:
        """Return whether it was trained to the end, and is not to have more steps than it had."""
        result = self.result
        has_all = result.get("steps", 0) >= self.total_steps or "stopped_at" in result
        return result.get("status") == "ok" and has_all

    @property
    def has_result(self) -> bool:
        """Return whether its result counts: it is complete, and its trial was not pruned."""
        return self.is_complete and not self.is_pruned

    def start(self, launcher: Launcher, words: Sequence[str]) -> None:
        """Start its job by the words of a command line, without the name of the program."""
        self._checkpoint = checkpoints.newest_steps(self.folder)
        self.error = ""
        command = Command(
            words=(*jobs.PROGRAM, *words),
            folder=str(self.folder.absolute()),
            log=str(self.log.absolute()),
            cwd=os.getcwd(),
        )
        self.job = launcher.start(command)

    def has_ended(self) -> bool:
        """Return whether its job has ended; note then why it failed, unless it is to go on."""
        assert self.job is not None
        status = self.job.poll()
        if status is None:
            return False
        error, self.job = self.job.error, None
        if not self.is_complete:
            self._note_end(status, error)
        return True

    def _note_end(self, status: int, error: str) -> None:
        """Note why a job has not come to its end: it failed, or it was killed too often."""
        if 0 < status <= 128:
            self.error = self._last_words() or error or f"its process ended with status {status}"
            return
        has_more = checkpoints.newest_steps(self.folder) > self._checkpoint
        self._lost = 0 if has_more else self._lost + 1
        if self._lost >= MOST_LOST:
            self.error = f"its job was killed {self._lost} times in a row without a new checkpoint"

    def interrupt(self) -> None:
        """Let its job end, if it has one."""
        if self.job is not None:
            self.job.interrupt()

    def last_metrics(self) -> dict[str, Any]:
        """Return the last whole line of its log; {} before there is one."""
        lines = _tail(self.folder / "metrics.jsonl").split(b"\n")[:-1]
        try:
            return json.loads(lines[-1]) if lines else {}
        except ValueError:
            return {}

    def keep_policy(self) -> None:
        """Name its policy in the folder of all, where that of a population in one program is."""
        source = self.folder / policy_files.POLICY
        self.policy.unlink(missing_ok=True)
        try:
            os.link(source, self.policy)
        except OSError:  # a file system without links
            shutil.copyfile(source, self.policy)

    def _last_words(self) -> str:
        lines = _tail(self.log).decode(errors="replace").splitlines()
        said = [line for line in lines if line.startswith("tiebreak: ")]
        return one_line(said[-1].removeprefix("tiebreak: ")) if said else ""


def run_agents(request: TrainingRequest, launcher: Launcher, progress: bool = True) -> TrainResult:
    """Train all agents of a resolved request, and return the results of those that did not fail.

    A resumed run goes on with the agents that are not complete. Raises TrainingInterrupted, and
    TrainingFailed if every agent failed.
    """
    spec = make_spec(request.task)
    config = describe_agents(request, spec)
    if request.resume:
        config = resumed_config(request, spec, config)
    write_json(request.folder / policy_files.CONFIG, config)
    return Agents(request, launcher, spec, config, progress).run()


class Agents:
    """The agents of one run under way."""

    def __init__(
        self,
        request: TrainingRequest,
        launcher: Launcher,
        spec: EnvSpec,
        config: dict[str, Any],
        progress: bool,
    ):
        self.request, self.config, self.folder = request, config, request.folder
        self.agents: list[AgentRun] = []
        for agent in config["agents"]:
            self._add(agent)
        self._launcher, self._spec = launcher, spec
        self._judged: set[int] = set()
        """Trials of which the sampler knows how they have ended."""
        self._search = _open_search(request) if request.sampler else None
        if self._search is not None:
            self._search.go_on(self._trials)
        self._start_s = time.perf_counter()
        count = (request.seeds or 1) * request.combinations
        steps = sum(agent.total_steps for agent in self.agents)
        steps += (count - len(self.agents)) * _total_steps(request, {})
        title = f"{request.algorithm} {request.framework} {request.task}: {count} agents"
        self._display = Display(title, steps, progress)

    def _add(self, agent: Mapping[str, Any]) -> AgentRun:
        """Add one agent, with its seed and settings."""
        steps = _total_steps(self.request, agent)
        self.agents.append(AgentRun(len(self.agents), agent, self.folder, steps))
        return self.agents[-1]

    @property
    def _trials(self) -> list[int]:
        """Optuna's number of each trial that was started, in the order of their agents."""
        return self.config["search"]["numbers"]

    def _agents_of(self, trial: int) -> list[AgentRun]:
        """Return the agents of the run's trial of this number."""
        seeds = self.request.seeds or 1
        return self.agents[trial * seeds : (trial + 1) * seeds]

    def run(self) -> TrainResult:
        """Train to the end, and write result.json."""
        (self.folder / policy_files.RESULT).unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            stack.callback(self._display.close)
            stack.callback(self._end_jobs)
            try:
                with interruptible(lambda: self._display.log_status("stopping soon")) as stop:
                    self._run_all(stop)
                if stop.is_set():
                    interrupt()
            except KeyboardInterrupt as error:
                raise TrainingInterrupted(self._end_interrupted()) from error
            return self._end()

    def _waiting(self) -> list[AgentRun]:
        """Return the agents that are to be trained; tell the user about them."""
        for number, trial in enumerate(self._trials if self._search else ()):
            assert self._search is not None
            for agent in self._agents_of(number):
                agent.is_pruned = self._search.is_pruned(trial)
        waiting = [agent for agent in self.agents if not agent.is_complete and not agent.is_pruned]
        for agent in self.agents:
            if agent.is_complete:  # a run that was killed may not have come to it
                agent.keep_policy()
        for note in self.request.notes:
            self._display.log_note(note)
        count = f"{len(waiting)} agents"
        if self._search is not None:
            count = f"{self.request.trials} trials, {len(self._trials)} of them drawn before,"
        self._display.log_note(
            f"{count} to train, {self._launcher.most} at once; what they "
            f"print is in {self.folder / AGENT_FOLDER.format(0)}.log, …"
        )
        return waiting

    def _run_all(self, stop: threading.Event) -> None:
        """Keep jobs running until all agents are trained, or `stop` is set."""
        waiting = self._waiting()
        running: list[AgentRun] = []
        shown_s, told = 0.0, False
        while running or (self._has_more(waiting) and not stop.is_set()):
            if stop.is_set() and not told:
                told = True
                for agent in running:
                    agent.interrupt()
            while len(running) < self._launcher.most and not stop.is_set():
                if not self._has_more(waiting):
                    break
                running.append(self._next(waiting))
                running[-1].start(self._launcher, self._words(running[-1]))

            time.sleep(jobs.POLL_S)
            ended = [agent for agent in running if agent.has_ended()]
            running = [agent for agent in running if agent not in ended]
            waiting = [agent for agent in ended if self._goes_on(agent, stop)] + waiting
            if time.perf_counter() - shown_s >= SHOW_S or ended:
                shown_s = time.perf_counter()
                self._show(running)
                self._judge_trials()
                waiting = [agent for agent in waiting if not agent.is_pruned]

    def _has_more(self, waiting: Sequence[AgentRun]) -> bool:
        """Return whether there is an agent to train, or one to be drawn."""
        if waiting or self._search is None:
            return bool(waiting)
        return len(self._trials) < self.request.combinations

    def _next(self, waiting: list[AgentRun]) -> AgentRun:
        """Take the next agent; where none waits, draw a trial, and store it before it begins."""
        if not waiting:
            assert self._search is not None
            trial, settings = self._search.ask(len(self._trials))
            seeds = range(self.request.seed, self.request.seed + (self.request.seeds or 1))
            agents = [{"seed": seed, **settings} for seed in seeds]
            self.config["agents"] += agents
            self._trials.append(trial)
            write_json(self.folder / policy_files.CONFIG, self.config)
            waiting += [self._add(agent) for agent in agents]
        return waiting.pop(0)

    def _goes_on(self, agent: AgentRun, stop: threading.Event) -> bool:
        """Log the end of an agent's job; return whether it was killed, and is started again."""
        if agent.is_complete:
            agent.keep_policy()
            mean = agent.result.get("return_mean")
            text = "" if mean is None else f": greedy return {mean:.1f}"
            self._display.log_note(f"{agent.name}{_in_words(agent.settings)} is trained{text}")
            return False
        if stop.is_set() or agent.is_pruned:
            return False
        if agent.error:
            self._display.log_note(f"{agent.name} failed: {agent.error}")
            return False
        self._display.log_note(f"{agent.name} was killed, and goes on")
        return True

    def _judge_trials(self) -> None:
        """Tell the sampler how trials do and have ended; end those that are to be pruned."""
        for number, trial in enumerate(self._trials if self._search else ()):
            assert self._search is not None
            agents = self._agents_of(number)
            if number in self._judged or agents[0].is_pruned:
                continue
            if not self._search.is_running(trial):  # before this process
                self._judged.add(number)
                continue
            is_complete = all(agent.is_complete for agent in agents)
            self._report(trial, agents)
            if is_complete or any(agent.error for agent in agents):
                self._search.tell(trial, _mean_return(agents) if is_complete else None)
                self._judged.add(number)
            elif self.request.prune and self._search.prune(trial):
                self._display.log_note(f"trial {number}{_in_words(agents[0].settings)} is pruned")
                for agent in agents:
                    agent.is_pruned = True
                    agent.interrupt()

    def _report(self, trial: int, agents: Sequence[AgentRun]) -> None:
        """Report a trial's mean returns, as far as all of its agents were evaluated."""
        assert self._search is not None
        curves = [read_greedy(agent.folder) for agent in agents]
        length = min(len(curve.steps) for curve in curves)
        if length:
            returns = np.mean([curve.returns[:length].mean(axis=1) for curve in curves], axis=0)
            self._search.report(trial, curves[0].steps[:length].tolist(), returns.tolist())

    def _end_jobs(self) -> None:
        """Interrupt the jobs that run once more, and kill those that go on."""
        for agent in self.agents:
            agent.interrupt()
        deadline = time.monotonic() + END_S
        running = [agent for agent in self.agents if agent.job is not None]
        while running and time.monotonic() < deadline:
            running = [agent for agent in running if not agent.has_ended()]
            time.sleep(jobs.POLL_S if running else 0)
        for agent in running:
            assert agent.job is not None
            agent.job.kill()
            agent.job = None

    def _show(self, running: Sequence[AgentRun]) -> None:
        """Show the steps of all agents, and the mean return and the rate of those that run."""
        metrics = [agent.last_metrics() for agent in running]
        steps = sum(agent.steps for agent in self.agents)
        if steps:
            line = {
                "mean_return": [line.get("mean_return") for line in metrics],
                "steps_per_s": sum(line.get("steps_per_s", 0.0) for line in metrics),
            }
            self._display.log_metrics(steps, line)

    def _words(self, agent: AgentRun) -> list[str]:
        """Return the command line that trains an agent."""
        request = self.request
        config = override(request.config, agent.settings)
        alone = dataclasses.replace(request, seed=agent.seed, config=config)
        command = shlex.split(command_of(alone, self._spec))
        executor = parse_executor(request.executor)
        threads = request.threads or executor.cpus(self._launcher.most)
        return [*command[1:], "--threads", str(threads)]

    def _end(self) -> TrainResult:
        """Write the result; raise TrainingFailed if there is none."""
        failed = [agent for agent in self.agents if not agent.is_complete and not agent.is_pruned]
        errors = [f"{agent.name}{_in_words(agent.settings)}: {agent.error}" for agent in failed]
        if not any(agent.has_result for agent in self.agents):
            self._write("failed", error=errors[0])
            raise TrainingFailed(
                f"all {len(failed)} agents failed, {errors[0]}; their logs are in {self.folder}"
            )
        result = self._result()
        if errors:
            result.summary["failed"] = errors
        if pruned := sum(agent.is_pruned for agent in self.agents):
            result.summary["pruned"] = pruned
        self._write("failed" if errors else "ok", **result.to_json())
        return result

    def _result(self) -> TrainResult:
        complete = [agent for agent in self.agents if agent.has_result]
        results = [agent.result for agent in complete]
        returns = [result["returns"] for result in results if result["returns"]]
        wall_s = time.perf_counter() - self._start_s
        steps = sum(agent.steps - agent.first_steps for agent in self.agents)
        return TrainResult(
            out=self.folder,
            returns=returns,
            steps=max(result["steps"] for result in results),
            updates=max(result["updates"] for result in results),
            wall_s=wall_s,
            first_s=wall_s,  # nothing is left out of the rate
            steps_per_s=steps / wall_s,
            summary=_summary([agent.settings for agent in complete], returns) if returns else {},
            agents=len(self.agents),
        )

    def _end_interrupted(self) -> str:
        """Record the interruption, and return how to go on."""
        self._end_jobs()
        complete = sum(agent.is_complete for agent in self.agents)
        self._write("interrupted")
        count = (self.request.seeds or 1) * self.request.combinations
        return (
            f"interrupted: {complete} of {count} agents are trained; go on with the "
            f"others: {self.config['command']} --out {quote(str(self.folder))} --resume"
        )

    def _write(self, status: str, **details: Any) -> None:
        agents = [
            {
                "seed": agent.seed,
                **agent.settings,
                "status": agent.status,
                **({"error": agent.error} if agent.error else {}),
            }
            for agent in self.agents
        ]
        result = {"status": status, **details, "agents": agents}
        write_json(self.folder / policy_files.RESULT, nan_to_null(result))


def _mean_return(agents: Sequence[AgentRun]) -> float | None:
    """Return the mean of the agents' final greedy returns; None if one has none."""
    means = [agent.result.get("return_mean") for agent in agents]
    known = [mean for mean in means if mean is not None]
    return float(np.mean(known)) if len(known) == len(agents) else None


def _open_search(request: TrainingRequest) -> Search:
    """Return the search of a resolved request, as it was left in the run's folder."""
    space = read_space(request.algorithm, request.config, request.sweep)
    return Search(
        request.algorithm, request.config, space, request.sampler, request.seed, request.folder
    )


def _agents(request: TrainingRequest) -> list[dict[str, Any]]:
    """Return seed and settings of each agent: all seeds of the first combination come first.

    Those of a search are drawn later.
    """
    if request.sampler:
        return []
    seeds = range(request.seed, request.seed + (request.seeds or 1))
    return [{"seed": seed, **variant} for variant in request.variants for seed in seeds]


def _total_steps(request: TrainingRequest, agent: Mapping[str, Any]) -> int:
    """Return the steps that an agent with this seed and these settings is to have."""
    settings = {name: value for name, value in agent.items() if name != "seed"}
    config = override(request.config, settings)
    return config.num_iterations * config.iteration_steps


def describe_agents(request: TrainingRequest, spec: EnvSpec) -> dict[str, Any]:
    """Return the contents of `config.json`: a single run's, and all that the agents differ in."""
    seeds = request.seeds or 1
    one = describe_request(request, spec)
    swept = _swept(request)
    options = [f"--sweep {quote(f'{name}={_listed(values)}')}" for name, values in swept.items()]
    search: dict[str, Any] = {}
    if request.sampler:
        search = {"sampler": request.sampler, "prune": request.prune}
        options += [f"--sampler {request.sampler} --trials {request.trials}"]
        options += ["--prune"] if request.prune else []
    hashed = {"one": one["config_hash"], "seeds": seeds, **swept}
    return {
        **one,
        "seeds": seeds,
        "sweep": swept,
        "agents": _agents(request),
        "jobs": request.jobs,
        "executor": request.executor,
        **({"search": {**search, "numbers": []}} if search else {}),
        "config_hash": digest({**hashed, "search": search} if search else hashed),
        "command": " ".join([one["command"], f"--seeds {seeds}", *options, *_executor(request)]),
    }


def _swept(request: TrainingRequest) -> dict[str, list[Any]]:
    """Return the values of each setting that the agents differ in; a range as its text."""
    if request.sampler:
        space = read_space(request.algorithm, request.config, request.sweep)
        return {k: v if isinstance(v, list) else [str(v)] for k, v in space.items()}
    return {
        name: list(dict.fromkeys(variant[name] for variant in request.variants))
        for name in request.sweep
    }


def _executor(request: TrainingRequest) -> list[str]:
    """Return the options that choose the executor, and how many jobs it has at once."""
    executor = parse_executor(request.executor)
    words = [] if request.executor == "processes" else [f"--executor {quote(request.executor)}"]
    has_jobs = executor.jobs is not None or executor.name == LOCAL
    return words if has_jobs else [*words, f"--jobs {request.jobs}"]


def resumed_config(
    request: TrainingRequest, spec: EnvSpec, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the contents of `config.json` of a run that goes on, perhaps with more steps.

    `config`: as a new run with the request's settings would have them. Raises UsageError unless the
    folder holds a run of many processes with the same settings, but for fewer steps.
    """
    folder = request.folder
    stored = read_json_or_empty(folder / policy_files.CONFIG)
    if not stored:
        raise UsageError(
            f"{str(folder)!r} holds no run to resume (no config.json): start one with the same "
            "command without --resume"
        )
    if "jobs" not in stored:
        raise UsageError(
            f"the run in {str(folder)!r} is not of agents with a job of their own: nothing can "
            "be resumed with --seeds or --sweep there"
        )
    now = {name: config[name] for name in ("agents", "command", "jobs", "executor")}
    if stored.get("config_hash") == config["config_hash"]:
        return {**config, **stored, **now, **(_drawn(request, stored) if request.sampler else {})}
    if _had_fewer_steps(request, spec, stored):
        changed = {name: config[name] for name in ("config", "config_hash")}
        return {**config, **stored, **changed, **now}
    raise UsageError(
        f"the run in {str(folder)!r} has other settings; go on with: {stored.get('command')} "
        f"--out {quote(str(folder))} --resume"
    )


class DrawnAgent(TypedDict):
    """An agent of a search, with its settings beside its seed."""

    seed: int


class DrawnTrials(TypedDict):
    """The trials of a search that were started."""

    numbers: list[Count]


class StoredSearch(TypedDict):
    """The fields of a search's config.json that are read again."""

    agents: list[DrawnAgent]
    search: DrawnTrials


def _drawn(request: TrainingRequest, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a search has drawn before. Raises UsageError where it is damaged."""
    problem = check(stored, StoredSearch)
    if not problem:
        names = {"seed", *request.sweep}
        count = len(stored["search"]["numbers"]) * (request.seeds or 1)
        if len(stored["agents"]) != count or any(set(a) != names for a in stored["agents"]):
            problem = "its agents are not those of its trials"
    if problem:
        path = request.folder / policy_files.CONFIG
        raise UsageError(f"cannot read {str(path)!r}: {problem}")
    return {name: stored[name] for name in ("agents", "search")}


def _had_fewer_steps(request: TrainingRequest, spec: EnvSpec, stored: Mapping[str, Any]) -> bool:
    """Return whether a stored run has the request's settings, but for fewer steps."""
    settings = None if request.sampler else stored.get("config")
    steps = settings.get("total_steps") if isinstance(settings, dict) else None
    if not isinstance(steps, int) or not 0 < steps < request.config.total_steps:
        return False
    config = dataclasses.replace(request.config, total_steps=steps)
    as_before = describe_agents(dataclasses.replace(request, config=config), spec)
    return as_before["config_hash"] == stored.get("config_hash")


def _summary(settings: Sequence[Mapping[str, Any]], returns: list[list[float]]) -> dict[str, Any]:
    """Return statistics over agents, and over those of each combination of settings."""
    means = [float(np.mean(of_agent)) for of_agent in returns]
    episodes = [value for of_agent in returns for value in of_agent]
    summary: dict[str, Any] = {
        "return_mean": float(np.mean(means)),
        "return_std": float(np.std(episodes)),
        **prefixed(across_agents(returns)),
    }
    if settings[0]:
        groups = by_settings(settings, returns)
        summary["by_settings"] = [{**group, **prefixed(numbers)} for group, numbers in groups]
    return summary


def _in_words(settings: Mapping[str, Any]) -> str:
    texts = [f"{name} {value}" for name, value in settings.items()]
    return f" ({', '.join(texts)})" if texts else ""


def _listed(values: Sequence[Any]) -> str:
    """Return values as `--sweep` reads them: lists in brackets."""
    texts = [
        str(list(v)).replace(" ", "") if isinstance(v, (tuple, list)) else str(v) for v in values
    ]
    return ",".join(texts)


def _tail(path: Path, size: int = 16384) -> bytes:
    """Return the last bytes of a file; none if there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read()
    except OSError:
        return b""
