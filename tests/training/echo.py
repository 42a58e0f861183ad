"""The smallest task that tells a training loop with a fault from one without.

An episode shows c = ±1, and takes an action; the next observation shows how far the action was from
h·c, and only then comes the reward, 1 − that distance, and the end. So a reward has to go back one
step, through the value of the next observation and, where there are targets, through these.

Some episodes are mirrors: they begin with a distance that is drawn, and end at once with −2 times
that reward. The first kind's last observation looks like such a mirror: where ends are ignored,
the worst action is worth most. A mirror's last observation looks like the beginning of the first
kind, as MPO improves its policy where transitions lead to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tiebreak.core.types import Array, EnvSpec, EnvStep
from tiebreak.envs.base import DeviceEnv
from tiebreak.envs.jax_state import strong

CHOICE, RESULT, MIRROR = range(3)
FAULTS = ("next observation not shifted", "ends ignored", "reward of the step before")
"""Faults of a loop, made by the environment that it steps."""


class State(NamedTuple):
    """What N environments are in; each [N]."""

    kind: Array
    c: Array
    distance: Array
    reward: Array
    """Of the last step."""


class Echo(DeviceEnv):
    """N environments, with actions in [-1, 1], or 0 and 1 that stand for −1 and 1."""

    def __init__(self, num_envs: int, discrete: bool, fault: str = ""):
        box = {"action_low": (-1.0,), "action_high": (1.0,)}
        actions: Any = {"num_actions": 2} if discrete else box
        self.spec = EnvSpec.make(observation_shape=(5,), **actions)
        self.num_envs, self.fault = num_envs, fault
        self.right = 1.0 if discrete else 0.6
        """h: the right action is h·c."""

    def reset(self, key: Array) -> tuple[State, Array]:
        state = strong(self._begin(jax.random.uniform(key, (self.num_envs, 3))))
        return state, _observe(state)

    def draw(self, key: Array, num_steps: int) -> Array:
        return jax.random.uniform(key, (num_steps, self.num_envs, 3))

    def step(self, state: State, action: Array, noise: Array) -> tuple[State, EnvStep]:
        action = 2.0 * action - 1.0 if self.spec.discrete else action[:, 0]
        chosen = jnp.abs(action - self.right * state.c)
        worth = 1.0 - state.distance
        reward = jnp.select(
            [state.kind == RESULT, state.kind == MIRROR], [worth, -2.0 * worth], 0.0
        )
        goes_on = state.kind == CHOICE
        final = State(
            kind=(state.kind + 1) % 3,
            c=state.c,
            distance=jnp.where(goes_on, chosen, state.distance),
            reward=reward,
        )
        new = self._begin(noise)._replace(reward=reward)
        after = strong(jax.tree.map(lambda old, fresh: jnp.where(goes_on, old, fresh), final, new))
        out = EnvStep(_observe(after), reward, ~goes_on, jnp.zeros_like(goes_on), _observe(final))
        return after, self._with_fault(state, out)

    def _with_fault(self, state: State, out: EnvStep) -> EnvStep:
        if self.fault == "next observation not shifted":
            return out._replace(final_obs=_observe(state))
        if self.fault == "ends ignored":
            return out._replace(terminated=jnp.zeros_like(out.terminated))
        if self.fault == "reward of the step before":
            return out._replace(reward=state.reward)
        return out

    def _begin(self, uniform: Array) -> State:
        """Begin episodes from three numbers each, seven of ten of them with a choice."""
        return State(
            kind=jnp.where(uniform[:, 0] < 0.7, CHOICE, MIRROR),
            c=jnp.where(uniform[:, 1] < 0.5, -1.0, 1.0),
            distance=2.0 * uniform[:, 2],
            reward=jnp.zeros(self.num_envs),
        )


def _observe(state: State) -> Array:
    """Return [N, 5]: the kind as one of three, c before a choice, the distance after it."""
    kinds = [(state.kind == kind).astype(jnp.float32) for kind in (CHOICE, RESULT, MIRROR)]
    choosing = state.kind == CHOICE
    shown = [jnp.where(choosing, state.c, 0.0), jnp.where(choosing, 0.0, state.distance)]
    return jnp.stack([*kinds, *shown], axis=1)
