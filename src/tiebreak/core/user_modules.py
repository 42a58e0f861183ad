"""Modules of users' own, found in the folder that the command was started in, too.

The folder is searched last, and only while such a module is imported, or an environment in it is
made or reset for the first time: no file in it can replace a module of Python or of a package.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from tiebreak.core.errors import UsageError

RUN: set[str] = set()
"""Functions, `module:function`, that this process has run because its user named them."""

FOLDER = "TIEBREAK_STARTED_IN"
"""Variable that names the folder to workers, which run in another one."""


@contextlib.contextmanager
def searched(wanted: bool = True) -> Iterator[None]:
    """Search the folder that the command was started in for modules, last, inside.

    wanted: False changes nothing, for environments that name no module.
    """
    if not wanted:
        yield
        return
    folder = started_in()
    sys.path.append(folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the module may have removed it
            sys.path.remove(folder)


def import_module(name: str) -> ModuleType:
    """Import a module, also from the folder that the command was started in."""
    with searched():
        return importlib.import_module(name)


def import_file(path: str) -> ModuleType:
    """Import a Python file as a module; modules beside it are found, too."""
    place = Path(started_in(), path)
    spec = importlib.util.spec_from_file_location(f"_file_{place.stem}", place)
    if spec is None or spec.loader is None or not place.is_file():
        raise UsageError(f"there is no Python file at {path!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # before it runs, as dataclasses want it
    sys.path.append(str(place.parent))
    spec.loader.exec_module(module)
    return module


def started_in() -> str:
    """Return the folder that the user's command was started in."""
    return os.environ.get(FOLDER) or os.getcwd()
