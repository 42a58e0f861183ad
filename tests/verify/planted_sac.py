"""Bugs to plant into SAC; see planted.py."""

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


def partly_detached_policy(policy: Callable) -> Callable:
    """Halve the gradient of the policy's mean."""

    def call(obs):
        distribution = policy(obs)
        return distribution._replace(mean=partly_detached(distribution.mean))

    return call


def without_entropy(index: int) -> Callable[[Callable], Callable]:
    """Call the right function at temperature zero (its argument `index` is log alpha)."""
    return lambda f: lambda *a: f(*a[:index], a[index] - 1e3, *a[index + 1 :])


TARGET = {
    "terminal states bootstrap": Plant(
        "critic_target", columns_of(3, discount=lambda x: 0.0 * x + 0.9)
    ),
    "rewards forgotten": Plant("critic_target", columns_of(3, reward=lambda x: 0.0 * x)),
    "value of the same observation": Plant(
        "critic_target", lambda f: lambda p, t, a, b, n: f(p, t, a, b._replace(next_obs=b.obs), n)
    ),
    "one critic in the target": Plant(
        "critic_target", lambda f: lambda p, t, *a: f(p, (t[0], t[0]), *a)
    ),
    "no entropy in the target": Plant("critic_target", without_entropy(2)),
    "the actor's noise in the target": Plant(
        "critic_target",
        lambda f: lambda p, t, a, b, n: f(p, t, a, b, n._replace(next_action=n.action)),
    ),
}
LOSS = {
    "actor partly detached": Plant(
        "actor_loss", lambda f: lambda p, *a: f(partly_detached_policy(p), *a)
    ),
    "actor by one critic": Plant("actor_loss", lambda f: lambda p, c, *a: f(p, (c[0], c[0]), *a)),
    "actor at the next observation": Plant(
        "actor_loss", lambda f: lambda p, c, a, b, n: f(p, c, a, b._replace(obs=b.next_obs), n)
    ),
    "no entropy in the actor's loss": Plant("actor_loss", without_entropy(2)),
    "alpha goes the wrong way": Plant(
        "alpha_loss", lambda f: lambda *a: f(*a)._replace(loss=-1.0 * f(*a).loss)
    ),
    "target entropy upside down": Plant("alpha_loss", config_of(4, target_entropy_scale=-1.0)),
    "density of the most likely action": Plant(
        "SquashedGaussian.sample_log_prob", lambda f: lambda d, n: (f(d, n)[0], f(d, 0.0 * n)[1])
    ),
    "variance for std": Plant(
        "SquashedGaussian.sample", lambda f: lambda d, n: f(d._replace(log_std=2.0 * d.log_std), n)
    ),
}
STATE = {
    "alpha's step size": Plant("make_agent_def", scaled("alpha_lr", 0.9)),
    "lowest log std": Plant("make_agent_def", scaled("log_std_min", 0.9)),
    "highest log std": Plant("make_agent_def", scaled("log_std_max", 0.9)),
}
PLANTS = {**TARGET, **LOSS, **STATE, **TWINS, **BOUNDS, **LEARNER}
