"""Bugs to plant into TD3; see planted.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from parity.planted import Plant, config_of, partly_detached, scaled, without_spread


def batch_with(**wrong: Callable[[Any], Any]) -> Callable[[Callable], Callable]:
    """The right `td3_target`, called with columns of the batch that are wrong."""

    def plant(f):
        def call(policy, critics, batch, noise, config):
            columns = {name: change(getattr(batch, name)) for name, change in wrong.items()}
            return f(policy, critics, batch._replace(**columns), noise, config)

        return call

    return plant


def larger_value(f: Callable) -> Callable:
    """The larger of both target values, by the smaller of their negatives."""

    def call(policy, critics, batch, noise, config):
        negated = tuple(lambda *a, q=q: -q(*a) for q in critics)
        return 2.0 * batch.reward - f(policy, negated, batch, noise, config)

    return call


def swapped_rates(f: Callable) -> Callable:
    """Each optimizer with the other's step size."""

    def make_static(spec, config, build):
        rates = {"actor_lr": config.critic_lr, "critic_lr": config.actor_lr}
        return f(spec, replace(config, **rates), build)

    return make_static


TARGET = {
    "terminal states bootstrap": Plant("td3_target", batch_with(discount=lambda x: 0.0 * x + 0.9)),
    "rewards forgotten": Plant("td3_target", batch_with(reward=lambda x: 0.0 * x)),
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
    "actor partly detached": Plant(
        "actor_loss", lambda f: lambda p, *a: f(lambda obs: partly_detached(p(obs)), *a)
    ),
    "actor at the next observation": Plant(
        "actor_loss", lambda f: lambda p, c, b: f(p, c, b._replace(obs=b.next_obs))
    ),
}
STATE = {
    "another tau": Plant("make_static", scaled("tau", 0.9)),
    "targets stay": Plant("make_static", config_of(1, tau=0.0)),
    "no delay": Plant("make_static", config_of(1, policy_delay=1)),
    "step sizes swapped": Plant("make_static", swapped_rates),
    "less exploration": Plant("make_static", scaled("exploration_noise", 0.99)),
    "bounds ignored": Plant("fit_to_bounds", lambda f: lambda raw, low, high: raw),
    "bounds upside down": Plant(
        "fit_to_bounds", lambda f: lambda raw, low, high: f(raw, high, low)
    ),
    "moments without the distance of means": Plant("merge_moments", without_spread),
    "moments that do not count": Plant(
        "merge_moments", lambda f: lambda m, x: f(m, x)._replace(count=m.count)
    ),
    "observations not clipped": Plant("normalize", lambda f: lambda x, m: f(x, m, 1e6)),
    "another epsilon under observations": Plant(
        "normalize", lambda f: lambda x, m: f(x, m._replace(var=m.var + 1e-5))
    ),
    "another adam epsilon": Plant("make_static", scaled("adam_eps", 0.99)),
    "clip formula with 1e-6 in it": Plant("make_static", scaled("max_grad_norm", 1.0 - 1e-6)),
    "gradients not clipped": Plant("make_static", config_of(1, max_grad_norm=1e9)),
    "initial weights of another seed": Plant(
        "initial_weights", lambda f: lambda spec, config, seed: f(spec, config, seed + 1)
    ),
}
PLANTS = {**TARGET, **LOSS, **STATE}
