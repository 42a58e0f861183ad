"""XLand-MiniGrid on the device, and its ports of MiniGrid: `xminigrid/MiniGrid-Empty-5x5`.

A task of XLand has no goal of its own: `xminigrid/XLand-MiniGrid-R1-9x9@trivial-21k` draws goal,
rules and objects of every episode from a benchmark.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xminigrid
from xminigrid.rendering.rgb_render import render as rgb_render
from xminigrid.types import StepType, TimeStep

from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.types import Array, EnvSpec, Tree
from tiebreak.envs.jax_state import strong
from tiebreak.envs.jax_vector import VectorEnv

XLAND = "XLand-"
"""Beginning of the ids that need a benchmark."""
SMALLEST = "trivial-21k"
"""The benchmark that `tasks` names."""


class XMinigridEnv(VectorEnv):
    """N environments of one id; an observation is the view, [height, width, 2]: tile and colour."""

    raw_keys = True  # a state holds the key of its episode

    def __init__(self, env: Any, params: Any, benchmark: Any, num_envs: int):
        self._env, self._params, self._benchmark = env, params, benchmark
        spec = EnvSpec.make(
            observation_shape=env.observation_shape(params), num_actions=env.num_actions(params)
        )
        super().__init__(spec, num_envs)

    def render(self, state: Tree, index: int) -> np.ndarray:
        """Return the whole grid; what the agent sees is lighter."""
        one = jax.tree.map(lambda x: np.asarray(x[index]), state)
        return rgb_render(one.grid, one.agent, self._params.view_size)

    def _reset_one(self, key: Array) -> tuple[Tree, Array]:
        params = self._params
        if self._benchmark is not None:
            rules_key, key = jax.random.split(key)
            params = params.replace(ruleset=self._benchmark.sample_ruleset(rules_key))
        first = self._env.reset(params, key)
        return strong(first.state), first.observation.astype(jnp.float32)

    def _step_one(self, key: Array, state: Tree, action: Array) -> tuple:
        before = TimeStep(
            state=state, step_type=StepType.MID, reward=0.0, discount=1.0, observation=None
        )
        after = self._env.step(self._params, before, action)
        terminated = after.last() & (after.discount == 0.0)
        return (
            after.state, after.observation.astype(jnp.float32), after.reward.astype(jnp.float32),
            terminated, after.last() & ~terminated,
        )  # fmt: skip


def make(name: str, num_envs: int, seed: int, render: bool = False) -> XMinigridEnv:
    """Make `num_envs` environments of an id; keys are arguments, not `seed`.

    They are made no differently to `render`.

    Raises UsageError for an unknown id or benchmark, for a task of XLand without a benchmark, and
    if a benchmark cannot be downloaded.
    """
    task, _, benchmark = name.partition("@")
    if task not in xminigrid.registered_environments():
        valid = [f"xminigrid/{known}" for known in tasks()]
        raise unknown("task", f"xminigrid/{name}", valid, "(tiebreak list --tasks xminigrid)")
    if task.startswith(XLAND) != bool(benchmark):
        raise UsageError(
            f"task 'xminigrid/{name}' has no goal without a benchmark: name one, e.g. "
            f"'xminigrid/{task}@{SMALLEST}'"
            if task.startswith(XLAND)
            else f"task 'xminigrid/{task}' has its own goal: leave out {'@' + benchmark!r}"
        )
    env, params = xminigrid.make(task)
    return XMinigridEnv(env, params, _load(benchmark) if benchmark else None, num_envs)


def tasks() -> list[str]:
    """Return all ids that are registered, those of XLand with the smallest benchmark."""
    return [
        f"{name}@{SMALLEST}" if name.startswith(XLAND) else name
        for name in xminigrid.registered_environments()
    ]


@functools.cache
def _load(benchmark: str) -> Any:
    """Return the rulesets of a benchmark, which xminigrid downloads at first use."""
    if benchmark not in xminigrid.registered_benchmarks():
        raise unknown("benchmark of xminigrid", benchmark, xminigrid.registered_benchmarks())
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return xminigrid.load_benchmark(benchmark)
    except (OSError, EOFError) as error:
        raise UsageError(
            f"xminigrid downloads the rulesets of {benchmark!r} at first use, into "
            f"$XLAND_MINIGRID_DATA or ~/.xland_minigrid, and that failed: {error}"
        ) from error
