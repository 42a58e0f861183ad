"""Contestants that compute nothing, some of which lie about it; workers import them."""

from __future__ import annotations

import time

import gymnasium
import numpy as np

CALL_S = 0.02
"""Seconds of a call, which sleeps: what else the machine does changes little."""


class Fake:
    """Steps environments, and moves its weights by hand."""

    seconds = CALL_S
    moves = True

    def __init__(self, cell, config, seed, threads):
        assert cell.task == "gymnasium/CartPole-v1"
        assert config.num_envs == cell.num_envs == 2
        assert config.iteration_steps == 2 * 8
        assert threads >= 1
        self.config = config
        self.env = gymnasium.make("CartPole-v1")
        self.env.reset(seed=seed)
        self.done = {"env_steps": 0, "updates": 0}
        self.kernel = np.zeros(3)

    def train(self, env_steps):
        end = time.perf_counter() + self.seconds
        self.step(env_steps)
        self.done["env_steps"] += self.counted(env_steps)
        self.done["updates"] += self.config.updates_per_iteration
        self.kernel += self.moves
        time.sleep(max(0.0, end - time.perf_counter()))

    def step(self, env_steps):
        for _ in range(env_steps):
            _, _, terminated, truncated, _ = self.env.step(self.env.action_space.sample())
            if terminated or truncated:
                self.env.reset()

    def counted(self, env_steps):
        return env_steps

    def counts(self):
        return self.done

    def weights(self):
        return {"kernel": self.kernel}

    def settings(self):
        return {"threads": "unknown"}

    def close(self):
        self.env.close()


class Slow(Fake):
    """Takes 10 % longer."""

    seconds = 1.1 * CALL_S


class Lazy(Fake):
    """Takes half of the steps, and says so."""

    def step(self, env_steps):
        super().step(env_steps // 2)

    def counted(self, env_steps):
        return env_steps // 2


class Liar(Fake):
    """Takes half of the steps, and counts all."""

    def step(self, env_steps):
        super().step(env_steps // 2)


class Frozen(Fake):
    """Counts updates that move nothing."""

    moves = False


class Broken(Fake):
    """Cannot be made."""

    def __init__(self, cell, config, seed, threads):
        raise ValueError("no such task")
