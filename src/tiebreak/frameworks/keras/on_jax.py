"""Keras on JAX: a state is a tree of arrays and a step one program, as in the other frameworks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from tiebreak.core.types import Array, Tree
from tiebreak.frameworks.jax.runtime import Runtime as Base
from tiebreak.frameworks.jax.runtime import kept_settings as base_settings
from tiebreak.frameworks.keras.backend import allow_float64, kept_float64

COUNT_DTYPE = "int32"
"""Type of step counts."""


class Runtime(Base):
    """JAX, compiled by jax.jit, for agents written in Keras."""

    def __init__(self, framework: str, mode: str, precision: str, device: str):
        super().__init__(framework, mode, precision, device)
        allow_float64(precision == "float64")

    @contextlib.contextmanager
    def precision_scope(self) -> Iterator[None]:
        with super().precision_scope(), kept_float64():
            allow_float64(self.precision == "float64")
            yield


@contextlib.contextmanager
def kept_settings() -> Iterator[None]:
    """Put the precision of the process back to what it was, at the end of the context."""
    with base_settings(), kept_float64():
        yield


def widest(x: Array) -> Array:
    """Return whole numbers as the widest floating-point numbers of this process."""
    return jnp.asarray(x, jnp.result_type(float))


def differentiate(loss: Callable[[Tree], Any], params: Tree) -> tuple[Any, Tree]:
    """Return the terms of a loss at `params`, and the gradient of its field `loss` there."""

    def loss_and_terms(params: Tree) -> tuple[Array, Any]:
        terms = loss(params)
        return terms.loss, terms

    grads, terms = jax.grad(loss_and_terms, has_aux=True)(params)
    return terms, grads
