"""The modes of the frameworks on JAX: ways to compile `fn(state, *args) -> (state, out)`.

A function of TRANSFORMS takes (runtime, fn, keep, donate), as described in `Runtime.transform`.
Only `_flat` needs the runtime, which keeps the structure of the state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


def _jit(runtime: Any, fn: Callable, keep: bool, donate: int) -> Callable:
    """Compile with jax.jit: the state of Linen and of plain JAX is a tree."""
    compiled = jax.jit(_output_only(fn) if keep else fn, donate_argnums=_donated(keep, donate))
    return _with_state(compiled) if keep else compiled


def _donated(keep: bool, donate: int) -> tuple[int, ...]:
    """Return the positions of the arguments whose buffers may be reused; the state's is 0."""
    return tuple(range(1 if keep else 0, 1 + donate))


def _flat(runtime: Any, fn: Callable, keep: bool, donate: int) -> Callable:
    """Compile a function of the state's leaves: NNX `split`, Equinox `flat`.

    The structure of the state is closed over and costs nothing in a call.
    """

    def inner(leaves, *args):
        state, out = fn(jax.tree.unflatten(runtime._treedef, leaves), *args)
        return out if keep else (jax.tree.leaves(state), out)

    compiled = jax.jit(inner, donate_argnums=_donated(keep, donate))
    return _with_state(compiled) if keep else compiled


def _filter_jit(runtime: Any, fn: Callable, keep: bool, donate: int) -> Callable:
    """Compile with Equinox's own jit: arrays are traced, everything else is static."""
    import equinox as eqx

    if keep:
        return _with_state(eqx.filter_jit(_output_only(fn)))

    # Equinox donates all arguments but the first: those that are only read come first, as one.
    def inner(kept, state, *donated):
        return fn(state, *donated, *kept)

    compiled = eqx.filter_jit(inner, donate="all-except-first")
    return lambda state, *args: compiled(args[donate:], state, *args[:donate])


def _nnx_jit(runtime: Any, fn: Callable, keep: bool, donate: int) -> Callable:
    """Compile with NNX's own jit, which updates the graph of modules in place."""
    from flax import nnx

    compiled = nnx.jit(_in_place(fn), donate_argnums=_donated(keep, donate))
    return lambda state, *args: (state, compiled(state, *args))


def _nnx_cached(runtime: Any, fn: Callable, keep: bool, donate: int) -> Callable:
    """Compile with `nnx.cached_partial`, which traverses each state's module graph only once."""
    from flax import nnx

    compiled = nnx.jit(_in_place(fn), donate_argnums=_donated(keep, donate))
    bound = []  # the state of the last call, and the function that is bound to it

    def call(state, *args):
        if not bound or bound[0] is not state:
            bound[:] = [state, nnx.cached_partial(compiled, state)]
        return state, bound[1](*args)

    return call


def _in_place(fn: Callable) -> Callable:
    """Wrap `fn` to write the new state into the modules that came in, as nnx.jit needs it."""
    from flax import nnx

    def inner(state, *args):
        new, out = fn(state, *args)
        if new is not state:  # a scan returns copies
            nnx.update(state, nnx.state(new))
        return out

    return inner


def _output_only(fn: Callable) -> Callable:
    """Wrap `fn` to return its output without the state."""
    return lambda state, *args: fn(state, *args)[1]


def _with_state(compiled: Callable) -> Callable:
    """Wrap a function of `_output_only` to return the state that came in as well."""
    return lambda state, *args: (state, compiled(state, *args))


TRANSFORMS = {
    ("linen", "jit"): _jit,
    ("nnx", "jit"): _nnx_jit,
    ("nnx", "cached"): _nnx_cached,
    ("nnx", "split"): _flat,
    ("equinox", "jit"): _filter_jit,
    ("equinox", "flat"): _flat,
    ("plain", "jit"): _jit,
    ("keras", "jax"): _jit,
}
