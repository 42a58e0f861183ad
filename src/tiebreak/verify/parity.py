"""L0 and L1: one framework against the oracle on the same weights, batch and noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.algorithms.ppo import ppo_numpy as oracle
from tiebreak.algorithms.ppo.data import Minibatch, Terms, initial_weights
from tiebreak.core.types import Agent
from tiebreak.ops.numpy_ops import to_float64
from tiebreak.verify import cases
from tiebreak.verify.cases import Case
from tiebreak.verify.compare import Book

GROUPS = {
    "weights": ("actor/", "critic/"),
    "optimizer": ("adam/",),
    "normalizers": ("obs_moments/", "return_moments/", "running_return"),
}
"""Quantities of a dump, by the beginnings of its names."""


def cast(tree: Any, precision: str) -> Any:
    """A dictionary or NamedTuple of NumPy arrays with its floats in `precision`."""
    if isinstance(tree, dict):
        return {k: cast(v, precision) for k, v in tree.items()}
    if isinstance(tree, tuple):
        parts = [cast(v, precision) for v in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    array = np.asarray(tree)
    return array.astype(precision) if array.dtype.kind == "f" else array


def group(weights: dict, name: str) -> dict:
    """The part of a dump that belongs to one of GROUPS."""
    return {k: v for k, v in weights.items() if k.startswith(GROUPS[name])}


def check_public(book: Book, runtime: Any, case: Case) -> dict[str, np.ndarray]:
    """`act` and a whole `step` through the contract, in the runtime's mode; returns the dump."""
    precision = runtime.precision
    agent = runtime.agent(registry.make_raw_agent("ppo", case.spec, case.config, runtime))
    weights = cast(cases.perturbed_weights(case), precision)
    exact = to_float64(weights)
    check_act(book, runtime, agent, case, weights)
    rollout, noise = cast(cases.rollout_near(case, weights), precision)
    want, want_metrics = oracle.step(case.spec, case.config, exact, rollout, noise)
    state, metrics = agent.step(agent.load(weights), rollout, noise)
    got, got_metrics = agent.dump(state), runtime.to_numpy(metrics)
    for name in GROUPS:
        pair = group(got, name), group(want, name)
        book.compare(runtime.mode, case, "L1", f"step: {name}", *pair, "gradient")
    pair = dict(got_metrics._asdict()), dict(want_metrics._asdict())
    book.compare(runtime.mode, case, "L1", "step: metrics", *pair, "gradient")
    return got


def check_act(book: Book, runtime: Any, agent: Agent, case: Case, weights: dict) -> None:
    """Forward pass and sampling; the whole policy is read out through the noise."""
    obs, noise = cast(cases.act_inputs(case), runtime.precision)
    state, exact = agent.load(weights), to_float64(weights)

    def compare(quantity: str, noise: np.ndarray, fields: tuple[str, ...]) -> None:
        got = runtime.to_numpy(agent.act(state, obs, noise.astype(obs.dtype)))
        want = oracle.act(case.spec, case.config, exact, obs, noise)
        ours, exactly = ({k: getattr(act, k) for k in fields} for act in (got, want))
        book.compare(runtime.mode, case, "L1", quantity, ours, exactly, "forward")

    compare("act: action", noise, ("action", "raw_action"))
    compare("act: log_prob", noise, ("log_prob",))
    compare("act: value", noise, ("value",))
    compare("act: policy", 0.0 * noise, ("raw_action", "action"))  # the mean, or the likeliest
    if case.spec.discrete:  # noise that forces each action in turn gives all log-probabilities
        for forced in 1e3 * np.eye(case.spec.action_size):
            compare("act: policy", 0.0 * noise + forced, ("raw_action", "log_prob"))


def replace_step(runtime: Any, case: Case, make: Callable) -> Agent:
    """The case's agent with `make(module, static)` in the place of its `step`.

    Thus what a step is made of is executed as the runtime executes a step.
    """
    module = registry.load(registry.IMPLEMENTATIONS["ppo", runtime.framework])
    static = module.make_static(case.spec, case.config, runtime.build())
    raw = registry.make_raw_agent("ppo", case.spec, case.config, runtime)
    return runtime.agent(raw._replace(step=make(module, static)))


def _parts(module: Any, static: Any) -> Callable:
    def step(state, rollout, batch):
        terms, grads = module.gradients(static, state, batch)
        named = module.named(static, grads)
        state, rows = module.prepare(static, state, rollout)
        return state, (rows, terms, named)

    return step


def _update(module: Any, static: Any) -> Callable:
    return lambda state, batch, _: module.update(static, state, batch)


def check_parts(book: Book, runtime: Any, case: Case) -> None:
    """What a step is made of: prepared rows, loss terms, raw gradients."""
    weights = cast(cases.perturbed_weights(case), runtime.precision)
    exact = to_float64(weights)
    rollout, _ = cast(cases.rollout_near(case, weights), runtime.precision)
    _, want_rows = oracle.prepare(case.config, exact, rollout)
    batch = cast(want_rows, runtime.precision)
    agent = replace_step(runtime, case, _parts)
    _, parts = agent.step(agent.load(weights), rollout, batch)
    rows, terms, grads = runtime.to_numpy(parts)
    want_terms, want_grads = oracle.gradients(case.spec, case.config, exact, batch)

    def compare(quantity: str, got: Any, want: Any, kind: str = "forward") -> None:
        book.compare(runtime.mode, case, "L1", quantity, got, want, kind)

    for field in ("obs", "advantage", "target"):
        compare(f"prepare: {field}", getattr(rows, field), getattr(want_rows, field))
    for field in Terms._fields:
        compare(f"loss: {field}", getattr(terms, field), getattr(want_terms, field))
    compare("gradients", grads, want_grads, "gradient")


def check_updates(book: Book, runtime: Any, case: Case) -> None:
    """One gradient step by each optimizer: Adam's first ones hide wrong factors, SGD's do not."""
    weights = cast(cases.perturbed_weights(case), runtime.precision)
    rollout, _ = cast(cases.rollout_near(case, weights), runtime.precision)
    _, rows = oracle.prepare(case.config, to_float64(weights), rollout)
    batch = cast(rows, runtime.precision)
    for kind in ("adam", "sgd"):
        changed = case._replace(config=dataclasses.replace(case.config, optimizer=kind))
        check_update(book, runtime, changed, weights, batch, "L1", f"update: {kind}")


def check_update(
    book: Book, runtime: Any, case: Case, weights: dict, batch: Minibatch, rung: str, quantity: str
) -> None:
    """One gradient step: weights, optimizer moments and the gradient norm."""
    agent = replace_step(runtime, case, _update)
    state, metrics = agent.step(agent.load(weights), batch, np.zeros(1, runtime.precision))
    got = {**agent.dump(state), "grad_norm": runtime.to_numpy(metrics).grad_norm}
    want, want_metrics = oracle.update(case.spec, case.config, to_float64(weights), batch)
    want["grad_norm"] = want_metrics.grad_norm
    book.compare(runtime.mode, case, rung, quantity, got, want, "gradient")


def check_knobs(book: Book, runtime: Any, case: Case) -> None:
    """L0: what defaults differently between libraries, each where it alone decides the result."""
    agent = runtime.agent(registry.make_raw_agent("ppo", case.spec, case.config, runtime))
    got, want = (
        agent.dump(agent.init(case.seed)),
        initial_weights(case.spec, case.config, case.seed),
    )
    book.compare(runtime.mode, case, "L0", "initial weights", got, want, "exact")
    want = cast(cases.perturbed_weights(case), runtime.precision)
    book.compare(
        runtime.mode, case, "L0", "load, dump", agent.dump(agent.load(want)), want, "exact"
    )
    for name, (changes, count, rows) in KNOBS.items():
        changed = case._replace(config=dataclasses.replace(case.config, **changes))
        weights = {**want, "adam/count": np.asarray(count, np.int32)}
        rollout, _ = cast(cases.rollout_near(case, weights), runtime.precision)
        _, batch = oracle.prepare(changed.config, to_float64(weights), rollout)
        batch = cast(Minibatch(*(x[:rows] for x in batch)), runtime.precision)
        check_update(book, runtime, changed, weights, batch, "L0", name)


KNOBS: dict[str, tuple[dict, int, int]] = {
    "adam epsilon": ({"adam_eps": 0.1, "learning_rate": 1.0}, 3, 24),
    "adam betas": ({"adam_eps": 1e-8, "learning_rate": 0.1}, 0, 24),
    "std ddof": ({"normalize_advantage": True, "optimizer": "sgd", "learning_rate": 1.0}, 0, 3),
    "clip formula": ({"max_grad_norm": 1e-3, "optimizer": "sgd", "learning_rate": 100.0}, 0, 24),
    "no clip": ({"max_grad_norm": 1e3, "optimizer": "sgd", "learning_rate": 1.0}, 0, 24),
    "annealing": ({"optimizer": "sgd", "learning_rate": 1.0}, 203, 24),
    "annealed out": ({"optimizer": "sgd", "learning_rate": 1.0}, 10_000, 24),
}
"""Settings that make one knob decide, the update count to start from, and the rows to use."""
