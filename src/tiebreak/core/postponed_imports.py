"""Import a library without what it only draws with: its own imports happen when they are used."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


class _Postponed(ModuleType):
    """A module that is imported at the first use of something in it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or sys.modules.get(self.__name__) is self:
            raise AttributeError(name)  # the import system looks around
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def postponed_imports(*names: str) -> Iterator[None]:
    """Within the context, `import NAME` binds a module that is imported when it is first used.

    `names` has parents before their submodules. Modules that are imported already are left as they
    are, and afterwards `import NAME` means the real module again, everywhere.
    """
    postponed = {name: _Postponed(name) for name in names if name not in sys.modules}
    for name, module in postponed.items():
        parent, _, child = name.rpartition(".")
        if parent in postponed:
            setattr(postponed[parent], child, module)
    sys.modules.update(postponed)
    try:
        yield
    finally:
        for name, module in postponed.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
