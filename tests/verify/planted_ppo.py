"""Bugs to plant into PPO; see planted.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from verify.planted import LEARNER, Plant, config_of, partly_detached


def standardized_with_ddof_1(x: Any) -> Any:
    rows = [x[i] for i in range(x.shape[0])]
    mean = sum(rows) / len(rows)
    variance = sum((row - mean) ** 2 for row in rows) / (len(rows) - 1)
    return (x - mean) / (variance**0.5 + 1e-8)


def per_update(f: Callable) -> Callable:
    """Let the learning rate fall with every update instead of every iteration."""

    def rate(config, count):
        total = config.total_steps * config.updates_per_iteration
        return f(replace(config, num_epochs=1, num_minibatches=1, total_steps=total), count)

    return rate


def nothing_ended(batch: Any) -> Any:
    return batch._replace(
        terminated=batch.terminated ^ batch.terminated, truncated=batch.truncated ^ batch.truncated
    )


LOSS = {
    "policy loss negated": Plant("policy_loss", lambda f: lambda r, a, c: -f(r, a, c)),
    "ratio not clipped": Plant("policy_loss", config_of(2, clip=1e6)),
    "advantage not normalized": Plant("policy_loss", config_of(2, normalize_advantage=False)),
    "advantage std with ddof 1": Plant(
        "policy_loss",
        lambda f: (
            lambda r, a, c: f(r, standardized_with_ddof_1(a), replace(c, normalize_advantage=False))
        ),
    ),
    "policy gradient partly detached": Plant(
        "policy_loss", lambda f: lambda r, a, c: f(partly_detached(r), a, c)
    ),
    "value loss not clipped": Plant("value_loss", config_of(3, clip_value=False)),
    "value clipped around the target": Plant(
        "value_loss", lambda f: lambda v, old, t, c: f(v, t, old, c)
    ),
    "value loss without its half": Plant("value_loss", lambda f: lambda *a: 2.0 * f(*a)),
    "value gradient partly detached": Plant(
        "value_loss", lambda f: lambda v, *a: f(partly_detached(v), *a)
    ),
    "entropy subtracted": Plant(
        "ppo_loss",
        lambda f: lambda p, v, b, c: f(p, v, b, replace(c, entropy_coef=-c.entropy_coef)),
    ),
    "value coefficient forgotten": Plant("ppo_loss", config_of(3, value_coef=1.0)),
}
DISTRIBUTIONS = {
    "gumbel noise negated": Plant("Categorical.sample", lambda f: lambda d, n: f(d, -n)),
    "discrete entropy halved": Plant("Categorical.entropy", lambda f: lambda d: 0.5 * f(d)),
    "gaussian density without its constant": Plant(
        "Gaussian.log_prob", lambda f: lambda d, a: f(d, a) + 0.5 * np.log(2 * np.pi)
    ),
    "variance for std": Plant(
        "Gaussian.sample", lambda f: lambda d, n: f(d._replace(log_std=2.0 * d.log_std), n)
    ),
    "log std counted twice": Plant(
        "Gaussian.entropy", lambda f: lambda d: f(d._replace(log_std=2.0 * d.log_std))
    ),
    "actions not clipped to the bounds": Plant(
        "rescale_action", lambda f: lambda raw, low, high: low + 0.5 * (raw + 1.0) * (high - low)
    ),
}
PREPARE = {
    "trace runs through time limits": Plant(
        "gae", lambda f: lambda r, v, nv, keep, trace, g, lam: f(r, v, nv, keep, keep, g, lam)
    ),
    "time limits do not bootstrap": Plant(
        "gae", lambda f: lambda r, v, nv, keep, trace, g, lam: f(r, v, nv, trace, trace, g, lam)
    ),
    "terminated ignored": Plant(
        "gae",
        lambda f: lambda r, v, nv, keep, trace, g, lam: f(r, v, nv, keep * 0 + 1, trace, g, lam),
    ),
    "advantage off by one": Plant(
        "gae", lambda f: lambda r, v, nv, keep, trace, g, lam: f(r, v, v, keep, trace, g, lam)
    ),
    "lambda forgotten": Plant("gae", lambda f: lambda *args: f(*args[:6], 1.0)),
    "return not reset where episodes end": Plant(
        "scale_rewards", lambda f: lambda b, g, m, c: f(nothing_ended(b), g, m, c)
    ),
    "running return not carried": Plant(
        "scale_rewards", lambda f: lambda b, g, m, c: f(b, g * 0.0, m, c)
    ),
}
ANNEALING = {
    "annealing per update": Plant("learning_rate", per_update),
    "no annealing": Plant("learning_rate", config_of(0, anneal_lr=False)),
}
PLANTS = {**LOSS, **DISTRIBUTIONS, **PREPARE, **ANNEALING, **LEARNER}
