"""Off-policy training driven from Python: any framework, any engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tiebreak.core.off_policy import Act, Explored, Exploring, Transition
from tiebreak.core.prefixes import Arrays, add_prefix, strip_prefix
from tiebreak.core.seeding import derive
from tiebreak.core.types import Agent, Tree
from tiebreak.envs.base import HostEnv
from tiebreak.frameworks.replay import Ring
from tiebreak.frameworks.runtime import Runtime, numpy_stack
from tiebreak.loops.base import Loop, Progress, off_policy_draws
from tiebreak.loops.env_snapshot import dump_world, load_world
from tiebreak.loops.episodes import Episodes
from tiebreak.loops.exploration import first_exploring, noise_scales, random_act, random_draw


class HostOffPolicy(Loop):
    """Round by round: act and step the environments, keep what happened, learn from the replay.

    Nothing is read back from the device but the actions, where Python must see them.
    """

    kind = "host"

    def __init__(
        self, algorithm: str, runtime: Runtime, raw: Agent, env: HostEnv, config: Any, seed: int
    ):
        self.runtime, self.raw_agent, self.env = runtime, raw, env
        self.spec, self.config = env.spec, config
        self.agent, scales = runtime.agent(raw), noise_scales(algorithm, config)
        self._actor: Any = (
            runtime.compile_exploring_act(raw, scales) if scales else runtime.compile_act(raw)
        )
        self.ring = Ring(runtime, env.spec, config)
        self._learn = self.ring.compile_update(raw)
        self._draws = off_policy_draws(algorithm, env.spec, config)
        self._noise_seed = derive(seed, "noise")
        self.state = self.agent.init(derive(seed, "weights"))
        self._on_device = not isinstance(obs := env.reset(), np.ndarray)
        self._obs, self._episodes = obs, Episodes(env.num_envs)
        asarray = runtime.asarray if self._on_device else np.asarray
        self._exploring = (first_exploring(env.num_envs, asarray),) if scales else ()

    @property
    def obs(self) -> Any:
        return self._obs

    def run(self) -> Progress:
        seen, metrics = (self._explore(), None) if self.is_warmup else self._learn_rounds()
        self.steps += self.config.iteration_steps
        return Progress(metrics, *self._ended(seen))

    def collect(self) -> Tree:
        noise = self.runtime.draw(self._draws, self._noise_seed, self._iteration)
        rows = [self._round(noise.act, r) for r in range(self.config.num_rounds)]
        self.steps += self.config.iteration_steps
        self.collected += self.config.iteration_steps
        return rows[-1]

    def dump(self) -> Arrays:
        world = dump_world(self.env, self._obs, self._episodes, self.runtime)
        exploring = self.runtime.to_numpy(self._exploring) if self._on_device else self._exploring
        for state in exploring:
            world.update(add_prefix("exploring", state._asdict()))
        return {**super().dump(), **world, **add_prefix("replay", self.ring.dump())}

    def load(self, arrays: Mapping[str, np.ndarray]) -> bool:
        super().load(arrays)
        self.ring.load(strip_prefix("replay", arrays))
        world = self.env, self._obs, self._episodes, self.runtime
        self._obs, goes_on = load_world(arrays, *world)
        if goes_on and self._exploring:
            asarray = self.runtime.asarray if self._on_device else np.asarray
            stored = strip_prefix("exploring", arrays)
            self._exploring = (Exploring(*(asarray(stored[k]) for k in Exploring._fields)),)
        return goes_on

    @property
    def _iteration(self) -> int:
        return self.steps // self.config.iteration_steps

    def _learn_rounds(self) -> tuple[list[Transition], Tree]:
        """An iteration of acting and learning; metrics are one of each round."""
        noise = self.runtime.draw(self._draws, self._noise_seed, self._iteration)
        seen, metrics = [], []
        for r in range(self.config.num_rounds):
            seen.append(self._round(noise.act, r))
            self.ring.add(seen[-1])
            self.state, measured = self._learn(self.state, self.ring.arrays, noise, r)
            metrics.append(measured)
        self.updates += self.config.updates_per_iteration
        return seen, self.runtime.stack(metrics)

    def _explore(self) -> list[Transition]:
        """An iteration of uniformly random actions, kept."""
        draw = random_draw(self.spec, self.config)
        noise = self.runtime.draw(draw, self._noise_seed, self._iteration)
        rows = []
        for r in range(self.config.num_rounds):
            rows.append(self._round(self.runtime.to_numpy(noise), r, random=True))
            self.ring.add(rows[-1])
        return rows

    def _round(self, noise: Tree, r: int, random: bool = False) -> Transition:
        """`num_steps` steps of every environment: [T, N, …]."""
        steps = self.config.num_steps
        rows = [self._one_step(noise, r * steps + t, random) for t in range(steps)]
        return (self.runtime.stack if self._on_device else numpy_stack)(rows)

    def _one_step(self, noise: Tree, t: int, random: bool) -> Transition:
        if random:
            act = self._placed(random_act(self.spec, noise[t], np))
        else:
            act = self._actor(self.state, self._obs, noise, t, *self._exploring)
            if not self._on_device:
                act = self.runtime.to_numpy(act)
        out = self.env.step(act.action)
        ends = out.terminated, out.truncated
        row = Transition(self._obs, act.raw_action, out.reward, *ends, out.final_obs)
        if isinstance(act, Explored):
            self._exploring = (Exploring(act.scale, *ends),)
        self._obs = out.obs
        return row

    def _placed(self, act: Act) -> Act:
        return Act(*map(self.runtime.asarray, act)) if self._on_device else act

    def _ended(self, rounds: list[Transition]) -> tuple[int, float, int]:
        """Episodes that ended in these rounds; the one look at the device of an iteration."""
        seen = [(x.reward, x.terminated, x.truncated) for x in rounds]
        if self._on_device:
            seen = self.runtime.to_numpy(tuple(seen))
        reward, terminated, truncated = (np.concatenate(x) for x in zip(*seen, strict=True))
        return self._episodes.take(reward, terminated | truncated)
