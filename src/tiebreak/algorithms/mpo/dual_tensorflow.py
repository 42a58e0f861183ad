"""MPO's dual problems in TensorFlow; scipy_dual.py has the equations and the bounds.

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
    """[M, S, B], which sum to 1 over S"""
    log_mean: Array
    """[M]: mean over B of log mean_S exp((v − max v)/η), the dual's second term"""
    kl: Array
    """[M]: mean divergence of the weights from uniform ones"""
    slope: Array
    """[M]: −d kl / d log η, the mean variance of v/η under the weights"""


def tempered(values: Array, temperature: Array) -> Tempered:
    """values [M, S, B], temperature [M]; precise also where all weights are nearly equal."""
    best = tf.reduce_max(values, axis=1, keepdims=True)
    scaled = (values - best) / temperature[:, None, None]
    above = tf.math.expm1(scaled)
    mean = tf.reduce_mean(above, axis=1, keepdims=True)
    weights = (above + 1.0) / (values.shape[1] * (mean + 1.0))
    log_mean = tf.math.log1p(mean)
    average = tf.reduce_sum(weights * scaled, axis=1, keepdims=True)
    spread = tf.reduce_sum(weights * tf.square(scaled - average), axis=1)
    means = (tf.reduce_mean(x, axis=(1, 2)) for x in (log_mean, average - log_mean))
    return Tempered(weights, *means, slope=tf.reduce_mean(spread, axis=-1))


def positive(x: Array) -> Array:
    """A dual variable from what is trained."""
    return tf.nn.softplus(x) + 1e-8


def temperature_loss(temperature: Array, tempered: Tempered, epsilons: Sequence[float]) -> Array:
    """The duals, summed over objectives: a temperature is best where this is least."""
    bounds = tf.constant(epsilons, temperature.dtype)
    return tf.reduce_sum(temperature * (bounds + tempered.log_mean))


def newton(values: Array, epsilons: Sequence[float]) -> Array:
    """The temperatures [M] at which kl is epsilon: halvings of a bracket in log η, then Newton."""
    epsilon = tf.constant(epsilons, values.dtype)

    def halve(low, high):
        middle = 0.5 * (low + high)
        hotter = tempered(values, tf.exp(middle)).kl > epsilon
        return tf.where(hotter, middle, low), tf.where(hotter, high, middle)

    def improve(x):
        at = tempered(values, tf.exp(x))
        x = x + (at.kl - epsilon) / tf.maximum(at.slope, TINY)
        return tf.minimum(tf.maximum(x, low), high)

    bracket = (tf.fill(epsilon.shape, tf.constant(math.log(b), values.dtype))
               for b in (LOWEST, HIGHEST))  # fmt: skip
    low, high = _repeat(halve, HALVINGS, *bracket)
    (x,) = _repeat(lambda x: (improve(x),), NEWTONS, 0.5 * (low + high))
    return tf.exp(x)


def slsqp(values: Array, epsilons: Sequence[float]) -> Array:
    """The same [M] by SciPy, for which the program waits; XLA has no call out of a program."""
    minimum = partial(dual_scipy.slsqp, epsilons=tuple(epsilons))
    found = tf.numpy_function(minimum, [values], values.dtype, stateful=False)
    return tf.ensure_shape(found, values.shape[:1])


def divergences(new: Gaussian, old: Gaussian) -> tuple[Array, Array]:
    """KL(old ‖ new) [A], averaged over B: where the mean alone is new, where the std alone is."""
    z = (new.mean - old.mean) * tf.exp(-old.log_std)
    narrower = old.log_std - new.log_std
    kl_std = 0.5 * tf.math.expm1(2.0 * narrower) - narrower
    return 0.5 * tf.reduce_mean(tf.square(z), axis=0), tf.reduce_mean(kl_std, axis=0)


def _repeat(body, times, *start):
    """`body` applied so often: a while loop where something is traced, a Python loop where not."""
    loop = tf.while_loop(lambda i, *_: i < times, lambda i, *x: (i + 1, *body(*x)), (0, *start))
    return loop[1:]
