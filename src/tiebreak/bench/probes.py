"""What is measured: probes over one agent, environment and loop.

A *subject* is what a visit builds; `make_subject` chooses one for a row of cells. The worker sees
subjects and probes through the two classes below only, and the clock stays outside.
"""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.bench.probe import Probe
from tiebreak.bench.suite import ALONE, SIZES
from tiebreak.core import noise
from tiebreak.core.config import override
from tiebreak.core.seeding import derive

__all__ = ["Probe", "Subject", "make_subject"]


class Subject:
    """One row's agent, environment and loop; the phases import and build are its two methods."""

    def __init__(self, job: Mapping[str, Any]):
        self.cell = job["cells"][0]
        self.seed, self.threads = job["seed"], job["threads"]

    def load(self) -> None:
        """Import everything that will be used, and set the threads."""
        cell, row = self.cell, registry.framework(self.cell["framework"])
        for package in row.packages:
            registry.load(package)
        registry.load(registry.IMPLEMENTATIONS[cell["algorithm"], cell["framework"]])
        registry.load("tiebreak.loops.base")
        registry.load(registry.ENGINES[cell["task"].partition("/")[0]].module)
        runtime = registry.make_runtime(
            cell["framework"], cell["mode"], cell["precision"], cell["device"]
        )
        runtime.set_threads(self.threads)

    def build(self) -> None:
        """Make environment, agent and loop; nothing has been called yet."""
        from tiebreak.envs.base import make_env
        from tiebreak.loops.base import make_loop

        cell = self.cell
        spec = make_env(cell["task"], 1, 0).spec
        config = override(
            registry.reference_config(cell["algorithm"], spec),
            {
                "num_envs": cell["num_envs"],
                "hidden_sizes": SIZES[cell["size"]],
                **cell["config"],
            },
        )
        self.loop = make_loop(
            cell["algorithm"], cell["framework"], cell["task"], mode=cell["mode"],
            loop=cell["loop"], config=config, precision=cell["precision"],
            device=cell["device"], seed=self.seed,
        )  # fmt: skip
        self.runtime, self.agent = self.loop.runtime, self.loop.agent
        self.config, self.spec = self.loop.config, self.loop.spec

    def probe(self, name: str) -> Probe:
        """One of the probes `forward`, `interact`, `update`, `train`, `rebuild`."""
        return getattr(self, f"_{name}")()

    def sync(self, tree: Any) -> None:
        """Wait until everything in `tree` is computed."""
        self.runtime.sync(tree)

    def compile_count(self) -> int:
        """Compilations in this process so far."""
        return self.runtime.compile_count()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Retracing inside is an error: of the agent, and of an environment that is JAX's."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.runtime.lock())
            if self.runtime.name != "jax" and "jax" in sys.modules:
                from tiebreak.bench import environment

                stack.enter_context(environment.lock())
            yield

    def fallbacks(self) -> dict[str, int]:
        """How often so far compiled code was not: `fell_to_eager`, `graph_break`."""
        return self.runtime.fallbacks()

    def settings(self) -> dict[str, Any]:
        """Effective settings, read back."""
        return self.runtime.settings()

    def memory(self) -> dict[str, int]:
        """What the library says about its memory."""
        return self.runtime.memory()

    def close(self) -> None:
        """Release the environment."""
        self.loop.close()

    def _forward(self) -> Probe:
        """The policy alone, on four batches of normal observations in turn."""
        rng = np.random.default_rng(derive(self.seed, "forward"))
        shape = (self.config.num_envs, *self.spec.observation_shape)
        draw = registry.data_module(self.cell["algorithm"]).act_noise(self.spec, shape[0])
        asarray = self.runtime.asarray
        given = [
            (rng.standard_normal(shape, dtype=np.float32), noise.sample(draw, rng))
            for _ in range(4)
        ]
        batches = [(asarray(obs), asarray(drawn)) for obs, drawn in given]
        state, turn = self.agent.init(self.seed), [0]

        def call() -> Any:
            turn[0] += 1
            return self.agent.act(state, *batches[turn[0] % 4])

        def varies() -> bool:
            others = (state, *batches[1]), (self.agent.init(self.seed + 1), *batches[0])
            first = self._flat(self.agent.act(state, *batches[0]))
            return all((self._flat(self.agent.act(*other)) != first).any() for other in others)

        return Probe(
            "actions",
            shape[0],
            call,
            weights=lambda: self.agent.dump(state),
            numbers=lambda act: {"action": float(np.sum(self.runtime.to_numpy(act).action))},
            inputs=lambda: [array for pair in given for array in pair],
            varies=varies,
        )

    def _interact(self) -> Probe:
        """Acting and stepping the environment, without learning."""
        loop, steps, last = self.loop, self.config.iteration_steps, deque[Any](maxlen=2)

        def call() -> Any:
            last.append(loop.collect())
            return last[-1]

        return Probe(
            "env steps",
            steps,
            call,
            expected={"env_steps": steps},
            counted=lambda: {"env_steps": loop.steps},
            weights=lambda: self.agent.dump(loop.state),
            inputs=lambda: [self.runtime.to_numpy(last[-1].obs)],
            varies=lambda: (self._flat(last[0]) != self._flat(last[-1])).any(),
        )

    def _update(self) -> Probe:
        """Gradient steps on one random batch that is on the device already."""
        rng = np.random.default_rng(derive(self.seed, "update"))
        pair = registry.sample_batch(self.cell["algorithm"], self.spec, self.config, rng)
        batch, draws = (type(part)(*map(self.runtime.asarray, part)) for part in pair)
        floats = [array for array in pair[0] if array.dtype.kind == "f"]
        state = [self.agent.init(self.seed)]
        updates = self.config.updates_per_step

        def call() -> Any:
            state[0], metrics = self.agent.step(state[0], batch, draws)
            return metrics

        return Probe(
            "gradient steps",
            updates,
            call,
            held=lambda: state[0],
            expected={"updates": updates},
            counted=lambda: {"updates": int(self.agent.dump(state[0])["adam/count"])},
            weights=lambda: self.agent.dump(state[0]),
            learns=True,
            numbers=self._numbers,
            inputs=lambda: floats,
        )

    def _train(self) -> Probe:
        """The loop as `tiebreak train` runs it: collect and learn."""
        loop, many = self.loop, self.loop.iterations_per_run
        while loop.warming:  # off the clock: the replay is filled
            loop.run()

        def counted() -> dict[str, int]:
            taken = int(self.agent.dump(loop.state)["adam/count"])
            return {"env_steps": loop.steps, "updates": loop.updates, "optimizer_steps": taken}

        steps, updates = (
            many * self.config.iteration_steps,
            many * self.config.updates_per_iteration,
        )
        return Probe(
            "env steps",
            steps,
            loop.run,
            held=lambda: loop.state,
            expected={"env_steps": steps, "updates": updates, "optimizer_steps": updates},
            counted=counted,
            weights=lambda: self.agent.dump(loop.state),
            learns=True,
            numbers=lambda progress: self._numbers(progress.metrics),
            inputs=lambda: [self.runtime.to_numpy(_observations(loop))],
        )

    def _rebuild(self) -> Probe:
        """Agents made anew."""
        from tiebreak.bench.rebuild import rebuild

        return rebuild(self.cell, self.spec, self.config, self.seed)

    def _flat(self, tree: Any) -> np.ndarray:
        """All numbers of a NamedTuple of arrays, in a row."""
        return np.concatenate([np.ravel(leaf) for leaf in self.runtime.to_numpy(tree)])

    def _numbers(self, metrics: Any) -> dict[str, float]:
        named = self.runtime.to_numpy(metrics)._asdict()
        return {name: float(np.ravel(value)[-1]) for name, value in named.items()}


def _observations(loop: Any) -> Any:
    """What the agent will see next, in either kind of loop."""
    return loop._carry.obs if loop.kind == "fused" else loop._obs


def make_subject(job: Mapping[str, Any]) -> Any:
    """The subject of a visit's cells."""
    if job["cells"][0]["framework"] in ALONE.values():
        from tiebreak.bench.environment import Environment

        return Environment(job)
    return Subject(job)
