"""Guard the imports of a process: it can load the frameworks that it declared, and no other.

Not importing a framework is no isolation: `import tensorflow` loads JAX by itself where it is
installed, and a second library in the process brings its own threads and memory.
"""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

GUARDED = frozenset(
    {"torch", "tensorflow", "keras", "tf_keras", "jax", "jaxlib", "flax", "optax", "equinox"}
)
"""Top-level packages that can be refused; everything else passes."""


class RefusedImport(ModuleNotFoundError):
    """Report a refused import; to the importing library the package looks not installed."""


class ImportGuard(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Refuse the guarded packages that are not in `allowed`.

    It refuses the import, not the search: torch asks `importlib.util.find_spec("tensorflow")` only
    to learn where it lies, and takes no exception for an answer.
    """

    def __init__(self, allowed: frozenset[str]):
        self.refused = GUARDED - allowed

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: Any = None
    ) -> ModuleSpec | None:
        """Return a spec that cannot be loaded for a refused package; None: ask the next finder."""
        if fullname.partition(".")[0] in self.refused:
            return ModuleSpec(fullname, self)
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        """Raise RefusedImport."""
        raise RefusedImport(f"the import guard refuses {spec.name!r} here", name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: `create_module` has raised."""


def install(allowed: Iterable[str]) -> ImportGuard:
    """Refuse all guarded packages but those in `allowed`, from now on in this process.

    Raises RuntimeError if a package that has to be refused is loaded already.
    """
    guard = ImportGuard(frozenset(allowed))
    if loaded := sorted(guard.refused & set(sys.modules)):
        raise RuntimeError(f"the import guard came too late: {', '.join(loaded)} loaded already")
    sys.meta_path.insert(0, guard)
    return guard
