"""A run of many agents, each trained by a process of its own, `jobs` of them at once.

The folder has the files of a population in one program (population.py): config.json, result.json
and policy-000.safetensors, … Each agent's folder, `agent-000`, …, is a run's with all that belongs
to one; what its process has printed is in `agent-000.log`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from tiebreak.core.config import digest
from tiebreak.core.errors import UsageError
from tiebreak.core.files import read_json_or_empty, write_json
from tiebreak.core.process_env import PARENT, SAFE, affinity
from tiebreak.core.text import nan_to_null, one_line
from tiebreak.core.types import EnvSpec
from tiebreak.envs.base import make_spec
from tiebreak.training import policy_files
from tiebreak.training.display import Display
from tiebreak.training.population import across_agents, by_settings, prefixed
from tiebreak.training.request import TrainingRequest
from tiebreak.training.result import TrainResult
from tiebreak.training.run_config import command_of, describe_request
from tiebreak.training.session import TrainingFailed, TrainingInterrupted, interrupt, interruptible

AGENT_FOLDER = "agent-{:03d}"
PROGRAM = (sys.executable, *SAFE, "-m", "tiebreak")
POLL_S, SHOW_S = 0.05, 1.0
"""Seconds between looks at whether a process has ended, and between updates of the display."""
END_S = 5.0
"""Seconds for a process to end after the second Ctrl-C before it is killed."""


class AgentRun:
    """One agent: its seed, its settings, its folder and, while it is trained, its process."""

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
        self.process: subprocess.Popen | None = None
        self.first_steps = self.steps
        """Steps that it had before this process began."""

    @property
    def steps(self) -> int:
        """Environment steps that it has logged."""
        return self.last_metrics().get("steps", 0)

    @property
    def result(self) -> dict[str, Any]:
        """Its result.json; {} before its end."""
        return read_json_or_empty(self.folder / policy_files.RESULT)

    @property
    def is_complete(self) -> bool:
        """Return whether it was trained to the end, and is not to have more steps than it had."""
        result = self.result
        has_all = result.get("steps", 0) >= self.total_steps or "stopped_at" in result
        return result.get("status") == "ok" and has_all

    @property
    def is_begun(self) -> bool:
        """Whether there is something to resume."""
        return (self.folder / policy_files.CONFIG).is_file()

    def start(self, words: Sequence[str]) -> None:
        """Start its training by the words of a command line, without the name of the program."""
        command = [*PROGRAM, *words, "--out", str(self.folder)]
        if self.is_begun:
            command.append("--resume")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, PARENT: str(os.getpid())},
                process_group=0,  # Ctrl-C reaches this process, which passes it on
            )

    def has_ended(self) -> bool:
        """Return whether its process has ended; note then why it failed."""
        assert self.process is not None
        status = self.process.poll()
        if status is None:
            return False
        if status and not self.is_complete:
            self.error = self._last_words() or f"its process ended with status {status}"
        return True

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its process, if that runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def end(self) -> None:
        """End its process at once, if it runs, and wait for its end."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

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


def run_processes(request: TrainingRequest, progress: bool = True) -> TrainResult:
    """Train all agents of a resolved request, and return the results of those that did not fail.

    A resumed run goes on with the agents that are not complete. Raises TrainingInterrupted, and
    TrainingFailed if every agent failed.
    """
    spec = make_spec(request.task)
    config = describe_processes(request, spec)
    if request.resume:
        config = resumed_config(request, spec, config)
    write_json(request.folder / policy_files.CONFIG, config)
    return ProcessPopulation(request, spec, config, progress).run()


class ProcessPopulation:
    """The agents of one run under way."""

    def __init__(
        self, request: TrainingRequest, spec: EnvSpec, config: Mapping[str, Any], progress: bool
    ):
        self.request, self.config, self.folder = request, config, request.folder
        self.agents = [
            AgentRun(number, agent, request.folder, _total_steps(request, agent))
            for number, agent in enumerate(_agents(request))
        ]
        self._spec = spec
        self._jobs = request.jobs or 1
        self._start_s = time.perf_counter()
        title = f"{request.algorithm} {request.framework} {request.task}: {len(self.agents)} agents"
        self._display = Display(title, sum(agent.total_steps for agent in self.agents), progress)

    def run(self) -> TrainResult:
        """Train to the end, and write result.json."""
        (self.folder / policy_files.RESULT).unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            stack.callback(self._display.close)
            stack.callback(lambda: [agent.end() for agent in self.agents])
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
        waiting = [agent for agent in self.agents if not agent.is_complete]
        for agent in self.agents:
            if agent.is_complete:  # a run that was killed may not have come to it
                agent.keep_policy()
        for note in self.request.notes:
            self._display.log_note(note)
        self._display.log_note(
            f"{len(waiting)} agents to train, {self._jobs} at once; what they "
            f"print is in {self.folder / AGENT_FOLDER.format(0)}.log, …"
        )
        return waiting

    def _run_all(self, stop: threading.Event) -> None:
        """Keep `jobs` processes running until all agents are trained, or `stop` is set."""
        waiting = self._waiting()
        running: list[AgentRun] = []
        shown_s, told = 0.0, False
        while running or (waiting and not stop.is_set()):
            if stop.is_set() and not told:
                told = True
                for agent in running:
                    agent.send(signal.SIGINT)
            while waiting and len(running) < self._jobs and not stop.is_set():
                running.append(waiting.pop(0))
                running[-1].start(self._words(running[-1]))

            time.sleep(POLL_S)
            ended = [agent for agent in running if agent.has_ended()]
            running = [agent for agent in running if agent not in ended]
            for agent in ended:
                self._log_end(agent, stop)
            if time.perf_counter() - shown_s >= SHOW_S:
                shown_s = time.perf_counter()
                self._show(running)

    def _log_end(self, agent: AgentRun, stop: threading.Event) -> None:
        if agent.is_complete:
            agent.keep_policy()
            mean = agent.result.get("return_mean")
            text = "" if mean is None else f": greedy return {mean:.1f}"
            self._display.log_note(f"{agent.name}{_in_words(agent.settings)} is trained{text}")
        elif not stop.is_set():
            self._display.log_note(f"{agent.name} failed: {agent.error}")

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
        config = dataclasses.replace(self.request.config, **agent.settings)
        request = dataclasses.replace(self.request, seed=agent.seed, config=config)
        command = shlex.split(command_of(request, self._spec))
        threads = self.request.threads or max(1, len(affinity()) // self._jobs)
        return [*command[1:], "--threads", str(threads)]

    def _end(self) -> TrainResult:
        """Write the result; raise TrainingFailed if there is none."""
        failed = [agent for agent in self.agents if not agent.is_complete]
        errors = [f"{agent.name}{_in_words(agent.settings)}: {agent.error}" for agent in failed]
        if len(failed) == len(self.agents):
            self._write("failed", error=errors[0])
            raise TrainingFailed(
                f"all {len(failed)} agents failed, {errors[0]}; their logs are in {self.folder}"
            )
        result = self._result()
        if errors:
            result.summary["failed"] = errors
        self._write("failed" if errors else "ok", **result.to_json())
        return result

    def _result(self) -> TrainResult:
        complete = [agent for agent in self.agents if agent.is_complete]
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
        for agent in self.agents:
            agent.send(signal.SIGINT)
        for agent in self.agents:
            agent.end()
        complete = sum(agent.is_complete for agent in self.agents)
        self._write("interrupted")
        return (
            f"interrupted: {complete} of {len(self.agents)} agents are trained; go on with the "
            f"others: {self.config['command']} --out {quote(str(self.folder))} --resume"
        )

    def _write(self, status: str, **details: Any) -> None:
        agents = [
            {
                "seed": agent.seed,
                **agent.settings,
                "status": "failed" if agent.error else agent.result.get("status", "interrupted"),
                **({"error": agent.error} if agent.error else {}),
            }
            for agent in self.agents
        ]
        result = {"status": status, **details, "agents": agents}
        write_json(self.folder / policy_files.RESULT, nan_to_null(result))


def _agents(request: TrainingRequest) -> list[dict[str, Any]]:
    """Return seed and settings of each agent: all seeds of the first combination come first."""
    seeds = range(request.seed, request.seed + (request.seeds or 1))
    return [{"seed": seed, **variant} for variant in request.variants for seed in seeds]


def _total_steps(request: TrainingRequest, agent: Mapping[str, Any]) -> int:
    """Return the steps that an agent with this seed and these settings is to have."""
    settings = {name: value for name, value in agent.items() if name != "seed"}
    config = dataclasses.replace(request.config, **settings)
    return config.num_iterations * config.iteration_steps


def describe_processes(request: TrainingRequest, spec: EnvSpec) -> dict[str, Any]:
    """Return the contents of `config.json`: a single run's, and all that the agents differ in."""
    seeds = request.seeds or 1
    one = describe_request(request, spec)
    swept = {
        name: list(dict.fromkeys(variant[name] for variant in request.variants))
        for name in request.sweep
    }
    options = [f"--sweep {quote(f'{name}={_listed(values)}')}" for name, values in swept.items()]
    return {
        **one,
        "seeds": seeds,
        "sweep": swept,
        "agents": _agents(request),
        "jobs": request.jobs,
        "config_hash": digest({"one": one["config_hash"], "seeds": seeds, **swept}),
        "command": " ".join(
            [one["command"], f"--seeds {seeds}", *options, f"--jobs {request.jobs}"]
        ),
    }


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
            f"the run in {str(folder)!r} is not of agents in processes of their own: nothing can "
            "be resumed with --seeds or --sweep there"
        )
    if stored.get("config_hash") == config["config_hash"]:
        return {**config, **stored, "command": config["command"], "jobs": config["jobs"]}
    if _had_fewer_steps(request, spec, stored):
        changed = {name: config[name] for name in ("config", "config_hash", "command", "jobs")}
        return {**config, **stored, **changed}
    raise UsageError(
        f"the run in {str(folder)!r} has other settings; go on with: {stored.get('command')} "
        f"--out {quote(str(folder))} --resume"
    )


def _had_fewer_steps(request: TrainingRequest, spec: EnvSpec, stored: Mapping[str, Any]) -> bool:
    """Return whether a stored run has the request's settings, but for fewer steps."""
    settings = stored.get("config")
    steps = settings.get("total_steps") if isinstance(settings, dict) else None
    if not isinstance(steps, int) or not 0 < steps < request.config.total_steps:
        return False
    config = dataclasses.replace(request.config, total_steps=steps)
    as_before = describe_processes(dataclasses.replace(request, config=config), spec)
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
