"""Off-policy training as one compiled program: environment, replay, sampling and updates.

The replay stays where it is, and is written in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tiebreak.core.off_policy import Explored, Exploring, Transition, exploring_act
from tiebreak.core.prefixes import Arrays, add_prefix, strip_prefix
from tiebreak.core.types import Agent, Array, State, Tree
from tiebreak.envs.base import DeviceEnv
from tiebreak.envs.jax_state import dump_tree, load_tree
from tiebreak.frameworks.jax import replay as jax_replay
from tiebreak.frameworks.replay import filled, require_memory
from tiebreak.frameworks.runtime import Runtime
from tiebreak.loops.base import Progress, off_policy_draws
from tiebreak.loops.exploration import first_exploring, noise_scales, random_act, random_draw
from tiebreak.loops.fused_base import FusedLoop, Keys, fused_episodes
from tiebreak.loops.memory_estimate import estimate


class Carry(NamedTuple):
    """Arrays that travel between iterations beside the agent's state."""

    replay: jax_replay.Replay
    env_state: Tree
    obs: Array
    exploring: Exploring | None
    """State of the noise scales, where every episode has one."""
    episode_return: Array
    """[N]: return so far of the episode under way."""
    episode_length: Array
    """[N]"""
    iteration: Array


AXES = Carry(*(0 for _ in Carry._fields))._replace(
    replay=jax_replay.Replay(*(0 for _ in jax_replay.Replay._fields))._replace(count=None),
    iteration=None,
)
"""Of a population's carry: 0 where each agent has its own, None where all of them share one.

With a count for each agent, one write to all replays would become one write per agent."""


class Scanned(NamedTuple):
    """The part of a carry that changes with every step."""

    env_state: Tree
    obs: Array
    exploring: Exploring | None


class FusedOffPolicy(FusedLoop):
    """Computes the same numbers as HostOffPolicy from the same seed, in one program."""

    axes = AXES

    def __init__(
        self,
        algorithm: str,
        runtime: Runtime,
        raw_agent: Agent,
        env: DeviceEnv,
        config: Any,
        seed: int,
        chunk: int,
    ):
        require_memory(runtime, env.spec, config)
        super().__init__(runtime, raw_agent, env, config, chunk)
        self._scales = noise_scales(algorithm, config)
        self._draws = off_policy_draws(algorithm, env.spec, config)
        self._random = random_draw(env.spec, config)
        carry, keys = self.start(seed)
        carry = carry._replace(replay=jax_replay.create(env.spec, config, ""))
        self._begin_first(seed, carry, keys)
        self._collect = runtime.transform(self._collect_once, keep=True)
        self.memory = estimate(self)

    def start(self, seed: int) -> tuple[Carry, Keys]:
        """Return all that the seed decides beside the weights: first carry, keys of all draws.

        Without the replay, which is the same for every seed, and large.
        """
        env_state, obs, keys = self._first_obs(seed)
        num_envs = self.env.num_envs
        carry = Carry(
            replay=None,  # type: ignore[arg-type]
            env_state=env_state,
            obs=obs,
            exploring=first_exploring(num_envs, jnp.asarray) if self._scales else None,
            episode_return=jnp.zeros(num_envs),
            episode_length=jnp.zeros(num_envs),
            iteration=jnp.zeros((), jnp.int32),
        )
        return carry, keys

    def begin(self, state: State, carry: Any, keys: Any, wrap: Callable = lambda fn: fn) -> None:
        self.state, self._carry, self._keys = state, carry, keys
        self._run = self.runtime.transform(wrap(self._chunk), donate=1)
        self._fill = self.runtime.transform(wrap(self._fill_replay), keep=True, donate=1)

    def run(self) -> Progress:
        iterations, run = self.iterations_per_run, self._run
        if self.is_warmup:
            done = (self.steps - self.collected) // self.config.iteration_steps
            iterations = min(self.config.warmup_iterations - done, iterations)
            run = self._fill
        else:
            self.updates += iterations * self.config.updates_per_iteration
        self.state, (self._carry, progress) = run(
            self.state, self._carry, self._keys, np.int32(iterations)
        )
        self.steps += iterations * self.config.iteration_steps
        return progress

    def collect(self) -> Tree:
        # The replay stays outside: nothing of it is copied.
        replay, carry = self._carry.replay, self._carry._replace(replay=None)
        self.state, (carry, batch) = self._collect(self.state, carry, self._keys)
        self._carry = carry._replace(replay=replay)
        self.steps += self.config.iteration_steps
        self.collected += self.config.iteration_steps
        return batch

    def dump(self) -> Arrays:
        carry = add_prefix("carry", dump_tree(self._carry._replace(replay=None)))
        replay = filled(*jax.device_get(self._carry.replay))
        return {**super().dump(), **carry, **add_prefix("replay", replay)}

    def load(self, arrays: Mapping[str, np.ndarray]) -> bool:
        restored = super().load(arrays)
        replay = jax_replay.load(self._carry.replay, strip_prefix("replay", arrays))
        carry = load_tree(self._carry._replace(replay=None), strip_prefix("carry", arrays))
        self._carry = carry._replace(replay=replay)
        return restored

    def _iteration(self, state: State, carry: Carry, keys: Keys) -> tuple[State, Carry, Progress]:
        noise, env_noise = self._draw(self._draws, carry.iteration, keys, self._num_steps)

        def one_round(loop, draws):
            state, replay, scanned = loop
            step_noise, index, learn_noise = draws
            scanned, transitions = self._steps(self._acting(state), scanned, step_noise)
            replay = jax_replay.add(replay, transitions)
            batch = jax_replay.sample(replay, index, self.config)
            state, metrics = self.raw_agent.step(state, batch, learn_noise)
            return (state, replay, scanned), (metrics, _outcome(transitions))

        start = (state, carry.replay, _scanned(carry))
        draws = (self._by_round((noise.act, env_noise)), noise.index, noise.step)
        (state, replay, scanned), (metrics, outcome) = jax.lax.scan(one_round, start, draws)
        carry, episodes = _end_iteration(carry, replay, scanned, outcome)
        return state, carry, Progress(jax.tree.map(jnp.mean, metrics), *episodes)

    def _fill_replay(
        self, state: State, carry: Carry, keys: Keys, iterations: Array
    ) -> tuple[State, tuple[Carry, Progress]]:
        """Store a number of iterations of uniformly random actions, without learning."""

        def act(obs, uniform, exploring):
            return random_act(self.spec, uniform, jnp)

        def one_round(loop, step_noise):
            replay, scanned = loop
            scanned, transitions = self._steps(act, scanned, step_noise)
            return (jax_replay.add(replay, transitions), scanned), _outcome(transitions)

        def body(_, loop):
            carry, total = loop
            noise = self._draw(self._random, carry.iteration, keys, self._num_steps)
            start = (carry.replay, _scanned(carry))
            (replay, scanned), outcome = jax.lax.scan(one_round, start, self._by_round(noise))
            carry, episodes = _end_iteration(carry, replay, scanned, outcome)
            return carry, tuple(a + b for a, b in zip(total, episodes, strict=True))

        total = tuple(jnp.zeros((), carry.episode_return.dtype) for _ in range(3))
        carry, total = jax.lax.fori_loop(0, iterations, body, (carry, total))
        return state, (carry, Progress(None, *total))

    def _collect_once(self, state: State, carry: Carry, keys: Keys) -> tuple[State, Any]:
        noise, env_noise = self._draw(self._draws, carry.iteration, keys, self._num_steps)
        step_noise = (noise.act, env_noise)
        scanned, transitions = self._steps(self._acting(state), _scanned(carry), step_noise)
        carry, _ = _end_iteration(carry, carry.replay, scanned, _outcome(transitions))
        return state, (carry, transitions)

    @property
    def _num_steps(self) -> int:
        """Steps of an iteration, over all its rounds."""
        return self.config.num_rounds * self.config.num_steps

    def _by_round(self, tree: Tree) -> Tree:
        """Reshape leaves [R·T, …] to [R, T, …]."""
        rounds = self.config.num_rounds
        return jax.tree.map(lambda x: x.reshape(rounds, -1, *x.shape[1:]), tree)

    def _acting(self, state: State) -> Callable:
        """Return (obs, noise, exploring) -> Act, or Explored if every episode has a noise scale."""
        if self._scales:
            return partial(exploring_act(self.raw_agent.act, self._scales, jnp.where), state)
        return lambda obs, noise, _: self.raw_agent.act(state, obs, noise)

    def _steps(
        self, act: Callable, scanned: Scanned, noise: tuple[Tree, Tree]
    ) -> tuple[Scanned, Transition]:
        """Step all environments once per row of `noise`, the agent's and the environments'."""

        def step(scanned, noise):
            env_state, obs, exploring = scanned
            act_noise, env_noise = noise
            chosen = act(obs, act_noise, exploring)
            env_state, out = self.env.step(env_state, chosen.action, env_noise)
            transition = Transition(
                obs=obs,
                action=chosen.raw_action,
                reward=out.reward,
                terminated=out.terminated,
                truncated=out.truncated,
                next_obs=out.final_obs,
            )
            if isinstance(chosen, Explored):
                exploring = Exploring(chosen.scale, out.terminated, out.truncated)
            return Scanned(env_state, out.obs, exploring), transition

        return jax.lax.scan(step, scanned, noise)


def _scanned(carry: Carry) -> Scanned:
    return Scanned(carry.env_state, carry.obs, carry.exploring)


def _outcome(transitions: Transition) -> tuple[Array, Array]:
    """Return reward, and whether an episode ended."""
    return transitions.reward, transitions.terminated | transitions.truncated


def _end_iteration(
    carry: Carry, replay: jax_replay.Replay, scanned: Scanned, outcome: tuple[Array, Array]
) -> tuple[Carry, tuple]:
    """Return the next iteration's carry, and a summary of the episodes that ended in this one."""
    reward, ended = (x.reshape(-1, len(carry.obs)) for x in outcome)
    carry, episodes = fused_episodes(carry, reward, ended)
    carry = carry._replace(replay=replay, iteration=carry.iteration + 1, **scanned._asdict())
    return carry, episodes
