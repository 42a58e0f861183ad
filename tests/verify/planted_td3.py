"""Bugs to plant into TD3; see planted.py."""

from __future__ import annotations

from collections.abc import Callable

from verify.planted import (
    BOUNDS,
    LEARNER,
    TWINS,
    Plant,
    columns_of,
    config_of,
    partly_detached,
    scaled,
)


def larger_value(f: Callable) -> Callable:
    """Take the larger of both target values, as minus the smaller of their negatives."""

    def call(policy, critics, batch, noise, config):
        negated = tuple(lambda *a, q=q: -q(*a) for q in critics)
        return 2.0 * batch.reward - f(policy, negated, batch, noise, config)

    return call


TARGET = {
    "terminal states bootstrap": Plant(
        "td3_target", columns_of(2, discount=lambda x: 0.0 * x + 0.9)
    ),
    "rewards forgotten": Plant("td3_target", columns_of(2, reward=lambda x: 0.0 * x)),
    "value of the same observation": Plant(
        "td3_target", lambda f: lambda p, c, b, *a: f(p, c, b._replace(next_obs=b.obs), *a)
    ),
    "one critic in the target": Plant(
        "td3_target", lambda f: lambda p, c, *a: f(p, (c[0], c[0]), *a)
    ),
    "larger of both values": Plant("td3_target", larger_value),
    "no target policy smoothing": Plant(
        "td3_target", lambda f: lambda p, c, b, n, config: f(p, c, b, 0.0 * n, config)
    ),
    "smoothing not clipped": Plant("td3_target", config_of(4, noise_clip=1e9)),
    "smoothing by the exploration's noise": Plant("td3_target", config_of(4, target_noise=0.1)),
    "smoothing with one number for all dimensions": Plant(
        "td3_target", lambda f: lambda p, c, b, n, config: f(p, c, b, 0.0 * n + n[:, :1], config)
    ),
}
LOSS = {
    "actor partly detached": Plant(
        "actor_loss", lambda f: lambda p, *a: f(lambda obs: partly_detached(p(obs)), *a)
    ),
    "actor at the next observation": Plant(
        "actor_loss", lambda f: lambda p, c, b: f(p, c, b._replace(obs=b.next_obs))
    ),
}
STATE = {
    "no delay": Plant("make_agent_def", config_of(1, policy_delay=1)),
    "less exploration": Plant("make_agent_def", scaled("exploration_noise", 0.99)),
}
PLANTS = {**TARGET, **LOSS, **STATE, **TWINS, **BOUNDS, **LEARNER}
