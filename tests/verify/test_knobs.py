"""Settings that each framework's own code reads, in the three algorithms with most of them.

`tiebreak verify` checks each setting alone, in every framework, for an hour. Here several that do
not hide one another are changed in one step: enough to see one that is not read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from tiebreak import registry
from tiebreak.verify.case import Case, cast, fixed, perturbed_weights
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.parity import check_act, check_step, make_agent


class Knobs(NamedTuple):
    """Settings that differ from those of the fixed case, and update counts to start from."""

    settings: dict[str, Any]
    counts: dict[str, int] = {}  # noqa: RUF012 - never changed


SGD = {"optimizer": "sgd", "max_grad_norm": 0.0}
MPO = {
    "copied, one critic": Knobs(
        {**SGD, "target_period": 1, "num_critics": 1, "normalize_obs": False, "init_std": 0.4,
         "learning_rate": 0.1, "dual_lr": 0.5, "epsilon_penalty": 0.0},
    ),
    "not due, least dual variables": Knobs(
        {**SGD, "target_period": 1000, "dual_lr": 1e4, "dual": "newton", "learning_rate": 0.1,
         "max_grad_norm": 1e-3},
        {"adam/count": 7},
    ),
}  # fmt: skip
FASTTD3 = {
    "no delay": Knobs(
        {**SGD, "policy_delay": 1, "tau": 0.5, "normalize_obs": False, "activation": "tanh",
         "num_atoms": 3, "actor_lr": 0.5, "critic_lr": 0.2, "weight_decay": 0.3},
    ),
    "one group": Knobs(
        {"policy_delay": 4, "tau": 1.0, "weight_decay": 30.0, "v_min": -0.1, "v_max": 0.1,
         "target_noise": 50.0, "noise_clip": 0.3, "adam_eps": 0.1, "max_grad_norm": 1e-3},
    ),
}  # fmt: skip
FASTSAC = {
    "no delay": Knobs(
        {**SGD, "policy_delay": 1, "tau": 0.5, "normalize_obs": False, "activation": "tanh",
         "num_atoms": 3, "actor_lr": 0.5, "critic_lr": 0.2, "alpha_lr": 0.5, "weight_decay": 0.3},
    ),
    "one group": Knobs(
        {"policy_delay": 4, "tau": 1.0, "weight_decay": 30.0, "alpha_weight_decay": 100.0,
         "adam_beta2": 0.5, "v_min": -0.1, "v_max": 0.1, "log_std_max": 1.0, "adam_eps": 0.1,
         "max_grad_norm": 1e-3, "target_entropy_scale": 3.0},
    ),
}  # fmt: skip
KNOBS = {"mpo": MPO, "fasttd3": FASTTD3, "fastsac": FASTSAC}
CASES = [(algorithm, name) for algorithm, cases in KNOBS.items() for name in cases]
IN_JAX = [
    name for name, row in registry.FRAMEWORKS.items() if row.runtime == "jax" and name != "linen"
]
"""Whose settings `test_without_a_bug_everything_agrees` does not read."""


@pytest.fixture
def runtime(framework):
    """Return a runtime in float64; reset JAX to 32 bits afterwards."""
    if registry.missing_packages(registry.framework(framework).packages):
        pytest.skip(f"{framework} is not installed")
    yield registry.make_runtime(framework, "jit", precision="float64")
    registry.make_runtime(framework, "jit", precision="float32")


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "name"), CASES)
@pytest.mark.parametrize("framework", IN_JAX)
def test_settings_are_read(runtime, framework, algorithm, name):
    knobs = KNOBS[algorithm][name]
    case: Case = fixed(algorithm, "continuous").changed(**knobs.settings)
    weights = cast(perturbed_weights(case), runtime.precision)
    weights |= {key: np.asarray(value, np.int32) for key, value in knobs.counts.items()}
    errors = ErrorTable(algorithm, framework, "float64")
    check_act(errors, runtime, make_agent(runtime, case), case, weights)
    check_step(errors, runtime, case, weights, "L0", name)
    assert errors.ok, errors.failed()
