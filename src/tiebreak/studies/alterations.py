"""Mistakes that controls put into a training: a study that cannot see them shows nothing.

Each is planted into the process of one training, as tests/verify/planted.py plants bugs for the
proofs, and is named in its `config.json`. What a setting can change is no alteration: `truncation`
cuts the bootstrap at time limits, `tau` doubles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from tiebreak import registry


class Alteration(NamedTuple):
    """One mistake."""

    about: str
    target: tuple[str, str]
    """Class and method in the `ops` of an array library."""
    wrong: Callable[[Callable], Callable]
    """Turns the right method into a wrong one."""


def without_jacobian(right: Callable) -> Callable:
    """Return `sample_log_prob` of SquashedGaussian with the density before tanh."""

    def sample_log_prob(self: Any, noise: Any) -> tuple[Any, Any]:
        action, _ = right(self, noise)
        normal = -0.5 * noise * noise - self.log_std - 0.5 * math.log(2 * math.pi)
        return action, normal.sum(-1)

    return sample_log_prob


ALTERATIONS = {
    "without-jacobian": Alteration(
        about="the density of a squashed action leaves out the Jacobian of tanh",
        target=("SquashedGaussian", "sample_log_prob"),
        wrong=without_jacobian,
    ),
}


def plant(name: str, framework: str) -> None:
    """Put a mistake into this process, for one framework, which is imported by that."""
    row = ALTERATIONS[name]
    ops = registry.load(f"tiebreak.frameworks.{registry.framework(framework).runtime}.ops")
    kind, method = getattr(ops, row.target[0]), row.target[1]
    setattr(kind, method, row.wrong(getattr(kind, method)))
