"""An import fence: a process can load the frameworks it declared, and no other.

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
"""Top-level packages that the fence knows about; everything else passes."""

COMPANIONS = {
    "tensorflow": ("keras",),
    "jax": ("jaxlib",),
    "gymnax": ("flax",),  # its environment states are flax.struct classes
    "brax": ("flax",),  # the same
    "mujoco_playground": ("flax",),
}
"""What a package cannot be imported without."""


class FenceError(ModuleNotFoundError):
    """An import that the fence refused; to the importing library it looks like `not installed`."""


class Fence(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Refuses the guarded packages that are not in `allowed`.

    It refuses the import, not the search: torch asks `importlib.util.find_spec("tensorflow")` only
    to learn where it lies, and takes no exception for an answer.
    """

    def __init__(self, allowed: frozenset[str]):
        self.refused = GUARDED - allowed

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: Any = None
    ) -> ModuleSpec | None:
        """A spec that cannot be loaded for a refused package; None leaves it to other finders."""
        if fullname.partition(".")[0] in self.refused:
            return ModuleSpec(fullname, self)
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        """Raise FenceError."""
        raise FenceError(f"the import fence refuses {spec.name!r} here", name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Never reached."""


def install(packages: Iterable[str]) -> Fence:
    """Let only `packages`, with their companions, in; to be called before any of them is imported.

    Raises RuntimeError if a package that it has to refuse is loaded already.
    """
    declared = set(packages)
    fence = Fence(frozenset(declared.union(*(COMPANIONS.get(p, ()) for p in declared))))
    if inside := sorted(fence.refused & set(sys.modules)):
        raise RuntimeError(f"the import fence came too late: {', '.join(inside)} loaded already")
    sys.meta_path.insert(0, fence)
    return fence
