"""Add and strip prefixes of dictionaries of NumPy arrays, the content of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Arrays = dict[str, np.ndarray]


def add_prefix(folder: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Return `arrays` with names `folder/…`."""
    return {f"{folder}/{name}": array for name, array in arrays.items()}


def strip_prefix(folder: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Return the arrays below `folder/`, without that prefix."""
    start = f"{folder}/"
    return {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}
