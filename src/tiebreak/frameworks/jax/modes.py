"""How each mode of Linen, NNX and Equinox compiles `fn(state, *args) -> (state, out)`.

A transform takes (runtime, fn, keep, donate): see `Runtime.transform`. Only `_flat` needs the
runtime: it knows how a state is put together again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


def _jit(runtime: Any, fn: Callable, keep: bool, donate: int) -> Callable:
    """Linen: the state is a plain tree, jax.jit says all."""
    given = _donated(keep, donate)
    return _returning(jax.jit(_without(fn) if keep else fn, donate_argnums=given), keep)


def _donated(keep: bool, donate: int) -> tuple[int, ...]:
    return tuple(range(1 if keep else 0, 1 + donate))


def _flat(runtime: Any, fn: Callable, keep: bool, donate: int) -> Callable:
    """NNX `split`, Equinox `flat`: leaves cross the boundary, the structure is closed over."""

    def inner(leaves, *args):
        state, out = fn(jax.tree.unflatten(runtime._treedef, leaves), *args)
        return out if keep else (jax.tree.leaves(state), out)

    return _returning(jax.jit(inner, donate_argnums=_donated(keep, donate)), keep)


def _filter_jit(runtime: Any, fn: Callable, keep: bool, donate: int) -> Callable:
    """Equinox's own jit: arrays are traced, everything else is static."""
    import equinox as eqx

    if keep:
        return _returning(eqx.filter_jit(_without(fn)), True)

    # Everything but the first argument is donated: what is only read comes first, as one.
    def inner(rest, state, *given):
        return fn(state, *given, *rest)

    compiled = eqx.filter_jit(inner, donate="all-except-first")
    return lambda state, *args: compiled(args[donate:], state, *args[:donate])


def _nnx_jit(runtime: Any, fn: Callable, keep: bool, donate: int) -> Callable:
    """NNX's own jit: the graph of modules is updated in place."""
    from flax import nnx

    compiled = nnx.jit(_in_place(fn), donate_argnums=_donated(keep, donate))
    return lambda state, *args: (state, compiled(state, *args))


def _nnx_cached(runtime: Any, fn: Callable, keep: bool, donate: int) -> Callable:
    """`nnx.cached_partial`: the traversal of the module graph is paid once per state object."""
    from flax import nnx

    compiled, bound = nnx.jit(_in_place(fn), donate_argnums=_donated(keep, donate)), []

    def call(state, *args):
        if not bound or bound[0] is not state:
            bound[:] = [state, nnx.cached_partial(compiled, state)]
        return state, bound[1](*args)

    return call


def _in_place(fn: Callable) -> Callable:
    """`fn` with its outcome written into the modules that came in, as nnx.jit wants it."""
    from flax import nnx

    def inner(state, *args):
        new, out = fn(state, *args)
        if new is not state:  # a scan hands back copies
            nnx.update(state, nnx.state(new))
        return out

    return inner


def _without(fn: Callable) -> Callable:
    return lambda state, *args: fn(state, *args)[1]


def _returning(compiled: Callable, keep: bool) -> Callable:
    if not keep:
        return compiled
    return lambda state, *args: (state, compiled(state, *args))


TRANSFORMS = {
    ("linen", "jit"): _jit,
    ("nnx", "jit"): _nnx_jit,
    ("nnx", "cached"): _nnx_cached,
    ("nnx", "split"): _flat,
    ("equinox", "jit"): _filter_jit,
    ("equinox", "flat"): _flat,
}
