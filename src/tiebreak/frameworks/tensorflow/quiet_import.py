"""TensorFlow without its greetings: it logs from C++ before any of its settings can stop it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def without_stderr() -> Iterator[None]:
    """File descriptor 2 points nowhere meanwhile; exceptions are not affected."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


with without_stderr():
    import tensorflow as tf
    from tensorflow.python.eager import context  # pyright: ignore

__all__ = ["context", "tf", "without_stderr"]
