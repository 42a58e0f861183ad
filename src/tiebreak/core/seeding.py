"""Independent seeds derived from one, the same on every machine and Python version."""

from __future__ import annotations

import hashlib
import random


def derive(seed: int, *path: str | int) -> int:
    """Return a 31-bit seed for the stream named by `path`; different paths are independent."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def seed_global_generators(seed: int) -> None:
    """Seed the generators of `random` and of NumPy that environments of users may draw from.

    It is for processes of our own, like the command line. A user's process keeps its generators.
    """
    import numpy as np  # the command line starts without it

    random.seed(derive(seed, "random"))
    np.random.seed(derive(seed, "numpy"))  # noqa: NPY002, the generator that is meant
