"""Rungs L0 and L1: one framework against the oracle on the same weights, batch and noise."""

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
"""Quantities of a dump, by prefixes of its names; the first that matches counts."""


def group(weights: dict, name: str) -> dict:
    """Return the part of a dump that belongs to one of GROUPS."""
    return {k: v for k, v in weights.items() if _group_of(k) == name}


def _group_of(name: str) -> str:
    return next(g for g, starts in GROUPS.items() if name.startswith(starts))


def make_agent(runtime: Any, case: Case) -> Agent:
    """Make the case's agent in the runtime's mode."""
    raw = registry.make_raw_agent(case.algorithm, case.spec, case.config, runtime)
    return runtime.agent(raw)


def check_public(errors: ErrorTable, runtime: Any, case: Case) -> dict[str, np.ndarray]:
    """Check `act` and a whole `step` in the runtime's mode; return the dump."""
    weights = cast(perturbed_weights(case), runtime.precision)
    check_act(errors, runtime, make_agent(runtime, case), case, weights)
    return check_step(errors, runtime, case, weights, "L1", "step")


def check_step(
    errors: ErrorTable, runtime: Any, case: Case, weights: dict, rung: str, quantity: str
) -> dict[str, np.ndarray]:
    """Check one whole `step` from `weights`; return the dump."""
    agent, exact = make_agent(runtime, case), to_float64(weights)
    batch, noise = cast(case.cases.batch_near(case, weights), runtime.precision)
    want, want_metrics = case.oracle.step(case.spec, case.config, exact, batch, noise)
    state, metrics = agent.step(agent.load(weights), batch, noise)
    got, got_metrics = agent.dump(state), runtime.to_numpy(metrics)

    def compare(name: str, got: dict, want: dict) -> None:
        errors.compare(runtime.mode, case, rung, f"{quantity}: {name}", got, want, "gradient")

    for name in GROUPS:
        if group(want, name):
            compare(name, group(got, name), group(want, name))
    compare("metrics", got_metrics._asdict(), want_metrics._asdict())
    return got


def check_act(errors: ErrorTable, runtime: Any, agent: Agent, case: Case, weights: dict) -> None:
    """Check forward pass and sampling; noise chosen by `policy_probes` reveals the policy."""
    obs, noise, *memory = cast(act_inputs(case), runtime.precision)
    state, exact = agent.load(weights), to_float64(weights)

    def compare(noise: np.ndarray, name: str = "") -> None:
        got = runtime.to_numpy(agent.act(state, obs, cast(noise, runtime.precision), *memory))
        want = case.oracle.act(case.spec, case.config, exact, obs, noise, *memory)
        for field in want._fields:
            errors.compare(
                runtime.mode, case, "L1", f"act: {name or field}",
                getattr(got, field), getattr(want, field), "forward",
            )  # fmt: skip

    compare(noise)
    for probe in case.cases.policy_probes(case, noise):
        compare(probe, "policy")


def check_loading(errors: ErrorTable, runtime: Any, case: Case) -> dict[str, np.ndarray]:
    """Check initial weights, and that `dump` returns what `load` took; return those weights."""
    agent = make_agent(runtime, case)
    initial = registry.data_module(case.algorithm).initial_weights
    got, want = agent.dump(agent.init(case.seed)), initial(case.spec, case.config, case.seed)
    errors.compare(runtime.mode, case, "L0", "initial weights", got, want, "exact")
    want = cast(perturbed_weights(case), runtime.precision)
    got = agent.dump(agent.load(want))
    errors.compare(runtime.mode, case, "L0", "load, dump", got, want, "exact")
    return want
