"""Arithmetic that the algorithms share, in Keras; same names as in the other libraries' ops.py.

Numbers of Python stand beside tensors only in operators (`x * 0.5`) and in functions of Keras that
take them in the tensor's type (`maximum`). Others round them to float32 on some backend, whatever
the tensor is: `clip` and `where` on PyTorch, `cast` on TensorFlow (docs/decisions/0064).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np

from tiebreak.core.types import LARGEST, Array, RunningStats, Tree

BETA1, BETA2 = 0.9, 0.999
"""Decay rates of Adam's moments."""


class Categorical(NamedTuple):
    """Distribution over actions 0 … K−1."""

    logits: Array
    """[…, K], unnormalised."""

    @property
    def log_p(self) -> Array:
        """Log-probabilities […, K] of all actions."""
        return keras.ops.log_softmax(self.logits)

    def sample(self, noise: Array) -> Array:
        """Draw actions […] int32 by Gumbel-max; noise […, K]; zero noise is the mode."""
        return keras.ops.cast(keras.ops.argmax(self.logits + noise, axis=-1), "int32")

    def log_prob(self, action: Array) -> Array:
        """Return log-probabilities […] of actions […]."""
        return keras.ops.take_along_axis(self.log_p, action[..., None], axis=-1)[..., 0]

    def entropy(self) -> Array:
        """Return the entropy […] in nats."""
        log_p = self.log_p
        return -keras.ops.sum(keras.ops.exp(log_p) * log_p, axis=-1)


class MultiCategorical(NamedTuple):
    """Independent distributions over several discrete choices."""

    choices: tuple[Categorical, ...]

    def sample(self, noise: Array) -> Array:
        """Draw int32 […, choices] by Gumbel-max from noise […, values of all choices]."""
        parts = _split(noise, [choice.logits.shape[-1] for choice in self.choices])
        drawn = [choice.sample(part) for choice, part in zip(self.choices, parts, strict=True)]
        return keras.ops.stack(drawn, axis=-1)

    def log_prob(self, action: Array) -> Array:
        """Return the log-probability […] of actions […, choices]."""
        return sum(choice.log_prob(action[..., i]) for i, choice in enumerate(self.choices))

    def entropy(self) -> Array:
        """Return the entropy […] in nats."""
        return sum(choice.entropy() for choice in self.choices)


def _split(x: Array, sizes: Sequence[int]) -> list[Array]:
    """Cut the last axis into pieces; `keras.ops.split` reads its sizes on the host in PyTorch."""
    parts, start = [], 0
    for size in sizes:
        parts.append(x[..., start : start + size])
        start += size
    return parts


def categorical(logits: Array, nvec: Sequence[int] | None) -> Categorical | MultiCategorical:
    """Return the distribution over one integer, or over one for each of `nvec`."""
    if nvec is None:
        return Categorical(logits)
    return MultiCategorical(tuple(Categorical(part) for part in _split(logits, nvec)))


class Gaussian(NamedTuple):
    """Diagonal normal distribution over vectors."""

    mean: Array
    """[…, A]."""
    log_std: Array
    """Broadcastable to `mean`."""

    def sample(self, noise: Array) -> Array:
        """Draw […, A] from standard normal noise […, A]; zero noise is the mean."""
        return self.mean + keras.ops.exp(self.log_std) * noise

    def log_prob(self, action: Array) -> Array:
        """Return log densities […] of actions […, A], summed over dimensions."""
        z = (action - self.mean) * keras.ops.exp(-self.log_std)
        return keras.ops.sum(-0.5 * z * z - self.log_std - 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self) -> Array:
        """Return the entropy […] in nats."""
        log_std = keras.ops.broadcast_to(self.log_std, self.mean.shape)
        return keras.ops.sum(log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)


class SquashedGaussian(NamedTuple):
    """The tanh of a diagonal normal distribution, over the open box (-1, 1)^A."""

    mean: Array
    """[…, A], before tanh."""
    log_std: Array
    """[…, A], before tanh."""

    def sample(self, noise: Array) -> Array:
        """Draw […, A] from standard normal noise […, A]; zero noise is tanh of the mean."""
        return keras.ops.tanh(self.mean + keras.ops.exp(self.log_std) * noise)

    def sample_log_prob(self, noise: Array) -> tuple[Array, Array]:
        """Draw as `sample` does; also return the log density […], summed over dimensions."""
        x = self.mean + keras.ops.exp(self.log_std) * noise
        log_slope = 2.0 * (math.log(2.0) - x - _softplus(-2.0 * x))  # log(1 − tanh²x), stable
        normal = -0.5 * noise * noise - self.log_std - 0.5 * math.log(2 * math.pi)
        return keras.ops.tanh(x), keras.ops.sum(normal - log_slope, axis=-1)


def _softplus(x: Array) -> Array:
    """Return log(1 + eˣ); `keras.ops.softplus` is off by 2e-9 beyond 20 in PyTorch."""
    return keras.ops.maximum(x, 0.0) + keras.ops.log1p(keras.ops.exp(-keras.ops.abs(x)))


def rescale_action(raw: Array, low: Array, high: Array) -> Array:
    """Map actions, clipped to [-1, 1]^A, onto the box [low, high]."""
    return low + 0.5 * (clip(raw, -1.0, 1.0) + 1.0) * (high - low)


def clip(x: Array, low: float, high: float) -> Array:
    """Return x within [low, high]."""
    return keras.ops.minimum(keras.ops.maximum(x, low), high)


def atoms(low: float, high: float, like: Array) -> Array:
    """Return K evenly spaced numbers from low to high, in the type of `like` […, K]."""
    return keras.ops.convert_to_tensor(np.linspace(low, high, like.shape[-1]), like.dtype)


def project_distribution(probs: Array, values: Array, low: float, high: float) -> Array:
    """Project mass `probs` at `values` in [low, high], both [B, K], onto K even atoms.

    Each mass is split between its two neighbouring atoms by distance (Bellemare et al. 2017). It is
    a sum over all pairs: Keras has no scattered sum over two axes.
    """
    place = (values - low) * ((probs.shape[-1] - 1) / (high - low))
    atom = keras.ops.convert_to_tensor(np.arange(probs.shape[-1]), probs.dtype)
    share = keras.ops.maximum(1.0 - keras.ops.abs(place[:, :, None] - atom), 0.0)
    return keras.ops.sum(probs[:, :, None] * share, axis=1)


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

    The loop over steps is Python's, which a compiled program unrolls.

    Args:
        gates: [T, B, 3H]: the inputs' products for reset gate, update gate and candidate.
        kernel: [H, 3H]: of the state's products for the same; `bias` [3H] is added to them.
        hidden: [B, H]: the state before the first step.
        begins: [T, B] bool: where the state before a step counts as zero.
    """
    widths = [hidden.shape[-1]] * 3
    states = []
    for gates_now, begins_now in zip(
        keras.ops.unstack(gates), keras.ops.unstack(begins), strict=True
    ):
        hidden = keras.ops.where(begins_now[:, None], keras.ops.zeros_like(hidden), hidden)
        x_reset, x_update, x_candidate = _split(gates_now, widths)
        products = keras.ops.matmul(hidden, kernel) + bias
        h_reset, h_update, h_candidate = _split(products, widths)

        reset = keras.ops.sigmoid(x_reset + h_reset)
        update = keras.ops.sigmoid(x_update + h_update)
        candidate = keras.ops.tanh(x_candidate + reset * h_candidate)
        hidden = (1.0 - update) * candidate + update * hidden
        states.append(hidden)
    return keras.ops.stack(states)


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    keep: Array,
    trace: Array,
    gamma: float,
    gae_lambda: float,
) -> Array:
    """Return generalized advantage estimates (Schulman et al. 2016, eq. 16); arrays [T, N].

    `keep` is 1 where `next_value` counts, `trace` is 1 where the episode goes on.
    """
    delta = reward + gamma * keep * next_value - value
    return recurrence(delta, gamma * gae_lambda * trace, reverse=True)


def normalize(x: Array, moments: RunningStats, clip_at: float = 10.0) -> Array:
    """Return (x − mean) / √(var + 1e-8), clipped to ±clip_at; x […, D]."""
    return clip((x - moments.mean) / keras.ops.sqrt(moments.var + 1e-8), -clip_at, clip_at)


def merge_stats(moments: RunningStats, x: Array) -> RunningStats:
    """Merge samples x [B, …] into running statistics (Chan et al. 1983)."""
    x = clip(x, -LARGEST, LARGEST)
    mean, var, n = keras.ops.mean(x, axis=0), keras.ops.var(x, axis=0), float(x.shape[0])
    total = moments.count + n
    delta, share = mean - moments.mean, n / total
    spread = delta * delta * share * (moments.count / total)
    return RunningStats(
        total,
        moments.mean + delta * share,
        moments.var * (moments.count / total) + var * share + spread,
    )


def periodic_update(due: Array, new: Tree, old: Tree) -> Tree:
    """Return `new` if the scalar `due` is true, else `old`; trees of weights."""
    return keras.tree.map_structure(lambda a, b: keras.ops.where(due, a, b), new, old)


def global_norm(tree: Tree) -> Array:
    """Return the root of the sum of squares over all leaves."""
    return keras.ops.sqrt(sum(keras.ops.sum(x * x) for x in keras.tree.flatten(tree)))


def _shifted(x: Array, shift: int, reverse: bool) -> Array:
    pad = keras.ops.zeros_like(x[:shift])
    return keras.ops.concatenate([x[shift:], pad] if reverse else [pad, x[:-shift]], axis=0)


class Adam(NamedTuple):
    """State of Adam: two trees of the structure of the weights, and the number of updates."""

    mu: Tree
    nu: Tree
    count: Array


def make_optimizer(
    kind: str, schedule: Callable[[Array], Array | float], eps: float, max_grad_norm: float
) -> Callable[[Tree, Adam, Tree], tuple[Tree, Adam]]:
    """Return an update: clip by global norm (0: never), then Adam, or SGD.

    It takes gradients, its state and weights, and returns new weights and its new state. SGD leaves
    the moments as they are. `schedule`: step count -> step size.
    """

    def update(grads: Tree, state: Adam, weights: Tree) -> tuple[Tree, Adam]:
        norm = global_norm(grads)
        if max_grad_norm:
            scale = max_grad_norm / keras.ops.maximum(norm, max_grad_norm)
            grads = keras.tree.map_structure(lambda g: g * scale, grads)
        # Not `cast`, which takes a number of Python for a float32 in TensorFlow.
        rate = keras.ops.convert_to_tensor(schedule(state.count), norm.dtype)
        state = state._replace(count=state.count + 1)
        if kind == "adam":
            return adam(grads, state, weights, rate, eps)
        return keras.tree.map_structure(lambda w, g: w - rate * g, weights, grads), state

    return update


def adam(grads: Tree, state: Adam, weights: Tree, rate: Array, eps: float) -> tuple[Tree, Adam]:
    """Take one step of Adam, ε added to the bias-corrected √v; `state.count` includes this step.

    Not keras.optimizers.Adam, which adds ε (by default 1e-7) before √v is corrected.
    """
    count = keras.ops.cast(state.count, rate.dtype)
    # expm1: 1 − 0.999ⁿ loses four of float32's seven digits while n is small.
    fix1 = -keras.ops.expm1(count * math.log(BETA1))
    fix2 = -keras.ops.expm1(count * math.log(BETA2))
    map_structure = keras.tree.map_structure
    mu = map_structure(lambda m, g: BETA1 * m + (1.0 - BETA1) * g, state.mu, grads)
    nu = map_structure(lambda v, g: BETA2 * v + (1.0 - BETA2) * g * g, state.nu, grads)

    def step(w: Array, m: Array, v: Array) -> Array:
        return w - rate * (m / fix1) / (keras.ops.sqrt(v / fix2) + eps)

    return map_structure(step, weights, mu, nu), Adam(mu, nu, state.count)


def scan(
    body: Callable[[Tree, Array], tuple[Tree, Array]],
    carry: Tree,
    rows: int,
    width: int,
    dtype: str,
) -> tuple[Tree, Array]:
    """Call `body` (carry, row number) -> (carry, [width]) for each row, in order.

    Returns the last carry, and the mean of what `body` returned beside it. On JAX and TensorFlow
    this is a loop inside the program, on PyTorch one in Python around compiled functions.
    """

    def add_row(i: Array, carry_and_sum: tuple[Tree, Array]) -> tuple[Tree, Array]:
        carry, total = carry_and_sum
        carry, row = body(carry, keras.ops.convert_to_tensor(i, "int32"))
        return carry, total + row

    start = carry, keras.ops.zeros((width,), dtype)
    carry, total = keras.ops.fori_loop(0, rows, add_row, start)
    return carry, total / rows
