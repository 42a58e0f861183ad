"""One of the processes of `envs/processes.py`: a part of the environments, and the memory for all.

What it imports is what a process of environments waits for when it starts: no framework.
"""

from __future__ import annotations

import contextlib
import math
import traceback
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.core.types import EnvSpec, EnvStep


class Slots(NamedTuple):
    """Views of memory that all processes see, with one row for each environment."""

    action: Any
    step: EnvStep


def slot_bytes(spec: EnvSpec) -> int:
    """What one environment's row takes."""
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in _layout(spec))


def slots(spec: EnvSpec, num_envs: int, memory: Any) -> Slots:
    """The slots of `num_envs` environments in `memory` of that many times `slot_bytes`."""
    found, at = [], 0
    for shape, dtype in _layout(spec):
        whole = (num_envs, *shape)
        found.append(np.frombuffer(memory, dtype, math.prod(whole), at).reshape(whole))
        at += found[-1].nbytes
    return Slots(found[0], EnvStep(*found[1:]))


def serve(
    pipe: Connection, memory: Any, engine: str, name: str, num_envs: int, seed: int, part: range
) -> None:
    """Answer until the other end is closed: (None, value), or what was raised as `_told`, None."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError), pipe:
        try:
            env = registry.load(engine).make(name, len(part), seed, first=part.start)
            mine = _rows(slots(env.spec, num_envs, memory), part)
            pipe.send((None, None))
            while question := _next(pipe):
                pipe.send((None, _answer(env, mine, *question)))
            env.close()
        except Exception as error:
            pipe.send((_told(error), None))


def named(part: range) -> str:
    """How messages call a part."""
    return f"environment {part[0]}" if len(part) == 1 else f"environments {part[0]} to {part[-1]}"


def _next(pipe: Connection) -> tuple[str, tuple] | None:
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError):
        return None


def _answer(env: Any, mine: Slots, what: str, arguments: tuple) -> Any:
    if what == "reset":
        mine.step.obs[...] = env.reset()
    elif what == "step":
        # A copy: an environment may keep its last action, and the memory is written over.
        for slot, array in zip(mine.step, env.step(mine.action.copy()), strict=True):
            slot[...] = array
    else:
        return getattr(env, what)(*arguments)
    return None


def _told(error: Exception) -> tuple[str, str, str]:
    """Type, message and traceback: not every exception can travel."""
    kind = "UsageError" if isinstance(error, UsageError) else type(error).__name__
    return kind, str(error), traceback.format_exc()


def _rows(whole: Slots, part: range) -> Slots:
    at = slice(part.start, part.stop)
    return Slots(whole.action[at], EnvStep(*(x[at] for x in whole.step)))


def _layout(spec: EnvSpec) -> list[tuple[tuple[int, ...], np.dtype]]:
    """Shape and type of an environment's row of each slot; multiples of four bytes come first.

    Actions of a box in double precision, which holds whatever a loop gives.
    """
    box = (spec.action_size,), np.dtype(np.float64)
    action = ((), np.dtype(np.int64)) if spec.discrete else box
    obs, number, flag = (spec.observation_shape, np.float32), ((), np.float32), ((), np.bool_)
    fields = {
        "obs": obs, "reward": number, "terminated": flag, "truncated": flag, "final_obs": obs,
    }  # fmt: skip
    return [action, *((fields[k][0], np.dtype(fields[k][1])) for k in EnvStep._fields)]
