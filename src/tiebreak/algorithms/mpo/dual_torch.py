"""MPO's dual problems in PyTorch; dual_scipy.py has the equations and the bounds.

M objectives (Q; the penalty for actions out of bounds), S samples, B states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from tiebreak.algorithms.mpo import dual_scipy
from tiebreak.algorithms.mpo.dual_scipy import HALVINGS, HIGHEST, LOWEST, NEWTONS, TINY
from tiebreak.core.types import Array
from tiebreak.frameworks.torch.ops import Gaussian


class Tempered(NamedTuple):
    """Samples reweighted by the exponential of their value."""

    weights: Array
    """[M, S, B], with sum 1 over S."""
    log_mean: Array
    """[M]: mean over B of log mean_S exp((v − max v)/η), the dual's second term."""
    kl: Array
    """[M]: mean KL divergence of the weights from uniform ones."""
    slope: Array
    """[M]: −d kl / d log η, the mean variance of v/η under the weights."""


def tempered(values: Array, temperature: Array) -> Tempered:
    """Reweight samples by exp(v/η); values [M, S, B], temperature [M].

    Uses exp(x) − 1 and log(1 + x), which keep their digits where all weights are nearly equal.
    """
    scaled = (values - values.amax(dim=1, keepdim=True)) / temperature[:, None, None]
    above = torch.expm1(scaled)
    mean = above.mean(dim=1, keepdim=True)
    weights = (above + 1.0) / (values.shape[1] * (mean + 1.0))
    log_mean = torch.log1p(mean)
    average = (weights * scaled).sum(dim=1, keepdim=True)
    slope = (weights * torch.square(scaled - average)).sum(dim=1).mean(dim=-1)
    return Tempered(
        weights, log_mean.mean(dim=(1, 2)), (average - log_mean).mean(dim=(1, 2)), slope
    )


def positive(x: Array) -> Array:
    """Return a dual variable: the softplus of its trained parameter."""
    return torch.nn.functional.softplus(x, threshold=40.0) + 1e-8  # 20, the default, costs 2e-9


def temperature_loss(temperature: Array, tempered: Tempered, epsilons: Sequence[float]) -> Array:
    """Return the sum of the objectives' duals, which the best temperatures minimise."""
    rows = zip(temperature, epsilons, tempered.log_mean, strict=True)
    return torch.stack([t * (epsilon + log_mean) for t, epsilon, log_mean in rows]).sum()


@torch.no_grad()
def newton(values: Array, epsilons: Sequence[float]) -> Array:
    """Return the temperatures [M] at which kl is epsilon: bisection in log η, then Newton steps."""
    # Fill on the device: a tensor made of a list would be copied there, and waited for.
    epsilon = torch.stack([values.new_full((), e) for e in epsilons])
    low, high = (torch.full_like(epsilon, math.log(bound)) for bound in (LOWEST, HIGHEST))
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        hotter = tempered(values, torch.exp(middle)).kl > epsilon
        low, high = torch.where(hotter, middle, low), torch.where(hotter, high, middle)
    x = 0.5 * (low + high)
    for _ in range(NEWTONS):
        at = tempered(values, torch.exp(x))
        x = x + (at.kl - epsilon) / at.slope.clamp(min=TINY)
        x = torch.minimum(torch.maximum(x, low), high)
    return torch.exp(x)


def slsqp(values: Array, epsilons: Sequence[float]) -> Array:
    """Return the temperatures [M] by SciPy on the host, for which the program waits."""
    return _slsqp(values, list(epsilons))


def divergences(new: Gaussian, old: Gaussian) -> tuple[Array, Array]:
    """Return KL(old ‖ new) [A], averaged over B, for a change of the mean and of the std alone."""
    z = (new.mean - old.mean) * torch.exp(-old.log_std)
    log_ratio = old.log_std - new.log_std
    kl_std = 0.5 * torch.expm1(2.0 * log_ratio) - log_ratio
    return 0.5 * torch.square(z).mean(0), kl_std.mean(0)


# An operator of its own: Dynamo and Inductor call it without looking into it.
@torch.library.custom_op(
    "tiebreak::mpo_slsqp",
    mutates_args=(),
    schema="(Tensor values, float[] epsilons) -> Tensor",
    # A CUDA graph would replay one batch's result for ever.
    tags=[torch.Tag.cudagraph_unsafe] if hasattr(torch.Tag, "cudagraph_unsafe") else None,
)
def _slsqp(values, epsilons):
    temperatures = dual_scipy.slsqp(values.detach().cpu().numpy(), epsilons)
    return torch.from_numpy(temperatures).to(values.device)


@_slsqp.register_fake
def _slsqp_shape(values, epsilons):
    del epsilons
    return values.new_empty(values.shape[:1])
