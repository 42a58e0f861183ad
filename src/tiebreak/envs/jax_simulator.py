"""Vectorised environments from the `reset` and `step` of one, for brax and Playground.

Their resets simulate (Playground's CheetahRun: 200 steps), so that no step resets: a new episode
begins in one of the states that were drawn at the start. See docs/decisions/0029.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tiebreak.core.errors import unknown
from tiebreak.core.types import Array, EnvSpec, EnvStep, Tree
from tiebreak.envs.base import DeviceEnv
from tiebreak.envs.jax_state import raw_keys, strong, where_rows

MIN_STARTS = 32
"""Number of first states, at least; with more environments, one for each of them."""


class Simulated(NamedTuple):
    """The state of N environments."""

    sim: Tree
    """[N, …]: the simulator's own states."""
    starts: Tree
    """[M, …]: the states in which episodes begin, M = max(N, MIN_STARTS)"""
    length: Array
    """[N] int32: steps of the episode under way."""
    failures: Array
    """[N] int32: how often the simulator returned NaN or infinity."""


class Draws(NamedTuple):
    """Randomness that steps can consume; leaves are [T, N, …]."""

    start: Array
    """int32: index of the first state of an episode that begins here."""
    rng: Array
    """uint32: its random key, so that two episodes with the same first state differ."""


class Drawing(NamedTuple):
    """Hold what MuJoCo needs to draw the states of a simulator."""

    model: Any
    """mujoco.MjModel"""
    pose: Callable[[Any], Mapping[str, Array]]
    """States -> fields of their MjData by name; leaves [N, …]."""


class SimulatedEnv(DeviceEnv):
    """N environments of one simulator; actions in [-1, 1], observations as one vector.

    `env` has `reset(key) -> state` and `step(state, action) -> state`, of one environment; a state
    has `obs`, `reward`, `done` and a dictionary `info`. Episodes are truncated after `limit_steps`;
    each action is taken `action_repeat` times. `shared(path)` is true for leaves that all
    environments share, which no reset may change. `drawing` is for `render`.
    """

    def __init__(
        self, env: Any, num_envs: int, limit_steps: int, action_repeat: int = 1,
        shared: Callable[[tuple], bool] = lambda path: False,
        drawing: Drawing | None = None,
    ):  # fmt: skip
        self.spec, self.num_envs = _spec(env), num_envs
        self._drawing, self._scene = drawing, None
        self._env, self._limit_steps, self._repeat = env, limit_steps, action_repeat
        self._shared, self._num_starts = shared, max(num_envs, MIN_STARTS)

    def reset(self, key: Array) -> tuple[Simulated, Array]:
        """Start every environment; only here the simulator's own reset runs. obs [N, D] float32."""
        starts = strong(jax.vmap(self._env.reset)(raw_keys(key, (self._num_starts,))))
        # Where the simulator fails in its own reset, a finite state replaces it.
        finite = jnp.isfinite(_vectors(starts.obs)).all(axis=1)
        starts = self._take(starts, jnp.where(finite, jnp.arange(len(finite)), jnp.argmax(finite)))
        sim = self._take(starts, jnp.arange(self.num_envs))
        zeros = jnp.zeros(self.num_envs, jnp.int32)
        return Simulated(sim, starts, zeros, jnp.zeros_like(zeros)), _vectors(sim.obs)

    def draw(self, key: Array, num_steps: int) -> Draws:
        """Draw first states and keys for `num_steps` steps, in one batch."""
        start_key, rng_key = jax.random.split(key)
        shape = (num_steps, self.num_envs)
        start = jax.random.randint(start_key, shape, 0, self._num_starts)
        return Draws(start, raw_keys(rng_key, shape))

    def step(self, state: Simulated, action: Array, noise: Draws) -> tuple[Simulated, EnvStep]:
        """Step; NaN or infinity terminates an episode, without a reward."""
        action = action.astype(jnp.float32).reshape(self.num_envs, -1)
        sim, reward, done = jax.vmap(self._advance)(state.sim, action)
        final_obs, last_obs = _vectors(sim.obs), _vectors(state.sim.obs)
        failed = ~(jnp.isfinite(final_obs).all(axis=1) & jnp.isfinite(reward))
        length = state.length + 1
        terminated = done | failed
        truncated = (length >= self._limit_steps) & ~terminated
        ended = terminated | truncated
        sim = self._begin(ended, state.starts, noise, sim)
        failures = state.failures + failed
        state = Simulated(sim, state.starts, jnp.where(ended, 0, length), failures)
        return state, EnvStep(
            _vectors(sim.obs), jnp.where(failed, 0.0, reward), terminated, truncated,
            where_rows(failed, last_obs, final_obs),
        )  # fmt: skip

    def failures(self, state: Simulated) -> Array:
        return state.failures

    @property
    def steps_per_s(self) -> float:
        return 1.0 / (float(self._env.dt) * self._repeat)

    def render(self, state: Simulated, index: int) -> np.ndarray:
        """Return what the model's first camera sees."""
        from tiebreak.envs.mujoco_scene import MujocoScene

        assert self._drawing is not None, "this simulator has no model to draw"
        if self._scene is None:
            self._scene = MujocoScene(self._drawing.model)
        pose = self._drawing.pose(state.sim)
        return self._scene.picture({name: np.asarray(x[index]) for name, x in pose.items()})

    def _advance(self, sim: Any, action: Array) -> tuple[Any, Array, Array]:
        """Step one environment, as often as the task repeats an action; sum the rewards."""

        def once(sim, _):
            # A copy: simulators write into the dictionaries of the state that is passed in.
            after = self._env.step(jax.tree.map(lambda x: x, sim), action)
            outcome = jnp.asarray(after.reward, jnp.float32), jnp.asarray(after.done) > 0
            return jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, sim), outcome

        if self._repeat == 1:
            sim, (reward, done) = once(sim, None)
            return sim, reward, done
        sim, (reward, done) = jax.lax.scan(once, sim, length=self._repeat)
        return sim, reward.sum(), done.any()

    def _begin(self, ended: Array, starts: Any, noise: Draws, sim: Any) -> Any:
        """Begin new episodes where the last ones have ended."""
        new = self._take(starts, noise.start)
        if "rng" in new.info:
            new = new.replace(info={**new.info, "rng": noise.rng})
        return jax.tree_util.tree_map_with_path(
            lambda path, new, old: old if self._shared(path) else where_rows(ended, new, old),
            new, sim,
        )  # fmt: skip

    def _take(self, states: Any, index: Array) -> Any:
        """Return rows of a batch of states."""
        return jax.tree_util.tree_map_with_path(
            lambda path, x: x if self._shared(path) else x[index], states
        )


def split_physics(engine: str, name: str, physics: Sequence[str]) -> tuple[str, str]:
    """Split `task` or `task@physics`; the default is the first of `physics`."""
    task, at, chosen = name.partition("@")
    if at and chosen not in physics:
        raise unknown(f"physics of '{engine}/{task}'", chosen, physics)
    return task, chosen or physics[0]


def vector(obs: Any) -> Array:
    """Return one observation as a vector; of a dictionary, `state` and the rest of the privileged.

    A `privileged_state` is taken to begin with `state`, as all of Playground's do, so that nothing
    is stored or seen twice.
    """
    if not isinstance(obs, Mapping):
        return jnp.ravel(obs).astype(jnp.float32)
    state = vector(obs["state"])
    return jnp.concatenate([state, vector(obs.get("privileged_state", state))[state.size :]])


def _vectors(obs: Tree) -> Array:
    return jax.vmap(vector)(obs)


@functools.cache  # tracing a robot's reset takes seconds, and a training asks several times
def _spec(env: Any) -> EnvSpec:
    obs = jax.eval_shape(lambda: env.reset(jax.random.PRNGKey(0)).obs)
    size = jax.eval_shape(vector, obs).size
    visible = math.prod(obs["state"].shape) if isinstance(obs, Mapping) else size
    high = np.ones(int(env.action_size))
    return EnvSpec.make(
        observation_shape=(size,), action_low=-high, action_high=high,
        visible=visible if visible < size else None,
    )  # fmt: skip
