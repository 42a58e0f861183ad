"""MPO's dual problems in JAX; dual_scipy.py has the equations and the bounds.

M objectives (Q; the penalty for actions out of bounds), S samples, B states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tiebreak.algorithms.mpo import dual_scipy
from tiebreak.algorithms.mpo.dual_scipy import HALVINGS, HIGHEST, LOWEST, NEWTONS, TINY
from tiebreak.core.types import Array
from tiebreak.frameworks.jax import ops
from tiebreak.frameworks.jax.ops import Gaussian


class Tempered(NamedTuple):
    """Samples reweighted by the exponential of their value, and properties of these weights."""

    weights: Array
    """[M, S, B], which sum to 1 over S"""
    log_mean: Array
    """[M]: mean over B of log mean_S exp((v − max v)/η), the dual's second term"""
    kl: Array
    """[M]: mean divergence of the weights from uniform ones"""
    slope: Array
    """[M]: −d kl / d log η, the mean variance of v/η under the weights"""


def tempered(values: Array, temperature: Array) -> Tempered:
    """Reweight samples: values [M, S, B], temperature [M]; precise for nearly equal weights too."""
    scaled = (values - values.max(axis=1, keepdims=True)) / temperature[:, None, None]
    above = jnp.expm1(scaled)
    mean = above.mean(axis=1, keepdims=True)
    weights = (above + 1.0) / (values.shape[1] * (mean + 1.0))
    log_mean = jnp.log1p(mean)
    average = (weights * scaled).sum(axis=1, keepdims=True)
    slope = (weights * jnp.square(scaled - average)).sum(axis=1).mean(axis=-1)
    return Tempered(
        weights=weights,
        log_mean=log_mean.mean(axis=(1, 2)),
        kl=(average - log_mean).mean(axis=(1, 2)),
        slope=slope,
    )


def positive(x: Array) -> Array:
    """Return the positive dual variable of a trained number."""
    return jax.nn.softplus(x) + 1e-8


def temperature_loss(temperature: Array, tempered: Tempered, epsilons: Sequence[float]) -> Array:
    """Return the dual functions, summed over objectives; the best temperatures minimise them."""
    epsilon = jnp.array(epsilons, temperature.dtype)
    return (temperature * (epsilon + tempered.log_mean)).sum()


def newton(values: Array, epsilons: Sequence[float]) -> Array:
    """Solve for the temperatures [M] at which kl is epsilon.

    Halves a bracket in log η, then makes Newton steps.
    """
    epsilon = jnp.array(epsilons, values.dtype)

    def halve(state, _):
        values, low, high = state
        middle = 0.5 * (low + high)
        hotter = tempered(values, jnp.exp(middle)).kl > epsilon
        return (values, jnp.where(hotter, middle, low), jnp.where(hotter, high, middle)), None

    def improve(state, _):
        values, low, high, x = state
        at = tempered(values, jnp.exp(x))
        x = x + (at.kl - epsilon) / jnp.maximum(at.slope, TINY)
        return (values, low, high, jnp.clip(x, low, high)), None

    # The values travel along: by what travels `scan` sees whether something is traced.
    bracket = (jnp.full_like(epsilon, math.log(bound)) for bound in (LOWEST, HIGHEST))
    (_, low, high), _ = ops.scan(halve, (values, *bracket), jnp.arange(HALVINGS))
    start = values, low, high, 0.5 * (low + high)
    (*_, x), _ = ops.scan(improve, start, jnp.arange(NEWTONS))
    return jnp.exp(x)


def slsqp(values: Array, epsilons: Sequence[float]) -> Array:
    """Solve for the same temperatures [M] by SciPy on the host; the program waits for it."""
    minimum = partial(dual_scipy.slsqp, epsilons=tuple(epsilons))
    shape = jax.ShapeDtypeStruct(values.shape[:1], values.dtype)
    return jax.pure_callback(minimum, shape, values, vmap_method="sequential")


def divergences(new: Gaussian, old: Gaussian) -> tuple[Array, Array]:
    """Return KL(old ‖ new) [A], averaged over B, of a new mean alone and of a new std alone."""
    z = (new.mean - old.mean) * jnp.exp(-old.log_std)
    narrower = old.log_std - new.log_std
    kl_std = 0.5 * jnp.expm1(2.0 * narrower) - narrower
    return 0.5 * jnp.square(z).mean(axis=0), kl_std.mean(axis=0)
