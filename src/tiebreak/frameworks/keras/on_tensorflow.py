"""Keras on TensorFlow: agents are pure functions, and between calls their state is variables.

The runtime is TensorFlow's own, compiling by XLA: a compiled function takes variables, reads them,
and writes the new state into them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from tiebreak.core.off_policy import Explored
from tiebreak.core.types import Agent, Array, State, Tree
from tiebreak.frameworks.tensorflow.runtime import Runtime as Base
from tiebreak.frameworks.tensorflow.runtime import kept_settings as base_settings

COUNT_DTYPE = "int64"
"""Type of step counts: TensorFlow keeps 32-bit integers off the GPU, where XLA could not reach
them."""


class Runtime(Base):
    """TensorFlow, compiled by XLA, for agents that do not change their state in place."""

    def agent(self, raw: Agent) -> Agent:
        return super().agent(_in_place(raw))

    def compile_act(self, raw: Agent) -> Callable[..., Any]:
        return super().compile_act(_in_place(raw))

    def compile_exploring_act(
        self, raw: Agent, scales: tuple[float, float]
    ) -> Callable[..., Explored]:
        return super().compile_exploring_act(_in_place(raw), scales)

    def compile_update(
        self, raw: Agent, sample: Callable
    ) -> Callable[[State, Tree, Tree, int], Any]:
        return super().compile_update(_in_place(raw), sample)

    def compile(self, fn: Callable) -> Callable:
        if self.mode == "eager":
            return super().compile(fn)
        return self._placed(self._traced(fn, xla=True))


def kept_settings() -> AbstractContextManager[None]:
    """Put the precision of the process back to what it was, at the end of the context."""
    return base_settings()  # Keras computes in float64 where its inputs are, on TensorFlow


def widest(x: Array) -> Array:
    """Return whole numbers as the widest floating-point numbers of this process."""
    return tf.cast(x, tf.float64)


def differentiate(loss: Callable[[Tree], Any], params: Tree) -> tuple[Any, Tree]:
    """Return the terms of a loss at `params`, and the gradient of its field `loss` there."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(params)
        terms = loss(params)
    return terms, tape.gradient(terms.loss, params)


def _in_place(raw: Agent) -> Agent:
    """Return an agent whose state is variables, into which a step writes."""

    def step(state: State, *args: Any) -> tuple[State, Any]:
        new, out = raw.step(_read(state), *args)
        tf.nest.map_structure(lambda variable, value: variable.assign(value), state, new)
        return state, out

    return Agent(
        init=lambda seed: _variables(raw.init(seed)),
        act=lambda state, *args: raw.act(_read(state), *args),
        step=step,
        dump=lambda state: raw.dump(_read(state)),
        load=lambda weights: _variables(raw.load(weights)),
    )


def _variables(state: State) -> State:
    return tf.nest.map_structure(tf.Variable, state)


def _read(state: State) -> State:
    return tf.nest.map_structure(tf.convert_to_tensor, state)
