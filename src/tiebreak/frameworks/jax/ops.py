"""Arithmetic that the algorithms share, in JAX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tiebreak.core.types import LARGEST, Array, RunningStats


class Categorical(NamedTuple):
    """Distribution over actions 0 … K−1."""

    logits: Array
    """[…, K], unnormalised"""

    @property
    def log_p(self) -> Array:
        """Log-probabilities […, K] of all actions."""
        return jax.nn.log_softmax(self.logits)

    def sample(self, noise: Array) -> Array:
        """Draw int32 […] by Gumbel-max from noise […, K]; zero noise gives the mode."""
        return jnp.argmax(self.logits + noise, axis=-1).astype(jnp.int32)

    def log_prob(self, action: Array) -> Array:
        """Return the log-probability […] of actions […]."""
        log_p = jax.nn.log_softmax(self.logits)
        return jnp.take_along_axis(log_p, action[..., None], axis=-1)[..., 0]

    def entropy(self) -> Array:
        """Return the entropy […] in nats."""
        log_p = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


class MultiCategorical(NamedTuple):
    """Independent distributions over several discrete choices."""

    choices: tuple[Categorical, ...]

    def sample(self, noise: Array) -> Array:
        """Draw int32 […, choices] by Gumbel-max from noise […, values of all choices]."""
        parts = _split(noise, [choice.logits.shape[-1] for choice in self.choices])
        drawn = [choice.sample(part) for choice, part in zip(self.choices, parts, strict=True)]
        return jnp.stack(drawn, axis=-1)

    def log_prob(self, action: Array) -> Array:
        """Return the log-probability […] of actions […, choices]."""
        parts = [choice.log_prob(action[..., i]) for i, choice in enumerate(self.choices)]
        return jnp.sum(jnp.stack(parts), axis=0)

    def entropy(self) -> Array:
        """Return the entropy […] in nats."""
        return jnp.sum(jnp.stack([choice.entropy() for choice in self.choices]), axis=0)


def _split(x: Array, sizes: Sequence[int]) -> list[Array]:
    """Cut the last axis into parts of these sizes."""
    return jnp.split(x, np.cumsum(sizes)[:-1], axis=-1)


def categorical(logits: Array, nvec: Sequence[int] | None) -> Categorical | MultiCategorical:
    """Return the distribution over one integer, or over one for each of `nvec`."""
    if nvec is None:
        return Categorical(logits)
    return MultiCategorical(tuple(Categorical(part) for part in _split(logits, nvec)))


class Gaussian(NamedTuple):
    """Diagonal normal distribution over vectors."""

    mean: Array
    """[…, A]"""
    log_std: Array
    """Broadcastable to `mean`."""

    def sample(self, noise: Array) -> Array:
        """Draw […, A] from standard normal noise […, A]; zero noise gives the mean."""
        return self.mean + jnp.exp(self.log_std) * noise

    def log_prob(self, action: Array) -> Array:
        """Return the log density […] of actions […, A], summed over dimensions."""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return jnp.sum(-0.5 * z * z - self.log_std - 0.5 * np.log(2 * np.pi), axis=-1)

    def entropy(self) -> Array:
        """Return the entropy […] in nats."""
        log_std = jnp.broadcast_to(self.log_std, self.mean.shape)
        return jnp.sum(log_std + 0.5 * np.log(2 * np.pi * np.e), axis=-1)


class SquashedGaussian(NamedTuple):
    """Distribution of tanh of a diagonal normal variable, over the open box (-1, 1)^A."""

    mean: Array
    """[…, A], before tanh"""
    log_std: Array
    """[…, A], before tanh"""

    def sample(self, noise: Array) -> Array:
        """Draw […, A] from standard normal noise […, A]; zero noise gives tanh of the mean."""
        return jnp.tanh(self.mean + jnp.exp(self.log_std) * noise)

    def sample_log_prob(self, noise: Array) -> tuple[Array, Array]:
        """Draw as `sample` does; also return the log density […], summed over dimensions."""
        x = self.mean + jnp.exp(self.log_std) * noise
        narrowed = 2.0 * (math.log(2.0) - x - jax.nn.softplus(-2.0 * x))  # log(1 − tanh²x), stable
        normal = -0.5 * noise * noise - self.log_std - 0.5 * math.log(2 * math.pi)
        return jnp.tanh(x), jnp.sum(normal - narrowed, axis=-1)


def at_least_float32(x: Array) -> Array:
    """Return x in float32 if it is bfloat16, which has three digits; otherwise as it is."""
    return x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x


def rescale_action(raw: Array, low: Array, high: Array) -> Array:
    """Clip `raw` to [-1, 1]^A and map it onto the box [low, high]."""
    return low + 0.5 * (jnp.clip(raw, -1.0, 1.0) + 1.0) * (high - low)


def atoms(low: float, high: float, like: Array) -> Array:
    """Return K evenly spaced numbers from low to high, in the type of `like` […, K]."""
    return jnp.linspace(low, high, like.shape[-1], dtype=like.dtype)


def project_distribution(probs: Array, values: Array, low: float, high: float) -> Array:
    """Project mass `probs` at `values` in [low, high], both [B, K], onto K even atoms there.

    Each mass goes to the two atoms around it, by nearness (Bellemare et al. 2017). On a CPU the
    masses are scattered, 30 times as fast as a sum over all pairs. Elsewhere the sum is used: XLA
    never writes the pairs out, and the order of the additions is the same in every run.
    """
    place = (values - low) * ((probs.shape[-1] - 1) / (high - low))
    return jax.lax.platform_dependent(probs, place, cpu=_scattered, default=_by_pairs)


def _scattered(probs: Array, place: Array) -> Array:
    last = probs.shape[-1] - 1
    below = jnp.nan_to_num(jnp.clip(jnp.floor(place), 0, last - 1))  # no index; probs stay NaN
    upper, below = probs * (place - below), below.astype(jnp.int32)
    rows = jnp.arange(len(probs))[:, None]
    return jnp.zeros_like(probs).at[rows, below].add(probs - upper).at[rows, below + 1].add(upper)


def _by_pairs(probs: Array, place: Array) -> Array:
    near = jnp.maximum(1.0 - jnp.abs(place[:, :, None] - jnp.arange(probs.shape[-1])), 0.0)
    return jnp.sum(probs[:, :, None] * near, axis=1)


def convolve(
    image: Array, kernel: Array, strides: tuple[int, int], padding: str, **settings: Any
) -> Array:
    """Convolve images [B, H, W, C] without padding; return [B, H', W', channels].

    On a CPU the windows are laid out and multiplied by the kernel at once: XLA's own gradients of a
    convolution are many times as slow there (decision 0052). Elsewhere it is XLA's.

    Args:
        kernel: [window, window, C, channels]; the window is a multiple of the stride.
        strides: twice the same number.
        padding: "VALID".
        settings: more arguments of `lax.conv_general_dilated`, whose place this takes in layers.
    """
    by_xla = partial(
        jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **settings
    )
    by_product = partial(_windows_product, stride=strides[0])
    return jax.lax.platform_dependent(image, kernel, cpu=by_product, default=by_xla)


def _windows_product(image: Array, kernel: Array, stride: int) -> Array:
    """Convolve by one matrix product.

    Blocks of stride × stride pixels become one pixel with as many channels. Then windows are at
    every pixel, and a few slices of the whole image lay all of them out.
    """
    batch, height, width, channels = image.shape
    window, _, _, outputs = kernel.shape
    size = window // stride  # of a window in blocks
    rows, columns = height // stride, width // stride

    image = image[:, : rows * stride, : columns * stride]
    image = image.reshape(batch, rows, stride, columns, stride, channels)
    blocks = image.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows, columns, -1)
    if stride > 1:  # XLA would compute every block anew in each of its windows
        blocks = jax.lax.optimization_barrier(blocks)
    for axis in (2, 1):
        blocks = _neighbours(blocks, axis, size)

    kernel = kernel.reshape(size, stride, size, stride, channels, outputs)
    return blocks @ kernel.transpose(0, 2, 1, 3, 4, 5).reshape(-1, outputs)


def _neighbours(blocks: Array, axis: int, size: int) -> Array:
    """Append to the channels of every block those of the `size` − 1 blocks after it on an axis."""
    length = blocks.shape[axis] - size + 1
    slices = [jax.lax.slice_in_dim(blocks, i, i + length, axis=axis) for i in range(size)]
    return jnp.concatenate(slices, axis=-1)


def recurrence(value: Array, coefficient: Array, reverse: bool = False) -> Array:
    """Solve y_t = value_t + coefficient_t · y_{t−1} along axis 0 (y_{t+1} if reverse); both [T, …].

    Doubling needs ⌈log₂ T⌉ rounds over whole arrays instead of T steps (Hillis & Steele 1986).
    """
    shift = 1
    while shift < value.shape[0]:
        value = value + coefficient * _shifted(value, shift, reverse)
        coefficient = coefficient * _shifted(coefficient, shift, reverse)
        shift *= 2
    return value


def gru(gates: Array, kernel: Array, bias: Array, hidden: Array, begins: Array) -> Array:
    """Return the states [T, B, H] of a gated recurrent unit after each of T steps (0063).

    Args:
        gates: [T, B, 3H]: the inputs' products for reset gate, update gate and candidate.
        kernel: [H, 3H]: of the state's products for the same; `bias` [3H] is added to them.
        hidden: [B, H]: the state before the first step.
        begins: [T, B] bool: where the state before a step counts as zero.
    """

    def step(hidden: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        gates, begins = inputs
        hidden = jnp.where(begins[:, None], 0.0, hidden)
        x_reset, x_update, x_candidate = jnp.split(gates, 3, axis=-1)
        h_reset, h_update, h_candidate = jnp.split(hidden @ kernel + bias, 3, axis=-1)

        reset = jax.nn.sigmoid(x_reset + h_reset)
        update = jax.nn.sigmoid(x_update + h_update)
        candidate = jnp.tanh(x_candidate + reset * h_candidate)
        hidden = (1.0 - update) * candidate + update * hidden
        return hidden, hidden

    _, states = scan(step, hidden, (gates, begins))
    return states


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    keep: Array,
    trace: Array,
    gamma: float,
    gae_lambda: float,
) -> Array:
    """Return generalized advantage estimates (Schulman et al. 2016, eq. 16); all arrays [T, N].

    `keep` is 1 where `next_value` counts, `trace` is 1 where the episode goes on.
    """
    delta = reward + gamma * keep * next_value - value
    return recurrence(delta, gamma * gae_lambda * trace, reverse=True)


def normalize(x: Array, moments: RunningStats, clip: float = 10.0) -> Array:
    """Return (x − mean) / √(var + 1e-8), clipped to ±clip; x […, D]."""
    return jnp.clip((x - moments.mean) / jnp.sqrt(moments.var + 1e-8), -clip, clip)


def merge_stats(moments: RunningStats, x: Array) -> RunningStats:
    """Merge the statistics of x [B, …] into `moments` (Chan et al. 1983)."""
    x = jnp.clip(x, -LARGEST, LARGEST)
    mean, var, n = jnp.mean(x, axis=0), jnp.var(x, axis=0), x.shape[0]
    total = moments.count + n
    delta, share = mean - moments.mean, n / total
    spread = delta * delta * share * (moments.count / total)
    return RunningStats(
        total,
        moments.mean + delta * share,
        moments.var * (moments.count / total) + var * share + spread,
    )


def periodic_update(due: Array, new: Any, old: Any) -> Any:
    """Return `new` if the scalar `due` is true, else `old`; trees of weights."""
    return jax.tree.map(lambda a, b: jnp.where(due, a, b), new, old)


def global_norm(tree: Any) -> Array:
    """Return the root of the sum of squares over all leaves."""
    return optax.global_norm(tree)


def _shifted(x: Array, shift: int, reverse: bool) -> Array:
    pad = jnp.zeros((shift, *x.shape[1:]), x.dtype)
    return jnp.concatenate([x[shift:], pad] if reverse else [pad, x[:-shift]])


def make_optimizer(
    kind: str, schedule: Callable[[Array], Array], eps: float, max_grad_norm: float,
    weight_decay: float = 0.0, beta2: float = 0.999,
) -> optax.GradientTransformation:  # fmt: skip
    """Return an optimizer: clipping by global norm, then AdamW, RAdam or SGD.

    SGD leaves Adam's moments zero. Numbers may be traced: the agents of a population differ in
    them.

    Args:
        kind: "adam", "radam" or "sgd".
        schedule: step count -> step size.
        max_grad_norm: 0 does not clip.
        weight_decay: share of each weight that an update removes, in units of the step size.
        beta2: decay rate of Adam's second moments; never traced.
    """
    directions = {"adam": _adam(eps, b2=beta2), "radam": _radam(eps), "sgd": _unscaled()}
    direction = directions[kind]
    if isinstance(weight_decay, jax.Array) or weight_decay:
        direction = _with_decay(direction, weight_decay)
    return optax.chain(_clipped(max_grad_norm), direction, optax.scale_by_learning_rate(schedule))


def _clipped(max_norm: float | Array) -> optax.GradientTransformation:
    if isinstance(max_norm, jax.Array):  # some agents may clip, and some not
        max_norm = jnp.where(max_norm > 0.0, max_norm, jnp.inf)
    elif not max_norm:
        return optax.identity()
    return optax.clip_by_global_norm(max_norm)


def _adam(eps: float, b1: float = 0.9, b2: float = 0.999) -> optax.GradientTransformation:
    """Return optax.scale_by_adam with 1 − βᵗ by expm1: a float32 difference is off by 5e-5."""

    def update(grads, state, params=None):
        del params
        count = state.count + 1
        t = count.astype(jax.tree.leaves(grads)[0].dtype)
        fix1, fix2 = (-jnp.expm1(t * math.log(b)) for b in (b1, b2))
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, grads)
        out = jax.tree.map(lambda m, v: (m / fix1) / (jnp.sqrt(v / fix2) + eps), mu, nu)
        return out, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def _radam(eps: float, b1: float = 0.9, b2: float = 0.999) -> optax.GradientTransformation:
    """Return optax.scale_by_radam with 1 − βᵗ by expm1: its float32 is off by 6e-3 (0058)."""
    longest = 2.0 / (1.0 - b2) - 1.0

    def update(grads, state, params=None):
        del params
        count = state.count + 1
        t = count.astype(jax.tree.leaves(grads)[0].dtype)
        fix1, fix2 = (-jnp.expm1(t * math.log(b)) for b in (b1, b2))
        length = longest - 2.0 * t * (1.0 - fix2) / fix2
        is_known = length >= 5.0  # the variance, well enough to divide by it
        length = jnp.maximum(length, 5.0)
        rectified = (length - 4.0) / (longest - 4.0) * (length - 2.0) / (longest - 2.0)
        factor = jnp.sqrt(rectified * longest / length)

        def direction(m, v):
            root = (jnp.sqrt(v / fix2) + eps) / factor
            return (m / fix1) / jnp.where(is_known, root, 1.0)

        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, grads)
        return jax.tree.map(direction, mu, nu), optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def _unscaled() -> optax.GradientTransformation:
    """Return SGD's direction, the gradient itself, with the state of Adam for its count."""

    def update(grads, state, params=None):
        del params
        return grads, state._replace(count=state.count + 1)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def _with_decay(direction: Any, weight_decay: float) -> optax.GradientTransformation:
    """Add weight decay behind `direction`, as optax.add_decayed_weights, without another state."""

    def update(grads, state, params):
        out, state = direction.update(grads, state)
        return jax.tree.map(lambda x, p: x + weight_decay * p, out, params), state

    return optax.GradientTransformation(direction.init, update)


def scan(body: Callable, carry: Any, xs: Any) -> tuple[Any, Any]:
    """Run `lax.scan` if an argument is traced, else a Python loop: eager mode stays eager."""
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((carry, xs))):
        return jax.lax.scan(body, carry, xs)
    outputs = []
    for i in range(len(jax.tree.leaves(xs)[0])):
        carry, out = body(carry, jax.tree.map(lambda x, i=i: x[i], xs))
        outputs.append(out)
    return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)
