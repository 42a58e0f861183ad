"""How far apart two results may be, and the book in which the worst of each quantity is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

BOUNDS = {
    "float64": {"exact": 0.0, "forward": 1e-10, "gradient": 1e-10, "lockstep": 1e-8},
    "float32": {"exact": 0.0, "forward": 1e-5, "gradient": 1e-4},
    "bfloat16": {"exact": 0.0, "forward": 2e-2, "gradient": 2e-2},
}
"""Largest error allowed, by precision and by what the quantity follows from."""
NOT_COMPARABLE = 1e300
"""Stands as the error where there is none to compute: the row's `reason` says why."""
CONTROL_FACTOR = 10.0
"""Float32 lock-step: how many times farther from the oracle than a control moved by one ulp."""


def error(got: Any, want: Any) -> float:
    """max |got − want| / max(1, |want|): absolute below 1, relative above.

    Raises ValueError where there is nothing to compare: shapes differ, or a number is not finite.
    """
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        raise ValueError(f"shape {got.shape}, expected {want.shape}")
    got, want = got.astype(np.float64), want.astype(np.float64)
    if not (np.isfinite(got).all() and np.isfinite(want).all()):
        raise ValueError("not finite")
    return float(np.max(np.abs(got - want) / np.maximum(1.0, np.abs(want)), initial=0.0))


def tree_error(got: Mapping[str, Any], want: Mapping[str, Any]) -> float:
    """The largest `error` over the leaves of two dictionaries with the same names."""
    if set(got) != set(want):
        raise ValueError(f"names differ: {', '.join(sorted(set(got) ^ set(want)))}")
    return max((error(got[k], want[k]) for k in want), default=0.0)


class ErrorTable:
    """The worst error per mode, kind of actions, rung and quantity, with the case it came from."""

    def __init__(self, algorithm: str, framework: str, precision: str):
        self.identity = {"algorithm": algorithm, "framework": framework, "precision": precision}
        self.rows: dict[tuple, dict] = {}

    def compare(
        self, mode: str, case: Any, rung: str, quantity: str, got: Any, want: Any, kind: str
    ) -> None:
        """Enter the error of `got` against `want` (arrays, or dictionaries of arrays).

        `kind` picks the bound: `exact`, `forward`, `gradient` or `lockstep`.
        """
        bound, worst, reason = BOUNDS[self.identity["precision"]][kind], None, ""
        try:
            worst = (tree_error if isinstance(want, Mapping) else error)(got, want)
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
        """Enter an error; None (with a reason) is a failure that has no number."""
        key = (mode, case.actions, rung, quantity)
        row = {
            **self.identity, "mode": mode, "actions": case.actions, "rung": rung,
            "quantity": quantity, "worst": NOT_COMPARABLE if worst is None else worst,
            "bound": bound, "ok": worst is not None and worst <= bound,
            "case": case.describe(), "reason": reason,
        }  # fmt: skip
        before = self.rows.get(key)
        if before is None or row["worst"] > before["worst"]:
            self.rows[key] = row

    @property
    def ok(self) -> bool:
        """Whether something was compared and all of it was within bounds."""
        return bool(self.rows) and all(row["ok"] for row in self.rows.values())

    def failed(self) -> list[str]:
        """The quantities that were out of bounds."""
        return [row["quantity"] for row in self.rows.values() if not row["ok"]]
