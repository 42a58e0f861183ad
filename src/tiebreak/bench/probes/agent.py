"""Probes of an agent, alone or in its loop. Each function builds one from an AgentSubject."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.bench.probes.base import Probe
from tiebreak.core import noise
from tiebreak.core.memory import Memory, first_memory
from tiebreak.core.seeding import derive

BATCHES = 64
"""Batches of observations, at least one of which has to change the policy's actions."""

OTHER_WEIGHTS = 8
"""Further initial weights, at least one of which has to change them."""


def forward(subject: Any) -> Probe:
    """Build the policy alone, on four batches of normal observations in turn."""
    agent, runtime, config = subject.agent, subject.runtime, subject.config
    rng = np.random.default_rng(derive(subject.seed, "forward"))
    draw = registry.data_module(subject.cell.algorithm).act_noise(subject.spec, config.num_envs)
    inputs = [(_observations(subject, rng), noise.sample(draw, rng)) for _ in range(4)]
    batches = [tuple(map(runtime.asarray, pair)) for pair in inputs]
    state, memory = agent.init(subject.seed), _first_memory(subject)
    calls = [0]

    def call() -> Any:
        calls[0] += 1
        return agent.act(state, *batches[calls[0] % 4], *memory)

    return Probe(
        unit="actions",
        units_per_call=config.num_envs,
        call=call,
        weights=lambda: agent.dump(state),
        numbers=lambda act: {"action": float(np.sum(runtime.to_numpy(act).action))},
        inputs=lambda: [array for pair in inputs for array in pair],
        varies=lambda: _actions_vary(subject, state, draw),
    )


def _first_memory(subject: Any) -> tuple[Memory, ...]:
    """Return the memory as episodes begin, of a policy that has one."""
    begins = subject.runtime.asarray(np.ones(subject.config.num_envs, bool))
    return first_memory(subject.config, begins, subject.runtime.asarray)


def _observations(subject: Any, rng: np.random.Generator) -> np.ndarray:
    """Draw observations, [N, *obs]."""
    shape = (subject.config.num_envs, *subject.spec.observation_shape)
    return subject.spec.draw_observations(rng, shape)


def _actions_vary(subject: Any, state: Any, draw: Any) -> bool:
    """Return True if greedy actions (zero noise) depend on observations and on weights.

    Several batches and weights are tried: a few discrete actions may be equal for other
    observations, and some weights choose one action nearly always (with one environment and two
    actions: one seed in eight).
    """
    agent, asarray = subject.agent, subject.runtime.asarray
    rng = np.random.default_rng(derive(subject.seed, "varies"))
    greedy = asarray(np.zeros(draw.shape, np.float32))
    batches = [asarray(_observations(subject, rng)) for _ in range(BATCHES)]
    memory = _first_memory(subject)

    def acts(state: Any) -> np.ndarray:
        acted = [agent.act(state, obs, greedy, *memory) for obs in batches]
        return np.stack([_flat(subject, act) for act in acted])

    actions = [acts(state)]
    for offset in range(1, OTHER_WEIGHTS + 1):
        actions.append(acts(agent.init(subject.seed + offset)))
        with_obs = any((batches != batches[0]).any() for batches in actions)
        with_weights = any((batches != actions[0]).any() for batches in actions)
        if with_obs and with_weights:
            return True
    return False


def interact(subject: Any) -> Probe:
    """Build acting and stepping the environment, without learning."""
    loop, last = subject.loop, deque[Any](maxlen=2)
    steps = subject.config.iteration_steps

    def call() -> Any:
        last.append(loop.collect())
        return last[-1]

    return Probe(
        unit="env steps",
        units_per_call=steps,
        call=call,
        expected={"env_steps": steps},
        counted=lambda: {"env_steps": loop.steps},
        weights=lambda: subject.agent.dump(loop.state),
        varies=lambda: (_flat(subject, last[0]) != _flat(subject, last[-1])).any(),
    )


def update(subject: Any) -> Probe:
    """Build gradient steps on one random batch that is on the device already."""
    agent, config = subject.agent, subject.config
    rng = np.random.default_rng(derive(subject.seed, "update"))
    pair = registry.sample_batch(subject.cell.algorithm, subject.spec, config, rng)
    batch, draws = (type(part)(*map(subject.runtime.asarray, part)) for part in pair)
    floats = [array for array in pair[0] if array.dtype.kind == "f"]
    agent_state, updates = [agent.init(subject.seed)], config.updates_per_step

    def call() -> Any:
        agent_state[0], metrics = agent.step(agent_state[0], batch, draws)
        return metrics

    return Probe(
        unit="gradient steps",
        units_per_call=updates,
        call=call,
        state=lambda: agent_state[0],
        expected={"updates": updates},
        counted=lambda: {"updates": int(agent.dump(agent_state[0])["adam/count"])},
        weights=lambda: agent.dump(agent_state[0]),
        learns=True,
        numbers=lambda metrics: _numbers(subject, metrics),
        inputs=lambda: floats,
    )


def train(subject: Any) -> Probe:
    """Build the loop as `tiebreak train` runs it: collect and learn."""
    return _learning(subject, subject.loop, subject.iterations_per_run)


def iteration(subject: Any) -> Probe:
    """Build one loop iteration: with `num_rounds = 1`, the full step of a breakdown."""
    return _learning(subject, subject.loop, 1)


def population(subject: Any) -> Probe:
    """Build many agents at once, as `tiebreak train --seeds N` runs them; all steps are counted."""
    from tiebreak.loops.fused_population import make_population

    cell = subject.cell
    loop = make_population(
        cell.algorithm,
        cell.framework,
        cell.task,
        cell.agents,
        config=subject.config,
        seed=subject.seed,
        mode=cell.mode,
        precision=cell.precision,
        device=cell.device,
    ).loop
    return _learning(subject, loop, loop.iterations_per_run)


def _learning(subject: Any, loop: Any, iterations: int) -> Probe:
    """Build a probe whose call is a number of loop iterations."""
    config, agents = subject.config, loop.agents
    while loop.is_warmup:  # fill the replay, off the clock
        loop.run()

    def counted() -> dict[str, int]:
        return {
            "env_steps": agents * loop.steps,
            "updates": agents * loop.updates,
            "optimizer_steps": int(loop.agent.dump(loop.state)["adam/count"].sum()),
        }

    def call() -> Any:
        loop.iterations_per_run = iterations  # another probe of this loop may have set another
        return loop.run()

    steps = agents * iterations * config.iteration_steps
    updates = agents * iterations * config.updates_per_iteration
    return Probe(
        unit="env steps",
        units_per_call=steps,
        call=call,
        state=lambda: loop.state,
        expected={"env_steps": steps, "updates": updates, "optimizer_steps": updates},
        counted=counted,
        weights=lambda: loop.agent.dump(loop.state),
        learns=True,
        numbers=lambda progress: _numbers(subject, progress.metrics),
    )


def _flat(subject: Any, tree: Any) -> np.ndarray:
    """Return all numbers of a NamedTuple of arrays as one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in subject.runtime.to_numpy(tree)])


def _numbers(subject: Any, metrics: Any) -> dict[str, float]:
    """Return the mean of each metric."""
    by_name = subject.runtime.to_numpy(metrics)._asdict()
    return {name: float(np.mean(value)) for name, value in by_name.items()}
