"""Convolutions of the JAX frameworks: a product on CPUs that is equal to XLA's own, everywhere."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiebreak import registry
from tiebreak.core.networks import NATURE, SMALL
from tiebreak.frameworks.jax import ops
from tiebreak.verify.network_cases import of_network

NAMES = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


@pytest.mark.parametrize("size", [(12, 12), (15, 13)])
@pytest.mark.parametrize("conv", [*NATURE, *SMALL], ids=lambda conv: f"{conv.window}-{conv.stride}")
def test_the_product_is_the_convolution(conv, size):
    """The sizes leave no pixel over, and some in both directions."""
    rng = np.random.default_rng(0)
    strides = (conv.stride, conv.stride)

    def loss(convolve, image, kernel):
        out = convolve(image, kernel, strides, "VALID", **NAMES)
        return jnp.sum(jnp.sin(out)), out

    with jax.enable_x64(True):
        image = jnp.asarray(rng.standard_normal((2, *size, 3)))
        kernel = jnp.asarray(rng.standard_normal((conv.window, conv.window, 3, 5)))
        results = [
            jax.grad(loss, argnums=(1, 2), has_aux=True)(convolve, image, kernel)
            for convolve in (ops.convolve, jax.lax.conv_general_dilated)
        ]
        for ours, theirs in zip(*map(jax.tree.leaves, results), strict=True):
            assert ours.dtype == np.float64
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


ON_JAX = [name for name, row in registry.FRAMEWORKS.items() if row.runtime == "jax"]


@pytest.mark.parametrize("framework", ON_JAX)
def test_a_network_has_no_convolution_on_a_cpu_and_all_of_them_on_a_gpu(framework):
    if registry.missing_packages(registry.framework(framework).packages):
        pytest.skip(f"{framework} is not installed")
    case = of_network("dqn", "cnn-nature")
    runtime = registry.make_runtime(framework, "eager")
    raw = registry.make_raw_agent("dqn", case.spec, case.config, runtime)
    leaves, structure = jax.tree.flatten(raw.init(0))
    obs = np.zeros((3, *case.spec.observation_shape), np.float32)
    noise = np.zeros(registry.data_module("dqn").act_noise(case.spec, 3).shape, np.float32)

    def act(leaves):
        return raw.act(jax.tree.unflatten(structure, leaves), obs, noise)

    def convolutions(platform):
        traced = jax.jit(act).trace(leaves)
        return traced.lower(lowering_platforms=(platform,)).as_text().count("convolution(")

    assert convolutions("cpu") == 0
    assert convolutions("cuda") == len(NATURE)
