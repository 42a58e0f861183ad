"""Running statistics of observations, in every runtime, by values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak import registry
from tiebreak.core.types import LARGEST, RunningStats

RUNTIMES = {"jax": "linen", "tensorflow": "tensorflow", "torch": "torch"}


def merge(runtime_name, samples):
    """Merge samples [B, 1] into empty statistics, as float32."""
    framework = RUNTIMES[runtime_name]
    if missing := registry.missing_packages(registry.framework(framework).packages):
        pytest.skip(f"{missing} not installed")
    runtime = registry.make_runtime(framework)
    ops = registry.load(f"tiebreak.frameworks.{runtime_name}.ops")
    empty = RunningStats(*(runtime.asarray(np.float32(value)) for value in (0.0, 0.0, 1.0)))
    moments = ops.merge_stats(empty, runtime.asarray(np.asarray(samples, np.float32)[:, None]))
    return [float(np.squeeze(value)) for value in runtime.to_numpy(moments)]


@pytest.mark.parametrize("runtime_name", RUNTIMES)
def test_they_are_those_of_the_samples(runtime_name):
    assert merge(runtime_name, [1.0, 2.0, 3.0, 6.0]) == pytest.approx([4.0, 3.0, 3.5])


@pytest.mark.parametrize("runtime_name", RUNTIMES)
def test_one_huge_observation_does_not_make_them_infinite(runtime_name):
    count, mean, var = merge(runtime_name, [1e20, 0.0, 0.0, -3e38])
    assert (count, mean) == (4.0, 0.0)
    assert var == pytest.approx(LARGEST**2 / 2)
