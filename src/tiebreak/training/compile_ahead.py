"""Mode `auto`: a training that begins as its code is written, and goes on compiled.

Compiling takes torch tens of seconds, in which code as it is written trains for thousands of
updates. So training begins with that, while a process of its own compiles the same programs into
the compiler's cache on the disk. From a fixed update on the compiled programs run. It is fixed,
whatever the clock says and however long the training is, because the two round differently: a
training that is resumed, or goes on with more steps, has to change where it would have changed.

The process is this module, run with a Job as JSON at its standard input.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, NamedTuple

from tiebreak import registry
from tiebreak.core import config as configs
from tiebreak.core.process_env import SAFE, affinity, die_with_parent
from tiebreak.envs.task import Task
from tiebreak.loops.base import Loop, make_loop

NICENESS = 10
"""The training comes first on a CPU that it shares with its compiler."""
END_S = 5.0
"""Seconds for the compiler to end before it is killed."""
WAIT_S = 600.0
"""Seconds that a training waits for its compiler; then it compiles by itself."""
LOOK_EVERY_S = 0.1
"""Seconds between two looks whether the training shall stop instead."""


class Job(NamedTuple):
    """What the compiling process needs to know."""

    parent: int
    """Pid of the training, with which it ends."""
    algorithm: str
    framework: str
    task: str
    config: dict[str, Any]
    """All settings of the algorithm."""
    precision: str
    device: str
    threads: int | None
    """Threads of the library, which are compiled into programs; None: as they are."""


def compile_at(algorithm: str, loop: Loop) -> int:
    """Return the steps from which on a loop in mode `auto` runs compiled; 0: it never does."""
    config, runtime = loop.config, loop.runtime
    if runtime.mode != registry.AUTO:
        return 0
    default = registry.framework(runtime.framework).default_mode
    if runtime.device == "cpu" and registry.why_mode_unavailable(runtime.framework, default):
        return 0  # no C++ compiler

    warmup = getattr(config, "warmup_iterations", 0)
    eager_updates = registry.algorithm(algorithm).eager_updates
    iterations = warmup + math.ceil(eager_updates / config.updates_per_iteration)
    return iterations * config.iteration_steps if iterations < config.num_iterations else 0


class Compiler:
    """The process that compiles for one training; it may not exist."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None

    def start(self, task: Task, job: Job) -> None:
        """Start compiling, where there is a CPU to spare and the task can be sent to a process."""
        if len(affinity()) < 2 or task.is_function:
            return
        with contextlib.suppress(OSError):  # the training will have to compile by itself
            self._process = subprocess.Popen(
                [sys.executable, *SAFE, "-m", "tiebreak.training.compile_ahead"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the training, which ends this
            )
            assert self._process.stdin is not None
            with self._process.stdin as pipe:
                pipe.write(json.dumps(job._asdict()).encode())

    def wait(self, stop: threading.Event) -> None:
        """Wait until everything is compiled or could not be, until WAIT_S, or until `stop`."""
        if self._process is None:
            return
        end_s = time.monotonic() + WAIT_S
        while self._process.poll() is None and time.monotonic() < end_s:
            if stop.wait(LOOK_EVERY_S):
                return
        self.close()

    def close(self) -> None:
        """End the process, with those that it has started."""
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
                return


def compile_programs(job: Job) -> None:
    """Run all programs of a training once, in the framework's default mode."""
    from tiebreak.frameworks.threads import make_runtime

    mode = registry.framework(job.framework).default_mode
    kind = registry.config_module(job.algorithm).Config
    config = configs.from_dict(kind, job.config)
    if job.threads is not None:
        make_runtime(job.framework, mode, job.precision, job.device, job.threads)
    loop = make_loop(
        job.algorithm,
        job.framework,
        job.task,
        mode=mode,
        loop="host",
        config=config,
        precision=job.precision,
        device=job.device,
    )
    with contextlib.closing(loop):
        while loop.is_warmup:
            loop.run()
        loop.run()


def main() -> None:
    """Read a Job and compile its programs."""
    job = Job(**json.load(sys.stdin))
    die_with_parent(job.parent)
    os.nice(NICENESS)
    compile_programs(job)


if __name__ == "__main__":
    main()
