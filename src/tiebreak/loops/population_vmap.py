"""One agent's program as that of many: `vmap`, the devices' axis, and settings as arguments."""

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
"""The name of the devices' axis."""


def many(program: Callable, inputs: Tree, outputs: Tree, mesh: Mesh | None) -> Callable:
    """One agent's program as that of all; 0 in `inputs` and `outputs` (prefix trees) is what each
    agent has for itself, None what all share.
    """
    wide = jax.vmap(program, inputs, outputs)
    if mesh is None:
        return wide
    spec = PartitionSpec(AXIS), PartitionSpec()
    # What is shared is computed from what is shared: equal everywhere, which JAX need not prove.
    return jax.shard_map(
        wide, mesh=mesh, in_specs=at(inputs, *spec), out_specs=at(outputs, *spec), check_vma=False
    )


def stacked(trees: Sequence[Tree]) -> Tree:
    """Like trees as one, with a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def places(mesh: Mesh | None, device: Any) -> tuple[Any, Any]:
    """Where arrays belong of which each agent has its own, and those that all share."""
    if mesh is None:
        return device, device
    return NamedSharding(mesh, PartitionSpec(AXIS)), NamedSharding(mesh, PartitionSpec())


def at(axes: Tree, own: Any, shared: Any) -> Tree:
    """`own` for every 0, `shared` for every None."""
    return jax.tree.map(lambda a: shared if a is None else own, axes, is_leaf=lambda a: a is None)


def settled(algorithm: str, loop: Any, name: str) -> Callable:
    """One agent's program, with what it has of its own settings beside its keys."""
    runtime = loop.runtime
    make = registry.load(registry.IMPLEMENTATIONS[algorithm, runtime.framework]).make_agent
    initial = registry.data_module(algorithm).initial_weights

    def program(state: Tree, carry: Tree, keys: tuple, iterations: Any) -> Any:
        keys, values = keys
        if not values:
            return getattr(loop, name)(state, carry, keys, iterations)
        own = copy.copy(loop)
        own.config = dataclasses.replace(loop.config, **values)
        own.raw_agent = make(loop.spec, own.config, runtime.build())
        own._scales = noise_scales(algorithm, own.config)
        run = getattr(own, name)
        if runtime.framework == "nnx":
            run = _with_rules_of(own.raw_agent.load(initial(loop.spec, loop.config, 0)), run)
        return run(state, carry, keys, iterations)

    return program


def _with_rules_of(like: Tree, program: Callable) -> Callable:
    """The program with the step sizes of the state `like`: NNX states hold optimizers' rules."""
    from tiebreak.frameworks.jax.nnx import optimizer_rules, replace_optimizer_rules

    def ruled(state: Tree, *rest: Any) -> Any:
        before = optimizer_rules(state)
        replace_optimizer_rules(state, optimizer_rules(like))
        after, told = program(state, *rest)
        for each in (state, after):  # no traced number may outlive the trace
            replace_optimizer_rules(each, before)
        return after, told

    return ruled


def require_one_program(algorithm: str, loop: Any, varied: Mapping[str, Array]) -> None:
    """Raise UsageError where a setting that differs is one on which the program itself depends.

    `loop` is one agent's; `varied`: [N] of each setting.
    """
    program = settled(algorithm, loop, "_chunk")
    weights = registry.data_module(algorithm).initial_weights(loop.spec, loop.config, 0)

    def one(values: Mapping[str, Array]) -> Any:
        keys = loop._keys, values
        return program(loop.raw_agent.load(weights), loop._carry, keys, np.int32(1))[1]

    def traced(names: Iterable[str]) -> bool:
        try:
            jax.eval_shape(one, {name: varied[name][0] for name in names})
        except jax.errors.JAXTypeError:
            return False
        return True

    if varied and not traced(varied):
        wrong = [name for name in varied if not traced([name])] or list(varied)
        raise UsageError(
            f"{', '.join(wrong)} cannot differ between agents of one program: what is compiled "
            "depends on it; train them one by one, with --set"
        )
