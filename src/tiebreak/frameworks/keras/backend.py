"""The backends of Keras: the array library that it computes with, chosen before it is imported.

Keras reads the name of its backend when it is imported, so a process has one. Modes of this
framework are these names. What Keras leaves to its backend lies in `on_torch.py`,
`on_tensorflow.py` and `on_jax.py`, under the same names in the same order.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType

from tiebreak import registry
from tiebreak.core.errors import UsageError

VARIABLE = "KERAS_BACKEND"
"""The variable that Keras reads when it is imported."""


def load(library: str) -> ModuleType:
    """Let Keras compute with an array library in this process; return the module of that backend.

    Raises UsageError if Keras was imported with another one. TensorFlow imports it, too.
    """
    if "keras" not in sys.modules:
        with _variable(library):
            registry.load(registry.RUNTIMES[library].module)  # TensorFlow's keeps its log quiet
            import keras  # noqa: F401

    if (here := library_here()) != library:
        raise UsageError(
            f"Keras computes with {here} in this process, which has imported it already; mode "
            f"{library!r} needs a process of its own, or {VARIABLE}={library} before that import"
        )
    return chosen_backend()


def library_here() -> str:
    """Return the array library that Keras computes with; empty if nothing has imported it yet."""
    keras = sys.modules.get("keras")
    return keras.config.backend() if keras else ""


def chosen_backend() -> ModuleType:
    """Return the module of the backend that this process has."""
    return registry.load(f"tiebreak.frameworks.keras.on_{library_here()}")


def allow_float64(is_allowed: bool) -> None:
    """Let Keras compute in float64 where its inputs are float64, or in float32 as it does else.

    Except on TensorFlow, the result type of its operations is float32 for float64 inputs, matrix
    products and means included: a table says so. Float64 is for proofs.
    """
    _result_types()["float64"] = "float64" if is_allowed else "float32"


@contextlib.contextmanager
def kept_float64() -> Iterator[None]:
    """Put back what `allow_float64` changes, at the end of the context."""
    types = _result_types()
    before = types["float64"]
    try:
        yield
    finally:
        types["float64"] = before


def _result_types() -> dict[str, str]:
    """Return Keras's table of the types that take the place of those of 64 bits."""
    from keras.src.backend.common import dtypes

    return dtypes.BIT64_TO_BIT32_DTYPE


@contextlib.contextmanager
def _variable(library: str) -> Iterator[None]:
    """Set the variable, and put it back to what it was at the end of the context."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = library
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
