"""Linen, Equinox and NNX compile to the same program: what differs between them is Python's.

Compared are the operations of the optimised program, in the order that XLA has scheduled them. The
order of a state's leaves decides that order, and costs up to 8 % where it is another (decision
0011), so it is compared as well.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import jax
import numpy as np
import pytest

from tiebreak import registry
from tiebreak.core.config import override
from tiebreak.envs.base import make_env
from tiebreak.loops.base import make_loop

pytestmark = pytest.mark.compiles_anew
CARTPOLE, PENDULUM = "gymnax/CartPole-v1", "gymnax/Pendulum-v1"
ON = {"num_envs": 4, "num_steps": 16}
OFF = {
    "num_envs": 4, "num_rounds": 2, "learning_starts": 40, "batch_size": 32, "replay_size": 400,
}  # fmt: skip
SETTINGS = {"ppo": ON, "dqn": {**OFF, "num_envs": 10, "num_steps": 1, "num_updates": 1}}
SETTINGS["fasttd3"] = {**OFF, "num_atoms": 11, "actor_sizes": (16, 8), "critic_sizes": (16, 8)}
OPERATION = re.compile(r"\s+(?:ROOT )?%?[\w.\-]+ = (.*?) ([a-z\-]+)\(")
NOTHING = ("parameter", "get-tuple-element", "tuple", "bitcast", "constant", "while")
"""What computes nothing, or stands for what is counted inside it."""
LARGE = ("dot", "sort", "scatter", "gather", "custom-call", "dynamic-update-slice", "convolution")
CASES = [
    ("dqn", CARTPOLE),
    *(
        pytest.param(algorithm, task, marks=pytest.mark.slow)
        for algorithm, task in [
            ("ppo", CARTPOLE), ("ppo", PENDULUM), ("td3", PENDULUM), ("sac", PENDULUM),
            ("mpo", PENDULUM), ("fasttd3", PENDULUM),
        ]
    ),
]  # fmt: skip


@cache
def operations(algorithm, framework, task):
    """(name, shape) of every operation of some fused iterations, in their order."""
    reference = registry.reference_config(algorithm, make_env(task).spec, task)
    config = override(reference, SETTINGS.get(algorithm, OFF))
    loop = make_loop(algorithm, framework, task, mode="jit", config=config)
    program = jax.jit(loop._chunk, donate_argnums=(0, 1))
    compiled = program.lower(loop.state, loop._carry, loop._keys, np.int32(1)).compile()
    found = (OPERATION.match(line) for line in compiled.as_text().split("\n"))
    named = [(m[2], re.sub(r"/\*.*?\*/", "", m[1])) for m in found if m]
    return [(name, shape) for name, shape in named if name not in NOTHING]


@pytest.mark.parametrize(("algorithm", "task"), CASES)
def test_equinox_is_linen_s_program(algorithm, task):
    linen, equinox = (operations(algorithm, f, task) for f in ("linen", "equinox"))
    assert len(linen) > 1000
    if algorithm == "mpo":  # layer normalization is each library's own
        linen, equinox = (Counter(x for x in ops if x[0] in LARGE) for ops in (linen, equinox))
    assert equinox == linen


@pytest.mark.parametrize(("algorithm", "task"), CASES)
def test_nnx_is_linen_s_program_and_a_counter(algorithm, task):
    linen, nnx = (Counter(operations(algorithm, f, task)) for f in ("linen", "nnx"))
    if algorithm in ("mpo", "fasttd3"):
        linen, nnx = (Counter({x: n for x, n in c.items() if x[0] in LARGE}) for c in (linen, nnx))
        assert nnx == linen
    else:  # optimizers count their steps once more
        assert {shape for _, shape in nnx - linen} <= {"u32[]"}
        assert not linen - nnx
