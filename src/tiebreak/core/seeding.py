"""Independent seeds derived from one, the same on every machine and Python version."""

from __future__ import annotations

import hashlib


def derive(seed: int, *path: str | int) -> int:
    """Return a 31-bit seed for the stream named by `path`; different paths are independent."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
