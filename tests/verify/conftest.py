"""Reset JAX to 32 bits after every test: float64 is a setting of the whole process."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def _thirty_two_bits_afterwards():
    yield
    if "jax" in sys.modules:
        import jax

        jax.config.update("jax_enable_x64", False)
