"""What the rows `traps` and `leak` measure: ways to cheat at small work, each with its own label.

Workers import it. A cell's framework says in which library, its label which trap; any label that
is none is measured honestly.
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
"""Calls between two changes of a shape or of a Python int: long enough for warm-up to end."""


class Zeros(Descent):
    """Multiplies by nothing, which some libraries do faster."""

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """All zeros."""
        return np.zeros((ROWS, WIDTH), np.float32)


class Constant(Descent):
    """The same number everywhere."""

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """All ones."""
        return np.ones((ROWS, WIDTH), np.float32)


class Ignoring(Descent):
    """Shows real inputs, and computes something that does not need them."""

    def inputs(self) -> tuple[Any, Any]:
        """Others than those it shows."""
        return self.runtime.asarray(0 * self.batch), self.runtime.asarray(0 * self.batch.T)


class Growing(Descent):
    """A batch that grows, as a replay buffer or an episode does: another program each time."""

    def rows(self) -> int:
        """Now and then one more."""
        return 2 + self.calls // PERIOD

    def inputs(self) -> tuple[Any, Any]:
        """The first rows of the batch."""
        part = self.batch[: self.rows()]
        return self.runtime.asarray(part), self.runtime.asarray(part.T.copy())


class AlwaysGrowing(Growing):
    """Another program in every call: torch compiles eight and would run the ninth as it is."""

    def rows(self) -> int:
        """One more."""
        return 2 + self.calls % (ROWS - 2)


class Counting(Descent):
    """A step count given as a Python int, which compilers take for a constant."""

    static = True

    def factor(self) -> int:
        """Now and then one more."""
        return 1 + self.calls // PERIOD


class Dead(Descent):
    """The step does not return its weights: the compiler removes what only they need."""

    dead = True


class Skipping(Descent):
    """Every second call does nothing, and says so to nobody but the counter."""

    def call(self) -> Any:
        """A gradient step, or none."""
        if self.calls % 2:
            self.calls += 1
            return self.x[0]
        return super().call()


class Keeping(Descent):
    """A leak: every output is kept."""

    def call(self) -> Any:
        """A gradient step."""
        self.kept.append(super().call())
        return self.kept[-1]


class Caching(Descent):
    """Leaves a compiled program on the disk, where Inductor does."""

    def call(self) -> Any:
        """A gradient step."""
        if not self.calls:
            folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "program").write_bytes(b"compiled")
        return super().call()


class Hungry(Descent):
    """Asks for 64 TiB."""

    def build(self) -> None:
        """What asks is compiled before warm-up is over: nothing may be traced afterwards."""
        super().build()
        self.ask = HUNGER[self.runtime.name]()

    def call(self) -> Any:
        """A gradient step, at first."""
        if self.calls == PERIOD:
            self.kept.append(self.ask())
        return super().call()


class Slow(Subject):
    """JAX returns before it has computed; the outputs are returned as well, so one can wait."""

    def build(self) -> None:
        """A program of some hundredths of a second."""
        import jax
        import jax.numpy as jnp

        body = lambda i, a: jnp.tanh(a @ a)  # noqa: E731
        self.work = jax.jit(lambda x: jax.lax.fori_loop(0, 20, body, x))
        rng = np.random.default_rng(derive(self.seed, "slow"))
        self.x = self.runtime.asarray(rng.standard_normal((400, 400), dtype=np.float32))

    def probe(self, name: str) -> Probe:
        """One program a call; its own length goes into the proof of work."""
        return Probe("programs", 1, self.call, numbers=lambda out: {"program_s": self.program_s()})

    def call(self) -> Any:
        """Start the program."""
        return self.work(self.x)

    def program_s(self) -> float:
        """Seconds of one program when it is waited for: the least of five, measured here."""
        self.sync((self.kept, self.work(self.x)))
        seconds = []
        for _ in range(5):
            timer = Timer()
            self.sync(self.work(self.x))
            seconds.append(timer.elapsed_s())
        return min(seconds)


class Hidden(Slow):
    """The outputs are kept from the harness, which cannot wait for what it does not see."""

    def call(self) -> None:
        """Start the program."""
        self.kept = [super().call()]


class Rebuilt(Subject):
    """Builds an NNX agent in every call, uses it once, drops it."""

    enclosed = False

    def build(self) -> None:
        """The class of the agents, and the function that uses them."""
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
        """One agent a call."""
        return Probe("agents", 1, lambda: self.use(self.agent(), self.x), compiles=True)


class Enclosed(Rebuilt):
    """The agent holds a closure over itself: the cache of nnx.jit keeps it, and all its weights."""

    enclosed = True


def _hungry_jax() -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    return jax.jit(lambda: jnp.zeros(1 << 44, jnp.float32)).lower().compile()


def _hungry_torch() -> Callable[[], Any]:
    import torch

    return lambda: torch.zeros(1 << 44)


def _hungry_tensorflow() -> Callable[[], Any]:
    from tiebreak.frameworks.tensorflow.runtime import tf

    return lambda: tf.zeros(1 << 44)


HUNGER = {"jax": _hungry_jax, "torch": _hungry_torch, "tensorflow": _hungry_tensorflow}

SUBJECTS = {
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
    """The subject of a visit: what its label says, or the honest one."""
    return SUBJECTS.get(job.cells[0].label, Descent)(job)
