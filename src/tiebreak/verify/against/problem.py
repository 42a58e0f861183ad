"""The small problem that every agent is given: settings, weights, batches and noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from tiebreak import registry
from tiebreak.core.config import override
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.types import EnvSpec
from tiebreak.verify.against.rules import require_settings, rules_of
from tiebreak.verify.case import Case, cases_of, perturbed_weights

MORE = 8
"""Further draws per update, for agents that draw more often than the specification does."""


class UpdateSpec(NamedTuple):
    """All that an agent is told when it is made."""

    algorithm: str
    observation_size: int
    action_size: int
    """Dimensions of a box of ±1, or number of discrete actions."""
    discrete: bool
    config: Any
    """Settings by their names in docs/settings.md, as attributes: `spec.config.gamma`."""
    precision: str
    """`float64` or `float32`: type of all arrays that follow."""


class Call(NamedTuple):
    """Arguments of one update: the algorithm's own batch and noise, without an axis of updates."""

    batch: Any
    noise: Any
    more: np.ndarray
    """[MORE, B, A] standard normal."""


class Problem(NamedTuple):
    """What is given to agents and to the oracle alike; floats are float32 numbers."""

    case: Case
    weights: dict[str, np.ndarray]
    calls: list[Call]

    @property
    def algorithm(self) -> str:
        """Name of the algorithm."""
        return self.case.algorithm

    @property
    def calls_per_group(self) -> int:
        """Calls that one call of the oracle's `update` stands for: the delay of the policy."""
        return getattr(self.case.config, "policy_delay", 1)

    def spec(self, precision: str) -> UpdateSpec:
        """Return what an agent is told."""
        spec = self.case.spec
        return UpdateSpec(
            algorithm=self.algorithm,
            observation_size=spec.observation_size,
            action_size=spec.action_size,
            discrete=spec.discrete,
            config=self.case.config,
            precision=precision,
        )


def make_problem(
    algorithm: str, actions: str = "", settings: Mapping[str, Any] | None = None
) -> Problem:
    """Return the problem of an algorithm, with the settings and kind of actions of an agent.

    Network weights are those of a training under way; the optimizers are at their start.
    """
    rules = rules_of(algorithm)
    kinds = cases_of(algorithm).ACTIONS
    actions = actions or kinds[0]
    if actions not in kinds:
        raise unknown(f"kind of actions of {algorithm}", actions, kinds)
    config_module = registry.config_module(algorithm)
    config = override(
        config_module.Config(), {**rules.settings, **require_settings(settings or {})}
    )
    if config.network != "mlp":
        raise UsageError(f"network is {config.network!r}; --against compares networks of kind mlp")
    case = Case(algorithm, _spec(actions), config_module.check(config), seed=0)
    weights = _weights(case)
    return Problem(case, weights, list(_calls(case, weights, rules.calls, rules.iteration)))


def _spec(actions: str) -> EnvSpec:
    if actions == "discrete":
        return EnvSpec.make(observation_shape=(5,), num_actions=3)
    return EnvSpec.make(observation_shape=(5,), action_low=(-1.0, -1.0), action_high=(1.0, 1.0))


def _weights(case: Case) -> dict[str, np.ndarray]:
    """Return weights and targets that differ, without moments, counts or statistics."""
    statistics = registry.data_module(case.algorithm).STATISTICS
    out = {}
    for name, value in perturbed_weights(case).items():
        if name.startswith("adam/"):
            out[name] = np.zeros_like(value)
        elif name.partition("/")[0] not in statistics:
            out[name] = value
    return out


def _calls(case: Case, weights: dict, count: int, iteration: bool) -> Iterator[Call]:
    rng = np.random.default_rng([case.seed, 5])
    shape = case.config.batch_size, case.spec.action_size
    index = 0
    while True:
        batch, noise = case.cases.batch_near(case, weights, index)
        index += 1
        rows = (
            [(batch, noise)]
            if iteration
            else list(_single_updates(batch, noise, case.config.gamma))
        )
        for batch_row, noise_row in rows:
            if count == 0:
                return
            more = rng.standard_normal((MORE, *shape), dtype=np.float32)
            yield Call(batch_row, noise_row, more)
            count -= 1


def _single_updates(batch: Any, noise: Any, gamma: float) -> Iterator[tuple[Any, Any]]:
    """Yield batch and noise of each update; the first transition of every batch is terminal.

    Its reward is a whole number, so that it lies exactly on an atom. Discounts are γ or 0 in
    float64, so that an agent may multiply by γ itself.
    """
    for u in range(len(batch.reward)):
        row = type(batch)(*(x[u] for x in batch))
        ends = row.discount == 0.0
        ends[0] = True
        row.reward[0] = np.rint(row.reward[0])
        discount = np.where(ends, 0.0, gamma)
        yield row._replace(discount=discount), type(noise)(*(x[u] for x in noise))


def as_dictionaries(call: Call) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return batch and noise as an agent gets them, by the names of their fields."""
    batch = call.batch._asdict()
    if "discount" in batch:
        batch["terminated"] = batch["discount"] == 0.0
    return batch, {**call.noise._asdict(), "more": call.more}
