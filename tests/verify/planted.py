"""Bugs to plant into an implementation, each as a function to replace and a wrong replacement.

Each was seen in public code or is one slip away from ours. They are written with operators only,
so that the same bug can be planted in every framework.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple


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


BOUNDS = {
    "bounds ignored": Plant("rescale_action", lambda f: lambda raw, low, high: raw),
    "bounds upside down": Plant(
        "rescale_action", lambda f: lambda raw, low, high: f(raw, high, low)
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
