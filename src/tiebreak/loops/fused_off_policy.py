"""Off-policy training as one compiled program: environment, replay, sampling and updates.

Only JAX frameworks on device engines. A call runs a chunk of iterations, whose number is an
argument of the program; the replay stays where it is, and is written in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tiebreak.core.off_policy import Explored, Exploring, Transition, exploring_act
from tiebreak.core.prefixes import Arrays, add_prefix, strip_prefix
from tiebreak.core.seeding import derive
from tiebreak.core.types import Agent, Array, State, Tree
from tiebreak.envs.base import DeviceEnv
from tiebreak.envs.device_keys import chunk_key, env_keys
from tiebreak.envs.jax_state import dump_tree, load_tree
from tiebreak.frameworks.jax import replay as jax_replay
from tiebreak.frameworks.jax.runtime import Runtime, draw_tree
from tiebreak.frameworks.replay import filled, require_memory
from tiebreak.loops.base import Loop, Progress, off_policy_draws
from tiebreak.loops.exploration import first_exploring, noise_scales, random_act, random_draw
from tiebreak.loops.fused_episodes import episodes
from tiebreak.loops.memory_estimate import of_agent


class Carry(NamedTuple):
    """What travels between iterations beside the agent's state."""

    replay: jax_replay.Replay
    env_state: Tree
    obs: Array
    exploring: Exploring | None
    """Where every episode has a σ of its own"""
    episode_return: Array
    """[N]: return so far of the episode under way"""
    episode_length: Array
    """[N]"""
    iteration: Array


AXES = Carry(*(0 for _ in Carry._fields))._replace(
    replay=jax_replay.Replay(*(0 for _ in jax_replay.Replay._fields))._replace(count=None),
    iteration=None,
)
"""Of a population's carry: 0 where each agent has its own, None where all of them share one.

A count for each would make of one write to the replays as many as there are agents."""


class FusedOffPolicy(Loop):
    """Same numbers as HostOffPolicy from the same seed, in one program."""

    kind, axes = "fused", AXES

    def __init__(
        self, algorithm: str, runtime: Runtime, raw: Agent, env: DeviceEnv, config: Any,
        seed: int, chunk: int,
    ):  # fmt: skip
        require_memory(runtime, env.spec, config)
        self.runtime, self.raw_agent, self.env = runtime, raw, env
        self.spec, self.config, self.iterations_per_run = env.spec, config, chunk
        self.agent, self._scales = runtime.agent(raw), noise_scales(algorithm, config)
        self._draws = off_policy_draws(algorithm, env.spec, config)
        self._random = random_draw(env.spec, config)
        self._reset = jax.jit(env.reset)
        carry, keys = self.start(seed)
        carry = carry._replace(replay=jax_replay.create(env.spec, config, ""))
        # Committed to the device like everything that `run` returns: else the second call compiles.
        carry = jax.device_put(carry, runtime.native_device)
        self.begin(self.agent.init(derive(seed, "weights")), carry, keys)
        self._collect = runtime.transform(self._collect_once, keep=True)
        self.memory = of_agent(self)

    def start(self, seed: int) -> tuple[Carry, tuple[Array, Array]]:
        """What the seed decides beside the weights: the first states, and the keys of all draws.

        The replay is left out: it is the same for every seed, and large.
        """
        noise_key = jax.random.key(derive(seed, "noise"), impl=self.runtime.prng)
        reset_key, steps_key = env_keys(seed, self.runtime.prng)
        env_state, obs = self._reset(reset_key)
        zeros = jnp.zeros(self.env.num_envs)
        exploring = first_exploring(len(zeros), jnp.asarray) if self._scales else None
        world = env_state, obs, exploring, zeros, jnp.zeros_like(zeros), jnp.zeros((), jnp.int32)
        return Carry(None, *world), (noise_key, steps_key)

    def begin(
        self, state: State, carry: Carry, keys: tuple, over: Callable = lambda program: program
    ) -> None:
        """Go on from here; `over` makes one agent's program that of many (fused_population.py)."""
        self.state, self._carry, self._keys = state, carry, keys
        self._run = self.runtime.transform(over(self._chunk), donate=1)
        self._warm = self.runtime.transform(over(self._explore), keep=True, donate=1)

    @property
    def obs(self) -> Array:
        return self._carry.obs

    def _failures(self) -> Array | None:
        return self.env.failures(self._carry.env_state)

    def run(self) -> Progress:
        many, run = self.iterations_per_run, self._run
        if self.is_warmup:
            done = (self.steps - self.collected) // self.config.iteration_steps
            many, run = min(self.config.warmup_iterations - done, many), self._warm
        else:
            self.updates += many * self.config.updates_per_iteration
        self.state, (self._carry, progress) = run(
            self.state, self._carry, self._keys, np.int32(many)
        )
        self.steps += many * self.config.iteration_steps
        return progress

    def collect(self) -> Tree:
        replay, world = self._carry.replay, self._carry._replace(replay=None)
        self.state, (world, batch) = self._collect(self.state, world, self._keys)
        self._carry = world._replace(replay=replay)  # it stays outside: nothing of it is copied
        self.steps += self.config.iteration_steps
        self.collected += self.config.iteration_steps
        return batch

    def dump(self) -> Arrays:
        carry = add_prefix("carry", dump_tree(self._carry._replace(replay=None)))
        replay = filled(*jax.device_get(self._carry.replay))
        return {**super().dump(), **carry, **add_prefix("replay", replay)}

    def load(self, arrays: Mapping[str, np.ndarray]) -> bool:
        goes_on = super().load(arrays)
        replay = jax_replay.load(self._carry.replay, strip_prefix("replay", arrays))
        carry = load_tree(self._carry._replace(replay=None), strip_prefix("carry", arrays))
        self._carry = carry._replace(replay=replay)
        return goes_on

    def _chunk(
        self, state: State, carry: Carry, keys: tuple, iterations: Array
    ) -> tuple[State, tuple[Carry, Progress]]:
        """Iterations of learning."""

        def body(_, loop):
            state, carry, total = loop
            state, carry, progress = self._iteration(state, carry, keys)
            return state, carry, jax.tree.map(jnp.add, total, progress)

        shapes = jax.eval_shape(lambda *a: self._iteration(*a)[2], state, carry, keys)
        total = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        state, carry, total = jax.lax.fori_loop(0, iterations, body, (state, carry, total))
        metrics = jax.tree.map(lambda x: x / iterations, total.metrics)
        return state, (carry, total._replace(metrics=metrics))

    def _iteration(self, state: State, carry: Carry, keys: tuple) -> tuple[State, Carry, Progress]:
        noise, rows = self._noise(self._draws, carry, keys)

        def one_round(loop, row):
            state, replay, *world = loop
            steps, index, step_noise = row
            world, seen = self._steps(self._acting(state), world, steps)
            replay = jax_replay.add(replay, seen)
            batch = jax_replay.sample(replay, index, self.config)
            state, metrics = self.raw_agent.step(state, batch, step_noise)
            return (state, replay, *world), (metrics, _outcome(seen))

        start = state, carry.replay, carry.env_state, carry.obs, carry.exploring
        rounds = self._by_round((noise.act, rows)), noise.index, noise.step
        (state, *world), (metrics, outcome) = jax.lax.scan(one_round, start, rounds)
        carry, ended = _after(carry, world, outcome)
        return state, carry, Progress(jax.tree.map(jnp.mean, metrics), *ended)

    def _explore(
        self, state: State, carry: Carry, keys: tuple, iterations: Array
    ) -> tuple[State, tuple[Carry, Progress]]:
        """Iterations of uniformly random actions, kept."""

        def one_round(loop, steps):
            replay, *world = loop
            world, seen = self._steps(lambda _, u, __: random_act(self.spec, u, jnp), world, steps)
            return (jax_replay.add(replay, seen), *world), _outcome(seen)

        def body(_, loop):
            carry, total = loop
            rounds = self._by_round(self._noise(self._random, carry, keys))
            start = carry.replay, carry.env_state, carry.obs, carry.exploring
            world, outcome = jax.lax.scan(one_round, start, rounds)
            carry, ended = _after(carry, world, outcome)
            return carry, tuple(a + b for a, b in zip(total, ended, strict=True))

        total = tuple(jnp.zeros((), carry.episode_return.dtype) for _ in range(3))
        carry, total = jax.lax.fori_loop(0, iterations, body, (carry, total))
        return state, (carry, Progress(None, *total))

    def _collect_once(self, state: State, carry: Carry, keys: tuple) -> tuple[State, Any]:
        noise, rows = self._noise(self._draws, carry, keys)
        world = carry.env_state, carry.obs, carry.exploring
        world, seen = self._steps(self._acting(state), world, (noise.act, rows))
        carry, _ = _after(carry, (carry.replay, *world), _outcome(seen))
        return state, (carry, seen)

    def _noise(self, draws: Tree, carry: Carry, keys: tuple) -> tuple[Tree, Tree]:
        """An iteration's draws and the environments', which have a leading axis R·T."""
        noise_key, steps_key = keys
        steps = self.config.num_rounds * self.config.num_steps
        noise = draw_tree(draws, jax.random.fold_in(noise_key, carry.iteration))
        return noise, self.env.draw(chunk_key(steps_key, carry.iteration), steps)

    def _by_round(self, tree: Tree) -> Tree:
        rounds = self.config.num_rounds
        return jax.tree.map(lambda x: x.reshape(rounds, -1, *x.shape[1:]), tree)

    def _acting(self, state: State) -> Callable:
        """(obs, noise, exploring) -> Act, or Explored where every episode has a σ."""
        if self._scales:
            return partial(exploring_act(self.raw_agent.act, self._scales, jnp.where), state)
        return lambda obs, noise, _: self.raw_agent.act(state, obs, noise)

    def _steps(self, act: Callable, world: Sequence, rows: Tree) -> tuple[tuple, Transition]:
        """As many steps of all environments as `rows` has; world: their state, obs, exploring."""

        def body(world, row):
            env_state, obs, exploring = world
            chosen = act(obs, row[0], exploring)
            env_state, out = self.env.step(env_state, chosen.action, row[1])
            ends = out.terminated, out.truncated
            seen = Transition(obs, chosen.raw_action, out.reward, *ends, out.final_obs)
            if isinstance(chosen, Explored):
                exploring = Exploring(chosen.scale, *ends)
            return (env_state, out.obs, exploring), seen

        return jax.lax.scan(body, tuple(world), rows)


def _outcome(seen: Transition) -> tuple[Array, Array]:
    return seen.reward, seen.terminated | seen.truncated


def _after(carry: Carry, world: Sequence, outcome: tuple[Array, Array]) -> tuple[Carry, tuple]:
    """The next iteration's carry, and what ended in this one."""
    reward, ended = (x.reshape(-1, len(carry.obs)) for x in outcome)
    carry, counts = episodes(carry, reward, ended)
    changed = dict(zip(("replay", "env_state", "obs", "exploring"), world, strict=True))
    return carry._replace(**changed, iteration=carry.iteration + 1), counts
