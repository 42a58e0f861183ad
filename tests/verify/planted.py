"""Bugs to plant into an implementation, each as a function to replace and a wrong replacement.

Each was seen in public code or is one slip away from ours. They are written with operators only,
so that the same bug can be planted in every framework.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np


class Plant(NamedTuple):
    """One planted bug."""

    target: str
    """Top-level name in the implementation, its losses or its ops; or Class.method of its ops."""
    wrong: Callable[[Callable], Callable]
    """Turns the right function into a wrong one."""


def detach(x: Any) -> Any:
    """Stop the gradient of `x`, in the library that it comes from."""
    library = type(x).__module__.partition(".")[0]
    if library == "torch":
        return x.detach()
    if library == "tensorflow":
        import tensorflow as tf

        return tf.stop_gradient(x)
    import jax

    return jax.lax.stop_gradient(x)


def partly_detached(x: Any) -> Any:
    """Halve the gradient of `x`; a loss without any gradient is an error in torch."""
    return 0.5 * (x + detach(x))


def standardized_with_ddof_1(x: Any) -> Any:
    rows = [x[i] for i in range(x.shape[0])]
    mean = sum(rows) / len(rows)
    variance = sum((row - mean) ** 2 for row in rows) / (len(rows) - 1)
    return (x - mean) / (variance**0.5 + 1e-8)


def without_spread(f: Callable) -> Callable:
    """Merge RunningStats without the term for the distance of the two means."""

    def merge(moments, x):
        new = f(moments, x)
        share = moments.count / (new.count - moments.count)
        return new._replace(var=new.var - (new.mean - moments.mean) ** 2 * share)

    return merge


def config_of(index: int, **changes: Any) -> Callable[[Callable], Callable]:
    """Call the right function with a changed configuration (its argument `index`)."""

    def wrong(f):
        def call(*args):
            changed = replace(args[index], **changes)
            return f(*args[:index], changed, *args[index + 1 :])

        return call

    return wrong


def scaled(field: str, factor: float) -> Callable[[Callable], Callable]:
    """Call the right `make_agent_def(spec, config, build)` with one setting scaled."""

    def wrong(f):
        def call(spec, config, build):
            return f(spec, replace(config, **{field: factor * getattr(config, field)}), build)

        return call

    return wrong


def per_update(f: Callable) -> Callable:
    """Let the learning rate fall with every update instead of every iteration."""

    def rate(config, count):
        total = config.total_steps * config.updates_per_iteration
        return f(replace(config, num_epochs=1, num_minibatches=1, total_steps=total), count)

    return rate


def columns_of(index: int, **wrong: Callable[[Any], Any]) -> Callable[[Callable], Callable]:
    """Call the right function with wrong columns in the batch (its argument `index`)."""

    def plant(f):
        def call(*args):
            batch = args[index]
            columns = {name: change(getattr(batch, name)) for name, change in wrong.items()}
            return f(*args[:index], batch._replace(**columns), *args[index + 1 :])

        return call

    return plant


def swapped_rates(f: Callable) -> Callable:
    """Swap the step sizes of actor and critics."""

    def make_agent_def(spec, config, build):
        rates = {"actor_lr": config.critic_lr, "critic_lr": config.actor_lr}
        return f(spec, replace(config, **rates), build)

    return make_agent_def


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
BOUNDS = {
    "bounds ignored": Plant("rescale_action", lambda f: lambda raw, low, high: raw),
    "bounds upside down": Plant(
        "rescale_action", lambda f: lambda raw, low, high: f(raw, high, low)
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
MOMENTS = {
    "moments without the distance of means": Plant("merge_stats", without_spread),
    "moments that do not count": Plant(
        "merge_stats", lambda f: lambda m, x: f(m, x)._replace(count=m.count)
    ),
    "observations not clipped": Plant("normalize", lambda f: lambda x, m: f(x, m, 1e6)),
    "another epsilon under observations": Plant(
        "normalize", lambda f: lambda x, m: f(x, m._replace(var=m.var + 1e-5))
    ),
}
ANNEALING = {
    "annealing per update": Plant("learning_rate", per_update),
    "no annealing": Plant("learning_rate", config_of(0, anneal_lr=False)),
}
OPTIMIZER = {
    "another adam epsilon": Plant("make_agent_def", scaled("adam_eps", 0.99)),
    "clip formula with 1e-6 in it": Plant("make_agent_def", scaled("max_grad_norm", 1.0 - 1e-6)),
    "gradients not clipped": Plant("make_agent_def", config_of(1, max_grad_norm=1e9)),
    "initial weights of another seed": Plant(
        "initial_weights", lambda f: lambda spec, config, seed: f(spec, config, seed + 1)
    ),
}
TWINS = {
    "critics' loss with a factor of a half": Plant(
        "critic_loss", lambda f: lambda *a: f(*a)._replace(loss=0.5 * f(*a).loss)
    ),
    "second critic partly detached": Plant(
        "critic_loss",
        lambda f: lambda c, *a: f((c[0], lambda *x: partly_detached(c[1](*x))), *a),
    ),
    "critics swapped": Plant("critic_loss", lambda f: lambda c, *a: f((c[1], c[0]), *a)),
    "actor goes downhill": Plant(
        "actor_loss", lambda f: lambda *a: f(*a)._replace(loss=-1.0 * f(*a).loss)
    ),
    "another tau": Plant("make_agent_def", scaled("tau", 0.9)),
    "targets stay": Plant("make_agent_def", config_of(1, tau=0.0)),
    "step sizes swapped": Plant("make_agent_def", swapped_rates),
}
"""Bugs of algorithms with an actor and two critics."""
LEARNER = {**MOMENTS, **OPTIMIZER}
"""Bugs of all algorithms."""
PLANTS = {**LOSS, **DISTRIBUTIONS, **PREPARE, **ANNEALING, **LEARNER}
