"""SAC's terms, and what libraries compute otherwise than our specification says.

Each deviation replaces functions in a copy of the oracle; the tags are those of its README.md.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tiebreak.algorithms.sac.data import CRITICS, ActorTerms
from tiebreak.frameworks.numpy import networks
from tiebreak.verify.against.deviations import reordered, replaced, scaled
from tiebreak.verify.against.rules import Deviation, Rules, Stage

SETTINGS: dict[str, Any] = {
    "total_steps": 1_000, "num_rounds": 5, "learning_starts": 5, "replay_size": 1_000,
    "batch_size": 8, "actor_lr": 1e-3, "critic_lr": 3e-3, "alpha_lr": 2e-3, "init_alpha": 0.3,
    "tau": 0.05, "hidden_sizes": (9, 7),
}  # fmt: skip


class Parts(NamedTuple):
    """Parts of the policy and of the actor's loss that libraries write in their own ways."""

    slope_epsilon: float = 0.0
    """Added to 1 − tanh² x below the logarithm (D2)."""
    clip_log_std: bool = False
    """log σ is clipped to [−20, 2] instead of bounded by tanh (D3)."""
    value: str = "smaller"
    """`smaller`, `first` or `mean` of both critics in the actor's loss (D5)."""


def with_parts(**changes: Any) -> Callable[[ModuleType], None]:
    """Return a change that writes parts of the policy in another way; changes add up."""

    def change(oracle: ModuleType) -> None:
        own = vars(oracle)
        own["parts"] = own.get("parts", Parts())._replace(**changes)
        own["policy"] = lambda *arguments: policy(own["parts"], *arguments)
        own["actor_gradients"] = lambda *arguments: actor_gradients(oracle, *arguments)

    return change


def policy(parts: Parts, spec: Any, config: Any, weights: Any, obs: Any, noise: Any) -> tuple:
    """Sample the policy as the oracle does; returns d log σ / d output in the place of tanh s."""
    out, cache = networks.forward(spec, config.layers, weights, "actor", obs)
    mean, raw = np.split(out, 2, axis=-1)
    half = (config.log_std_max - config.log_std_min) / 2.0
    log_std = config.log_std_min + half * (np.tanh(raw) + 1.0)
    slope = half * (1.0 - np.tanh(raw) ** 2)
    if parts.clip_log_std:
        log_std = np.clip(raw, -20.0, 2.0)
        slope = ((raw >= -20.0) & (raw <= 2.0)).astype(float)
    x = mean + np.exp(log_std) * noise
    log_slope = 2.0 * (np.log(2.0) - np.logaddexp(x, -x))
    if parts.slope_epsilon:
        log_slope = np.log(1.0 - np.tanh(x) ** 2 + parts.slope_epsilon)
    log_prob = -(noise**2) / 2.0 - np.log(np.sqrt(2.0 * np.pi)) - log_std - log_slope
    return np.tanh(x), log_prob.sum(axis=-1), slope, np.exp(log_std), cache


def actor_gradients(
    oracle: ModuleType, spec: Any, config: Any, weights: Any, batch: Any, noise: Any
) -> tuple[ActorTerms, dict[str, np.ndarray]]:
    """Return terms and gradients of the actor's loss, with the parts of this copy of the oracle."""
    parts = oracle.parts
    sample = oracle.policy(spec, config, weights, batch.obs, noise.action)
    action, log_prob, log_std_slope, std, cache = sample
    q, caches = oracle.critics(spec, config, weights, "", batch.obs, action)
    rows, alpha = len(log_prob), np.exp(weights["log_alpha"])
    shares = {
        "smaller": (q == q.min(axis=0)).astype(float),
        "first": np.stack([np.ones(rows), np.zeros(rows)]),
        "mean": np.full((2, rows), 0.5),
    }[parts.value]
    d_action = np.zeros_like(action)
    for name, q_cache, share in zip(CRITICS, caches, shares, strict=True):
        d_q = -share[:, None] / rows
        d_action += networks.action_gradient(spec, config.layers, weights, name, q_cache, d_q)
    slope = 1.0 - action**2
    d_log_prob = 2.0 * action * slope / (slope + parts.slope_epsilon)
    d_mean = d_action * slope + alpha * d_log_prob / rows
    d_log_std = d_mean * std * noise.action - alpha / rows
    d_out = np.concatenate([d_mean, d_log_std * log_std_slope], axis=-1)
    grads = networks.backward(spec, config.layers, weights, "actor", cache, d_out)
    value, log_prob = (shares * q).sum(axis=0).mean(), log_prob.mean()
    return ActorTerms(alpha * log_prob - value, value, -log_prob), grads


def descend_alpha(alpha_gradients: Callable) -> Callable:
    """Let the temperature's loss be −α·(log π + H) instead of −log α·(log π + H)."""

    def call(spec: Any, config: Any, weights: Any, batch: Any, noise: Any) -> Any:
        terms, grads = alpha_gradients(spec, config, weights, batch, noise)
        surplus = terms.alpha * grads["log_alpha"]  # d α / d log α = α
        return terms._replace(loss=surplus), {"log_alpha": surplus}

    return call


class Order(NamedTuple):
    """When the parts of an update are computed (D7, D9)."""

    actor_every: int = 1
    """Updates between those of actor and temperature, which are then this many."""
    alpha_log_prob: str = "updated"
    """The temperature is judged by the `updated` actor with the same noise, with `fresh` noise,
    or by the log-probability `reused` from the actor's loss."""
    alpha_first: bool = False
    """The temperature steps before everything, and the others use the new one."""
    targets: str = "after"
    """Targets move `after` the update, `before` it, or every `second` time."""
    actor_first: bool = False
    """The actor and the temperature step before the critics."""


def in_order(**changes: Any) -> Callable[[ModuleType], None]:
    """Return a change of the order of an update; changes add up."""
    return reordered(Order(), update, changes)


def update(
    oracle: ModuleType, spec: Any, config: Any, weights: Any, batch: Any, noise: Any
) -> tuple[Any, None]:
    """Update critics, actor, α and targets in the order of this copy of the oracle."""
    order = oracle.order
    number = int(weights["adam/count"]) + 1
    names = [name for name in weights if name.startswith(CRITICS)]
    given = spec, config, batch, noise
    if order.targets == "before":
        weights = oracle.polyak(weights, names, config.tau)
    if order.alpha_first:
        weights = alpha_step(oracle, weights, weights, *given)
    if order.actor_first:
        weights = actor_steps(oracle, order, weights, number, *given)
    _, grads = oracle.critic_gradients(spec, config, weights, batch, noise)
    weights, _ = oracle.optimize(config, weights, grads, "critic")
    if not order.actor_first:
        weights = actor_steps(oracle, order, weights, number, *given)
    if order.targets == "after" or (order.targets == "second" and number % 2 == 0):
        weights = oracle.polyak(weights, names, config.tau)
    return weights, None


def actor_steps(
    oracle: ModuleType,
    order: Order,
    weights: Any,
    number: int,
    spec: Any,
    config: Any,
    batch: Any,
    noise: Any,
) -> Any:
    """Update actor and temperature as often as they are due."""
    if number % order.actor_every:
        return weights
    for repeat in range(order.actor_every):
        if repeat:
            noise = noise._replace(action=next(oracle.more_noise))
        before = weights
        _, grads = oracle.actor_gradients(spec, config, weights, batch, noise)
        weights, _ = oracle.optimize(config, weights, grads, "actor")
        if order.alpha_first:
            continue
        judged, judged_noise = weights, noise
        if order.alpha_log_prob == "reused":
            judged = before
        elif order.alpha_log_prob == "fresh":
            judged_noise = noise._replace(action=next(oracle.more_noise))
        weights = alpha_step(oracle, weights, judged, spec, config, batch, judged_noise)
    return weights


def alpha_step(
    oracle: ModuleType, weights: Any, judged: Any, spec: Any, config: Any, batch: Any, noise: Any
) -> Any:
    """Update the temperature by the log-probability that the weights `judged` give."""
    _, grads = oracle.alpha_gradients(spec, config, judged, batch, noise)
    return oracle.optimize(config, weights, grads, "alpha")[0]


def own_targets(oracle: ModuleType) -> None:
    """Let each critic's target be that of its own target network, without the minimum."""
    critics = vars(oracle)["critics"]

    def critic_target(spec: Any, config: Any, weights: Any, batch: Any, noise: Any) -> np.ndarray:
        sample = oracle.policy(spec, config, weights, batch.next_obs, noise.next_action)
        q, _ = critics(spec, config, weights, "target/", batch.next_obs, sample[0])
        return batch.reward + batch.discount * (q - np.exp(weights["log_alpha"]) * sample[1])

    vars(oracle)["critic_target"] = critic_target


RULES = Rules(
    settings=SETTINGS,
    adam="D8",
    clipping="D8",
    stages=(
        Stage(
            function="critic_gradients",
            terms={"target": "target", "q1": "q1", "q2": "q2", "loss": "critic_loss"},
            optimizers=("critic",),
        ),
        Stage(
            function="actor_gradients",
            terms={"entropy": "entropy", "q": "actor_q", "loss": "actor_loss"},
            optimizers=("actor",),
        ),
        Stage(
            function="alpha_gradients",
            terms={"alpha": "alpha", "loss": "alpha_loss"},
            optimizers=("alpha",),
        ),
    ),
    rows={"critic_target": lambda arguments, out: {"target": out}},
    deviations=(
        Deviation(
            "D2", "log π by log(1 − a² + 1e-6)", "CleanRL, SB3", with_parts(slope_epsilon=1e-6)
        ),
        Deviation(
            "D3", "log σ clipped to [−20, 2]", "SB3, Spinning Up", with_parts(clip_log_std=True)
        ),
        Deviation(
            "D4", "the critics' loss has a factor ½", "SB3, the authors' code",
            scaled("critic_gradients", "loss", 0.5),
        ),
        Deviation("D4", "each critic has its own target", change=own_targets),
        Deviation(
            "D5", "the actor climbs the first critic alone", "TD3", with_parts(value="first")
        ),
        Deviation(
            "D5", "the actor climbs the mean of both critics", "REDQ", with_parts(value="mean")
        ),
        Deviation(
            "D6", "the temperature's loss is −α·(log π + H), not −log α·(…)",
            "CleanRL, jaxrl, the paper", replaced("alpha_gradients", descend_alpha),
        ),
        Deviation(
            "D7", "actor and temperature every second update, twice", "CleanRL",
            in_order(actor_every=2),
        ),
        Deviation(
            "D7", "the temperature is judged with fresh noise", "CleanRL",
            in_order(alpha_log_prob="fresh"),
        ),
        Deviation(
            "D7", "the temperature is judged by the log π of the actor's loss", "SB3, SBX, jaxrl",
            in_order(alpha_log_prob="reused"),
        ),
        Deviation(
            "D7", "the temperature steps first, and the others use the new one", "rlkit",
            in_order(alpha_first=True),
        ),
        Deviation(
            "D7", "actor and temperature step before the critics", "",
            in_order(actor_first=True),
        ),
        Deviation(
            "D9", "targets move before the critics' step", "", in_order(targets="before")
        ),
        Deviation(
            "D9", "targets move at every second update", "Yarats' code", in_order(targets="second")
        ),
    ),
)  # fmt: skip
"""SAC's terms and known deviations."""
