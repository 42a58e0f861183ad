"""A case: one specification and configuration, and the weights and inputs made for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tiebreak import registry
from tiebreak.core.memory import first_memory
from tiebreak.core.noise import sample
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks.numpy.ops import to_float64


def cases_of(algorithm: str) -> ModuleType:
    """Return the module with an algorithm's cases.

    It has `ACTIONS`, `draw`, `fixed`, `count`, `batch_near`, `policy_probes`, `describe` and the
    checks of what a step is made of: `check_knobs`, `check_losses`, `check_updates`.
    """
    return registry.load(registry.algorithm(algorithm).cases)


MULTI_DISCRETE = "multidiscrete"
"""Kind of actions of which certificates have one small case, where an algorithm takes them."""


def all_actions(algorithm: str) -> tuple[str, ...]:
    """Return every kind of actions that an algorithm takes."""
    cases = cases_of(algorithm)
    more = (MULTI_DISCRETE,) if registry.algorithm(algorithm).multi_discrete else ()
    return (*cases.ACTIONS, *getattr(cases, "MORE_ACTIONS", ()), *more)


class Case(NamedTuple):
    """One specification and configuration, and the seed of its weights and batches."""

    algorithm: str
    spec: EnvSpec
    config: Any
    seed: int

    @property
    def actions(self) -> str:
        """Kind of actions: `discrete`, `multidiscrete` or `continuous`."""
        if self.spec.nvec is not None:
            return MULTI_DISCRETE
        return "discrete" if self.spec.discrete else "continuous"

    @property
    def cases(self) -> ModuleType:
        """Module with the algorithm's cases (see `cases_of`)."""
        return cases_of(self.algorithm)

    @property
    def oracle(self) -> ModuleType:
        """Module with the algorithm in NumPy."""
        return registry.oracle_module(self.algorithm)

    def function(self, framework: str, name: str) -> Callable:
        """Return a function of this algorithm in `framework`, or the plumbing of that name."""
        module = registry.load(registry.IMPLEMENTATIONS[self.algorithm, framework])
        if hasattr(module, name):
            return getattr(module, name)
        return getattr(registry.load(registry.framework(framework).plumbing), name)

    def changed(self, **settings: Any) -> Case:
        """Return the case with some settings of its configuration changed."""
        return self._replace(config=dataclasses.replace(self.config, **settings))

    def describe(self) -> str:
        """Describe the case by seed, shapes and the settings that differ from the defaults."""
        defaults = dataclasses.asdict(type(self.config)())
        settings = [
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in dataclasses.asdict(self.config).items()
            if value != defaults[name]
        ]
        shape = "-".join(map(str, self.spec.observation_shape))
        shapes = f"obs {shape}, act {self.spec.action_size}"
        return f"seed {self.seed}, {self.actions}: {shapes}; {', '.join(settings)}"


def fixed(algorithm: str, actions: str) -> Case:
    """Return the algorithm's small case, which quick runs and lock-step use."""
    return cases_of(algorithm).fixed(actions)


def options(algorithm: str) -> Iterator[Case]:
    """Yield the small case with each of the algorithm's options, if its cases have `OPTIONS`."""
    cases = cases_of(algorithm)
    for settings in getattr(cases, "OPTIONS", {}).values():
        yield cases.fixed(cases.ACTIONS[0]).changed(**settings)


def perturbed_weights(case: Case) -> dict[str, np.ndarray]:
    """Return float32 weights as in mid-training: no moment is zero, no count at its start."""
    rng = np.random.default_rng([case.seed, 1])
    data = registry.data_module(case.algorithm)
    weights = data.initial_weights(case.spec, case.config, case.seed)
    for name, value in weights.items():
        normal = rng.standard_normal(value.shape)
        if "adam/mu/" in name:
            weights[name] = 0.05 * normal
        elif "adam/nu/" in name:
            weights[name] = 0.01 * normal**2 + 1e-4
        elif name.endswith("/kernel"):
            fan_in = value.size // value.shape[-1]
            weights[name] = value + 0.5 * normal / np.sqrt(fan_in)
        elif name.endswith("_moments/var"):
            weights[name] = 0.5 + normal**2
        else:
            weights[name] = value + 0.2 * normal
        weights[name] = np.asarray(weights[name], np.float32)
    for name in weights:
        if name.endswith("_moments/count"):
            weights[name] = np.asarray(float(rng.integers(1000, 3000)), np.float32)
    counts = {k: np.asarray(v, np.int32) for k, v in case.cases.counts(case).items()}
    return {**weights, **counts}


def act_inputs(case: Case) -> tuple:
    """Draw observations [N, *obs] and noise [N, …] for one `act`; and the Memory that it needs."""
    rng = np.random.default_rng([case.seed, 3])
    n = case.config.num_envs
    obs = case.spec.draw_observations(rng, (n, *case.spec.observation_shape))
    if case.config.normalize_obs:
        obs[0] *= 100.0
    noise = sample(registry.data_module(case.algorithm).act_noise(case.spec, n), rng)
    memory = first_memory(case.config, rng.random(n) < 0.5, np.asarray)
    filled = [m._replace(hidden=rng.uniform(-1.0, 1.0, m.hidden.shape)) for m in memory]
    return obs, noise, *filled


def exploring_probes(noise: np.ndarray, epsilon: float) -> list[np.ndarray]:
    """Return noise [N, 2] that reveals an ε-greedy policy: its first number decides to explore.

    None is greedy, and the largest explores. Just below 1 − ε the agent must not explore, just
    above it must: that reveals ε.
    """
    one = np.full_like(noise, np.nextafter(np.float32(1), np.float32(0)))
    edges = [1.0 - epsilon + d + 0.0 * noise[:, 0] for d in (-1e-4, 1e-4)]
    return [0.0 * noise, one, *(np.stack([edge, noise[:, 1]], axis=-1) for edge in edges)]


def well_conditioned(case: Case) -> bool:
    """Return True if a step of the oracle barely changes when its weights move by ten ulps.

    If it jumps, a ratio, a value or a ReLU sits on the edge of a clip, and no two float32
    programs have to agree. The oracle alone decides, before any framework has run.
    """
    weights = to_float64(perturbed_weights(case))
    batch, noise = case.cases.batch_near(case, weights)
    rng = np.random.default_rng([case.seed, 4])
    moved = {
        k: weights[k] * (1.0 + 1e-6 * rng.standard_normal(weights[k].shape))
        for k in case.oracle.trained(weights)
    }
    ends = [
        case.oracle.step(case.spec, case.config, start, batch, noise)
        for start in (weights, {**weights, **moved})
    ]
    (one, metrics), (two, moved_metrics) = ends
    distance = max(float(np.max(np.abs(one[k] - two[k]))) for k in one)
    metric_distance = float(np.max(np.abs(np.subtract(metrics, moved_metrics))))
    return max(distance, metric_distance) < 1e-5


def draws(algorithm: str, seed: int, actions: str, precision: str, count: int) -> list[Case]:
    """Draw `count` cases from `seed` on; for float32, skip ill-conditioned ones."""
    cases: list[Case] = []
    while len(cases) < count:
        case = cases_of(algorithm).draw(seed, actions)
        if precision == "float64" or well_conditioned(case):
            cases.append(case)
        seed += 1
    return cases


def cast(tree: Any, precision: str) -> Any:
    """Convert a tree of NumPy arrays: floats become the type that `precision` stores."""
    if isinstance(tree, dict):
        return {k: cast(v, precision) for k, v in tree.items()}
    if isinstance(tree, tuple):
        leaves = [cast(v, precision) for v in tree]
        return type(tree)(*leaves) if hasattr(tree, "_fields") else tuple(leaves)
    array, stored = np.asarray(tree), "float64" if precision == "float64" else "float32"
    return array.astype(stored) if array.dtype.kind == "f" else array
