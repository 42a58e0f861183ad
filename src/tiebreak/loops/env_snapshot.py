"""The environments of a host loop, and the episodes under way in them, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tiebreak.core.prefixes import Arrays, add_prefix, strip_prefix
from tiebreak.core.types import Array
from tiebreak.envs.base import HostEnv
from tiebreak.frameworks.runtime import Runtime
from tiebreak.loops.episodes import Episodes


def dump_world(env: HostEnv, obs: Array, episodes: Episodes, runtime: Runtime) -> Arrays:
    """Where the environments are; nothing where their engine takes no snapshots."""
    stored = env.snapshot()
    if stored is None:
        return {}
    on_host = isinstance(obs, np.ndarray)
    seen = obs if on_host else runtime.to_numpy((obs,))[0]
    under_way = add_prefix("episodes", episodes.dump())
    return {"obs": seen, **under_way, **add_prefix("env", stored)}


def load_world(
    arrays: Mapping[str, np.ndarray], env: HostEnv, obs: Array, episodes: Episodes, runtime: Any
) -> tuple[Array, bool]:
    """What the agent sees next, and whether the environments go on; else new episodes start."""
    if "obs" not in arrays:
        return obs, False
    env.restore(strip_prefix("env", arrays))
    episodes.load(strip_prefix("episodes", arrays))
    on_host = isinstance(obs, np.ndarray)
    return arrays["obs"] if on_host else runtime.asarray(arrays["obs"]), True
