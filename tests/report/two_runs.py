"""Two runs of the same cells on one machine, from known truths, for what compares folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from stats import synthetic

CELLS = {"torch compile": 1.0, "tensorflow xla": 0.8, "linen jit": 2.96, "nnx split": 3.0}
"""Label -> true speed."""


def run(
    name: str,
    speeds: Mapping[str, float] = CELLS,
    *,
    blocks: int = 10,
    seed: int = 0,
    moved: float = 0.0,
    response: Mapping[str, float] | None = None,
    unseen: float = 0.0,
    noise: float = 0.004,
    restless: float = 0.02,
    facts: Mapping[str, Any] | None = None,
) -> list[dict]:
    """All records of a run.

    moved: the machine's slowness in this run, a logarithm; response: the share of it that a cell
    feels; unseen: spread between runs that no canary feels; noise: of a visit; restless: of a
    canary.
    """
    rng = np.random.default_rng([seed, sum(name.encode())])
    mark = {"run_id": name, "fingerprint": f"{name:x<16}"[:16]}
    about = synthetic.machine()
    records = [{**about, **mark, "machine": {**about["machine"], **(facts or {})}}]
    offset = {label: rng.normal(0, unseen) for label in speeds}
    for block in range(blocks):
        for when in ("open", "close"):
            seconds = 0.01 * np.exp(moved + rng.normal(0, restless))
            records.append({**synthetic.canary(block, when, float(seconds)), **mark})
        for label, speed in speeds.items():
            felt = moved * (response or {}).get(label, 1.0) + offset[label]
            seconds = 1e-5 / speed * np.exp(felt + rng.normal(0, noise))
            records.append(synthetic.visit(label, block, [float(seconds)] * 5, **mark))
    return records


def changed(records: list[dict], label: str, **fields: Any) -> list[dict]:
    """The same with fields of one cell's visits replaced."""
    ours = {id(r) for r in records if r["kind"] == "visit" and r["cell"]["label"] == label}
    return [{**r, **fields} if id(r) in ours else r for r in records]


def crashed(records: list[dict], label: str, blocks: range = range(99)) -> list[dict]:
    """The same, with one cell's visits of these blocks failed."""
    return [
        {**synthetic.failed(label, r["block"]), **{k: r[k] for k in ("run_id", "fingerprint")}}
        if r["kind"] == "visit" and r["cell"]["label"] == label and r["block"] in blocks
        else r
        for r in records
    ]
