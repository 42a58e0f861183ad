"""Many agents at once: one agent's whole training program under `vmap`, over one or more devices.

Agent i of a population with seed s is the run with seed s + i: its weights, environments and draws
come from that seed alone, and what computes is the single run's own program, to which `vmap` adds
an axis. Agents may differ in settings, too: the single run's program is then traced with numbers
that are arguments. On several devices each runs that program over its share of the agents, and
nothing is exchanged between them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.core.seeding import derive
from tiebreak.core.types import Tree
from tiebreak.envs.base import require_device_for
from tiebreak.envs.task import Task
from tiebreak.frameworks.jax import replay as jax_replay
from tiebreak.frameworks.jax.runtime import device_memory
from tiebreak.frameworks.replay import LEFT_OVER, available_bytes
from tiebreak.loops.base import make_loop
from tiebreak.loops.env_sharding import devices_for
from tiebreak.loops.memory_estimate import Memory
from tiebreak.loops.population_vmap import (
    AXIS,
    at,
    many,
    places,
    require_one_program,
    settled,
    stacked,
)


class Population(NamedTuple):
    """N agents, each with a seed of its own, and settings of its own where they were asked for."""

    loop: Any
    """A fused loop whose state, progress and `dump` of weights have a leading axis N; its counters
    are of one agent. It neither collects alone nor stores checkpoints."""
    seeds: tuple[int, ...]
    settings: tuple[Mapping[str, float], ...]
    """What each agent has instead of `loop.config`'s"""
    mesh: Mesh | None
    """Over the devices that share the agents; None where it is one."""
    memory: Memory

    @property
    def devices(self) -> list[str]:
        """Where the agents are, in their order."""
        found = [self.loop.runtime.native_device] if self.mesh is None else list(self.mesh.devices)
        return [str(device) for device in found]


def make_population(
    algorithm: str, framework: str, task: str, agents: int, *, mode: str | None = None,
    config: Any = None, precision: str = "float32", device: str = "cpu", seed: int = 0,
    chunk: int | None = None, variants: Sequence[Mapping[str, float]] = ({},),
) -> Population:  # fmt: skip
    """Agents with the seeds `seed`, `seed` + 1, …, ready to run. UsageError where they do not fit.

    `device` without a number is all devices of its kind: as many of them as divide the agents.
    `chunk`: iterations per `run` (default: about 10k environment steps of all agents together).
    `variants`: so many agents with each of these settings, the first ones first; UsageError
    where one of them decides what is compiled.
    """
    require_device_for(Task.parse(task), device, one_agent=False)
    seeds = tuple(range(seed, seed + agents)) * len(variants)
    settings = tuple(own for own in variants for _ in range(agents))
    agents = len(seeds)
    named = {"mode": mode, "config": config, "precision": precision}
    named["device"] = device.removesuffix(":all")  # it is the agents that are shared out
    loop: Any = make_loop(algorithm, framework, task, loop="fused", seed=seed, **named)
    if loop.config.prng != "threefry2x32":  # under vmap, rbg draws what no single run draws
        raise UsageError(f"prng is {loop.config.prng!r}; agents of a population need threefry2x32")
    loop.iterations_per_run = chunk or max(1, 10_000 // (agents * loop.config.iteration_steps))
    devices = _devices(loop.runtime, agents)
    memory = _require_memory(loop, agents, devices)
    mesh = Mesh(np.array(devices), (AXIS,)) if len(devices) > 1 else None
    _spread(algorithm, loop, seeds, settings, mesh)
    return Population(loop, seeds, settings, mesh, memory)


def _spread(
    algorithm: str, loop: Any, seeds: Sequence[int], settings: Sequence[Mapping], mesh: Mesh | None
) -> None:
    """Make a loop of one agent, which has not run, that of many."""
    own, shared = places(mesh, loop.runtime.native_device)
    varied = {name: jnp.asarray([float(x[name]) for x in settings]) for name in settings[0]}
    require_one_program(algorithm, loop, varied)
    state = _first_states(algorithm, loop, seeds, settings)
    started = [loop.start(seed) for seed in seeds]
    columns = zip(loop.axes, zip(*(carry for carry, _ in started), strict=True), strict=True)
    carry = loop.axes._make(c[0] if axis is None else stacked(c) for axis, c in columns)
    if "replay" in carry._fields:
        carry = carry._replace(replay=_replays(loop, len(seeds), own, shared))
    keys = stacked([keys for _, keys in started]), varied
    axes = (0, loop.axes, 0, None), (0, (loop.axes, 0))
    loop.begin(
        jax.device_put(state, own),
        jax.device_put(carry, at(loop.axes, own, shared)),
        jax.device_put(keys, own),
        over=lambda program: many(settled(algorithm, loop, program.__name__), *axes, mesh),
    )


def _first_states(
    algorithm: str, loop: Any, seeds: Sequence[int], settings: Sequence[Mapping]
) -> Tree:
    """All agents' first states; from here on the loop's agent loads and dumps those of all."""
    # NumPy's initialiser, then one load of them all: a vmapped QR hangs in jaxlib 0.10.2.
    initial, raw = registry.data_module(algorithm).initial_weights, loop.raw_agent
    weights = [
        initial(loop.spec, dataclasses.replace(loop.config, **own), derive(seed, "weights"))
        for seed, own in zip(seeds, settings, strict=True)
    ]
    loop.agents = len(seeds)
    loop.agent = loop.runtime.agent(raw._replace(load=jax.vmap(raw.load)))
    return loop.agent.load({name: np.stack([w[name] for w in weights]) for name in weights[0]})


def _replays(loop: Any, agents: int, own: Any, shared: Any) -> jax_replay.Replay:
    """Everybody's empty replay, made where it will stay."""
    one = jax.eval_shape(lambda: jax_replay.create(loop.spec, loop.config, ""))

    def empty(like: Any, axis: int | None) -> jax.Array:
        if axis is None:
            return jnp.zeros(like.shape, like.dtype, device=shared)
        return jnp.zeros((agents, *like.shape), like.dtype, device=own)

    return jax_replay.Replay(*map(empty, one, loop.axes.replay))


def _devices(runtime: Any, agents: int) -> list[Any]:
    """The device that was named; or, if its kind was, as many of that kind as divide the agents."""
    device = runtime.native_device
    return [device] if ":" in runtime.device else devices_for(device, agents)


def _require_memory(loop: Any, agents: int, devices: Sequence[Any]) -> Memory:
    """What the agents take; UsageError where that is more than there is. `loop` is one agent's."""
    held, working = loop.memory[:2]
    total, free = agents * (held + working), _free_bytes(devices)
    if total > (1.0 - LEFT_OVER) * free:
        fits = int((1.0 - LEFT_OVER) * free / (held + working))
        raise UsageError(
            f"{agents} agents take {total / 2**30:.1f} GiB ({(held + working) / 2**20:.1f} MiB "
            "each: weights, optimizer, environments, replay, an iteration's random numbers and "
            f"rollout), and {free / 2**30:.1f} GiB are free here; "
            + (f"at most --seeds {fits} fits" if fits else "not one agent fits")
        )
    return Memory(held, working, total)


def _free_bytes(devices: Sequence[Any]) -> float:
    """Of all these devices together; the machine's, where they have no memory of their own."""
    known = [device_memory(device).get("free_bytes") for device in devices]
    return available_bytes() if None in known else sum(known)
