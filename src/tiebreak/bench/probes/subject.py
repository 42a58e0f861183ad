"""What is measured: probes over one agent, environment and loop.

A *subject* is what a visit builds; `make_subject` chooses one for a row of cells. The worker sees
subjects and probes through the two classes below only, and the clock stays outside.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tiebreak import registry
from tiebreak.bench.probes import agent as agent_probes
from tiebreak.bench.probes.base import Probe
from tiebreak.bench.suite.cells import ALONE, hidden_sizes
from tiebreak.core.config import override

__all__ = ["Probe", "Subject", "make_subject"]


class Subject:
    """One row's agent, environment and loop; the phases import and build are its two methods."""

    probes: Mapping[str, Callable[[Any], Probe]] = agent_probes.PROBES

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
            registry.reference_config(cell["algorithm"], spec, cell["task"]),
            {
                "num_envs": cell["num_envs"],
                **hidden_sizes(cell["size"]),
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
        self.iterations_per_run = self.loop.iterations_per_run

    def probe(self, name: str) -> Probe:
        """One of agent_probes.PROBES."""
        return self.probes[name](self)

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
                from tiebreak.bench.probes import env as environment

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


def make_subject(job: Mapping[str, Any]) -> Any:
    """The subject of a visit's cells."""
    if job["cells"][0]["framework"] in ALONE.values():
        from tiebreak.bench.probes.env import Environment

        return Environment(job)
    return Subject(job)
