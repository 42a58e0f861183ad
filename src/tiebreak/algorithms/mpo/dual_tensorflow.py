"""The dual problems of MPO in TensorFlow; dual_scipy.py has the equations and the bounds.

M objectives (Q; the penalty for actions out of bounds), S samples, B states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import tensorflow as tf

from tiebreak.algorithms.mpo import dual_scipy
from tiebreak.algorithms.mpo.dual_scipy import HALVINGS, HIGHEST, LOWEST, NEWTONS, TINY
from tiebreak.core.types import Array
from tiebreak.frameworks.tensorflow.ops import Gaussian


class Tempered(NamedTuple):
    """Samples reweighted by the exponential of their value."""

    weights: Array
    """[M, S, B]; they sum to 1 over S."""
    log_mean: Array
    """[M]: mean over B of log mean_S exp((v − max v)/η), the second term of the dual."""
    kl: Array
    """[M]: mean divergence of the weights from uniform weights."""
    slope: Array
    """[M]: −d kl / d log η, the mean variance of v/η under the weights."""


def tempered(values: Array, temperature: Array) -> Tempered:
    """Reweight values [M, S, B] at temperatures [M]; precise if weights are nearly equal too."""
    best = tf.reduce_max(values, axis=1, keepdims=True)
    scaled = (values - best) / temperature[:, None, None]
    above = tf.math.expm1(scaled)
    mean = tf.reduce_mean(above, axis=1, keepdims=True)
    weights = (above + 1.0) / (values.shape[1] * (mean + 1.0))
    log_mean = tf.math.log1p(mean)
    average = tf.reduce_sum(weights * scaled, axis=1, keepdims=True)
    spread = tf.reduce_sum(weights * tf.square(scaled - average), axis=1)
    return Tempered(
        weights=weights,
        log_mean=tf.reduce_mean(log_mean, axis=(1, 2)),
        kl=tf.reduce_mean(average - log_mean, axis=(1, 2)),
        slope=tf.reduce_mean(spread, axis=-1),
    )


def positive(x: Array) -> Array:
    """Return dual variables from the trained variables before softplus."""
    return tf.nn.softplus(x) + 1e-8


def temperature_loss(temperature: Array, tempered: Tempered, epsilons: Sequence[float]) -> Array:
    """Sum the duals over objectives; the best temperatures minimise this."""
    bounds = tf.constant(epsilons, temperature.dtype)
    return tf.reduce_sum(temperature * (bounds + tempered.log_mean))


def newton(values: Array, epsilons: Sequence[float]) -> Array:
    """Find temperatures [M] at which kl is epsilon: bisect in log η, then take Newton steps."""
    epsilon = tf.constant(epsilons, values.dtype)

    def halve(low, high):
        middle = 0.5 * (low + high)
        hotter = tempered(values, tf.exp(middle)).kl > epsilon
        return tf.where(hotter, middle, low), tf.where(hotter, high, middle)

    def improve(x):
        at = tempered(values, tf.exp(x))
        x = x + (at.kl - epsilon) / tf.maximum(at.slope, TINY)
        return tf.minimum(tf.maximum(x, low), high)

    low = tf.fill(epsilon.shape, tf.constant(math.log(LOWEST), values.dtype))
    high = tf.fill(epsilon.shape, tf.constant(math.log(HIGHEST), values.dtype))
    low, high = _repeat(halve, HALVINGS, low, high)
    (x,) = _repeat(lambda x: (improve(x),), NEWTONS, 0.5 * (low + high))
    return tf.exp(x)


def slsqp(values: Array, epsilons: Sequence[float]) -> Array:
    """Find temperatures [M] by SciPy; the program waits. XLA cannot call out of a program."""
    minimum = partial(dual_scipy.slsqp, epsilons=tuple(epsilons))
    found = tf.numpy_function(minimum, [values], values.dtype, stateful=False)
    return tf.ensure_shape(found, values.shape[:1])


def divergences(new: Gaussian, old: Gaussian) -> tuple[Array, Array]:
    """Return KL(old ‖ new) [A], averaged over B: with only the mean new, with only the std new."""
    z = (new.mean - old.mean) * tf.exp(-old.log_std)
    narrower = old.log_std - new.log_std
    kl_std = 0.5 * tf.math.expm1(2.0 * narrower) - narrower
    return 0.5 * tf.reduce_mean(tf.square(z), axis=0), tf.reduce_mean(kl_std, axis=0)


def _repeat(body, times, *start):
    """Apply `body` `times` times: a while loop in a graph, a Python loop in eager mode."""
    loop = tf.while_loop(lambda i, *_: i < times, lambda i, *x: (i + 1, *body(*x)), (0, *start))
    return loop[1:]
