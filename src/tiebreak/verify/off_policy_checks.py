"""Checks of off-policy steps: features, losses, gradients and settings against the oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.noise import sample
from tiebreak.core.off_policy import Batch, OffPolicyConfig, sample_batch
from tiebreak.frameworks.numpy.ops import to_float64
from tiebreak.verify.case import Case, cast, perturbed_weights
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.parity import check_step


def batch_near(case: Case, weights: Any, index: int = 0) -> tuple[Batch, Any]:
    """Draw batch number `index` and its noise; some observations are large enough to be clipped."""
    del weights
    rng = np.random.default_rng([case.seed, 2, index])
    batch = sample_batch(case.spec, case.config, rng)
    if case.config.normalize_obs:
        batch.obs[0, 0] *= 100.0
        batch.next_obs[-1, -1] *= 100.0
    draws = registry.data_module(case.algorithm).step_noise(case.spec, case.config)
    return batch, type(draws)(*(sample(draw, rng) for draw in draws))


def first_update(tree: Any) -> Any:
    """Return the entry of the first of U updates."""
    return type(tree)(*(x[0] for x in tree))


def check_gradients(errors: ErrorTable, runtime: Any, case: Case, names: Sequence[str]) -> None:
    """Check features, and loss terms and raw gradients of each function in `names`."""
    weights = cast(perturbed_weights(case), runtime.precision)
    exact = to_float64(weights)
    batch, noise = cast(batch_near(case, weights), runtime.precision)
    raw = registry.make_raw_agent(case.algorithm, case.spec, case.config, runtime)
    agent = runtime.agent(raw._replace(step=_gradient_step(runtime, case, names)))
    _, (data, *outputs) = agent.step(agent.load(weights), batch, noise)

    def compare(quantity: str, got: Any, want: Any, kind: str) -> None:
        errors.compare(runtime.mode, case, "L1", quantity, got, want, kind)

    def compare_fields(name: str, got: Any, want: Any) -> None:
        for field in want._fields:
            compare(f"{name}: {field}", getattr(got, field), getattr(want, field), "forward")

    want_data = case.oracle.prepare(case.spec, case.config, exact, batch)
    compare_fields("prepare", runtime.to_numpy(data), want_data)
    rows, row_noise = first_update(want_data), first_update(noise)
    for name, output in zip(names, outputs, strict=True):
        terms, grads = runtime.to_numpy(output)
        gradients = getattr(case.oracle, name)
        want_terms, want_grads = gradients(case.spec, case.config, exact, rows, row_noise)
        compare_fields(name, terms, want_terms)
        compare(name, grads, want_grads, "gradient")


def _gradient_step(runtime: Any, case: Case, names: Sequence[str]) -> Callable:
    """Return a `step` that computes features, loss terms and gradients of the first update.

    All of them are computed at the weights that the state comes with.
    """

    def function(name: str) -> Callable:
        return case.function(runtime.framework, name)

    agent_def = function("make_agent_def")(case.spec, case.config, runtime.build())
    prepare, named = function("prepare"), function("named")
    losses = [function(name) for name in names]

    def step(state, batch, noise):
        data = prepare(agent_def, state, batch)
        rows, row_noise = first_update(data), first_update(noise)
        outputs = []
        for gradients in losses:
            terms, grads = gradients(agent_def, state, rows, row_noise)
            outputs.append((terms, named(agent_def, grads)))
        return state, (data, *outputs)

    return step


def check_updates(errors: ErrorTable, runtime: Any, case: Case) -> None:
    """Check a step by each optimizer: Adam's first steps hide wrong factors, SGD's do not."""
    weights = cast(perturbed_weights(case), runtime.precision)
    for kind in ("adam", "sgd"):
        changed = case.changed(optimizer=kind)
        check_step(errors, runtime, changed, weights, "L1", f"step by {kind}")


def check_settings(
    errors: ErrorTable, runtime: Any, case: Case, weights: dict, knobs: dict[str, tuple[dict, dict]]
) -> None:
    """Check a step under each knob: name -> (settings that make it decide, update counts)."""
    for name, (settings, counts) in knobs.items():
        changed = case.changed(**settings)
        started = {**weights, **{k: np.asarray(v, np.int32) for k, v in counts.items()}}
        check_step(errors, runtime, changed, started, "L0", name)


def drawn_settings(rng: np.random.Generator) -> dict[str, Any]:
    """Draw the settings that all off-policy algorithms have; sizes are small."""
    flags = rng.random(4) < 0.5
    return {
        "total_steps": 10_000,
        "num_envs": int(rng.integers(1, 5)),
        "num_steps": int(rng.integers(1, 4)),
        "num_updates": int(rng.integers(1, 4)),
        "num_rounds": 5,
        "learning_starts": 50,
        "batch_size": int(rng.integers(3, 20)),
        "gamma": float(rng.uniform(0.8, 0.999)),
        "n_step": int(rng.integers(1, 4)),
        "normalize_obs": bool(flags[0]),
        "optimizer": "adam" if flags[1] else "sgd",
        "max_grad_norm": float(10 ** rng.uniform(-0.5, 0.5)) if flags[2] else 0.0,
        "adam_eps": float(10 ** rng.uniform(-8, -4)),
    }


SMALL: dict[str, Any] = {
    "num_envs": 3, "num_updates": 2, "num_rounds": 5, "learning_starts": 100, "batch_size": 8,
    "n_step": 2, "normalize_obs": True,
}  # fmt: skip
"""Settings of the fixed cases."""


def knobs(config: OffPolicyConfig) -> dict[str, tuple[dict, dict]]:
    """Return the knobs of the settings that all off-policy algorithms have."""
    clipped = {f.name for f in fields(config)} & {"learning_rate", "actor_lr", "critic_lr"}
    steps = dict.fromkeys(clipped, 100.0)  # large, so that a wrong digit of the small norm shows
    return {
        "adam epsilon": ({"adam_eps": 0.1}, {}),
        "clip formula": ({"max_grad_norm": 1e-3, "optimizer": "sgd", **steps}, {}),
        "no clip": ({"max_grad_norm": 0.0, "optimizer": "sgd"}, {}),
    }
