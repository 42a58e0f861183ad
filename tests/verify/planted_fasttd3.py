"""Bugs to plant into FastTD3; see planted.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from verify.planted import (
    BOUNDS,
    LEARNER,
    Plant,
    columns_of,
    config_of,
    partly_detached,
    scaled,
    swapped_rates,
)


def of_each(combine: Callable[[Any, Any, Any], Any]) -> Callable[[Callable], Callable]:
    """Combine the right target with those that each critic alone would give."""

    def plant(f):
        def call(policy, critics, *rest):
            one, two = (f(policy, (critic, critic), *rest) for critic in critics)
            return combine(f(policy, critics, *rest), one, two)

        return call

    return plant


def noise_of(change: Callable[[Any], Any]) -> Callable[[Callable], Callable]:
    """Change the smoothing noise of the target."""

    def plant(f):
        def call(policy, critics, batch, noise, config):
            changed = noise._replace(target=change(noise.target))
            return f(policy, critics, batch, changed, config)

        return call

    return plant


TARGET = {
    "terminal states bootstrap": Plant(
        "target_distribution", columns_of(2, discount=lambda x: 0.0 * x + 0.9)
    ),
    "rewards forgotten": Plant("target_distribution", columns_of(2, reward=lambda x: 0.0 * x)),
    "value of the same observation": Plant(
        "target_distribution", lambda f: lambda p, c, b, *a: f(p, c, b._replace(next_obs=b.obs), *a)
    ),
    "one critic in the target": Plant("target_distribution", of_each(lambda y, one, two: one)),
    "distribution with the larger mean": Plant(
        "target_distribution", of_each(lambda y, one, two: one + two - y)
    ),
    "both distributions averaged": Plant(
        "target_distribution", of_each(lambda y, one, two: 0.5 * (one + two))
    ),
    "smaller probability of each atom": Plant(
        "target_distribution", of_each(lambda y, one, two: 0.5 * (one + two - abs(one - two)))
    ),
    "no smoothing": Plant("target_distribution", noise_of(lambda x: 0.0 * x)),
    "smoothing with one number for all dimensions": Plant(
        "target_distribution", noise_of(lambda x: 0.0 * x + x[:, :1])
    ),
    "smoothing not clipped": Plant("target_distribution", config_of(4, noise_clip=1e9)),
    "smoothing by half the noise": Plant("target_distribution", config_of(4, target_noise=0.1)),
    "mass lost in the projection": Plant(
        "project_distribution", lambda f: lambda *a: 0.999 * f(*a)
    ),
    "values drawn towards the lowest": Plant(
        "project_distribution",
        lambda f: lambda p, v, low, high: f(p, v - 0.05 * (v - low), low, high),
    ),
    "atoms beside their places": Plant("atoms", lambda f: lambda *a: f(*a) + 0.001),
}
LOSS = {
    "critics' loss averaged": Plant(
        "critic_loss", lambda f: lambda *a: f(*a)._replace(loss=0.5 * f(*a).loss)
    ),
    "second critic partly detached": Plant(
        "critic_loss",
        lambda f: lambda c, *a: f((c[0], lambda *x: partly_detached(c[1](*x))), *a),
    ),
    "critics swapped": Plant("critic_loss", lambda f: lambda c, *a: f((c[1], c[0]), *a)),
    "logits at another temperature": Plant(
        "critic_loss", lambda f: lambda c, *a: f(tuple(lambda *x, q=q: 0.99 * q(*x) for q in c), *a)
    ),
    "actor goes downhill": Plant(
        "actor_loss", lambda f: lambda *a: f(*a)._replace(loss=-1.0 * f(*a).loss)
    ),
    "actor partly detached": Plant(
        "actor_loss", lambda f: lambda p, *a: f(lambda obs: partly_detached(p(obs)), *a)
    ),
    "actor at the next observation": Plant(
        "actor_loss", lambda f: lambda p, c, b, *a: f(p, c, b._replace(obs=b.next_obs), *a)
    ),
    "actor climbs the first critic alone": Plant(
        "actor_loss", lambda f: lambda p, c, *a: f(p, (c[0], c[0]), *a)
    ),
    "actor sees what is privileged": Plant(
        "actor_loss", lambda f: lambda p, *a: f(lambda obs: p(obs[:, 2:]), *a)
    ),
}
STATE = {
    "another tau": Plant("make_agent_def", scaled("tau", 0.9)),
    "targets stay": Plant("make_agent_def", config_of(1, tau=0.0)),
    "no delay": Plant("make_agent_def", config_of(1, policy_delay=1)),
    "step sizes swapped": Plant("make_agent_def", swapped_rates),
    "no weight decay": Plant("make_agent_def", config_of(1, weight_decay=0.0)),
    "weight decay a hundredth off": Plant("make_agent_def", scaled("weight_decay", 0.99)),
    "noise halved": Plant("act", lambda f: lambda s, state, obs, n: f(s, state, obs, 0.5 * n)),
}
PLANTS = {**TARGET, **LOSS, **STATE, **BOUNDS, **LEARNER}
