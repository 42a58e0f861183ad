"""Craftax: death and time limits told apart, shared worlds, no pyplot, no files in its package."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from tiebreak import make_env
from tiebreak.core.errors import UsageError

if importlib.util.find_spec("craftax") is None:
    pytest.skip("craftax is not installed", allow_module_level=True)

jax = pytest.importorskip("jax")
from tiebreak.envs import craftax_engine  # noqa: E402

CLASSIC = "craftax/Craftax-Classic-Symbolic-v1"
SHAPES = {
    "Craftax-Symbolic-v1": ((8268,), 43),
    "Craftax-Classic-Symbolic-v1": ((1345,), 17),
    "Craftax-Pixels-v1": ((130, 110, 3), 43),
    "Craftax-Classic-Pixels-v1": ((63, 63, 3), 17),
}
"""Observations and number of actions of every task."""


@pytest.mark.slow(share=0.3)  # compiles a world and a step
def test_death_terminates_and_the_limit_truncates():
    """Of three environments, the first is dead after a step; all are cut after three."""
    env = make_env(CLASSIC, 3, 0)
    env._params = env._params.replace(max_timesteps=3)
    key = jax.random.key(0)
    state, first = env.reset(key)
    assert (first.dtype, first.shape) == (np.float32, (3, 1345))
    draws = env.draw(key, 4)
    state = state.replace(player_health=state.player_health.at[0].set(0))
    step = jax.jit(env.step)
    ends, alive = [], state
    for t in range(4):
        row = jax.tree.map(lambda x, t=t: x[t], draws)
        alive, out = step(alive, np.zeros(3, np.int32), row)
        ends.append((np.asarray(out.terminated).tolist(), np.asarray(out.truncated).tolist()))
        over = np.asarray(out.terminated | out.truncated)
        np.testing.assert_array_equal(out.obs[~over], out.final_obs[~over])
        assert (np.asarray(out.obs)[over] != np.asarray(out.final_obs)[over]).any(axis=-1).all()
    none = [False] * 3
    assert ends == [
        ([True, False, False], none),
        (none, none),
        (none, [False, True, True]),
        (none, [True, False, False]),
    ]
    assert alive.timestep.tolist() == [0, 1, 1]
    assert (alive.player_health > 0).all()
    # The second and the third ended together, and began in the same world.
    np.testing.assert_array_equal(alive.map[1], alive.map[2])
    assert (alive.map[0] != alive.map[1]).any()


@pytest.mark.slow(share=0.3)
@pytest.mark.parametrize("name", [n for n in SHAPES if "Pixels" not in n])
def test_every_symbolic_task_has_its_shapes(name):
    env = make_env(f"craftax/{name}", 2, 0)
    assert (env.spec.observation_shape, env.spec.num_actions) == SHAPES[name]


CODE = """
import sys
from pathlib import Path
import jax
from tiebreak import make_env
env = make_env("craftax/Craftax-Classic-Pixels-v1", 1, 0)
assert "matplotlib" not in sys.modules and "pygame" not in sys.modules
import craftax
package = Path(next(iter(craftax.__path__)))
assert not list(package.rglob("*.pbz2")), "a cache in its package"
state, obs = jax.jit(env.reset)(jax.random.key(0))
assert obs.shape == (1, 63, 63, 3) and 0.0 <= obs.min() < 0.5 < obs.max() <= 1.0
import matplotlib.pyplot
assert matplotlib.pyplot.figure
"""


@pytest.mark.slow(share=0.3)  # imports JAX, and scales textures
def test_it_draws_for_agents_without_files_and_without_pyplot():
    run = [sys.executable, "-B", "-c", CODE]
    result = subprocess.run(run, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""


def test_there_are_four_tasks():
    assert set(craftax_engine.tasks()) == set(SHAPES)
    with pytest.raises(UsageError, match=r"unknown task .* did you mean 'craftax/Craftax-Symbolic"):
        make_env("craftax/Craftax-Symbolic-v2")
