"""Bugs to plant into MPO; see planted.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from verify.planted import BOUNDS, LEARNER, Plant, columns_of, config_of, partly_detached, scaled


def doubled(*indices: int) -> Callable[[Callable], Callable]:
    """Double the outputs of a function at these indices."""
    return lambda f: lambda *a: tuple(2.0 * x if i in indices else x for i, x in enumerate(f(*a)))


def swapped_multipliers(f: Callable) -> Callable:
    """Swap the multipliers of the divergences of mean and std."""

    def mpo_loss(policy, critics, dual, *rest):
        mean, std = dual["log_alpha_mean"], dual["log_alpha_std"]
        return f(policy, critics, {**dual, "log_alpha_mean": std, "log_alpha_std": mean}, *rest)

    return mpo_loss


def swapped_epsilons(f: Callable) -> Callable:
    """Swap the bounds on the divergences of mean and std."""

    def mpo_loss(*args):
        config = args[5]
        swapped = {"epsilon_mean": config.epsilon_std, "epsilon_std": config.epsilon_mean}
        return f(*args[:5], replace(config, **swapped))

    return mpo_loss


SAMPLES = {
    "samples at the wrong scale": Plant(
        "draw_samples", lambda f: lambda p, c, obs, noise: f(p, c, obs, 0.9 * noise)
    ),
    "one critic in the target": Plant(
        "draw_samples", lambda f: lambda p, c, *a: f(p, [c[0]] * len(c), *a)
    ),
    "penalty of other actions": Plant(
        "objectives", lambda f: lambda s, c: f(s._replace(action=1.1 * s.action), c)
    ),
}
LOSS = {
    "terminal states bootstrap": Plant("mpo_loss", columns_of(4, discount=lambda x: 0.0 * x + 0.9)),
    "rewards forgotten": Plant("mpo_loss", columns_of(4, reward=lambda x: 0.0 * x)),
    "policy at the same observation": Plant(
        "mpo_loss",
        lambda f: lambda p, c, d, s, b, config: f(p, c, d, s, b._replace(next_obs=b.obs), config),
    ),
    "critic loss without its half": Plant("critic_loss", doubled(0)),
    "critic partly detached": Plant(
        "critic_loss",
        lambda f: lambda c, *a: f([lambda *x, q=q: partly_detached(q(*x)) for q in c], *a),
    ),
    "critic at the next observation": Plant(
        "critic_loss", lambda f: lambda c, b, t: f(c, b._replace(obs=b.next_obs), t)
    ),
    "policy loss negated": Plant("policy_loss", lambda f: lambda *a: -1.0 * f(*a)),
    "samples not reweighted": Plant(
        "policy_loss", lambda f: lambda p, s, w: f(p, s, 0.0 * w + 0.2)
    ),
    "mean and std fitted together": Plant(
        "policy_loss", lambda f: lambda p, s, w: f(p, s._replace(policy=p), w)
    ),
    "multipliers swapped": Plant("mpo_loss", swapped_multipliers),
    "bounds of the divergences swapped": Plant("mpo_loss", swapped_epsilons),
}
DUAL = {
    "twice the temperature": Plant("tempered", lambda f: lambda v, t: f(v, 2.0 * t)),
    "temperature without epsilon": Plant(
        "temperature_loss", lambda f: lambda t, tempered, e: f(t, tempered, [0.0] * len(e))
    ),
    "dual variables without their least": Plant("positive", lambda f: lambda x: f(x) - 1e-8),
    "divergence the wrong way round": Plant("divergences", lambda f: lambda new, old: f(old, new)),
    "divergence of the mean without its half": Plant("divergences", doubled(0)),
    "divergence of the std without its half": Plant("divergences", doubled(1)),
}
STATE = {
    "targets copied after every update": Plant("make_agent_def", config_of(1, target_period=1)),
    "targets never copied": Plant("make_agent_def", config_of(1, target_period=10**6)),
    "step size of the duals": Plant("make_agent_def", scaled("dual_lr", 0.9)),
    "step size": Plant("make_agent_def", scaled("learning_rate", 0.9)),
    "wider policy": Plant("make_agent_def", scaled("init_std", 1.01)),
}
PLANTS = {**SAMPLES, **LOSS, **DUAL, **STATE, **BOUNDS, **LEARNER}
