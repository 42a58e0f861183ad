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
from gymnasium import wrappers

from tiebreak.core.prefixes import Arrays

KNOWN = ("gymnasium.envs.mujoco.", "gymnasium.envs.classic_control.")
"""Where the tasks are defined whose state is known to be all in here."""
WRAPPERS = (
    wrappers.TimeLimit, wrappers.OrderEnforcing, wrappers.PassiveEnvChecker, wrappers.ClipAction,
    wrappers.RescaleAction, wrappers.FlattenObservation, wrappers.DtypeObservation,
)  # fmt: skip
"""Wrappers that hold nothing between steps but the count of them; others may hold anything."""


def snapshot(env: gymnasium.Env) -> Arrays | None:
    """All that decides how `env` goes on; None where that cannot be had."""
    inner: Any = env.unwrapped
    known = type(inner).__module__.startswith(KNOWN)
    if not known or not all(type(wrapper) in WRAPPERS for wrapper in _wrappers(env)):
        return None
    out = {
        "random": _text(inner.np_random.bit_generator.state),
        "elapsed": np.array([w._elapsed_steps or 0 for w in _timed(env)], np.int64),
    }
    return {**out, **(_simulation(inner) if hasattr(inner, "data") else _attributes(inner))}


def restore(env: gymnasium.Env, arrays: Mapping[str, np.ndarray]) -> None:
    """What `snapshot` gave, into an environment of the same kind that has been reset."""
    inner: Any = env.unwrapped
    inner.np_random.bit_generator.state = _read(arrays["random"])
    for wrapper, elapsed in zip(_timed(env), arrays["elapsed"].tolist(), strict=True):
        wrapper._elapsed_steps = elapsed
    if hasattr(inner, "data"):
        _restore_simulation(inner, arrays)
        return
    for name, value in _read(arrays["plain"]).items():
        setattr(inner, name, value)
    for name, value in arrays.items():
        if name.startswith("attribute/"):
            setattr(inner, name.removeprefix("attribute/"), value.copy()[()])


def _simulation(inner: Any) -> Arrays:
    """All that MuJoCo's next step depends on, as it defines that itself, and what has followed
    from it: rewards read positions that lie a step behind those that the state would give anew.
    """
    import mujoco

    whole = int(mujoco.mjtState.mjSTATE_INTEGRATION)
    state = np.empty(mujoco.mj_stateSize(inner.model, whole))
    mujoco.mj_getState(inner.model, inner.data, state, whole)
    return {"state": state, "derived": np.concatenate([x.ravel() for x in _derived(inner)])}


def _restore_simulation(inner: Any, arrays: Mapping[str, np.ndarray]) -> None:
    import mujoco

    whole = int(mujoco.mjtState.mjSTATE_INTEGRATION)
    mujoco.mj_setState(inner.model, inner.data, arrays["state"], whole)
    targets = _derived(inner)
    ends = np.cumsum([x.size for x in targets])[:-1]
    for target, value in zip(targets, np.split(arrays["derived"], ends), strict=True):
        target[...] = value.reshape(target.shape)


def _derived(inner: Any) -> list[np.ndarray]:
    """A simulation's float arrays, but for the constraints', which each step makes anew and whose
    shapes differ from step to step: a new simulation has none of them.
    """
    import mujoco

    fresh, out = mujoco.MjData(inner.model), []
    for name in dir(fresh):
        same = None if name.startswith("_") else getattr(fresh, name)
        if isinstance(same, np.ndarray) and same.dtype == np.float64 and same.size:
            value = getattr(inner.data, name)
            out += [value] * (value.shape == same.shape)
    return out


def _attributes(inner: Any) -> Arrays:
    """A classic control task's attributes: numbers and None as JSON, arrays in their own types."""
    plain: dict[str, Any] = {}
    out: Arrays = {}
    for name, value in vars(inner).items():
        if name.startswith("_") or name in ("spec", "metadata", "render_mode"):
            continue
        if value is None or type(value) in (bool, int, float):
            plain[name] = value
        elif isinstance(value, (np.ndarray, np.generic)) or _numbers(value):
            out[f"attribute/{name}"] = np.array(value)
    return {"plain": _text(plain), **out}


def _numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(np.isscalar(x) for x in value) and bool(value)


def _wrappers(env: gymnasium.Env) -> Iterator[Any]:
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env


def _timed(env: gymnasium.Env) -> Iterator[Any]:
    """The wrappers that count steps."""
    return (wrapper for wrapper in _wrappers(env) if isinstance(wrapper, wrappers.TimeLimit))


def _text(value: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8).copy()


def _read(array: np.ndarray) -> Any:
    return json.loads(array.tobytes())
