"""Say whether a cell can run on this machine: packages, GPU, C++ compiler. Nothing is imported."""

from __future__ import annotations

from tiebreak import registry
from tiebreak.bench.machine import environment, nvidia_smi
from tiebreak.bench.suite.plan import Cell
from tiebreak.peers import environments

LENT = ("numpy", "psutil")
"""What our worker imports, which an environment without Tiebreak needs for a contestant."""


def why_unavailable(cell: Cell) -> str:
    """Return why this cell cannot run here and what would help; empty if it can run."""
    if cell.contestant and (missing := registry.missing_packages(cell.engine.packages)):
        # Settings are resolved in our environment, which takes the spec of the task.
        return f"{', '.join(missing)} not installed: {registry.how_to_install(cell.engine.extra)}"
    if cell.peer:
        if reason := environments.why_unavailable(cell.peer):
            return reason
    elif cell.python:
        if missing := environment.missing_packages(cell.python, required_packages(cell)):
            return f"{', '.join(missing)} not installed for {cell.python}"
    elif missing := registry.missing_packages(required_packages(cell)):
        install = registry.how_to_install(*required_extras(cell))
        return f"{', '.join(missing)} not installed: {install}"
    if reason := nvidia_smi.why_unavailable(cell.device):
        return reason
    return registry.why_mode_unavailable(cell.framework, cell.mode)


def required_packages(cell: Cell) -> tuple[str, ...]:
    """Return the packages that a cell's process must, and may, import."""
    if cell.contestant and environment.name(cell):
        return (*cell.packages, *LENT)
    if cell.contestant:
        own = cell.packages
    elif cell.framework in registry.FRAMEWORKS:
        own = registry.framework(cell.framework).packages_in(cell.mode)
    else:  # an environment measured alone
        own = ()
    return tuple(dict.fromkeys((*own, *cell.engine.packages)))


def required_extras(cell: Cell) -> tuple[str, ...]:
    """Return the extras of this package that install what a cell needs."""
    engine = cell.engine.extra
    if cell.framework not in registry.FRAMEWORKS:
        return (engine,)
    return tuple(dict.fromkeys((*registry.extras(cell.framework, cell.mode), engine)))
