"""The projection onto atoms, in every library and each of its forms, against the oracle's."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import tensorflow as tf
import torch

from tiebreak.frameworks.jax import ops as jax_ops
from tiebreak.frameworks.numpy import ops as numpy_ops
from tiebreak.frameworks.tensorflow import ops as tensorflow_ops
from tiebreak.frameworks.torch import ops as torch_ops

LOW, HIGH, ATOMS = -4.0, 7.0, 12
FORMS = {
    "jax": lambda p, v: jax_ops.project_distribution(p, v, LOW, HIGH),
    "jax, compiled": jax.jit(lambda p, v: jax_ops.project_distribution(p, v, LOW, HIGH)),
    "jax, by pairs": lambda p, v: jax_ops._by_pairs(p, place(v)),
    "jax, many agents": lambda p, v: jax.jit(jax.vmap(FORMS["jax"]))(p[None], v[None])[0],
    "tensorflow": lambda p, v: tensorflow_ops.project_distribution(
        tf.constant(p), tf.constant(v), LOW, HIGH
    ),
    "tensorflow, compiled": tf.function(
        lambda p, v: tensorflow_ops.project_distribution(p, v, LOW, HIGH), jit_compile=True
    ),
    "torch": lambda p, v: torch_ops.project_distribution(
        torch.tensor(p), torch.tensor(v), LOW, HIGH
    ),
    "torch, by pairs": lambda p, v: torch_ops._by_pairs(torch.tensor(p), torch.tensor(place(v))),
}


BOUNDS = {"float32": 2e-6, "float64": 1e-14}


def place(values):
    return (values - LOW) * ((ATOMS - 1) / (HIGH - LOW))


def given(dtype="float32"):
    """[64, K]: values between atoms, on them, and at both ends of the range."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(ATOMS), size=64)
    values = np.clip(rng.uniform(LOW - 2, HIGH + 2, (64, ATOMS)), LOW, HIGH)
    values[:8] = np.linspace(LOW, HIGH, ATOMS)
    values[8], values[9] = LOW, HIGH
    return probs.astype(dtype), values.astype(dtype)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("form", FORMS)
def test_as_the_oracle_projects(form, dtype):
    probs, values = given(dtype)
    want = numpy_ops.project_distribution(probs.astype(float), values.astype(float), LOW, HIGH)
    with jax.enable_x64(dtype == "float64"):
        found = np.asarray(FORMS[form](probs, values))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, want, rtol=0, atol=BOUNDS[dtype])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("which", [0, 1])
def test_what_is_no_number_is_not_lost(form, which):
    """NaN as a mass or as a value must end a training, not vanish from it."""
    probs, values = given()
    (probs, values)[which][20, 5] = np.nan
    found = np.isnan(np.asarray(FORMS[form](probs, values))).any(1)
    assert found.nonzero()[0].tolist() == [20]
