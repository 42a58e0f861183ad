"""The examples of docs/export.md run as they stand, where Tiebreak cannot be imported."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from export.test_export import needed
from hygiene.test_documents import blocks

import tiebreak
from tiebreak import registry
from tiebreak.core.types import EnvSpec
from tiebreak.training import policy_files

PENDULUM = EnvSpec.make(observation_shape=(3,), action_low=(-2.0,), action_high=(2.0,))
EXAMPLES = {
    "onnx": "policy.onnx",
    "torch": "policy.pt2",
    "numpy": "policy.npz",
    "keras": "policy.keras",
    "safetensors": "exported-policy.safetensors",
}
WITHOUT_TIEBREAK = "import sys\nsys.modules['tiebreak'] = None\n"
KEEP = "\nimport numpy as np\nnp.save('action.npy', np.asarray(action))\n"


SLOW = {"torch": 0.3, "keras": 0.1}
"""Shares of the examples whose libraries take seconds to import."""


@pytest.mark.parametrize(
    "to",
    [
        pytest.param(to, marks=pytest.mark.slow(share=SLOW[to]) if to in SLOW else ())
        for to in EXAMPLES
    ],
)
def test_the_example_of_a_format_runs(to, tmp_path):
    needed(to)
    config = registry.reference_config("sac", PENDULUM)
    arrays = registry.data_module("sac").initial_weights(PENDULUM, config, 0)
    policy_files.save_policy(tmp_path, arrays, "sac", PENDULUM, config, framework="torch")
    tiebreak.export_policy(tmp_path, to)
    code = example(to)
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TIEBREAK + code + KEEP],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    expected = tiebreak.load_policy(tmp_path).act(np.zeros((5, 3)))
    assert np.allclose(np.load(tmp_path / "action.npy"), expected, atol=1e-5)


def example(to):
    """Return the example that reads a format's file."""
    name = EXAMPLES[to]
    (code,) = [block for block in blocks("python", "docs/export.md") if f'"{name}"' in block]
    return code
