"""One of the processes of `subprocess_env.py`: steps its part of the environments.

Its imports delay the start of every such process: no framework.
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
from tiebreak.core.seeding import derive, seed_global_generators
from tiebreak.core.types import EnvSpec, EnvStep


class Slots(NamedTuple):
    """Views of shared memory, with one row per environment."""

    action: Any
    step: EnvStep


def slot_bytes(spec: EnvSpec) -> int:
    """Return the bytes of one environment's row."""
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in _layout(spec))


def slots(spec: EnvSpec, num_envs: int, memory: Any) -> Slots:
    """Return the slots of `num_envs` environments in `memory`, which has that many rows."""
    arrays, offset = [], 0
    for shape, dtype in _layout(spec):
        whole = (num_envs, *shape)
        arrays.append(np.frombuffer(memory, dtype, math.prod(whole), offset).reshape(whole))
        offset += arrays[-1].nbytes
    return Slots(arrays[0], EnvStep(*arrays[1:]))


def serve(
    pipe: Connection, memory: Any, engine: str, name: str, num_envs: int, seed: int, part: range
) -> None:
    """Answer until the other end is closed, with (None, value) or (`_describe_error`, None)."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError), pipe:
        try:
            seed_global_generators(derive(seed, "process", part.start))
            env = registry.load(engine).make(name, len(part), seed, first=part.start)
            mine = _rows(slots(env.spec, num_envs, memory), part)
            pipe.send((None, None))
            while command := _next(pipe):
                pipe.send((None, _call(env, mine, *command)))
            env.close()
        except Exception as error:
            pipe.send((_describe_error(error), None))


def describe_part(part: range) -> str:
    """Return the name of a part in messages, e.g. `environments 2 to 3`."""
    return f"environment {part[0]}" if len(part) == 1 else f"environments {part[0]} to {part[-1]}"


def _next(pipe: Connection) -> tuple[str, tuple] | None:
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError):
        return None


def _call(env: Any, mine: Slots, method: str, arguments: tuple) -> Any:
    if method == "reset":
        mine.step.obs[...] = env.reset()
    elif method == "step":
        # A copy: an environment may keep its last action, and the memory is written over.
        for slot, array in zip(mine.step, env.step(mine.action.copy()), strict=True):
            slot[...] = array
    else:
        return getattr(env, method)(*arguments)
    return None


def _describe_error(error: Exception) -> tuple[str, str, str]:
    """Return type, message and traceback: not every exception can be pickled."""
    kind = "UsageError" if isinstance(error, UsageError) else type(error).__name__
    return kind, str(error), traceback.format_exc()


def _rows(whole: Slots, part: range) -> Slots:
    at = slice(part.start, part.stop)
    return Slots(whole.action[at], EnvStep(*(x[at] for x in whole.step)))


def _layout(spec: EnvSpec) -> list[tuple[tuple[int, ...], np.dtype]]:
    """Return shape and type of an environment's row of each slot; multiples of four bytes first.

    Actions of a box are in double precision, which holds whatever a loop passes.
    """
    action = spec.action_shape, np.dtype(np.int64 if spec.discrete else np.float64)
    obs = spec.observation_shape, np.dtype(spec.observation_dtype)
    number, flag = ((), np.float32), ((), np.bool_)
    fields = {
        "obs": obs, "reward": number, "terminated": flag, "truncated": flag, "final_obs": obs,
    }  # fmt: skip
    return [action, *((fields[k][0], np.dtype(fields[k][1])) for k in EnvStep._fields)]
