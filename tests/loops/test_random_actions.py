"""Random actions before learning: in the environment's units for it, in [-1, 1] for the learner."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from tiebreak.core.types import EnvSpec
from tiebreak.loops.exploration import random_act

UNIFORM = np.array([[0.0, 0.0], [0.25, 0.5], [0.75, 0.875]], np.float32)
LIBRARIES = pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])


@LIBRARIES
def test_a_box_is_filled_from_end_to_end(xp):
    spec = EnvSpec.make(observation_shape=(1,), action_low=(-2.0, 10.0), action_high=(2.0, 18.0))
    act = random_act(spec, xp.asarray(UNIFORM), xp)
    np.testing.assert_array_equal(act.action, [[-2.0, 10.0], [-1.0, 14.0], [1.0, 17.0]])
    np.testing.assert_array_equal(act.raw_action, [[-1.0, -1.0], [-0.5, 0.0], [0.5, 0.75]])
    assert act.action.dtype == act.raw_action.dtype == np.float32


@LIBRARIES
def test_discrete_actions_are_equally_likely(xp):
    spec = EnvSpec.make(observation_shape=(1,), num_actions=4)
    uniform = np.tile(np.linspace(0.0, 0.999, 8, dtype=np.float32)[:, None], 4)
    act = random_act(spec, xp.asarray(uniform), xp)
    np.testing.assert_array_equal(act.action, [0, 0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(act.raw_action, act.action)
    assert act.action.dtype == np.int32
