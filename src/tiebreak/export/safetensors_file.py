"""`.safetensors`: the arrays of the `.npz`, and the names of the layers as JSON in its metadata."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tiebreak.export.layers import GreedyPolicy, to_arrays
from tiebreak.export.numpy_file import Outputs, apply


def write(policy: GreedyPolicy, path: Path) -> None:
    """Write a policy's layers and metadata."""
    from safetensors.numpy import save_file

    kinds, arrays = to_arrays(policy)
    save_file(arrays, path, metadata={"layers": json.dumps(kinds), **policy.about})


def run(path: Path, obs: np.ndarray) -> Outputs:
    """Return the actions that the file's policy chooses for observations [N, …]."""
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        kinds = json.loads((file.metadata() or {})["layers"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no iterator
    return apply(kinds, arrays, obs)
