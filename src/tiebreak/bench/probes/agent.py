"""The probes over an agent, in or out of its loop: what a call does, and what proves that it did.

Each takes a subject (bench/probes.py) that is built, and returns what the worker calls again and
again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.bench.probes.base import Probe
from tiebreak.bench.probes.rebuild import rebuild as rebuilding
from tiebreak.core import noise
from tiebreak.core.seeding import derive

TRIES = 64
"""Batches of observations among which one has to change what the policy does."""
OTHERS = 8
"""Other weights, at most, among which one has to."""


def forward(subject: Any) -> Probe:
    """The policy alone, on four batches of normal observations in turn."""
    agent, runtime, config = subject.agent, subject.runtime, subject.config
    rng = np.random.default_rng(derive(subject.seed, "forward"))
    draw = registry.data_module(subject.cell["algorithm"]).act_noise(subject.spec, config.num_envs)
    given = [(_observations(subject, rng), noise.sample(draw, rng)) for _ in range(4)]
    batches = [tuple(map(runtime.asarray, pair)) for pair in given]
    state, turn = agent.init(subject.seed), [0]

    def call() -> Any:
        turn[0] += 1
        return agent.act(state, *batches[turn[0] % 4])

    return Probe(
        "actions",
        config.num_envs,
        call,
        weights=lambda: agent.dump(state),
        numbers=lambda act: {"action": float(np.sum(runtime.to_numpy(act).action))},
        inputs=lambda: [array for pair in given for array in pair],
        varies=lambda: _depends(subject, state, draw),
    )


def _observations(subject: Any, rng: np.random.Generator) -> np.ndarray:
    """[N, *obs], normal."""
    shape = (subject.config.num_envs, *subject.spec.observation_shape)
    return rng.standard_normal(shape, dtype=np.float32)


def _depends(subject: Any, state: Any, draw: Any) -> bool:
    """Whether greedy actions (zero noise) depend on observations and on weights.

    A few discrete actions may well be the same for other observations, and with some weights for
    nearly all (with one environment and two actions: one seed in eight): several of both are tried.
    """
    agent, asarray = subject.agent, subject.runtime.asarray
    rng = np.random.default_rng(derive(subject.seed, "varies"))
    greedy = asarray(np.zeros(draw.shape, np.float32))
    batches = [asarray(_observations(subject, rng)) for _ in range(TRIES)]

    def acts(state: Any) -> np.ndarray:
        return np.stack([_flat(subject, agent.act(state, obs, greedy)) for obs in batches])

    seen = [acts(state)]
    for other in range(1, OTHERS + 1):
        seen.append(acts(agent.init(subject.seed + other)))
        by_obs = any((each != each[0]).any() for each in seen)
        if by_obs and any((each != seen[0]).any() for each in seen):
            return True
    return False


def interact(subject: Any) -> Probe:
    """Acting and stepping the environment, without learning."""
    loop, runtime, last = subject.loop, subject.runtime, deque[Any](maxlen=2)
    steps = subject.config.iteration_steps

    def call() -> Any:
        last.append(loop.collect())
        return last[-1]

    return Probe(
        "env steps",
        steps,
        call,
        expected={"env_steps": steps},
        counted=lambda: {"env_steps": loop.steps},
        weights=lambda: subject.agent.dump(loop.state),
        inputs=lambda: [runtime.to_numpy(last[-1].obs)],
        varies=lambda: (_flat(subject, last[0]) != _flat(subject, last[-1])).any(),
    )


def update(subject: Any) -> Probe:
    """Gradient steps on one random batch that is on the device already."""
    agent, config = subject.agent, subject.config
    rng = np.random.default_rng(derive(subject.seed, "update"))
    pair = registry.sample_batch(subject.cell["algorithm"], subject.spec, config, rng)
    batch, draws = (type(part)(*map(subject.runtime.asarray, part)) for part in pair)
    floats = [array for array in pair[0] if array.dtype.kind == "f"]
    state, updates = [agent.init(subject.seed)], config.updates_per_step

    def call() -> Any:
        state[0], metrics = agent.step(state[0], batch, draws)
        return metrics

    return Probe(
        "gradient steps",
        updates,
        call,
        held=lambda: state[0],
        expected={"updates": updates},
        counted=lambda: {"updates": int(agent.dump(state[0])["adam/count"])},
        weights=lambda: agent.dump(state[0]),
        learns=True,
        numbers=lambda metrics: _numbers(subject, metrics),
        inputs=lambda: floats,
    )


def train(subject: Any) -> Probe:
    """The loop as `tiebreak train` runs it: collect and learn."""
    return _learning(subject, subject.loop, subject.iterations_per_run)


def iteration(subject: Any) -> Probe:
    """The same, one iteration in a call: with `num_rounds = 1`, the full step of a breakdown."""
    return _learning(subject, subject.loop, 1)


def population(subject: Any) -> Probe:
    """Many agents at once, as `tiebreak train --seeds N` runs them; steps are those of all."""
    cell = subject.cell
    named = {key: cell[key] for key in ("mode", "precision", "device")}
    made = registry.load("tiebreak.loops.fused_population").make_population(
        cell["algorithm"], cell["framework"], cell["task"], cell.get("agents", 1),
        config=subject.config, seed=subject.seed, **named,
    )  # fmt: skip
    return _learning(subject, made.loop, made.loop.iterations_per_run)


def _learning(subject: Any, loop: Any, many: int) -> Probe:
    config, agents = subject.config, loop.agents
    while loop.is_warmup:  # off the clock: the replay is filled
        loop.run()

    def counted() -> dict[str, int]:
        taken = int(loop.agent.dump(loop.state)["adam/count"].sum())
        counts = {"env_steps": agents * loop.steps, "updates": agents * loop.updates}
        return {**counts, "optimizer_steps": taken}

    def call() -> Any:
        loop.iterations_per_run = many  # another probe of this loop may have another number
        return loop.run()

    each = config.iteration_steps, config.updates_per_iteration
    steps, updates = (agents * many * n for n in each)
    return Probe(
        "env steps",
        steps,
        call,
        held=lambda: loop.state,
        expected={"env_steps": steps, "updates": updates, "optimizer_steps": updates},
        counted=counted,
        weights=lambda: loop.agent.dump(loop.state),
        learns=True,
        numbers=lambda progress: _numbers(subject, progress.metrics),
        inputs=lambda: [subject.runtime.to_numpy(loop.obs)],
    )


def rebuild(subject: Any) -> Probe:
    """Agents made anew."""
    return rebuilding(subject.cell, subject.spec, subject.config, subject.seed)


PROBES: dict[str, Callable[[Any], Probe]] = {
    "forward": forward,
    "interact": interact,
    "update": update,
    "train": train,
    "iteration": iteration,
    "population": population,
    "rebuild": rebuild,
}
"""Probe -> how it is made; `env` needs no agent and is another subject's."""


def _flat(subject: Any, tree: Any) -> np.ndarray:
    """All numbers of a NamedTuple of arrays, in a row."""
    return np.concatenate([np.ravel(leaf) for leaf in subject.runtime.to_numpy(tree)])


def _numbers(subject: Any, metrics: Any) -> dict[str, float]:
    named = subject.runtime.to_numpy(metrics)._asdict()
    return {name: float(np.mean(value)) for name, value in named.items()}
