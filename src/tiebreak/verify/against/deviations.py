"""Known deviations of optimizers and settings, which every algorithm can have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from tiebreak.frameworks.numpy.ops import BETA1, BETA2
from tiebreak.verify.against.rules import Deviation, Rules

EPSILONS = {
    1e-5: "CleanRL's and SB3's PPO, Baselines",
    1e-7: "Keras' default",
    1e-8: "the default of torch and optax",
    1.5e-4: "Dopamine's and DQN Zoo's DQN",
}
"""ε of Adam that libraries have, and where."""


def common_deviations(config: Any, rules: Rules) -> list[Deviation]:
    """Return the deviations that any algorithm can have, for a configuration."""
    out = [
        Deviation(rules.adam, f"Adam's ε is {value:g}", where, settings={"adam_eps": value})
        for value, where in EPSILONS.items()
    ]
    rounded = float(np.float32(BETA1)), float(np.float32(BETA2))
    early = "Adam adds ε before the bias correction"
    out += [
        Deviation(rules.adam, early, "TF-Agents, Keras", keras_adam((BETA1, BETA2))),
        Deviation(rules.adam, f"{early}, whose β are rounded to float32", "Keras 3 in float64",
                  keras_adam(rounded)),
    ]  # fmt: skip
    if config.max_grad_norm:
        tag = rules.clipping
        formula = "max_norm/(‖g‖ + 1e-6) instead of max_norm/max(‖g‖, max_norm)"
        out += [
            Deviation(tag, "every entry of the gradient is clipped by itself", "rejax",
                      replaced("clip_by_norm", lambda f: clip_entries)),
            Deviation(tag, formula, "torch's clip_grad_norm_",
                      replaced("clip_by_norm", lambda f: clip_by_torch)),
            Deviation(tag, "gradients are not clipped", settings={"max_grad_norm": 1e12}),
        ]  # fmt: skip
    return [*out, *_defaults(config)]


def _defaults(config: Any) -> list[Deviation]:
    """Return a deviation for each setting that has the algorithm's default, whatever was told."""
    out = []
    for field in dataclasses.fields(config):
        told, default = getattr(config, field.name), field.default
        no_effect = field.name.startswith(("init_", "normalize_obs")) or field.name == "adam_eps"
        if type(told) in (float, bool) and told != default and not no_effect:
            text = f"{field.name} is {default}, the default, not {told} as spec.config says"
            out.append(Deviation("setting", text, settings={field.name: default}))
    return out


def replaced(name: str, make: Callable[[Callable], Callable]) -> Callable[[ModuleType], None]:
    """Return a change that replaces a function of an oracle by one made of it."""

    def change(oracle: ModuleType) -> None:
        vars(oracle)[name] = make(vars(oracle)[name])

    return change


def reordered(
    default: Any, update: Callable, changes: Mapping[str, Any]
) -> Callable[[ModuleType], None]:
    """Return a change of the order in which an oracle's update does its parts; changes add up.

    Args:
      default: The algorithm's own order, a NamedTuple.
      update: (oracle, *arguments) -> what its update returns, in the order `oracle.order`.
      changes: Fields of the order that are otherwise.
    """

    def change(oracle: ModuleType) -> None:
        own = vars(oracle)
        own["order"] = own.get("order", default)._replace(**changes)
        own["update"] = lambda *arguments: update(oracle, *arguments)

    return change


def scaled(function: str, field: str, factor: float) -> Callable[[ModuleType], None]:
    """Return a change that scales a term and all gradients of a function of an oracle."""

    def make(f: Callable) -> Callable:
        def call(*arguments: Any) -> Any:
            terms, grads = f(*arguments)
            terms = terms._replace(**{field: factor * getattr(terms, field)})
            return terms, {name: factor * grad for name, grad in grads.items()}

        return call

    return replaced(function, make)


def keras_adam(betas: tuple[float, float]) -> Callable[[ModuleType], None]:
    """Return a change: Adam adds ε to √v before the bias correction, as in Kingma & Ba's note.

    betas: those of the bias correction.
    """

    def adam(weights, grads, rate, eps, count="adam/count"):
        out = dict(weights)
        steps = weights[count] + np.int32(1)
        step_size = rate * np.sqrt(1.0 - betas[1] ** steps) / (1.0 - betas[0] ** steps)
        for name, g in grads.items():
            mu = BETA1 * weights[f"adam/mu/{name}"] + (1.0 - BETA1) * g
            nu = BETA2 * weights[f"adam/nu/{name}"] + (1.0 - BETA2) * g**2
            out[name] = weights[name] - step_size * mu / (np.sqrt(nu) + eps)
            out[f"adam/mu/{name}"] = mu
            out[f"adam/nu/{name}"] = nu
        return {**out, count: steps}

    return replaced("adam", lambda f: adam)


def clip_entries(grads: Any, max_norm: float) -> tuple[dict[str, np.ndarray], float]:
    """Clip each entry of a gradient to ± `max_norm` (0: any); also return the norm before."""
    norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
    most = max_norm or np.inf
    return {name: np.clip(g, -most, most) for name, g in grads.items()}, norm


def clip_by_torch(grads: Any, max_norm: float) -> tuple[dict[str, np.ndarray], float]:
    """Clip by the global norm (0: any) as torch does: with 1e-6 below the line."""
    norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
    scale = min(1.0, max_norm / (norm + 1e-6)) if max_norm else 1.0
    return {name: g * scale for name, g in grads.items()}, norm
