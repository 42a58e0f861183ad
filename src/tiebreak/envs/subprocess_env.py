"""Host environments in processes of their own, each with a part of them: `env_processes=4`.

A process steps its part as this one would, from the same seeds, so that the numbers are the same
bits. Actions and what they lead to lie in shared memory; a pipe says when. See docs/decisions/0033.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator, Mapping
from multiprocessing.resource_tracker import ensure_running
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.errors import EnvironmentFailed, UsageError
from tiebreak.core.prefixes import Arrays, add_prefix, strip_prefix
from tiebreak.core.types import Array, EnvStep
from tiebreak.envs.base import HostEnv
from tiebreak.envs.subprocess_worker import named, serve, slot_bytes, slots

PATIENCE_S = 5.0
"""For a process to close its environments before it is ended."""


class ProcessesEnv(HostEnv):
    """N environments of one engine, shared out over processes as evenly as whole ones can be.

    `engine` is the path of the engine's module. Raises what making the environments raises, and
    EnvironmentFailed for what they raise later on, and where a process is gone.
    """

    def __init__(self, engine: str, name: str, num_envs: int, seed: int, processes: int):
        first = registry.load(engine).make(name, 1, seed)
        self.spec, self.num_envs = first.spec, num_envs
        first.close()
        context = multiprocessing.get_context("spawn")  # a fork copies JAX's threads' locks
        memory = context.RawArray("b", num_envs * slot_bytes(self.spec))
        self._action, self._seen = slots(self.spec, num_envs, memory)
        rows = np.array_split(np.arange(num_envs), processes)
        self._parts = [range(int(part[0]), int(part[-1]) + 1) for part in rows]
        self._pipes, self._processes = [], []
        for part in self._parts:
            ours, theirs = context.Pipe()
            asked = theirs, memory, engine, name, num_envs, seed, part
            # Daemons: whatever ends this process, none of them stays.
            self._processes.append(context.Process(target=serve, args=asked, daemon=True))
            with _uninterrupted():
                self._processes[-1].start()
            self._pipes.append(ours)
            theirs.close()
        self._began()

    def reset(self) -> np.ndarray:
        """Start every environment again from its own seed."""
        self._all("reset")
        return self._seen.obs.copy()

    def step(self, action: Array) -> EnvStep:
        """Step all parts at once; each resets what ended in it."""
        self._action[...] = action
        self._all("step")
        seen = self._seen
        obs, ended = seen.obs.copy(), seen.terminated | seen.truncated
        final_obs = obs
        if ended.any():
            final_obs = obs.copy()
            final_obs[ended] = seen.final_obs[ended]
        flags = seen.terminated.copy(), seen.truncated.copy()
        return EnvStep(obs, seen.reward.copy(), *flags, final_obs)

    def snapshot(self) -> Arrays | None:
        """Where the environments are, by process; None where the engine cannot tell."""
        out: Arrays = {}
        for i, arrays in enumerate(self._all("snapshot")):
            if arrays is None:
                return None
            out |= add_prefix(str(i), arrays)
        return out

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on where `snapshot` was taken, in as many processes."""
        for i in range(len(self._parts)):
            self._ask(i, "restore", strip_prefix(str(i), arrays))
        self._answers()

    def close(self) -> None:
        """Close every environment, and end the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(PATIENCE_S)
            process.kill()
            process.join()

    def _began(self) -> None:
        try:
            self._answers()
        except UsageError as error:  # this process could make one
            self.close()
            raise UsageError(
                f"in a process of its own: {error}; such a process knows installed tasks and those "
                "of a module that the task names (module:EnvId-v0)"
            ) from error
        except BaseException:
            self.close()
            raise

    def _all(self, what: str) -> list[Any]:
        for i in range(len(self._parts)):
            self._ask(i, what)
        return self._answers()

    def _ask(self, i: int, what: str, *arguments: Any) -> None:
        try:
            self._pipes[i].send((what, arguments))
        except OSError:
            raise self._gone(i) from None

    def _answers(self) -> list[Any]:
        out = []
        for i, pipe in enumerate(self._pipes):
            try:
                error, value = pipe.recv()
            except (EOFError, OSError):
                raise self._gone(i) from None
            if error:
                raise self._raised(i, *error)
            out.append(value)
        return out

    def _raised(self, i: int, kind: str, message: str, traceback: str) -> Exception:
        where = named(self._parts[i])
        usage = kind == "UsageError"
        error = UsageError(message) if usage else EnvironmentFailed(f"{where}: {kind}: {message}")
        error.add_note(f"in the process of {where}:\n{traceback}")
        return error

    def _gone(self, i: int) -> EnvironmentFailed:
        self._processes[i].join(PATIENCE_S)
        status = self._processes[i].exitcode
        killed = ", killed, perhaps for want of memory" if status == -signal.SIGKILL else ""
        return EnvironmentFailed(
            f"the process of {named(self._parts[i])} ended with status {status}{killed}; with "
            "env_processes=1 they are stepped in the training's own process"
        )


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """What is started inside never hears Ctrl-C, not even while it starts: its parent answers."""
    ensure_running()  # else the first start starts it, and unblocks the signal in passing
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
