"""Bugs to plant into DQN; see planted.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from verify.planted import LEARNER, Plant, columns_of, config_of, partly_detached


def doubled(f: Callable) -> Callable:
    """Copy the target network half as often."""

    def make_agent_def(spec, config, build):
        agent_def = f(spec, config, build)
        return agent_def._replace(config=replace(config, target_every=2 * config.target_every))

    return make_agent_def


TARGET = {
    "terminal states bootstrap": Plant(
        "dqn_target", columns_of(2, discount=lambda x: 0.0 * x + 0.9)
    ),
    "rewards forgotten": Plant("dqn_target", columns_of(2, reward=lambda x: 0.0 * x)),
    "value of the same observation": Plant(
        "dqn_target", lambda f: lambda q, t, b, c: f(q, t, b._replace(next_obs=b.obs), c)
    ),
    "no target network": Plant("dqn_target", lambda f: lambda q, t, b, c: f(q, q, b, c)),
    "networks swapped": Plant("dqn_target", lambda f: lambda q, t, b, c: f(t, q, b, c)),
    "double q for everyone": Plant("dqn_target", config_of(3, double_q=True)),
    "double q for no one": Plant("dqn_target", config_of(3, double_q=False)),
}
LOSS = {
    "loss with a factor of a half": Plant(
        "dqn_loss", lambda f: lambda *a: f(*a)._replace(loss=0.5 * f(*a).loss)
    ),
    "gradient partly detached": Plant(
        "dqn_loss", lambda f: lambda q, *a: f(lambda obs: partly_detached(q(obs)), *a)
    ),
    "mean of the targets' absolute values": Plant(
        "dqn_loss", lambda f: lambda *a: f(*a)._replace(target=abs(f(*a).target))
    ),
}
EXPLORE = {
    "epsilon ends elsewhere": Plant("epsilon", config_of(0, epsilon_end=0.3)),
    "epsilon falls over the whole run": Plant("epsilon", config_of(0, exploration_fraction=1.0)),
    "epsilon upside down": Plant("epsilon", lambda f: lambda c, count: 1.0 - f(c, count)),
    "epsilon without the steps before learning": Plant("epsilon", config_of(0, learning_starts=0)),
}
STATE = {
    "target copied after every update": Plant(
        "periodic_update", lambda f: lambda due, new, old: f(due | True, new, old)
    ),
    "target never copied": Plant(
        "periodic_update", lambda f: lambda due, new, old: f(due & False, new, old)
    ),
    "target copied half as often": Plant("make_agent_def", doubled),
}
PLANTS = {**TARGET, **LOSS, **EXPLORE, **STATE, **LEARNER}
