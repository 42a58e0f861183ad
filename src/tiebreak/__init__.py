"""Tiebreak: five frameworks, one algorithm, one stopwatch.

Importing this package imports no framework: names are resolved when they are first used.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "Agent": "tiebreak.core.types",
    "EnvSpec": "tiebreak.core.types",
    "Tracker": "tiebreak.training.trackers",
    "UsageError": "tiebreak.core.errors",
    "evaluate": "tiebreak.training.evaluate",
    "export_policy": "tiebreak.export.export",
    "load_policy": "tiebreak.training.policy",
    "make_agent": "tiebreak.registry",
    "make_env": "tiebreak.envs.base",
    "read_records": "tiebreak.bench.manager.store",
    "reference_config": "tiebreak.registry",
    "sample_batch": "tiebreak.registry",
    "train": "tiebreak.training.train",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tiebreak' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
