"""A task: the engine that simulates it, its name there, and the physics if one is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tiebreak import registry
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.text import quoted


@dataclass(frozen=True)
class Task:
    """One task of one engine; `str(task)` is how users write it: `engine/name[@physics]`."""

    engine: str
    """A key of registry.ENGINES."""
    name: str
    """Name within the engine, without the physics, e.g. `HalfCheetah-v4`."""
    physics: str = ""
    """Physics backend, e.g. `warp`, or another variant of the task; empty: the engine's default."""
    factory: Callable[[], Any] | None = field(default=None, compare=False, repr=False)
    """A user's function that makes one Gymnasium environment; known in this process alone."""

    @classmethod
    def parse(cls, task: str | Task) -> Task:
        """Parse `engine/name[@physics]`; a Task is returned as it is.

        Raises UsageError, with the nearest valid engine, for anything else. Whether the engine
        knows the name is checked when an environment is made.
        """
        if isinstance(task, Task):
            return task

        engine, slash, rest = task.partition("/")
        if not slash or not rest:
            raise UsageError(
                f"a task is written engine/name, e.g. gymnax/CartPole-v1; got {quoted(task)}"
            )
        if engine not in registry.ENGINES:
            raise unknown("engine", engine, registry.ENGINES)
        name, _, physics = rest.partition("@")
        if not physics:  # `name@` stays as it is, for the engine to refuse
            name = rest
        return cls(engine, name, physics)

    @classmethod
    def choose(cls, task: str | Task | None, env: str | Callable[[], Any] | None) -> Task:
        """Return the task that a user of Python names, in one of two ways.

        Args:
            task: `engine/name`, or None.
            env: An id of Gymnasium, or a function without arguments that makes an environment; or
                None.

        Raises UsageError unless exactly one of them is given, and for anything else.
        """
        if (task is None) == (env is None):
            raise UsageError(
                "give either task='engine/name' or env=…, an id of Gymnasium or a function that "
                "makes an environment"
            )
        if task is not None:
            return cls.parse(task)
        if isinstance(env, str):
            return cls("gymnasium", env)
        if not callable(env):
            raise UsageError(
                f"env is {quoted(env)}: a function that makes an environment is needed, for "
                "training and evaluation need several, e.g. env=lambda: MyEnv()"
            )
        name = getattr(env, "__name__", "")
        return cls("gymnasium", f"{name if name.isidentifier() else 'env'}()", factory=env)

    @property
    def is_function(self) -> bool:
        """Return whether the environment is made by a function of some Python program."""
        return self.name.endswith("()")

    @property
    def engine_name(self) -> str:
        """Name that the engine's `make` takes: `name` or `name@physics`."""
        return f"{self.name}@{self.physics}" if self.physics else self.name

    @property
    def module(self) -> str:
        """Module of a user's own that making the environment imports; empty if there is none."""
        return self.name.rpartition(":")[0] if self.row.user_modules else ""

    @property
    def row(self) -> registry.Engine:
        """Row of the engine in registry.ENGINES."""
        return registry.ENGINES[self.engine]

    def __str__(self) -> str:
        return f"{self.engine}/{self.engine_name}"
