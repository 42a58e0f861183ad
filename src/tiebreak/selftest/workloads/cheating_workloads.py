"""Workloads of the checks `traps` and `leak`: ways to measure the wrong thing, one per label.

Workers import it. A cell's framework selects the library, its label the workload; any other label
is measured honestly.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak.bench.clock import Timer
from tiebreak.bench.probes.base import Probe
from tiebreak.bench.suite.plan import Job
from tiebreak.core.seeding import derive
from tiebreak.selftest.workloads.toy_model import ROWS, WIDTH, Descent, Subject

PERIOD = 7
"""Calls between changes of a shape or of a Python int: enough for warm-up to end."""


class Zeros(Descent):
    """All inputs are zero, which some libraries compute faster."""

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return zeros."""
        return np.zeros((ROWS, WIDTH), np.float32)


class Constant(Descent):
    """All inputs are the same number."""

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return ones."""
        return np.ones((ROWS, WIDTH), np.float32)


class Ignoring(Descent):
    """Declares real inputs, but computes with others."""

    def inputs(self) -> tuple[Any, Any]:
        """Return zeros instead of the declared inputs."""
        return self.runtime.asarray(0 * self.batch), self.runtime.asarray(0 * self.batch.T)


class Growing(Descent):
    """The batch grows, as a replay buffer or an episode does: each shape is another program."""

    def rows(self) -> int:
        """Return the number of rows: one more every PERIOD calls."""
        return 2 + self.calls // PERIOD

    def inputs(self) -> tuple[Any, Any]:
        """Return the first rows of the batch."""
        part = self.batch[: self.rows()]
        return self.runtime.asarray(part), self.runtime.asarray(part.T.copy())


class AlwaysGrowing(Growing):
    """Every call is another program: torch compiles eight and would run the ninth eagerly."""

    def rows(self) -> int:
        """Return the number of rows: one more in every call."""
        return 2 + self.calls % (ROWS - 2)


class Counting(Descent):
    """The step count is a Python int, which compilers treat as a constant."""

    static = True

    def factor(self) -> int:
        """Return an int that grows by one every PERIOD calls."""
        return 1 + self.calls // PERIOD


class Dead(Descent):
    """The step does not return its weights, so that the compiler removes their computation."""

    dead = True


class Skipping(Descent):
    """Every second call does nothing; only the counter of updates shows it."""

    def call(self) -> Any:
        """Make a gradient step, or skip it."""
        if self.calls % 2:
            self.calls += 1
            return self.x[0]
        return super().call()


class Keeping(Descent):
    """A leak: keeps every output."""

    def call(self) -> Any:
        """Make a gradient step."""
        self.kept.append(super().call())
        return self.kept[-1]


class Caching(Descent):
    """Writes a compiled program to the disk, where Inductor does."""

    def call(self) -> Any:
        """Make a gradient step."""
        if not self.calls:
            folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "program").write_bytes(b"compiled")
        return super().call()


class Hungry(Descent):
    """Allocates 64 TiB."""

    def build(self) -> None:
        """Compile the allocation before warm-up ends: nothing may be traced afterwards."""
        super().build()
        self.allocate = ALLOCATORS[self.runtime.name]()

    def call(self) -> Any:
        """Make a gradient step; at call PERIOD allocate."""
        if self.calls == PERIOD:
            self.kept.append(self.allocate())
        return super().call()


class Slow(Subject):
    """A slow JAX program: a call returns before it has computed, but its outputs can be awaited."""

    def build(self) -> None:
        """Compile a program that takes some hundredths of a second."""
        import jax
        import jax.numpy as jnp

        def body(i, a):
            return jnp.tanh(a @ a)

        self.work = jax.jit(lambda x: jax.lax.fori_loop(0, 20, body, x))
        rng = np.random.default_rng(derive(self.seed, "slow"))
        self.x = self.runtime.asarray(rng.standard_normal((400, 400), dtype=np.float32))

    def probe(self, name: str) -> Probe:
        """Return a probe of one program per call; its true time goes into the record of work."""
        return Probe("programs", 1, self.call, numbers=lambda out: {"program_s": self.program_s()})

    def call(self) -> Any:
        """Start the program and return its outputs."""
        return self.work(self.x)

    def program_s(self) -> float:
        """Return the seconds of one program that is awaited: the least of five."""
        self.sync((self.kept, self.work(self.x)))
        seconds = []
        for _ in range(5):
            timer = Timer()
            self.sync(self.work(self.x))
            seconds.append(timer.elapsed_s())
        return min(seconds)


class Hidden(Slow):
    """Hides its outputs from the harness, which therefore cannot wait for them."""

    def call(self) -> None:
        """Start the program and keep its outputs."""
        self.kept = [super().call()]


class Rebuilt(Subject):
    """Builds an NNX agent in every call, uses it once and drops it."""

    enclosed = False

    def build(self) -> None:
        """Define the class of the agents, and the function that uses them."""
        from flax import nnx

        enclosed = self.enclosed

        class Agent(nnx.Module):
            def __init__(self):
                self.layer = nnx.Linear(WIDTH, WIDTH, rngs=nnx.Rngs(0))
                self.squash = (lambda x: nnx.tanh(self.layer(x))) if enclosed else nnx.tanh

            def __call__(self, x):
                return self.squash(x if enclosed else self.layer(x))

        self.agent, self.use = Agent, nnx.jit(lambda agent, x: agent(x))
        rng = np.random.default_rng(derive(self.seed, "rebuilt"))
        self.x = self.runtime.asarray(rng.standard_normal((ROWS, WIDTH), dtype=np.float32))

    def probe(self, name: str) -> Probe:
        """Return a probe of one agent per call."""
        return Probe("agents", 1, lambda: self.use(self.agent(), self.x), compiles=True)


class Enclosed(Rebuilt):
    """A leak: the agent has a closure over itself, so that nnx.jit's cache keeps its weights."""

    enclosed = True


def _allocate_jax() -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    return jax.jit(lambda: jnp.zeros(1 << 44, jnp.float32)).lower().compile()


def _allocate_torch() -> Callable[[], Any]:
    import torch

    return lambda: torch.zeros(1 << 44)


def _allocate_tensorflow() -> Callable[[], Any]:
    from tiebreak.frameworks.tensorflow import runtime

    tf: Any = runtime.tf

    return lambda: tf.zeros(1 << 44)


ALLOCATORS = {"jax": _allocate_jax, "torch": _allocate_torch, "tensorflow": _allocate_tensorflow}

WORKLOADS = {
    "hides its outputs": Hidden,
    "returns its outputs": Slow,
    "shape grows": Growing,
    "shape grows in every call": AlwaysGrowing,
    "int is static": Counting,
    "update is dead code": Dead,
    "skips updates": Skipping,
    "inputs are zeros": Zeros,
    "inputs are constant": Constant,
    "ignores its inputs": Ignoring,
    "keeps its outputs": Keeping,
    "leaves a cache": Caching,
    "is out of memory": Hungry,
    "rebuilds agents": Rebuilt,
    "rebuilds agents with a closure": Enclosed,
}


def make_subject(job: Job) -> Subject:
    """Return the workload of a visit: the one with its label, or the honest one."""
    return WORKLOADS.get(job.cells[0].label, Descent)(job)
