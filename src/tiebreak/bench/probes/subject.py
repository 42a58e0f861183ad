"""Build what a run measures: an agent in its loop, an environment alone, or a contestant."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tiebreak import registry
from tiebreak.bench.probe_table import PROBES
from tiebreak.bench.probes.base import Probe, Subject
from tiebreak.bench.suite.cells import ENVIRONMENT_ALONE, hidden_sizes
from tiebreak.bench.suite.plan import Cell, Job
from tiebreak.core.config import override
from tiebreak.frameworks.threads import make_runtime, one_thread_below, threads_for


class AgentSubject:
    """The agent, environment and loop of one row; see probes/base.py:Subject."""

    probes: Mapping[str, Callable[[Any], Probe]] = {}
    """Builders that replace those of the table; tests use it."""

    def __init__(self, job: Job):
        self.cell = job.cells[0]
        self.seed, self.threads = job.seed, job.threads
        self._fixed_threads = job.fixed_threads

    @functools.cached_property
    def config(self) -> Any:
        """The algorithm's settings; resolving them makes an environment, for its spec."""
        return resolve_config(self.cell)

    def load(self) -> None:
        """Import all modules that will be used, and set the threads."""
        cell = self.cell
        library = registry.library(cell.framework, cell.mode)
        if not self._fixed_threads and one_thread_below(library, cell.engine, cell.loop):
            self.threads = threads_for(
                library,
                cell.device,
                cell.engine,
                cell.loop,
                self.config,
                cpus=self.threads,
                agents=cell.agents,
            )
        make_runtime(cell.framework, cell.mode, cell.precision, cell.device, self.threads)
        registry.load(registry.IMPLEMENTATIONS[cell.algorithm, cell.framework])
        registry.load("tiebreak.loops.base")
        registry.load(cell.engine.module)

    def build(self) -> None:
        """Make environment, agent and loop, without calling them."""
        from tiebreak.loops.base import make_loop

        cell = self.cell
        self.loop = make_loop(
            cell.algorithm,
            cell.framework,
            cell.task,
            mode=cell.mode,
            loop=cell.loop,
            config=self.config,
            precision=cell.precision,
            device=cell.device,
            seed=self.seed,
        )
        self.runtime, self.agent = self.loop.runtime, self.loop.agent
        self.spec = self.loop.spec
        self.iterations_per_run = self.loop.iterations_per_run

    def probe(self, name: str) -> Probe:
        """Build a probe of the table."""
        builder = self.probes.get(name) or load_builder(name)
        return builder(self)

    def sync(self, tree: Any) -> None:
        """Wait until all arrays of a tree are computed."""
        self.runtime.sync(tree)

    def compile_count(self) -> int:
        """Return the number of compilations in this process so far."""
        return self.runtime.compile_count()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Make retracing an error inside: of the agent, and of an environment in JAX."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.runtime.lock())
            if self.runtime.name != "jax" and "jax" in sys.modules:
                from tiebreak.bench.probes.env import no_tracing

                stack.enter_context(no_tracing())
            yield

    def fallbacks(self) -> dict[str, int]:
        """Return counts of compiled code that ran uncompiled: `fell_to_eager`, `graph_break`."""
        return self.runtime.fallbacks()

    def settings(self) -> dict[str, Any]:
        """Return effective settings, read back from the library."""
        return self.runtime.settings()

    def memory(self) -> dict[str, int]:
        """Return the library's own counts of its memory."""
        return self.runtime.memory()

    def close(self) -> None:
        """Release the environment."""
        self.loop.close()


def resolve_config(cell: Cell) -> Any:
    """Return the algorithm's settings of a cell: reference, size, and the suite's own settings."""
    from tiebreak.envs.base import make_spec

    spec = make_spec(cell.task)
    reference = registry.reference_config(cell.algorithm, spec, cell.task)
    settings = {"num_envs": cell.num_envs, **hidden_sizes(cell.size), **cell.config}
    return override(reference, settings)


def load_builder(name: str) -> Callable[[Any], Probe]:
    """Import the function that builds a probe of the table."""
    module, _, function = PROBES[name].builder.partition(":")
    return getattr(registry.load(module), function)


def make_subject(job: Job) -> Subject:
    """Return the subject of a run's cells."""
    cell = job.cells[0]
    if cell.contestant:
        from tiebreak.bench.probes.contestants import ContestantSubject

        return ContestantSubject(job)
    if cell.framework in ENVIRONMENT_ALONE.values():
        from tiebreak.bench.probes.env import EnvSubject

        return EnvSubject(job)
    return AgentSubject(job)
