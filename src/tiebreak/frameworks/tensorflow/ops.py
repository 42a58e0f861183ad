"""Arithmetic of all agents in TensorFlow; same names as in the other libraries' ops.py.

All weights of an optimizer live in one flat vector, cut up by `unpack` where they are used:
clipping and Adam are then one kernel each instead of one per layer, in every mode and on every
device, and XLA compiles in half the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tiebreak.core.types import LARGEST, Array, RunningStats

BETA1, BETA2 = 0.9, 0.999
Layout = Mapping[str, tuple[int, ...]]
"""Canonical names and shapes of a vector's weights, in order."""


class Categorical(NamedTuple):
    """Distribution over actions 0 … K−1."""

    logits: Array
    """[…, K], unnormalised."""

    @property
    def log_p(self) -> Array:
        """Log-probabilities […, K] of all actions."""
        return tf.nn.log_softmax(self.logits)

    def sample(self, noise: Array) -> Array:
        """Draw actions […] int32 by Gumbel-max; noise […, K]; zero noise is the mode."""
        return tf.argmax(self.logits + noise, axis=-1, output_type=tf.int32)

    def log_prob(self, action: Array) -> Array:
        """Return log-probabilities […] of actions […]."""
        return -tf.nn.sparse_softmax_cross_entropy_with_logits(action, self.logits)

    def entropy(self) -> Array:
        """Return the entropy […] in nats."""
        log_p = tf.nn.log_softmax(self.logits)
        return -tf.reduce_sum(tf.exp(log_p) * log_p, axis=-1)


class MultiCategorical(NamedTuple):
    """Independent distributions over several discrete choices."""

    choices: tuple[Categorical, ...]

    def sample(self, noise: Array) -> Array:
        """Draw int32 […, choices] by Gumbel-max from noise […, values of all choices]."""
        parts = tf.split(noise, [choice.logits.shape[-1] for choice in self.choices], axis=-1)
        drawn = [choice.sample(part) for choice, part in zip(self.choices, parts, strict=True)]
        return tf.stack(drawn, axis=-1)

    def log_prob(self, action: Array) -> Array:
        """Return the log-probability […] of actions […, choices]."""
        return tf.add_n([choice.log_prob(action[..., i]) for i, choice in enumerate(self.choices)])

    def entropy(self) -> Array:
        """Return the entropy […] in nats."""
        return tf.add_n([choice.entropy() for choice in self.choices])


def categorical(logits: Array, nvec: Sequence[int] | None) -> Categorical | MultiCategorical:
    """Return the distribution over one integer, or over one for each of `nvec`."""
    if nvec is None:
        return Categorical(logits)
    parts = tf.split(logits, list(nvec), axis=-1)
    return MultiCategorical(tuple(Categorical(part) for part in parts))


class Gaussian(NamedTuple):
    """Diagonal normal distribution over vectors."""

    mean: Array
    """[…, A]."""
    log_std: Array
    """Broadcastable to `mean`."""

    def sample(self, noise: Array) -> Array:
        """Draw […, A] from standard normal noise […, A]; zero noise is the mean."""
        return self.mean + tf.exp(self.log_std) * noise

    def log_prob(self, action: Array) -> Array:
        """Return log densities […] of actions […, A], summed over dimensions."""
        z = (action - self.mean) * tf.exp(-self.log_std)
        return tf.reduce_sum(-0.5 * z * z - self.log_std - 0.5 * np.log(2 * np.pi), axis=-1)

    def entropy(self) -> Array:
        """Return the entropy […] in nats."""
        log_std = tf.broadcast_to(self.log_std, self.mean.shape)
        return tf.reduce_sum(log_std + 0.5 * np.log(2 * np.pi * np.e), axis=-1)


class SquashedGaussian(NamedTuple):
    """The tanh of a diagonal normal distribution, over the open box (-1, 1)^A."""

    mean: Array
    """[…, A], before tanh."""
    log_std: Array
    """[…, A], before tanh."""

    def sample(self, noise: Array) -> Array:
        """Draw […, A] from standard normal noise […, A]; zero noise is tanh of the mean."""
        return tf.tanh(self.mean + tf.exp(self.log_std) * noise)

    def sample_log_prob(self, noise: Array) -> tuple[Array, Array]:
        """Draw as `sample` does; also return the log density […], summed over dimensions."""
        x = self.mean + tf.exp(self.log_std) * noise
        log_slope = 2.0 * (math.log(2.0) - x - tf.nn.softplus(-2.0 * x))  # log(1 − tanh²x), stable
        normal = -0.5 * noise * noise - self.log_std - 0.5 * math.log(2 * math.pi)
        return tf.tanh(x), tf.reduce_sum(normal - log_slope, axis=-1)


def at_least_float32(x: Array) -> Array:
    """Return x in float32 if it is bfloat16, which has three digits; otherwise as it is."""
    return tf.cast(x, tf.float32) if x.dtype == tf.bfloat16 else x


def rescale_action(raw: Array, low: Array, high: Array) -> Array:
    """Map actions, clipped to [-1, 1]^A, onto the box [low, high]."""
    return low + 0.5 * (tf.clip_by_value(raw, -1.0, 1.0) + 1.0) * (high - low)


def atoms(low: float, high: float, like: Array) -> Array:
    """Return K evenly spaced numbers from low to high, in the type of `like` […, K]."""
    return tf.constant(np.linspace(low, high, like.shape[-1]), like.dtype)


def project_distribution(probs: Array, values: Array, low: float, high: float) -> Array:
    """Project mass `probs` at `values` in [low, high], both [B, K], onto K even atoms.

    Each mass is split between its two neighbouring atoms by distance (Bellemare et al. 2017).
    """
    rows, last = probs.shape[0], probs.shape[1] - 1
    place = (values - low) * (last / (high - low))
    below = tf.floor(place)
    below = tf.where(tf.math.is_nan(place), tf.zeros_like(place), below)  # NaN is no index
    below = tf.clip_by_value(below, 0, last - 1)
    upper, below = probs * (place - below), tf.cast(below, tf.int32)
    index = below + (last + 1) * tf.range(rows)[:, None]
    index, mass = tf.concat([index, index + 1], 1), tf.concat([probs - upper, upper], 1)
    return tf.reshape(tf.math.unsorted_segment_sum(mass, index, rows * (last + 1)), probs.shape)


def recurrence(value: Array, coefficient: Array, reverse: bool = False) -> Array:
    """Solve y_t = value_t + coefficient_t · y_{t−1} along axis 0 (y_{t+1} if reverse); [T, …].

    Doubles the step: ⌈log₂ T⌉ rounds over whole arrays, not T small steps (Hillis & Steele 1986).
    """
    shift = 1
    while shift < value.shape[0]:
        value = value + coefficient * _shifted(value, shift, reverse)
        coefficient = coefficient * _shifted(coefficient, shift, reverse)
        shift *= 2
    return value


def gru(gates: Array, kernel: Array, bias: Array, hidden: Array, begins: Array) -> Array:
    """Return the states [T, B, H] of a gated recurrent unit after each of T steps (0063).

    The loop over steps is Python's, which a graph unrolls.

    Args:
        gates: [T, B, 3H]: the inputs' products for reset gate, update gate and candidate.
        kernel: [H, 3H]: of the state's products for the same; `bias` [3H] is added to them.
        hidden: [B, H]: the state before the first step.
        begins: [T, B] bool: where the state before a step counts as zero.
    """
    states = []
    for gates_now, begins_now in zip(tf.unstack(gates), tf.unstack(begins), strict=True):
        hidden = tf.where(begins_now[:, None], tf.zeros_like(hidden), hidden)
        x_reset, x_update, x_candidate = tf.split(gates_now, 3, axis=-1)
        products = tf.nn.bias_add(tf.matmul(hidden, kernel), bias)
        h_reset, h_update, h_candidate = tf.split(products, 3, axis=-1)

        reset = tf.sigmoid(x_reset + h_reset)
        update = tf.sigmoid(x_update + h_update)
        candidate = tf.tanh(x_candidate + reset * h_candidate)
        hidden = (1.0 - update) * candidate + update * hidden
        states.append(hidden)
    return tf.stack(states)


def gae(
    reward: Array, value: Array, next_value: Array, keep: Array, trace: Array,
    gamma: float, gae_lambda: float,
) -> Array:  # fmt: skip
    """Return generalized advantage estimates (Schulman et al. 2016, eq. 16); arrays [T, N].

    `keep` is 1 where `next_value` counts, `trace` is 1 where the episode goes on.
    """
    delta = reward + gamma * keep * next_value - value
    return recurrence(delta, gamma * gae_lambda * trace, reverse=True)


def normalize(x: Array, moments: RunningStats, clip: float = 10.0) -> Array:
    """Return (x − mean) / √(var + 1e-8), clipped to ±clip; x […, D]."""
    return tf.clip_by_value((x - moments.mean) / tf.sqrt(moments.var + 1e-8), -clip, clip)


def merge_stats(moments: RunningStats, x: Array) -> RunningStats:
    """Merge samples x [B, …] into running statistics (Chan et al. 1983)."""
    x = tf.clip_by_value(x, -LARGEST, LARGEST)
    mean, var, n = tf.reduce_mean(x, 0), tf.math.reduce_variance(x, 0), float(x.shape[0])
    total = moments.count + n
    delta, share = mean - moments.mean, n / total
    spread = delta * delta * share * (moments.count / total)
    return RunningStats(
        count=total,
        mean=moments.mean + delta * share,
        var=moments.var * (moments.count / total) + var * share + spread,
    )


def periodic_update(due: Array, new: Array, old: Array) -> None:
    """Copy the vector `new` into the variable `old` if the scalar `due` is true."""
    old.assign(tf.where(due, new, old))


def global_norm(flat: Array) -> Array:
    """Return the Euclidean norm of a flat vector."""
    return tf.sqrt(2.0 * tf.nn.l2_loss(flat))


def _shifted(x: Array, shift: int, reverse: bool) -> Array:
    pad = tf.zeros((shift, *x.shape[1:]), x.dtype)
    return tf.concat([x[shift:], pad] if reverse else [pad, x[:-shift]], axis=0)


class Adam(NamedTuple):
    """State of Adam: variables of the same layout as the weights."""

    mu: Array
    nu: Array
    count: Array
    """int64: TensorFlow keeps 32-bit integers off the GPU, where XLA could not reach them."""


def make_optimizer(
    kind: str, schedule: Callable[[Array], Array], eps: float, max_grad_norm: float,
    weight_decay: float = 0.0, beta2: float = BETA2,
) -> Callable[[Array, Adam, Array], None]:  # fmt: skip
    """Return an in-place update: clip by global norm (0: never), then AdamW, RAdam or SGD.

    SGD leaves the moments zero. `beta2` is Adam's β₂.
    """

    def update(grads: Array, state: Adam, weights: Array) -> None:
        if max_grad_norm:
            grads = grads * (max_grad_norm / tf.maximum(global_norm(grads), max_grad_norm))
        rate = tf.cast(tf.convert_to_tensor(schedule(state.count), tf.float64), grads.dtype)
        state.count.assign_add(1)
        if weight_decay:
            weights.assign_sub(rate * weight_decay * weights)
        if kind == "adam":
            adam(grads, state, weights, rate, eps, beta2)
        elif kind == "radam":
            radam(grads, state, weights, rate, eps)
        else:
            weights.assign_sub(rate * grads)

    return update


def adam(
    grads: Array, state: Adam, weights: Array, rate: Array, eps: float, beta2: float = BETA2
) -> None:
    """Take one step of Adam, ε added to the bias-corrected √v; `state.count` includes this step.

    TensorFlow's fused kernel takes β₂ as float32 and works with 1 − β₂, which is then off by 1e-5;
    XLA makes one loop of this as well.
    """
    count = tf.cast(state.count, tf.float64)
    fix1 = tf.cast(1.0 - tf.pow(tf.constant(BETA1, tf.float64), count), grads.dtype)
    fix2 = tf.cast(1.0 - tf.pow(tf.constant(beta2, tf.float64), count), grads.dtype)
    mu = state.mu.assign_add((1.0 - BETA1) * (grads - state.mu))
    nu = state.nu.assign_add((1.0 - beta2) * (tf.square(grads) - state.nu))
    weights.assign_sub(rate * (mu / fix1) / (tf.sqrt(nu / fix2) + eps))


def radam(grads: Array, state: Adam, weights: Array, rate: Array, eps: float) -> None:
    """Take one step of RAdam, ε added to the bias-corrected √v (decision 0058).

    `state.count` includes this step. Keras has no RAdam.
    """
    count = tf.cast(state.count, tf.float64)
    fix1 = 1.0 - tf.pow(tf.constant(BETA1, tf.float64), count)
    fix2 = 1.0 - tf.pow(tf.constant(BETA2, tf.float64), count)
    longest = 2.0 / (1.0 - BETA2) - 1.0
    length = longest - 2.0 * count * (1.0 - fix2) / fix2
    is_known = length >= 5.0  # the variance, well enough to divide by it
    length = tf.maximum(length, 5.0)
    rectified = (length - 4.0) / (longest - 4.0) * (length - 2.0) / (longest - 2.0)
    factor = tf.cast(tf.sqrt(rectified * longest / length), grads.dtype)
    fix1, fix2 = tf.cast(fix1, grads.dtype), tf.cast(fix2, grads.dtype)

    mu = state.mu.assign_add((1.0 - BETA1) * (grads - state.mu))
    nu = state.nu.assign_add((1.0 - BETA2) * (tf.square(grads) - state.nu))
    root = (tf.sqrt(nu / fix2) + eps) / factor
    weights.assign_sub(rate * (mu / fix1) / tf.where(is_known, root, tf.ones_like(root)))


def scan(body: Callable[[Array], Array], xs: Array, width: int, dtype: str) -> Array:
    """Call `body` (row -> [width]) on each row of xs, in order; return the mean of its results.

    In a graph this is a while loop; in eager mode it is a Python loop.
    """
    rows = xs.shape[0]
    _, total = tf.while_loop(
        lambda i, _: i < rows,
        lambda i, total: (i + 1, total + body(tf.gather(xs, i))),
        (0, tf.zeros(width, dtype)),
    )
    return total / rows


def assign(variables: Any, values: Any) -> None:
    """Write a tree of values into a tree of variables of the same structure."""
    tf.nest.map_structure(lambda variable, value: variable.assign(value), variables, values)


def pack(arrays: Mapping[str, np.ndarray], layout: Layout) -> np.ndarray:
    """Concatenate named arrays into one flat vector; `unpack` is the inverse."""
    parts = [np.ravel(arrays[name]) for name in layout]
    return np.concatenate([np.pad(part, (0, -len(part) % ALIGN)) for part in parts])


def unpack(flat: Array, layout: Layout) -> dict[str, Array]:
    """Cut a flat vector into named tensors; on the CPU they share its memory."""
    sizes = [math.prod(shape) for shape in layout.values()]
    parts = tf.split(flat, [size + -size % ALIGN for size in sizes])
    return {
        name: tf.reshape(part[:size] if size % ALIGN else part, shape)
        for (name, shape), size, part in zip(layout.items(), sizes, parts, strict=True)
    }


ALIGN = 16
"""Every weight starts at a multiple of this many elements (64 bytes or more): TensorFlow's split
then hands out views instead of copies."""
