"""One agent's program turned into that of many: `vmap`, devices, and settings as arguments."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.core.types import Array, Tree
from tiebreak.loops.exploration import noise_scales

AXIS = "agents"
"""Name of the axis of devices."""


def vmap_agents(program: Callable, inputs: Tree, outputs: Tree, mesh: Mesh | None) -> Callable:
    """Vectorise one agent's program over all agents, and split them over the devices of `mesh`.

    Args:
        inputs, outputs: Prefix trees of the program's arguments and results; 0 where each agent
            has its own, None where all share one.
    """
    of_all = jax.vmap(program, inputs, outputs)
    if mesh is None:
        return of_all
    per_agent, shared = PartitionSpec(AXIS), PartitionSpec()
    # What is shared is computed from what is shared: equal everywhere, which JAX need not prove.
    return jax.shard_map(
        of_all,
        mesh=mesh,
        in_specs=fill_axes(inputs, per_agent, shared),
        out_specs=fill_axes(outputs, per_agent, shared),
        check_vma=False,
    )


def stack_trees(trees: Sequence[Tree]) -> Tree:
    """Stack trees of the same structure along a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def shardings(mesh: Mesh | None, device: Any) -> tuple[Any, Any]:
    """Return where arrays with one row per agent belong, and where arrays that all share do."""
    if mesh is None:
        return device, device
    return NamedSharding(mesh, PartitionSpec(AXIS)), NamedSharding(mesh, PartitionSpec())


def fill_axes(axes: Tree, per_agent: Any, shared: Any) -> Tree:
    """Replace every 0 in a tree of axes by `per_agent`, and every None by `shared`."""

    def fill(axis: int | None) -> Any:
        return shared if axis is None else per_agent

    return jax.tree.map(fill, axes, is_leaf=lambda axis: axis is None)


def with_agent_config(algorithm: str, loop: Any, method: Callable) -> Callable:
    """Wrap the training program so that each agent uses its own hyper-parameters.

    They are passed along with the agent's PRNG keys, as (keys, {setting: value}); `method` is an
    unbound method of the loop's class, e.g. `_chunk`.
    """
    runtime = loop.runtime
    make = registry.load(registry.IMPLEMENTATIONS[algorithm, runtime.framework]).make_agent
    initial_weights = registry.data_module(algorithm).initial_weights

    def program(state: Tree, carry: Tree, keys: tuple, iterations: Any) -> Any:
        keys, values = keys
        if not values:
            return method(loop, state, carry, keys, iterations)

        # The single run's program, traced with numbers of the config that are arguments.
        of_agent = copy.copy(loop)
        of_agent.config = dataclasses.replace(loop.config, **values)
        of_agent.raw_agent = make(loop.spec, of_agent.config, runtime.build())
        of_agent._scales = noise_scales(algorithm, of_agent.config)

        def run(*args: Any) -> Any:
            return method(of_agent, *args)

        if runtime.framework == "nnx":
            weights = initial_weights(loop.spec, loop.config, 0)
            run = _with_optimizers_of(of_agent.raw_agent.load(weights), run)
        return run(state, carry, keys, iterations)

    return program


def _with_optimizers_of(like: Tree, program: Callable) -> Callable:
    """Wrap a program so that it uses the step sizes of `like`: NNX states hold optimizer rules."""
    from tiebreak.frameworks.jax.nnx import optimizer_rules, replace_optimizer_rules

    def run(state: Tree, *rest: Any) -> Any:
        before = optimizer_rules(state)
        replace_optimizer_rules(state, optimizer_rules(like))
        after, out = program(state, *rest)
        # No traced number may outlive the trace.
        replace_optimizer_rules(state, before)
        replace_optimizer_rules(after, before)
        return after, out

    return run


def require_one_program(algorithm: str, loop: Any, varied: Mapping[str, Array]) -> None:
    """Raise UsageError if the program itself depends on a setting that differs between agents.

    Args:
        loop: A loop of one agent.
        varied: Setting -> [N], its value for each agent.
    """
    program = with_agent_config(algorithm, loop, type(loop)._chunk)
    weights = registry.data_module(algorithm).initial_weights(loop.spec, loop.config, 0)

    def of_one_agent(values: Mapping[str, Array]) -> Any:
        keys = (loop._keys, values)
        return program(loop.raw_agent.load(weights), loop._carry, keys, np.int32(1))[1]

    def can_vary(names: Iterable[str]) -> bool:
        try:
            jax.eval_shape(of_one_agent, {name: varied[name][0] for name in names})
        except jax.errors.JAXTypeError:
            return False
        return True

    if varied and not can_vary(varied):
        fixed = [name for name in varied if not can_vary([name])] or list(varied)
        raise UsageError(
            f"{', '.join(fixed)} cannot differ between agents of one program: what is compiled "
            "depends on it; train them one by one, with --set"
        )
