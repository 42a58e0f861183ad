"""Dictionaries of NumPy arrays whose names are paths: what checkpoints are made of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Arrays = dict[str, np.ndarray]


def add_prefix(folder: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The same arrays, named `folder/…`."""
    return {f"{folder}/{name}": array for name, array in arrays.items()}


def strip_prefix(folder: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """What `add_prefix` put there, by its own names; only that is read."""
    start = f"{folder}/"
    return {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}
