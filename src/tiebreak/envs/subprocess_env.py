"""Host environments distributed over processes: `env_processes=4`.

A process steps its environments as this one would, from the same seeds, so that numbers are equal
bit for bit. Actions and outcomes are in shared memory; a pipe carries the commands.
See docs/decisions/0033.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.resource_tracker import ensure_running
from multiprocessing.util import Finalize
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.errors import EnvironmentFailed, UsageError
from tiebreak.core.prefixes import Arrays, add_prefix, strip_prefix
from tiebreak.core.process_env import safe_children
from tiebreak.core.types import Array, EnvStep
from tiebreak.envs.base import HostEnv
from tiebreak.envs.shared_bytes import SharedBytes
from tiebreak.envs.subprocess_worker import describe_part, serve, slot_bytes, slots

CLOSE_TIMEOUT_S = 5.0
"""Seconds for a process to close its environments before it is killed."""
ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
"""Signals that the training's process handles for all."""


class ProcessesEnv(HostEnv):
    """N environments of one engine, distributed over processes as evenly as possible.

    `engine` is the path of the engine's module. Raises what making the environments raises, and
    EnvironmentFailed for what they raise later, or if a process has died.
    """

    def __init__(self, engine: str, name: str, num_envs: int, seed: int, processes: int):
        first = registry.load(engine).make(name, 1, seed)
        self.spec, self.num_envs, self.time_limit = first.spec, num_envs, first.time_limit
        first.close()
        context = multiprocessing.get_context("spawn")  # a fork copies JAX's threads' locks
        memory = SharedBytes(num_envs * slot_bytes(self.spec))
        self._action, self._outcome = slots(self.spec, num_envs, memory.buffer)
        rows = np.array_split(np.arange(num_envs), processes)
        self._parts = [range(int(part[0]), int(part[-1]) + 1) for part in rows]
        self._pipes, self._processes = [], []
        # At the end of a program that has not closed it, before multiprocessing sends the daemons
        # SIGTERM, to which they do not listen, and waits for them.
        self._closing = Finalize(self, _end, (self._pipes, self._processes), exitpriority=10)
        for part in self._parts:
            ours, theirs = context.Pipe()
            arguments = theirs, memory, engine, name, num_envs, seed, part
            # Daemons, whose pipes end with this process, however that happens: none of them stays.
            process = context.Process(target=serve, args=arguments, daemon=True)
            with _uninterrupted(), safe_children():
                process.start()
            self._processes.append(process)
            self._pipes.append(ours)
            theirs.close()
        memory.close()
        self._wait_until_made()

    def reset(self) -> np.ndarray:
        """Start every environment again from its own seed."""
        self._call_all("reset")
        return self._outcome.obs.copy()

    def step(self, action: Array) -> EnvStep:
        """Step in all processes at once; each resets what ended in it."""
        self._action[...] = action
        self._call_all("step")
        outcome = self._outcome
        obs, ended = outcome.obs.copy(), outcome.terminated | outcome.truncated
        final_obs = obs
        if ended.any():
            final_obs = obs.copy()
            final_obs[ended] = outcome.final_obs[ended]
        flags = outcome.terminated.copy(), outcome.truncated.copy()
        return EnvStep(obs, outcome.reward.copy(), *flags, final_obs)

    def snapshot(self) -> Arrays | None:
        """Return the environments' state, by process; None if the engine takes no snapshots."""
        out: Arrays = {}
        for i, arrays in enumerate(self._call_all("snapshot")):
            if arrays is None:
                return None
            out |= add_prefix(str(i), arrays)
        return out

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue from a `snapshot` of as many processes."""
        for i in range(len(self._parts)):
            self._send(i, "restore", strip_prefix(str(i), arrays))
        self._receive_all()

    def close(self) -> None:
        """Close every environment and end the processes."""
        self._closing()

    def _wait_until_made(self) -> None:
        try:
            self._receive_all()
        except UsageError as error:  # this process could make one
            self.close()
            raise UsageError(
                f"in a process of its own: {error}; such a process knows installed tasks and those "
                "of a module that the task names (module:EnvId-v0)"
            ) from error
        except BaseException:
            self.close()
            raise

    def _call_all(self, method: str) -> list[Any]:
        for i in range(len(self._parts)):
            self._send(i, method)
        return self._receive_all()

    def _send(self, i: int, method: str, *arguments: Any) -> None:
        try:
            self._pipes[i].send((method, arguments))
        except OSError:
            raise self._died(i) from None

    def _receive_all(self) -> list[Any]:
        out = []
        for i, pipe in enumerate(self._pipes):
            try:
                error, value = pipe.recv()
            except (EOFError, OSError):
                raise self._died(i) from None
            if error:
                raise self._remote_error(i, *error)
            out.append(value)
        return out

    def _remote_error(self, i: int, kind: str, message: str, traceback: str) -> Exception:
        where = describe_part(self._parts[i])
        usage = kind == "UsageError"
        error = UsageError(message) if usage else EnvironmentFailed(f"{where}: {kind}: {message}")
        error.add_note(f"in the process of {where}:\n{traceback}")
        return error

    def _died(self, i: int) -> EnvironmentFailed:
        self._processes[i].join(CLOSE_TIMEOUT_S)
        status = self._processes[i].exitcode
        killed = ", killed, perhaps for want of memory" if status == -signal.SIGKILL else ""
        return EnvironmentFailed(
            f"the process of {describe_part(self._parts[i])} ended with status {status}{killed}; "
            "with env_processes=1 they are stepped in the training's own process"
        )


def _end(pipes: list[Connection], processes: list[Any]) -> None:
    for pipe in pipes:
        pipe.close()
    for process in processes:
        process.join(CLOSE_TIMEOUT_S)
        process.kill()
        process.join()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Block what ends a command in processes started inside, from their start.

    A terminal, `timeout` and schedulers send these signals to all processes of a command; the
    parent handles them, and may still need its environments for what it finishes first.
    """
    ensure_running()  # else the first start starts it, and unblocks the signal in passing
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
