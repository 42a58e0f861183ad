"""Bugs to plant into PPO's memory; see planted.py. They are written for all array libraries."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from verify.planted import Plant


def library_of(x: Any) -> Any:
    """Return the functions of the library that `x` comes from, by one name each."""
    library = type(x).__module__.partition(".")[0]
    if library == "torch":
        import torch

        return SimpleNamespace(
            concat=torch.cat, stack=torch.stack, where=torch.where, sigmoid=torch.sigmoid,
            tanh=torch.tanh, reshape=torch.reshape,
        )  # fmt: skip
    if library == "tensorflow":
        import tensorflow as tf

        return tf
    if library == "numpy":  # TensorFlow's eager mode takes minibatches as they are
        return SimpleNamespace(concat=np.concatenate, reshape=np.reshape)
    import jax
    import jax.numpy as jnp

    return SimpleNamespace(
        concat=jnp.concatenate, stack=jnp.stack, where=jnp.where, sigmoid=jax.nn.sigmoid,
        tanh=jnp.tanh, reshape=jnp.reshape,
    )  # fmt: skip


def nowhere(begins: Any) -> Any:
    return begins ^ begins


def first_row_only(begins: Any) -> Any:
    return library_of(begins).concat([begins[:1], nowhere(begins[1:])], 0)


def one_later(begins: Any) -> Any:
    return library_of(begins).concat([nowhere(begins[:1]), begins[:-1]], 0)


def one_earlier(begins: Any) -> Any:
    return library_of(begins).concat([begins[1:], nowhere(begins[:1])], 0)


def of_the_next(hidden: Any) -> Any:
    """Return the memory of the next environment for each."""
    return library_of(hidden).concat([hidden[1:], hidden[:1]], 0)


def gates_swapped(x: Any) -> Any:
    """Swap the columns of the reset gate and of the update gate."""
    width = x.shape[-1] // 3
    parts = [x[..., width : 2 * width], x[..., :width], x[..., 2 * width :]]
    return library_of(x).concat(parts, -1)


def begins_as(change: Callable) -> Callable[[Callable], Callable]:
    """Call the right `gru` with other resets."""
    return lambda f: (
        lambda gates, kernel, bias, hidden, begins: f(gates, kernel, bias, hidden, change(begins))
    )


def hidden_as(change: Callable) -> Callable[[Callable], Callable]:
    """Call the right `gru` with another first state."""
    return lambda f: (
        lambda gates, kernel, bias, hidden, begins: f(gates, kernel, bias, change(hidden), begins)
    )


def reset_before_the_product(f: Callable) -> Callable:
    """Let the reset gate scale the state, not its product: Keras' `reset_after=False`."""

    def wrong(gates, kernel, bias, hidden, begins):
        xp, width = library_of(gates), hidden.shape[-1]
        columns = slice(0, width), slice(width, 2 * width), slice(2 * width, 3 * width)
        states = []
        for t in range(gates.shape[0]):
            hidden = xp.where(begins[t][:, None], 0.0 * hidden, hidden)

            def product(state, part, t=t):
                return gates[t][:, part] + state @ kernel[:, part] + bias[part]

            reset, update = (xp.sigmoid(product(hidden, part)) for part in columns[:2])
            candidate = xp.tanh(product(reset * hidden, columns[2]))
            hidden = (1.0 - update) * candidate + update * hidden
            states.append(hidden)
        return xp.stack(states)

    return wrong


def ends_valued_after_the_reset(f: Callable) -> Callable:
    """Zero the memory of steps that end an episode before their next observation is valued.

    Next observations are one step of as many rows as the rollout has, whose resets came before.
    """
    rollouts: list[Any] = []

    def wrong(gates, kernel, bias, hidden, begins):
        steps, rows = begins.shape
        if steps > 1:
            rollouts[:] = [begins]
        elif rollouts and rows == rollouts[0].shape[0] * rollouts[0].shape[1]:
            begins = library_of(begins).reshape(one_earlier(rollouts[0]), (1, rows))
        return f(gates, kernel, bias, hidden, begins)

    return wrong


PLANTS = {
    "memory never reset": Plant("gru", begins_as(nowhere)),
    "no reset in mid-sequence": Plant("gru", begins_as(first_row_only)),
    "reset one step late": Plant("gru", begins_as(one_later)),
    "reset one step early": Plant("gru", begins_as(one_earlier)),
    "memory of the wrong environment": Plant("gru", hidden_as(of_the_next)),
    "memory not carried into a rollout": Plant("gru", hidden_as(lambda hidden: 0.0 * hidden)),
    "ends valued after the reset": Plant("gru", ends_valued_after_the_reset),
    "reset gate before the product": Plant("gru", reset_before_the_product),
    "gates swapped": Plant(
        "gru",
        lambda f: (
            lambda gates, kernel, bias, *rest: f(
                gates_swapped(gates), gates_swapped(kernel), gates_swapped(bias), *rest
            )
        ),
    ),
    "bias of the state forgotten": Plant(
        "gru", lambda f: lambda gates, kernel, bias, *rest: f(gates, kernel, 0.0 * bias, *rest)
    ),
    "time limits do not reset": Plant(
        "episode_begins",
        lambda f: lambda batch: f(batch._replace(truncated=nowhere(batch.truncated))),
    ),
    "minibatch with the memory of another environment": Plant(
        "by_environment",
        lambda f: lambda rows, batch: f(rows, batch._replace(hidden=of_the_next(batch.hidden))),
    ),
    "minibatches of a rollout that begins anew": Plant(
        "by_environment",
        lambda f: lambda rows, batch: f(rows, batch._replace(begins=batch.begins | ~batch.begins)),
    ),
}
