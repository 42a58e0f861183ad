"""Shared arithmetic in PyTorch, with the names of jax/ops.py in the same order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from tiebreak.core.types import LARGEST, Array, RunningStats

BETA1, BETA2 = 0.9, 0.999
"""Decay rates of Adam's moments."""


class Categorical(NamedTuple):
    """Distribution over actions 0 … K−1."""

    log_p: Array
    """[…, K], normalised once: from logits, eager torch would do so in each method."""

    def sample(self, noise: Array) -> Array:
        """Draw actions […] int32 by Gumbel-max; noise […, K]; zero noise is the mode."""
        return torch.argmax(self.log_p + noise, dim=-1).to(torch.int32)

    def log_prob(self, action: Array) -> Array:
        """Return log-probabilities […] of actions […]."""
        return self.log_p.gather(-1, action[..., None].long())[..., 0]

    def entropy(self) -> Array:
        """Return the entropy […] in nats."""
        return -(self.log_p.exp() * self.log_p).sum(-1)


class MultiCategorical(NamedTuple):
    """Independent distributions over several discrete choices."""

    choices: tuple[Categorical, ...]

    def sample(self, noise: Array) -> Array:
        """Draw int32 […, choices] by Gumbel-max from noise […, values of all choices]."""
        parts = noise.split([choice.log_p.shape[-1] for choice in self.choices], dim=-1)
        drawn = [choice.sample(part) for choice, part in zip(self.choices, parts, strict=True)]
        return torch.stack(drawn, dim=-1)

    def log_prob(self, action: Array) -> Array:
        """Return the log-probability […] of actions […, choices]."""
        parts = [choice.log_prob(action[..., i]) for i, choice in enumerate(self.choices)]
        return torch.stack(parts).sum(0)

    def entropy(self) -> Array:
        """Return the entropy […] in nats."""
        return torch.stack([choice.entropy() for choice in self.choices]).sum(0)


def categorical(logits: Array, nvec: Sequence[int] | None) -> Categorical | MultiCategorical:
    """Return the distribution over one integer, or over one for each of `nvec`."""
    if nvec is None:
        return Categorical(torch.log_softmax(logits, dim=-1))
    parts = logits.split(list(nvec), dim=-1)
    return MultiCategorical(tuple(Categorical(torch.log_softmax(x, dim=-1)) for x in parts))


class Gaussian(NamedTuple):
    """Diagonal normal distribution over vectors."""

    mean: Array
    """[…, A]."""
    log_std: Array
    """Broadcastable to `mean`."""

    def sample(self, noise: Array) -> Array:
        """Draw […, A] from standard normal noise […, A]; zero noise is the mean."""
        return self.mean + self.log_std.exp() * noise

    def log_prob(self, action: Array) -> Array:
        """Return log densities […] of actions […, A], summed over dimensions."""
        z = (action - self.mean) * torch.exp(-self.log_std)
        return (-0.5 * z * z - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Array:
        """Return the entropy […] in nats."""
        log_std = self.log_std.expand_as(self.mean)
        return (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


class SquashedGaussian(NamedTuple):
    """The tanh of a diagonal normal distribution, over the open box (-1, 1)^A."""

    mean: Array
    """[…, A], before tanh."""
    log_std: Array
    """[…, A], before tanh."""

    def sample(self, noise: Array) -> Array:
        """Draw […, A] from standard normal noise […, A]; zero noise is tanh of the mean."""
        return torch.tanh(self.mean + self.log_std.exp() * noise)

    def sample_log_prob(self, noise: Array) -> tuple[Array, Array]:
        """Draw as `sample` does; also return the log density […], summed over dimensions."""
        x = self.mean + self.log_std.exp() * noise
        # log(1 − tanh²x) in a stable form. The default threshold of softplus, 20, costs 2e-9.
        softplus = torch.nn.functional.softplus(-2.0 * x, threshold=40.0)
        log_slope = 2.0 * (math.log(2.0) - x - softplus)
        normal = -0.5 * noise * noise - self.log_std - 0.5 * math.log(2 * math.pi)
        return torch.tanh(x), (normal - log_slope).sum(-1)


def at_least_float32(x: Array) -> Array:
    """Return x in float32 if it is bfloat16, which has three digits; otherwise as it is."""
    return x.float() if x.dtype == torch.bfloat16 else x


def rescale_action(raw: Array, low: Array, high: Array) -> Array:
    """Map actions, clipped to [-1, 1]^A, onto the box [low, high]."""
    return low + 0.5 * (raw.clamp(-1.0, 1.0) + 1.0) * (high - low)


def atoms(low: float, high: float, like: Array) -> Array:
    """Return K evenly spaced numbers from low to high, in the type of `like` […, K]."""
    return torch.linspace(low, high, like.shape[-1], dtype=like.dtype, device=like.device)


def project_distribution(probs: Array, values: Array, low: float, high: float) -> Array:
    """Project mass `probs` at `values` in [low, high], both [B, K], onto K even atoms.

    Each mass is divided between the two atoms around it, in proportion to nearness (Bellemare et
    al. 2017). It is scattered, except in compiled code on a GPU: there it is a sum over all pairs,
    which Inductor never materialises and whose order is the same in every run.
    """
    place = (values - low) * ((probs.shape[-1] - 1) / (high - low))
    pairs = torch.compiler.is_compiling() and probs.device.type != "cpu"
    return _by_pairs(probs, place) if pairs else _scattered(probs, place)


def _scattered(probs: Array, place: Array) -> Array:
    # A NaN is no index: it becomes 0 here, and stays NaN in the mass.
    below = place.floor().clamp(0, probs.shape[-1] - 2).nan_to_num()
    upper = probs * (place - below)
    below = below.long()
    out = torch.zeros_like(probs).scatter_add_(1, below, probs - upper)
    return out.scatter_add_(1, below + 1, upper)


def _by_pairs(probs: Array, place: Array) -> Array:
    atom = torch.arange(probs.shape[-1], dtype=probs.dtype, device=probs.device)
    share = (1.0 - (place[:, :, None] - atom).abs()).clamp(min=0.0)
    return (probs[:, :, None] * share).sum(1)


def recurrence(value: Array, coefficient: Array, reverse: bool = False) -> Array:
    """Solve y_t = value_t + coefficient_t · y_{t−1} along axis 0 (y_{t+1} if reverse); [T, …].

    By doubling: ⌈log₂ T⌉ rounds over whole arrays instead of T small steps (Hillis & Steele 1986).
    """
    y = value.clone()
    coefficient = coefficient[:-1] if reverse else coefficient[1:]
    shift = 1
    while shift < len(y):
        current, source = (y[:-shift], y[shift:]) if reverse else (y[shift:], y[:-shift])
        current += coefficient * source  # the product is complete before anything is overwritten
        coefficient = coefficient[shift:] * coefficient[:-shift]
        shift *= 2
    return y


def gru(gates: Array, kernel: Array, bias: Array, hidden: Array, begins: Array) -> Array:
    """Return the states [T, B, H] of a gated recurrent unit after each of T steps (0063).

    The loop over steps is Python's, which a compiled mode unrolls.

    Args:
        gates: [T, B, 3H]: the inputs' products for reset gate, update gate and candidate.
        kernel: [H, 3H]: of the state's products for the same; `bias` [3H] is added to them.
        hidden: [B, H]: the state before the first step.
        begins: [T, B] bool: where the state before a step counts as zero.
    """
    states = []
    for gates_now, begins_now in zip(gates.unbind(), begins.unbind(), strict=True):
        hidden = hidden.masked_fill(begins_now[:, None], 0.0)
        x_reset, x_update, x_candidate = gates_now.chunk(3, dim=-1)
        h_reset, h_update, h_candidate = torch.addmm(bias, hidden, kernel).chunk(3, dim=-1)

        reset = torch.sigmoid(x_reset + h_reset)
        update = torch.sigmoid(x_update + h_update)
        candidate = torch.tanh(x_candidate + reset * h_candidate)
        hidden = (1.0 - update) * candidate + update * hidden
        states.append(hidden)
    return torch.stack(states)


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
    return ((x - moments.mean) / torch.sqrt(moments.var + 1e-8)).clamp(-clip, clip)


def merge_stats(moments: RunningStats, x: Array) -> RunningStats:
    """Merge samples x [B, …] into running statistics (Chan et al. 1983)."""
    x = x.clamp(-LARGEST, LARGEST)
    var, mean = torch.var_mean(x, dim=0, correction=0)
    total = moments.count + len(x)
    delta, share = mean - moments.mean, len(x) / total
    spread = delta * delta * share * (moments.count / total)
    return RunningStats(
        total,
        moments.mean + delta * share,
        moments.var * (moments.count / total) + var * share + spread,
    )


def periodic_update(due: Array, new: list[Array], old: list[Array]) -> None:
    """Copy tensors `new` into `old` if the scalar `due` is true, without reading it on the host.

    Both results are exact.
    """
    keep = torch.logical_not(due).to(old[0].dtype)
    torch._foreach_mul_(old, keep)
    torch._foreach_add_(old, torch._foreach_mul(new, 1.0 - keep))


def global_norm(tensors: Sequence[Array]) -> Array:
    """Return the square root of the sum of squares over all tensors."""
    return torch.cat([x.reshape(-1) for x in tensors]).norm()


class Adam(NamedTuple):
    """State of Adam: lists of tensors that are changed in place."""

    mu: list[Array]
    nu: list[Array]
    count: list[Array]
    """One int32 scalar: number of updates so far."""


def make_optimizer(
    kind: str, schedule: Callable[[Array], Array | float], eps: float, max_grad_norm: float,
    weight_decay: float = 0.0, beta2: float = BETA2,
) -> Callable[[list[Array], Sequence[Array], Adam], Array]:  # fmt: skip
    """Return an in-place update: clip by global norm (0: never), then AdamW, RAdam or SGD.

    It takes parameters, gradients and state, and returns the gradient norm before clipping. SGD
    leaves the moments zero. `schedule`: step count -> step size; `beta2` is Adam's β₂.
    """

    @torch.no_grad()
    def update(params, grads, state):
        norm = global_norm(grads)
        if max_grad_norm:
            grads = torch._foreach_mul(grads, max_grad_norm / norm.clamp(min=max_grad_norm))
        rate = schedule(state.count[0])
        state.count[0].add_(1)
        if weight_decay:
            # Multiplying by 1 − rate·decay would round to the same side in every update.
            torch._foreach_sub_(params, torch._foreach_mul(params, rate * weight_decay))
        if kind == "adam":
            adam(params, grads, state, rate, eps, beta2)
        elif kind == "radam":
            radam(params, grads, state, rate, eps)
        else:
            torch._foreach_sub_(params, torch._foreach_mul(grads, rate))
        return norm

    return update


def adam(
    params: list[Array], grads: Sequence[Array], state: Adam, rate: Array | float, eps: float,
    beta2: float = BETA2,
) -> None:  # fmt: skip
    """Take one step of Adam in place, ε added to the bias-corrected √v.

    `state.count` includes this step.
    """
    if torch.compiler.is_compiling():
        return _adam(params, grads, state, rate, eps, beta2)
    # The kernel of torch.optim.Adam(fused=True): one call instead of ten per parameter. On CUDA it
    # reads a rate that is a tensor as float32, on the device.
    if isinstance(rate, torch.Tensor) and rate.is_cuda:
        rate = rate.float()
    return torch._fused_adam_(
        params, grads, state.mu, state.nu, [], [state.count[0].float()] * len(params), lr=rate,
        beta1=BETA1, beta2=beta2, eps=eps, weight_decay=0.0, amsgrad=False, maximize=False,
    )  # fmt: skip


def _adam(params, grads, state, rate, eps, beta2) -> None:
    """Take the step of `adam` in plain operations: Inductor cannot look into the fused kernel."""
    steps = state.count[0].to(params[0].dtype)
    # expm1: 1 − 0.999ⁿ loses four of float32's seven digits while n is small.
    rate = rate / -torch.expm1(steps * math.log(BETA1))
    correction = -torch.expm1(steps * math.log(beta2))
    for p, g, m, v in zip(params, grads, state.mu, state.nu, strict=True):
        m.lerp_(g, 1.0 - BETA1)
        v.mul_(beta2).addcmul_(g, g, value=1.0 - beta2)
        p.sub_(rate * m / ((v / correction).sqrt() + eps))


def radam(
    params: list[Array], grads: Sequence[Array], state: Adam, rate: Array | float, eps: float
) -> None:
    """Take one step of RAdam in place, ε added to the bias-corrected √v (decision 0058).

    `state.count` includes this step. torch.optim.RAdam adds ε before the correction.
    """
    steps = state.count[0].double()
    fix1, fix2 = (-torch.expm1(steps * math.log(beta)) for beta in (BETA1, BETA2))
    longest = 2.0 / (1.0 - BETA2) - 1.0
    length = longest - 2.0 * steps * (1.0 - fix2) / fix2
    is_known = (length >= 5.0).double()  # the variance, well enough to divide by it
    length = length.clamp(min=5.0)
    rectified = (length - 4.0) / (longest - 4.0) * (length - 2.0) / (longest - 2.0)
    factor = torch.sqrt(rectified * longest / length)

    torch._foreach_lerp_(state.mu, grads, 1.0 - BETA1)
    torch._foreach_mul_(state.nu, BETA2)
    torch._foreach_addcmul_(state.nu, grads, grads, 1.0 - BETA2)

    dtype = params[0].dtype
    root = torch._foreach_sqrt(torch._foreach_div(state.nu, fix2.to(dtype)))
    torch._foreach_add_(root, eps)
    # One of the two factors is 0: which, is decided on the device.
    scaled = torch._foreach_div(state.mu, root)
    torch._foreach_mul_(scaled, (is_known * factor * rate / fix1).to(dtype))
    torch._foreach_sub_(params, scaled)
    plain = ((1.0 - is_known) * rate / fix1).to(dtype)
    torch._foreach_sub_(params, torch._foreach_mul(state.mu, plain))
