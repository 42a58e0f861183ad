"""Contestants that compute nothing; workers import them."""

from __future__ import annotations

import time


class Fake:
    """Counts the environment steps that it is asked for."""

    share = 1.0

    def __init__(self, cell, config, seed, threads):
        assert cell.task == "gymnasium/CartPole-v1"
        assert config.num_envs == cell.num_envs == 2
        self.steps = 0

    def train(self, env_steps):
        time.sleep(0.0005)
        self.steps += int(self.share * env_steps)

    def counts(self):
        return {"env_steps": self.steps}

    def close(self):
        pass


class Lazy(Fake):
    """Takes half of the steps."""

    share = 0.5


def honest(cell, config, seed, threads):
    return Fake(cell, config, seed, threads)


def lazy(cell, config, seed, threads):
    return Lazy(cell, config, seed, threads)
