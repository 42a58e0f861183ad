"""Snapshots of Gymnasium environments as arrays, so that a run resumes exactly.

For MuJoCo and the classic control tasks. Others hold state that cannot be copied from outside (a
Box2D world, a user's own objects): they have no snapshot, and a resumed run starts new episodes.
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
"""Modules of the tasks whose whole state is known."""
WRAPPERS = (
    wrappers.TimeLimit, wrappers.OrderEnforcing, wrappers.PassiveEnvChecker, wrappers.ClipAction,
    wrappers.RescaleAction, wrappers.FlattenObservation, wrappers.DtypeObservation,
)  # fmt: skip
"""Wrappers whose only state is the number of steps; others may hold anything."""


def snapshot(env: gymnasium.Env) -> Arrays | None:
    """Return all that decides how `env` continues; None if that cannot be read."""
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
    """Restore a `snapshot` into an environment of the same kind that has been reset."""
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
    """Return MuJoCo's integration state, and the arrays derived from it.

    Rewards read positions that lie a step behind those that the state alone would give.
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
    """Return a simulation's float arrays, except those of the constraints.

    Each step computes constraints anew, with shapes that differ from step to step; a new simulation
    has none of them, by which they are recognised.
    """
    import mujoco

    new = mujoco.MjData(inner.model)
    arrays = []
    for name in dir(new):
        of_new = None if name.startswith("_") else getattr(new, name)
        if not isinstance(of_new, np.ndarray) or of_new.dtype != np.float64 or not of_new.size:
            continue
        array = getattr(inner.data, name)
        if array.shape == of_new.shape:
            arrays.append(array)
    return arrays


def _attributes(inner: Any) -> Arrays:
    """Return a classic control task's attributes: numbers and None as JSON, arrays as they are."""
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
    """Return the wrappers that count steps."""
    return (wrapper for wrapper in _wrappers(env) if isinstance(wrapper, wrappers.TimeLimit))


def _text(value: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8).copy()


def _read(array: np.ndarray) -> Any:
    return json.loads(array.tobytes())
