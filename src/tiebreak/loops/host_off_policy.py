"""Off-policy training driven from Python: any framework, any engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tiebreak.core.off_policy import Act, Explored, Exploring, Transition
from tiebreak.core.prefixes import Arrays, add_prefix, strip_prefix
from tiebreak.core.types import Agent, Tree
from tiebreak.envs.base import HostEnv
from tiebreak.frameworks.replay import Ring
from tiebreak.frameworks.runtime import Runtime
from tiebreak.loops.base import Progress, off_policy_draws
from tiebreak.loops.exploration import first_exploring, noise_scales, random_act, random_draw
from tiebreak.loops.host_base import HostLoop


class HostOffPolicy(HostLoop):
    """Round by round: act and step the environments, store transitions, learn from the replay.

    Only actions are read back from the device, where Python must see them.
    """

    def __init__(
        self,
        algorithm: str,
        runtime: Runtime,
        raw_agent: Agent,
        env: HostEnv,
        config: Any,
        seed: int,
    ):
        self.ring = Ring(runtime, env.spec, config)  # first: it says if memory does not suffice
        super().__init__(runtime, raw_agent, env, config, seed)
        self._learn = self.ring.compile_update(raw_agent)
        self._draws = off_policy_draws(algorithm, env.spec, config)

        scales = noise_scales(algorithm, config)
        self._act: Any
        if scales is None:
            self._act = runtime.compile_act(raw_agent)
            self._exploring: tuple[Exploring, ...] = ()
        else:  # every episode has a noise scale of its own
            self._act = runtime.compile_exploring_act(raw_agent, scales)
            self._exploring = (first_exploring(env.num_envs, self._to_env_side),)

    def run(self) -> Progress:
        if self.is_warmup:
            rounds, metrics = self._fill_replay(), None
        else:
            rounds, metrics = self._learn_rounds()
        self.steps += self.config.iteration_steps
        return Progress(metrics, *self._ended_episodes(rounds))

    def collect(self) -> Tree:
        noise = self._draw_noise()
        rounds = [self._round(noise.act, r) for r in range(self.config.num_rounds)]
        self.steps += self.config.iteration_steps
        self.collected += self.config.iteration_steps
        return rounds[-1]

    def dump(self) -> Arrays:
        arrays = {**super().dump(), **add_prefix("replay", self.ring.dump())}
        exploring = self.runtime.to_numpy(self._exploring) if self._on_device else self._exploring
        for state in exploring:
            arrays.update(add_prefix("exploring", self.ranks.gather(state, axis=0)._asdict()))
        return arrays

    def load(self, arrays: Mapping[str, np.ndarray]) -> bool:
        restored = super().load(arrays)
        self.ring.load(strip_prefix("replay", arrays))
        if restored and self._exploring:
            stored = strip_prefix("exploring", arrays)
            fields = Exploring(*(stored[name] for name in Exploring._fields))
            own = self.ranks.part(fields, axis=0)
            self._exploring = (Exploring(*map(self._to_env_side, own)),)
        return restored

    def _learn_rounds(self) -> tuple[list[Transition], Tree]:
        """Act and learn for one iteration; return its rounds, and metrics of each round."""
        noise = self._draw_noise()
        rounds, metrics = [], []
        for r in range(self.config.num_rounds):
            transitions = self._round(noise.act, r)
            self.ring.add(transitions)
            self.state, of_round = self._learn(self.state, self.ring.arrays, noise, r)
            rounds.append(transitions)
            metrics.append(of_round)
        self.updates += self.config.updates_per_iteration
        stacked = self.runtime.stack(metrics)
        if self.ranks.count > 1:  # each has learnt from its part of every batch
            stacked = type(stacked)(*self.ranks.mean(stacked))
        return rounds, stacked

    def _draw_noise(self) -> Any:
        """Draw an iteration's noise, of which a rank needs the part of its environments and rows.

        Indices are those of whole batches: all ranks have the whole replay.
        """
        noise = self.runtime.draw(self._draws, self._noise_seed, self._iteration)
        act, step = self.ranks.part(noise.act, axis=1), self.ranks.part(noise.step, axis=2)
        return noise._replace(act=act, step=step)

    def _fill_replay(self) -> list[Transition]:
        """Store one iteration of uniformly random actions, without learning."""
        draw = random_draw(self.spec, self.config)
        noise = self.runtime.draw(draw, self._noise_seed, self._iteration)
        noise = self.ranks.part(noise, axis=1)
        rounds = []
        for r in range(self.config.num_rounds):
            transitions = self._round(self.runtime.to_numpy(noise), r, random=True)
            self.ring.add(transitions)
            rounds.append(transitions)
        return rounds

    def _round(self, noise: Tree, r: int, random: bool = False) -> Transition:
        """Take `num_steps` steps of every environment, of all ranks; return [T, N, …]."""
        num_steps = self.config.num_steps
        steps = [self._step(noise, r * num_steps + t, random) for t in range(num_steps)]
        return self.ranks.gather(self._stack(steps), axis=1)

    def _step(self, noise: Tree, t: int, random: bool) -> Transition:
        """Take one step of every environment, with row t of the noise."""
        if random:
            act = Act(*map(self._to_env_side, random_act(self.spec, noise[t], np)))
        else:
            act = self._act(self.state, self._obs, noise, t, *self._exploring)
            if not self._on_device:
                act = self.runtime.to_numpy(act)

        out = self.env.step(act.action)
        transition = Transition(
            obs=self._obs,
            action=act.raw_action,
            reward=out.reward,
            terminated=out.terminated,
            truncated=out.truncated,
            next_obs=out.final_obs,
        )
        if isinstance(act, Explored):
            self._exploring = (Exploring(act.scale, out.terminated, out.truncated),)
        self._obs = out.obs
        return transition

    def _ended_episodes(self, rounds: list[Transition]) -> tuple[int, float, int]:
        """Sum up the episodes that ended in an iteration; reads the device once."""
        for transitions in rounds:
            self._check_observations(transitions.next_obs)
        outcomes = tuple((x.reward, x.terminated, x.truncated) for x in rounds)
        if self._on_device:
            outcomes = self.runtime.to_numpy(outcomes)
        reward, terminated, truncated = (np.concatenate(x) for x in zip(*outcomes, strict=True))
        return self._episodes.take(reward, terminated | truncated)
