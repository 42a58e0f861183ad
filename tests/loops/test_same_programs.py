"""The frameworks on JAX compile to the same program: what differs between them is Python's.

Compared are the operations of the optimised program, in the order that XLA has scheduled them. The
order of a state's leaves decides that order, and costs up to 8 % where it is another (decision
0011), so it is compared as well. Plain JAX is the zero line: Linen adds nothing to its program.
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
SETTINGS = {"ppo": ON, "pqn": ON, "dqn": {**OFF, "num_envs": 10, "num_steps": 1, "num_updates": 1}}
SETTINGS["fasttd3"] = {**OFF, "num_atoms": 11, "actor_sizes": (16, 8), "critic_sizes": (16, 8)}
SETTINGS["fastsac"] = SETTINGS["fasttd3"]
NORMED = ("mpo", "pqn", "fastsac")
"""Layer normalization is each library's own."""
OPERATION = re.compile(r"\s+(?:ROOT )?%?[\w.\-]+ = (.*?) ([a-z\-]+)\(")
NOTHING = ("parameter", "get-tuple-element", "tuple", "bitcast", "constant", "while")
"""What computes nothing, or stands for what is counted inside it."""
LARGE = ("dot", "sort", "scatter", "gather", "custom-call", "dynamic-update-slice", "convolution")
CASES = [
    pytest.param("dqn", CARTPOLE, marks=pytest.mark.slow(share=0.3)),
    *(
        pytest.param(algorithm, task, marks=pytest.mark.slow)
        for algorithm, task in [
            ("ppo", CARTPOLE), ("ppo", PENDULUM), ("td3", PENDULUM), ("sac", PENDULUM),
            ("mpo", PENDULUM), ("fasttd3", PENDULUM), ("fastsac", PENDULUM),
            ("pqn", CARTPOLE),
        ]
    ),
]  # fmt: skip


SAME = [name for name, row in registry.FRAMEWORKS.items() if row.same_program_as == "linen"]


@cache
def operations(algorithm, framework, task, loop="fused"):
    """(name, shape) of every operation of a loop's programs, in their order."""
    spec = make_env(task).spec
    reference = registry.reference_config(algorithm, spec, task)
    config = override(reference, SETTINGS.get(algorithm, OFF))
    if loop == "fused":
        lowered = [fused_program(algorithm, framework, task, config)]
    else:
        lowered = host_programs(algorithm, framework, spec, config)
    lines = [line for program in lowered for line in program.compile().as_text().split("\n")]
    found = (OPERATION.match(line) for line in lines)
    named = [(m[2], re.sub(r"/\*.*?\*/", "", m[1])) for m in found if m]
    return [(name, shape) for name, shape in named if name not in NOTHING]


def fused_program(algorithm, framework, task, config):
    """Lower some fused iterations."""
    loop = make_loop(algorithm, framework, task, mode="jit", config=config)
    program = jax.jit(loop._chunk, donate_argnums=(0, 1))
    return program.lower(loop.state, loop._carry, loop._keys, np.int32(1))


def host_programs(algorithm, framework, spec, config):
    """Lower what a host loop calls: updating and acting."""
    runtime = registry.make_runtime(framework, "jit")
    agent = registry.make_raw_agent(algorithm, spec, config, runtime)
    batch, noise = registry.sample_batch(algorithm, spec, config)
    obs = batch.obs[0]
    draw = registry.data_module(algorithm).act_noise(spec, len(obs))
    state = agent.init(0)
    step, act = jax.jit(agent.step, donate_argnums=0), jax.jit(agent.act)
    return [
        step.lower(state, batch, noise),
        act.lower(state, obs, np.zeros(draw.shape, np.float32)),
    ]


@pytest.mark.parametrize(("algorithm", "task"), CASES)
@pytest.mark.parametrize("framework", SAME)
def test_the_fused_program_is_linen_s(framework, algorithm, task):
    linen, ours = (operations(algorithm, f, task) for f in ("linen", framework))
    assert len(linen) > 1000
    if framework == "equinox" and algorithm in NORMED:
        linen, ours = (Counter(x for x in ops if x[0] in LARGE) for ops in (linen, ours))
    assert ours == linen


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "task"), CASES)
def test_the_host_programs_of_plain_jax_are_linen_s(algorithm, task):
    linen, ours = (operations(algorithm, f, task, loop="host") for f in ("linen", "plain"))
    assert len(linen) > 100
    assert ours == linen


@pytest.mark.parametrize(("algorithm", "task"), CASES)
def test_nnx_is_linen_s_program_and_a_counter(algorithm, task):
    linen, nnx = (Counter(operations(algorithm, f, task)) for f in ("linen", "nnx"))
    if algorithm in (*NORMED, "fasttd3"):
        linen, nnx = (Counter({x: n for x, n in c.items() if x[0] in LARGE}) for c in (linen, nnx))
        assert nnx == linen
    else:  # optimizers count their steps once more
        assert {shape for _, shape in nnx - linen} <= {"u32[]"}
        assert not linen - nnx
