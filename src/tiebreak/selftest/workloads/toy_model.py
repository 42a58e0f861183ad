"""Gradient descent on a toy model in three libraries; traps and leaks are variants of it.

Workers import it. Compile counters, locks, memory and settings come from the runtimes, as in real
workloads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from tiebreak.bench.probes.base import Probe
from tiebreak.bench.suite.plan import Job
from tiebreak.core.seeding import derive
from tiebreak.frameworks.threads import make_runtime

ROWS, WIDTH = 64, 64
RATE, DECAY = 0.01, 0.1


class Subject:
    """Base class: what every workload here takes from its runtime."""

    def __init__(self, job: Job):
        self.cell, self.seed, self.threads = job.cells[0], job.seed, job.threads
        self.kept: list[Any] = []

    def load(self) -> None:
        """Import the library and set its threads."""
        cell = self.cell
        self.runtime = make_runtime(
            cell.framework, cell.mode, cell.precision, cell.device, self.threads
        )
        self.sync, self.compile_count = self.runtime.sync, self.runtime.compile_count
        self.settings, self.memory = self.runtime.settings, self.runtime.memory
        self.lock: Callable[[], AbstractContextManager[Any]] = self.runtime.lock
        self.fallbacks = self.runtime.fallbacks

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class Descent(Subject):
    """Counted gradient steps on one matrix of weights, measured honestly."""

    dead = False
    """True if the compiled step does not return its new weights."""
    static = False
    """True if the compiler treats the step's Python int as a constant."""

    def build(self) -> None:
        """Make weights, a batch, and the compiled step."""
        rng = np.random.default_rng(derive(self.seed, "descent"))
        self.calls, self.updates = 0, 0
        self.batch = self.draw(rng)
        weights = 0.1 * rng.standard_normal((WIDTH, WIDTH), dtype=np.float32)
        self.weights = self.runtime.asarray(weights)
        self.x = self.runtime.asarray(self.batch), self.runtime.asarray(self.batch.T.copy())
        self.step = COMPILERS[self.runtime.name](self)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the batch."""
        return rng.standard_normal((ROWS, WIDTH), dtype=np.float32)

    def probe(self, name: str) -> Probe:
        """Return a probe of one gradient step per call."""
        return Probe(
            "gradient steps",
            1,
            self.call,
            state=lambda: self.weights,
            expected={"updates": 1},
            counted=lambda: {"updates": self.updates},
            weights=lambda: {"w": self.runtime.to_numpy(self.weights)},
            learns=True,
            numbers=lambda out: {"out": float(np.mean(self.runtime.to_numpy(out)))},
            inputs=lambda: [self.batch],
            varies=self.varies,
        )

    def call(self) -> Any:
        """Make a gradient step and return its outputs."""
        self.calls += 1
        weights, out = self.step(self.weights, *self.inputs(), self.factor())
        self.updates += 1
        if not self.dead:
            self.weights = weights
        return out

    def inputs(self) -> tuple[Any, Any]:
        """Return the batch and its transpose."""
        return self.x

    def varies(self) -> bool:
        """Return True if other inputs give other outputs."""
        first = self.runtime.to_numpy(self.call())
        self.x = self.runtime.asarray(-self.batch), self.runtime.asarray(-self.batch.T.copy())
        return not np.array_equal(first, self.runtime.to_numpy(self.call()))

    def factor(self) -> int:
        """Return the Python int that the step takes."""
        return 1


def descend(tanh: Callable, w: Any, x: Any, xt: Any, factor: int) -> tuple[Any, Any]:
    """Make one step of gradient descent on |tanh(x w)|², in any library.

    Weights decay, so that they change whatever the inputs are. Returns weights and outputs.
    """
    out = tanh(x @ w)
    slope = xt @ (out * (1 - out * out)) * factor
    return w - RATE * (slope + DECAY * w), out


class Step(NamedTuple):
    """Results of a step."""

    weights: Any
    out: Any


def _jax(subject: Descent) -> Callable:
    import jax
    import jax.numpy as jnp

    def step(w, x, xt, factor):
        weights, out = descend(jnp.tanh, w, x, xt, factor)
        return (None if subject.dead else weights), out

    return jax.jit(step, static_argnums=3 if subject.static else ())


def _torch(subject: Descent) -> Callable:
    import torch

    # Captured by Dynamo, whose counters and limits are tested here, and run as it is.
    step = functools.partial(descend, torch.tanh)
    return torch.compile(lambda *args: step(*args), backend="eager", dynamic=False)


def _tensorflow(subject: Descent) -> Callable:
    from tiebreak.frameworks.tensorflow import runtime

    tf: Any = runtime.tf

    def step(w, x, xt, factor):
        weights, out = descend(tf.tanh, w, x, xt, tf.cast(factor, w.dtype))
        return Step(out if subject.dead else weights, out)

    if not subject.static:
        own: Any = subject.runtime  # TensorFlow's: others have no `compile`
        compiled = own.compile(lambda state, *args: step(*args))
        return lambda *args: compiled((), *args)
    # The runtime makes tensors of ints; an agent with a tf.function of its own would not.
    return tf.function(step, autograph=False)


COMPILERS: dict[str, Callable[[Descent], Callable]] = {
    "jax": _jax,
    "torch": _torch,
    "tensorflow": _tensorflow,
}
