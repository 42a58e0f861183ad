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
from tiebreak.core.errors import MissingMemory, UsageError
from tiebreak.core.jax_devices import put_tree
from tiebreak.core.procfs import available_bytes
from tiebreak.core.ranks import ALONE, Ranks
from tiebreak.core.seeding import derive
from tiebreak.core.types import Tree
from tiebreak.envs.base import require_device_for
from tiebreak.envs.task import Task
from tiebreak.frameworks.jax import replay as jax_replay
from tiebreak.frameworks.jax.runtime import device_memory
from tiebreak.frameworks.replay import LEFT_OVER
from tiebreak.loops.base import CHUNK_STEPS, make_loop
from tiebreak.loops.env_sharding import devices_for
from tiebreak.loops.memory_estimate import Memory
from tiebreak.loops.population_vmap import (
    AXIS,
    fill_axes,
    require_one_program,
    shardings,
    stack_trees,
    vmap_agents,
    with_agent_config,
)


class Population(NamedTuple):
    """N agents with a seed each, and with settings of their own where these were asked for."""

    loop: Any
    """A fused loop whose state, progress and `dump` of weights have a leading axis N; its counters
    are of one agent. It neither collects alone nor stores checkpoints."""
    seeds: tuple[int, ...]
    settings: tuple[Mapping[str, float], ...]
    """Settings in which each agent differs from `loop.config`."""
    mesh: Mesh | None
    """The devices that share the agents; None if it is one."""
    memory: Memory

    @property
    def devices(self) -> list[str]:
        """Devices in the order of their agents."""
        if self.mesh is None:
            return [str(self.loop.runtime.native_device)]
        return [str(device) for device in self.mesh.devices]


def make_population(
    algorithm: str,
    framework: str,
    task: str | Task,
    agents: int,
    *,
    mode: str | None = None,
    config: Any = None,
    precision: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    chunk: int | None = None,
    variants: Sequence[Mapping[str, float]] = ({},),
    ranks: Ranks = ALONE,
) -> Population:
    """Make agents with the seeds `seed`, `seed` + 1, … and each variant's settings, ready to run.

    `device` without a number is all devices of its kind, of all `ranks`: as many as divide the
    agents. `chunk`: iterations per `run`, by default about CHUNK_STEPS steps of all agents.
    Raises MissingMemory if they do not fit, and UsageError if a variant decides what is compiled.
    """
    task = Task.parse(task)
    require_device_for(task, device, one_agent=False)
    seeds = tuple(range(seed, seed + agents)) * len(variants)
    settings = tuple(variant for variant in variants for _ in range(agents))
    agents = len(seeds)

    loop: Any = make_loop(
        algorithm, framework, task, mode=mode, loop="fused", config=config, precision=precision,
        device=device.removesuffix(":all"), seed=seed,  # it is the agents that are distributed
    )  # fmt: skip
    if loop.config.prng != "threefry2x32":  # under vmap, rbg draws what no single run draws
        raise UsageError(f"prng is {loop.config.prng!r}; agents of a population need threefry2x32")
    loop.iterations_per_run = chunk or max(1, CHUNK_STEPS // (agents * loop.config.iteration_steps))
    loop.ranks = loop.runtime.ranks = ranks
    devices = _devices(loop.runtime, agents)
    memory = _require_memory(loop, agents, devices)
    mesh = Mesh(np.array(devices), (AXIS,)) if len(devices) > 1 else None
    _become_population(algorithm, loop, seeds, settings, mesh)
    return Population(loop, seeds, settings, mesh, memory)


def _become_population(
    algorithm: str, loop: Any, seeds: Sequence[int], settings: Sequence[Mapping], mesh: Mesh | None
) -> None:
    """Turn a loop of one agent, which has not run, into that of all."""
    per_agent, shared = shardings(mesh, loop.runtime.native_device)
    varied = {name: jnp.asarray([float(x[name]) for x in settings]) for name in settings[0]}
    require_one_program(algorithm, loop, varied)

    state = _first_states(algorithm, loop, seeds, settings)
    started = [loop.start(seed) for seed in seeds]
    carry = _stack_carries(loop.axes, [carry for carry, _ in started])
    if "replay" in carry._fields:
        carry = carry._replace(replay=_empty_replays(loop, len(seeds), per_agent, shared))
    keys = (stack_trees([keys for _, keys in started]), varied)

    inputs, outputs = (0, loop.axes, 0, None), (0, (loop.axes, 0))

    def of_all(program: Any) -> Any:
        of_agent = with_agent_config(algorithm, loop, program.__func__)
        return vmap_agents(of_agent, inputs, outputs, mesh)

    loop.begin(
        put_tree(state, per_agent),
        put_tree(carry, fill_axes(loop.axes, per_agent, shared)),
        put_tree(keys, per_agent),
        wrap=of_all,
    )
    if loop.ranks.count > 1:
        _gather_dumps(loop, shared)


def _gather_dumps(loop: Any, everywhere: Any) -> None:
    """Let `dump` of weights collect those of all ranks first; all of them call it."""
    gather, dump = jax.jit(lambda tree: tree, out_shardings=everywhere), loop.agent.dump
    loop.agent = loop.agent._replace(dump=lambda state: dump(gather(state)))


def _stack_carries(axes: Any, carries: Sequence[Any]) -> Any:
    """Stack the fields of which each agent has its own; of the others, keep the first."""
    fields = []
    for axis, values in zip(axes, zip(*carries, strict=True), strict=True):
        fields.append(values[0] if axis is None else stack_trees(values))
    return axes._make(fields)


def _first_states(
    algorithm: str, loop: Any, seeds: Sequence[int], settings: Sequence[Mapping]
) -> Tree:
    """Return all agents' first states; from here on the loop's agent loads and dumps all."""
    # NumPy's initialiser, then one load of them all: a vmapped QR hangs in jaxlib 0.10.2.
    initial_weights = registry.data_module(algorithm).initial_weights
    weights = []
    for seed, changes in zip(seeds, settings, strict=True):
        config = dataclasses.replace(loop.config, **changes)
        weights.append(initial_weights(loop.spec, config, derive(seed, "weights")))

    loop.agents = len(seeds)
    loop.agent = loop.runtime.agent(loop.raw_agent._replace(load=jax.vmap(loop.raw_agent.load)))
    return loop.agent.load({name: np.stack([w[name] for w in weights]) for name in weights[0]})


def _empty_replays(loop: Any, agents: int, per_agent: Any, shared: Any) -> jax_replay.Replay:
    """Return the empty replays of all agents, allocated where they will stay."""
    one = jax.eval_shape(lambda: jax_replay.create(loop.spec, loop.config, ""))

    def empty(like: Any, axis: int | None) -> jax.Array:
        if axis is None:
            return jnp.zeros(like.shape, like.dtype, device=shared)
        return jnp.zeros((agents, *like.shape), like.dtype, device=per_agent)

    return jax_replay.Replay(*map(empty, one, loop.axes.replay))


def _devices(runtime: Any, agents: int) -> list[Any]:
    """Return the device that was named; for a kind, as many of that kind as divide the agents."""
    device = runtime.native_device
    if ":" in runtime.device:
        return [device]
    return devices_for(device, agents, runtime.ranks, "the number of agents")


def _require_memory(loop: Any, agents: int, devices: Sequence[Any]) -> Memory:
    """Return the memory of all agents; MissingMemory if it does not fit. `loop` is one agent's."""
    agent_bytes, working_bytes = loop.memory.agent_bytes, loop.memory.working_bytes
    each, all_bytes = agent_bytes + working_bytes, agents * (agent_bytes + working_bytes)
    own = [device for device in devices if device.process_index == loop.ranks.rank]
    free, agents = _free_bytes(own), agents * len(own) // len(devices)
    usable = (1.0 - LEFT_OVER) * free
    if agents * each > usable:
        fits = int(usable / each)
        raise MissingMemory(
            f"{agents} agents take {agents * each / 2**30:.1f} GiB ({each / 2**20:.1f} MiB "
            "each: weights, optimizer, environments, replay, an iteration's random numbers and "
            f"rollout), and {free / 2**30:.1f} GiB are free here; "
            + (f"at most --seeds {fits} fits" if fits else "not one agent fits")
        )
    return Memory(agent_bytes, working_bytes, all_bytes)


def _free_bytes(devices: Sequence[Any]) -> float:
    """Return the free memory of all devices; the machine's where they have none of their own."""
    free = [device_memory(device).get("free_bytes") for device in devices]
    return available_bytes() if None in free else sum(free)
