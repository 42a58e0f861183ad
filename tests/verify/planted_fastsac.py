"""Bugs to plant into FastSAC; see planted.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

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


def of_each(combine: Callable[[Any, Any, Any], Any]) -> Callable[[Callable], Callable]:
    """Give both critics one distribution, made of the right ones and of their atoms."""

    def plant(f):
        def call(policy, critics, log_alpha, batch, noise, config):
            target = f(policy, critics, log_alpha, batch, noise, config)
            both = combine(target.first, target.second, config)
            return target._replace(first=both, second=both)

        return call

    return plant


def smaller_mean(first: Any, second: Any, config: Any) -> Any:
    """Return the distribution with the smaller mean, as FastTD3 does."""
    step = (config.v_max - config.v_min) / (config.num_atoms - 1)
    difference = 0.0 * first[:, 0]
    for i in range(config.num_atoms):
        difference = difference + (first[:, i] - second[:, i]) * (config.v_min + step * i)
    is_first = as_number(difference < 0.0, first)[:, None]
    return is_first * first + (1.0 - is_first) * second


def as_number(condition: Any, like: Any) -> Any:
    """Turn booleans into 0 and 1 of the type of `like`, in the library that it comes from."""
    library = type(like).__module__.partition(".")[0]
    if library == "torch":
        return condition.to(like.dtype)
    if library == "tensorflow":
        import tensorflow as tf

        return tf.cast(condition, like.dtype)
    return condition.astype(like.dtype)


def bonus_where_nothing_follows(f: Callable) -> Callable:
    """Add the entropy's bonus undiscounted, and at the ends of episodes, too."""

    def call(policy, critics, log_alpha, batch, noise, config):
        _, log_prob = policy(batch.next_obs).sample_log_prob(noise.next_action)
        missing = (1.0 - batch.discount) * math.e**log_alpha * log_prob
        moved = batch._replace(reward=batch.reward - missing)
        return f(policy, critics, log_alpha, moved, noise, config)

    return call


def of_log_alpha(f: Callable) -> Callable:
    """Return the loss of α with log α as its factor, which is SAC's."""

    def call(log_alpha, *rest):
        terms = f(log_alpha, *rest)
        return terms._replace(loss=log_alpha * terms.loss / terms.alpha)

    return call


TARGET = {
    "terminal states bootstrap": Plant(
        "target_distributions", columns_of(3, discount=lambda x: 0.0 * x + 0.9)
    ),
    "rewards forgotten": Plant("target_distributions", columns_of(3, reward=lambda x: 0.0 * x)),
    "value of the same observation": Plant(
        "target_distributions",
        lambda f: lambda p, c, a, b, *rest: f(p, c, a, b._replace(next_obs=b.obs), *rest),
    ),
    "smaller distribution for both, as FastTD3's": Plant(
        "target_distributions", of_each(smaller_mean)
    ),
    "both distributions averaged": Plant(
        "target_distributions", of_each(lambda one, two, config: 0.5 * (one + two))
    ),
    "each critic by the other's target": Plant(
        "target_distributions", lambda f: lambda p, c, *a: f(p, (c[1], c[0]), *a)
    ),
    "no entropy in the target": Plant("target_distributions", without_entropy(2)),
    "entropy where nothing follows": Plant("target_distributions", bonus_where_nothing_follows),
    "the actor's noise in the target": Plant(
        "target_distributions",
        lambda f: lambda p, c, a, b, n, *r: f(p, c, a, b, n._replace(next_action=n.action), *r),
    ),
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
    "logits at another temperature": Plant(
        "critic_loss", lambda f: lambda c, *a: f(tuple(lambda *x, q=q: 0.99 * q(*x) for q in c), *a)
    ),
    "actor partly detached": Plant(
        "actor_loss", lambda f: lambda p, *a: f(partly_detached_policy(p), *a)
    ),
    "actor by the first critic alone": Plant(
        "actor_loss", lambda f: lambda p, c, *a: f(p, (c[0], c[0]), *a)
    ),
    "actor by both critics' sum": Plant(
        "actor_loss", lambda f: lambda *a: f(*a)._replace(loss=f(*a).loss - f(*a).q)
    ),
    "actor at the next observation": Plant(
        "actor_loss", lambda f: lambda p, c, a, b, *r: f(p, c, a, b._replace(obs=b.next_obs), *r)
    ),
    "actor sees what is privileged": Plant(
        "actor_loss", lambda f: lambda p, *a: f(lambda obs: p(obs[:, 2:]), *a)
    ),
    "no entropy in the actor's loss": Plant("actor_loss", without_entropy(2)),
    "alpha goes the wrong way": Plant(
        "alpha_loss", lambda f: lambda *a: f(*a)._replace(loss=-1.0 * f(*a).loss)
    ),
    "log alpha in alpha's loss, as SAC's": Plant("alpha_loss", of_log_alpha),
    "target entropy upside down": Plant("alpha_loss", config_of(3, target_entropy_scale=-0.5)),
    "target entropy of one dimension": Plant(
        "alpha_loss", lambda f: lambda log_alpha, entropy, size, c: f(log_alpha, entropy, 1, c)
    ),
    "density of the most likely action": Plant(
        "SquashedGaussian.sample_log_prob", lambda f: lambda d, n: (f(d, n)[0], f(d, 0.0 * n)[1])
    ),
    "variance for std": Plant(
        "SquashedGaussian.sample", lambda f: lambda d, n: f(d._replace(log_std=2.0 * d.log_std), n)
    ),
}


STATE = {
    "alpha's step size": Plant("make_agent_def", scaled("alpha_lr", 0.9)),
    "no weight decay": Plant("make_agent_def", config_of(1, weight_decay=0.0)),
    "alpha's decay that of the weights": Plant(
        "make_agent_def", config_of(1, alpha_weight_decay=0.1)
    ),
    "Adam's usual second moments": Plant("make_agent_def", config_of(1, adam_beta2=0.999)),
    "lowest log std": Plant("make_agent_def", scaled("log_std_min", 0.9)),
    "highest log std": Plant("make_agent_def", scaled("log_std_max", 0.9)),
}
PLANTS = {**TARGET, **LOSS, **STATE, **TWINS, **BOUNDS, **LEARNER}
