"""L0 and L1: one framework against the oracle on the same weights, batch and noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.types import Agent
from tiebreak.frameworks.numpy.ops import to_float64
from tiebreak.verify.case import Case, act_inputs, cast, perturbed_weights
from tiebreak.verify.compare import ErrorTable

GROUPS = {
    "optimizer": ("adam/",),
    "targets": ("target/",),
    "normalizers": ("obs_moments/", "return_moments/", "running_return"),
    "weights": ("",),
}
"""Quantities of a dump, by the beginnings of its names: the first that fits."""


def group(weights: dict, name: str) -> dict:
    """The part of a dump that belongs to one of GROUPS."""
    return {k: v for k, v in weights.items() if _group_of(k) == name}


def _group_of(name: str) -> str:
    return next(g for g, starts in GROUPS.items() if name.startswith(starts))


def make_agent(runtime: Any, case: Case) -> Agent:
    """The case's agent in the runtime's mode."""
    raw = registry.make_raw_agent(case.algorithm, case.spec, case.config, runtime)
    return runtime.agent(raw)


def check_public(book: ErrorTable, runtime: Any, case: Case) -> dict[str, np.ndarray]:
    """`act` and a whole `step` through the contract, in the runtime's mode; returns the dump."""
    weights = cast(perturbed_weights(case), runtime.precision)
    check_act(book, runtime, make_agent(runtime, case), case, weights)
    return check_step(book, runtime, case, weights, "L1", "step")


def check_step(
    book: ErrorTable, runtime: Any, case: Case, weights: dict, rung: str, quantity: str
) -> dict[str, np.ndarray]:
    """One whole `step` from `weights`; returns the dump."""
    agent, exact = make_agent(runtime, case), to_float64(weights)
    batch, noise = cast(case.cases.batch_near(case, weights), runtime.precision)
    want, want_metrics = case.oracle.step(case.spec, case.config, exact, batch, noise)
    state, metrics = agent.step(agent.load(weights), batch, noise)
    got, got_metrics = agent.dump(state), runtime.to_numpy(metrics)
    for name in (g for g in GROUPS if group(want, g)):
        pair = group(got, name), group(want, name)
        book.compare(runtime.mode, case, rung, f"{quantity}: {name}", *pair, "gradient")
    pair = dict(got_metrics._asdict()), dict(want_metrics._asdict())
    book.compare(runtime.mode, case, rung, f"{quantity}: metrics", *pair, "gradient")
    return got


def check_act(book: ErrorTable, runtime: Any, agent: Agent, case: Case, weights: dict) -> None:
    """Forward pass and sampling; the whole policy is read out through the noise."""
    obs, noise = cast(act_inputs(case), runtime.precision)
    state, exact = agent.load(weights), to_float64(weights)

    def compare(noise: np.ndarray, name: str = "") -> None:
        got = runtime.to_numpy(agent.act(state, obs, noise.astype(obs.dtype)))
        want = case.oracle.act(case.spec, case.config, exact, obs, noise)
        for field in want._fields:
            pair = getattr(got, field), getattr(want, field)
            book.compare(runtime.mode, case, "L1", f"act: {name or field}", *pair, "forward")

    compare(noise)
    for probe in case.cases.policy_probes(case, noise):
        compare(probe, "policy")


def check_loading(book: ErrorTable, runtime: Any, case: Case) -> dict[str, np.ndarray]:
    """L0: the initial weights, and what goes in comes out; returns weights in mid-training."""
    agent = make_agent(runtime, case)
    initial = registry.data_module(case.algorithm).initial_weights
    got, want = agent.dump(agent.init(case.seed)), initial(case.spec, case.config, case.seed)
    book.compare(runtime.mode, case, "L0", "initial weights", got, want, "exact")
    want = cast(perturbed_weights(case), runtime.precision)
    got = agent.dump(agent.load(want))
    book.compare(runtime.mode, case, "L0", "load, dump", got, want, "exact")
    return want
