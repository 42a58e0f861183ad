"""The error measure, its bounds, and the table of the worst error of each quantity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

BOUNDS = {
    "float64": {"exact": 0.0, "forward": 1e-10, "gradient": 1e-10, "lockstep": 1e-8},
    "float32": {"exact": 0.0, "forward": 1e-5, "gradient": 1e-4},
    "bfloat16": {"exact": 0.0, "forward": 2e-2, "gradient": 2e-2},
}
"""Largest allowed error by precision and kind of quantity."""
NOT_COMPARABLE = 1e300
"""Error of a quantity that cannot be compared; the entry's `reason` says why."""
CONTROL_FACTOR = 10.0
"""Float32 lock-step: largest ratio of the distance to the oracle and that of a control."""


def error(got: Any, want: Any) -> float:
    """Return max |got − want| / max(1, |want|): absolute below 1, relative above.

    Raises ValueError if shapes differ or a number is not finite.
    """
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        raise ValueError(f"shape {got.shape}, expected {want.shape}")
    got, want = got.astype(np.float64), want.astype(np.float64)
    if not (np.isfinite(got).all() and np.isfinite(want).all()):
        raise ValueError("not finite")
    return float(np.max(np.abs(got - want) / np.maximum(1.0, np.abs(want)), initial=0.0))


def tree_error(got: Mapping[str, Any], want: Mapping[str, Any]) -> float:
    """Return the largest `error` over the arrays of two dictionaries with the same names."""
    if set(got) != set(want):
        raise ValueError(f"names differ: {', '.join(sorted(set(got) ^ set(want)))}")
    return max((error(got[k], want[k]) for k in want), default=0.0)


class ErrorTable:
    """The worst error of each mode, kind of actions, rung and quantity, with its case."""

    def __init__(self, algorithm: str, framework: str, precision: str):
        self.identity = {"algorithm": algorithm, "framework": framework, "precision": precision}
        self.entries: dict[tuple, dict] = {}

    def compare(
        self, mode: str, case: Any, rung: str, quantity: str, got: Any, want: Any, kind: str
    ) -> None:
        """Enter the error of `got` against `want` (arrays, or dictionaries of arrays).

        `kind` selects the bound: `exact`, `forward`, `gradient` or `lockstep`.
        """
        bound = BOUNDS[self.identity["precision"]][kind]
        worst, reason = None, ""
        try:
            worst = tree_error(got, want) if isinstance(want, Mapping) else error(got, want)
        except ValueError as problem:
            reason = str(problem)
        self.enter(mode, case, rung, quantity, worst, bound, reason)

    def enter(
        self,
        mode: str,
        case: Any,
        rung: str,
        quantity: str,
        worst: float | None,
        bound: float,
        reason: str = "",
    ) -> None:
        """Enter an error, if it is the worst so far; None with a `reason` is a failed check."""
        key = (mode, case.actions, rung, quantity)
        entry = {
            **self.identity,
            "mode": mode,
            "actions": case.actions,
            "rung": rung,
            "quantity": quantity,
            "worst": NOT_COMPARABLE if worst is None else worst,
            "bound": bound,
            "ok": worst is not None and worst <= bound,
            "case": case.describe(),
            "reason": reason,
        }
        before = self.entries.get(key)
        if before is None or entry["worst"] > before["worst"]:
            self.entries[key] = entry

    @property
    def ok(self) -> bool:
        """True if there are entries and all of them are within bounds."""
        return bool(self.entries) and all(entry["ok"] for entry in self.entries.values())

    def failed(self) -> list[str]:
        """Return the quantities that were out of bounds."""
        return [entry["quantity"] for entry in self.entries.values() if not entry["ok"]]
