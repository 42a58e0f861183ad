"""Gymnasium environments as arrays, so that a run can go on exactly where it was cut.

MuJoCo's and the classic control tasks. Others hold what nobody can copy from outside (a Box2D
world, a user's own objects): they have no snapshot, and a resumed run starts new episodes there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np

Arrays = dict[str, np.ndarray]


def snapshot(env: gymnasium.Env) -> Arrays | None:
    """All that decides how `env` goes on; None where that cannot be had."""
    inner = env.unwrapped
    if not hasattr(inner, "data") and not _is_classic(inner):
        return None
    out = {
        "random": _text(json.dumps(inner.np_random.bit_generator.state)),
        "elapsed": np.array([w._elapsed_steps or 0 for w in _timed(env)], np.int64),
    }
    if hasattr(inner, "data"):
        return {**out, **{f"data/{k}": v.copy() for k, v in _mujoco(inner.data)}}
    return {**out, "attributes": _text(json.dumps(_simple(inner)))}


def restore(env: gymnasium.Env, arrays: Mapping[str, np.ndarray]) -> None:
    """What `snapshot` gave, into an environment of the same kind that has been reset."""
    inner = env.unwrapped
    inner.np_random.bit_generator.state = json.loads(_read(arrays["random"]))
    for wrapper, elapsed in zip(_timed(env), arrays["elapsed"].tolist(), strict=True):
        wrapper._elapsed_steps = elapsed
    if hasattr(inner, "data"):
        for name, value in _mujoco(inner.data):
            value[...] = arrays[f"data/{name}"]
        inner.data.time = float(arrays["data/time"])
        return
    for name, value in json.loads(_read(arrays["attributes"])).items():
        setattr(inner, name, np.asarray(value) if isinstance(value, list) else value)


def _mujoco(data: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Every array of a simulation, derived ones included: rewards read positions of the last step,
    which are not those that the state would give anew.
    """
    for name in dir(data):
        if not name.startswith("_") and isinstance(value := getattr(data, name), np.ndarray):
            yield name, value
    yield "time", np.array(data.time)


def _is_classic(inner: Any) -> bool:
    return type(inner).__module__.startswith("gymnasium.envs.classic_control")


def _simple(inner: Any) -> dict[str, Any]:
    """The attributes of a classic control task that are numbers, arrays of them, or None."""
    out = {}
    for name, value in vars(inner).items():
        if name.startswith("_") or name in ("spec", "render_mode", "metadata"):
            continue
        if isinstance(value, (np.ndarray, np.generic, tuple)):
            value = np.asarray(value).tolist()
        if value is None or isinstance(value, (bool, int, float, list)):
            out[name] = value
    return out


def _timed(env: gymnasium.Env) -> Iterator[Any]:
    """The wrappers that count steps."""
    while isinstance(env, gymnasium.Wrapper):
        if hasattr(env, "_elapsed_steps"):
            yield env
        env = env.env


def _text(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8).copy()


def _read(array: np.ndarray) -> str:
    return array.tobytes().decode()
