"""What a mistake of a control is, and that it is said where it was made."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tiebreak.core.process_env import SAFE
from tiebreak.studies.alterations import without_jacobian


def test_the_density_without_the_jacobian_is_that_before_tanh():
    policy = SimpleNamespace(log_std=np.array([[0.0, 0.5]]))
    noise = np.array([[1.0, -2.0]])
    altered = without_jacobian(lambda self, noise: ("action", "right"))
    action, log_prob = altered(policy, noise)
    densities = [math.exp(-x * x / 2) / (s * math.sqrt(2 * math.pi)) for x, s in
                 ((1.0, 1.0), (2.0, math.exp(0.5)))]  # fmt: skip
    assert action == "action"
    assert log_prob == pytest.approx(math.log(math.prod(densities)))


@pytest.mark.slow(share=0.01)
def test_an_altered_training_differs_and_says_so(tmp_path):
    words = ["train", "sac", "--framework", "linen", "--task", "gymnasium/Pendulum-v1", "--set",
             "total_steps=600", "--set", "learning_starts=500", "--set", "hidden_sizes=8,",
             "--eval-episodes", "0", "--threads", "1"]  # fmt: skip
    for name, module in (("a", ["tiebreak"]), ("b", ["tiebreak.commands.altered_train",
                                                     "without-jacobian"])):  # fmt: skip
        command = [sys.executable, *SAFE, "-m", *module, *words, "--out", str(tmp_path / name)]
        subprocess.run(command, check=True, capture_output=True)
    right, wrong = (json.loads((tmp_path / name / "config.json").read_text()) for name in "ab")
    assert "altered" not in right
    assert wrong["altered"] == "without-jacobian"
    assert right["config_hash"] != wrong["config_hash"]
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1] for name in "ab"]
    entropies = [json.loads(log)["entropy"] for log in logs]
    assert abs(entropies[0] - entropies[1]) > 0.01

    command = [sys.executable, *SAFE, "-m", "tiebreak", *words, "--resume", "--set",
               "total_steps=700", "--out", str(tmp_path / "b")]  # fmt: skip
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode == 2, refused.stderr
