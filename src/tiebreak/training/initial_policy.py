"""Begin a training with the weights of a stored policy: `--init-from RUN`, in any framework."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.core.seeding import derive
from tiebreak.core.types import EnvSpec
from tiebreak.training import policy_files

CHANGES_OUTPUTS = ("activation", "normalize_obs")
"""Settings that fit any weights, but with another value make another policy of them."""


def load(where: str | Path, algorithm: str) -> policy_files.Policy:
    """Return a stored policy of an algorithm; UsageError if there is none, or of another one."""
    policy = policy_files.load_policy(where)
    if policy.algorithm != algorithm:
        raise UsageError(
            f"the policy in {str(where)!r} is {policy.algorithm}'s: {algorithm} cannot begin with "
            f"it; train {policy.algorithm}, or leave out --init-from"
        )
    return policy


def put_into(loop: Any, where: str | Path, algorithm: str, seed: int) -> list[str]:
    """Give a loop that has not run the weights of a stored policy; return notes for the user.

    Networks and their targets, trained numbers such as a temperature, and statistics of
    observations and returns are the policy's. Optimizers and counters are new, so that schedules
    begin at their beginning. Raises UsageError where shapes differ.
    """
    policy = load(where, algorithm)
    _require_same_spaces(where, policy.spec, loop.spec)
    data = registry.data_module(algorithm)
    weights = data.initial_weights(loop.spec, loop.config, derive(seed, "weights"))
    for name in _transferred(weights, data.STATISTICS):
        array = policy.weights.get(name)
        if array is None or array.shape != weights[name].shape:
            there = "not there" if array is None else f"{list(array.shape)} there"
            raise UsageError(
                f"the policy in {str(where)!r} does not fit: {name} is {there}, and "
                f"{list(weights[name].shape)} here; take its settings (--config "
                f"{_folder(where) / policy_files.CONFIG}), or leave out --init-from"
            )
        weights[name] = array
    loop.state = loop.agent.load(weights)
    return [_describe(where, policy, loop.config)]


def _transferred(names: Iterable[str], statistics: Iterable[str]) -> list[str]:
    """Return the canonical names that are no optimizer's, no counter's and no environment's."""
    of_environments = {name for name in statistics if not name.endswith("_moments")}
    return [name for name in names if not name.startswith("adam/") and name not in of_environments]


def _require_same_spaces(where: str | Path, there: EnvSpec, here: EnvSpec) -> None:
    for what, name in (
        ("observations", "observation_shape"), ("actions", "num_actions"),
        ("actions", "nvec"), ("actions", "action_size"),
    ):  # fmt: skip
        was, now = getattr(there, name), getattr(here, name)
        if was != now:
            raise UsageError(
                f"the policy in {str(where)!r} does not fit this task: {what} differ "
                f"({name} {was} there, {now} here)"
            )


def _folder(where: str | Path) -> Path:
    path = Path(where)
    return path.parent if path.suffix == ".safetensors" else path


def _describe(where: str | Path, policy: policy_files.Policy, config: Any) -> str:
    about = policy.metadata
    line = (
        f"begins with the policy of {str(where)!r} ({about.get('framework')}, "
        f"{about.get('task')}, {about.get('steps', 0):,} steps); optimizer and schedules are new"
    )
    for name in CHANGES_OUTPUTS:
        was, now = getattr(policy.config, name, None), getattr(config, name, None)
        if was != now:
            line += f"; {name} was {was} there and is {now} here, so that it acts differently"
    return line
