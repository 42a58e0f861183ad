"""Bugs to plant into PQN; see planted.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from verify.planted import LEARNER, Plant, columns_of, config_of, partly_detached


def per_iteration(f: Callable) -> Callable:
    """Let the learning rate fall once per iteration, as PPO's does."""
    return lambda config, count: f(config, count - count % config.updates_per_iteration)


def not_annealed(f: Callable) -> Callable:
    """Leave ε at its start."""
    return lambda config, count: f(replace(config, epsilon_end=config.epsilon_start), count)


TARGET = {
    "lambda ignored": Plant("lambda_returns", config_of(2, q_lambda=0.0)),
    "lambda is one": Plant("lambda_returns", config_of(2, q_lambda=1.0)),
    "time limits are ends": Plant("lambda_returns", config_of(2, truncation="terminal")),
    "trace runs through time limits": Plant(
        "lambda_returns", columns_of(0, truncated=lambda x: x ^ x)
    ),
    "ends are time limits": Plant("lambda_returns", columns_of(0, terminated=lambda x: x ^ x)),
    "nothing bootstraps": Plant("lambda_returns", lambda f: lambda b, q, c: f(b, 0.0 * q, c)),
    "reward scale left out": Plant("lambda_returns", config_of(2, reward_scale=1.0)),
    "rewards forgotten": Plant("lambda_returns", columns_of(0, reward=lambda x: 0.0 * x)),
    "another discount": Plant("lambda_returns", config_of(2, gamma=0.98)),
    "value of the first action": Plant(
        "lambda_returns", lambda f: lambda b, q, c: f(b, q[..., :1], c)
    ),
    "values of the rollout's first step": Plant(
        "lambda_returns", lambda f: lambda b, q, c: f(b, 0.0 * q + q[:1], c)
    ),
    "values of the first environment": Plant(
        "lambda_returns", lambda f: lambda b, q, c: f(b, 0.0 * q + q[:, :1], c)
    ),
    "value of the same observation": Plant(
        "prepare", lambda f: lambda a, s, b: f(a, s, b._replace(next_obs=b.obs))
    ),
}
LOSS = {
    "loss without its half": Plant(
        "pqn_loss", lambda f: lambda *a: f(*a)._replace(loss=2.0 * f(*a).loss)
    ),
    "gradient partly detached": Plant(
        "pqn_loss", lambda f: lambda q, b: f(lambda obs: partly_detached(q(obs)), b)
    ),
    "value of another action": Plant("pqn_loss", columns_of(1, action=lambda x: 0 * x)),
    "mean of other targets": Plant(
        "pqn_loss", lambda f: lambda *a: f(*a)._replace(target=0.5 * f(*a).target)
    ),
}
EXPLORE = {
    "epsilon ends elsewhere": Plant("epsilon", config_of(0, epsilon_end=0.3)),
    "epsilon not annealed": Plant("epsilon", not_annealed),
    "epsilon falls over the whole run": Plant("epsilon", config_of(0, exploration_fraction=1.0)),
    "epsilon upside down": Plant("epsilon", lambda f: lambda c, count: 1.0 - f(c, count)),
}
OPTIMIZER = {
    "annealing per iteration": Plant("learning_rate", per_iteration),
    "no annealing": Plant("learning_rate", config_of(0, anneal_lr=False)),
    "Adam instead of RAdam": Plant("make_agent_def", config_of(1, optimizer="adam")),
    "LayerNorm left out": Plant("make_agent_def", config_of(1, network="mlp")),
}
PLANTS = {**TARGET, **LOSS, **EXPLORE, **OPTIMIZER, **LEARNER}
