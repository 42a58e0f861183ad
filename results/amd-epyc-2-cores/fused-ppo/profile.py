"""Time the parts of one iteration of fused PPO on gymnax's CartPole, each as a program of its own.

python profile.py 64 2 cartpole-64.json     # environments, threads, file
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

NUM_ENVS, THREADS = int(sys.argv[1]), int(sys.argv[2])
os.environ["PJRT_NPROC"] = str(THREADS)

from tiebreak.frameworks.threads import make_runtime  # noqa: E402

make_runtime("linen", "jit", "float32", "cpu", THREADS)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from tiebreak import registry  # noqa: E402
from tiebreak.algorithms.ppo import ppo_linen  # noqa: E402
from tiebreak.frameworks.jax.runtime import permutations  # noqa: E402
from tiebreak.loops.base import make_loop  # noqa: E402

TASK = "gymnax/CartPole-v1"
CALLS = 60


def measure(function: Callable, *arguments: Any) -> list[float]:
    """Return the milliseconds of each of 60 calls of a compiled function."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*arguments))
    samples = []
    for _ in range(CALLS):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        samples.append((time.perf_counter() - start) * 1e3)
    return samples


def main() -> None:
    """Measure the parts, and store their samples."""
    spec = make_loop("ppo", "linen", TASK, mode="jit", loop="fused").spec
    config = replace(registry.reference_config("ppo", spec), num_envs=NUM_ENVS)
    loop: Any = make_loop("ppo", "linen", TASK, mode="jit", loop="fused", config=config)
    agent = loop.raw_agent.step.args[0]
    state, carry, keys = loop.state, loop._carry, loop._keys
    noise, env_draws = loop._draw(loop._draws, carry.iteration, keys, config.num_steps)
    _, batch, step_noise = jax.jit(loop._rollout)(state, carry, keys)
    _, rows = ppo_linen.prepare(agent, state, batch)
    size = config.batch_size // config.num_minibatches
    minibatch = jax.tree.map(lambda x: x[:size], rows)
    actions = jnp.zeros((config.num_steps, NUM_ENVS), jnp.int32)

    def act(state: Any, obs: Any, noise: Any) -> Any:
        def step(obs, noise):
            out = loop.raw_agent.act(state, obs, noise)
            return obs + 0.001 * out.value[:, None], out.action

        return jax.lax.scan(step, obs, noise)

    def step_environments(env_state: Any, actions: Any, draws: Any) -> Any:
        return jax.lax.scan(lambda s, x: loop.env.step(s, *x), env_state, (actions, draws))

    def gradients(state: Any, minibatch: Any) -> Any:
        return ppo_linen.gradients(agent, state, minibatch)

    def updates(state: Any, minibatch: Any) -> Any:
        def step(state, _):
            return ppo_linen.update(agent, state, minibatch)[0], None

        count = config.num_epochs * config.num_minibatches
        return jax.lax.scan(step, state, length=count)[0]

    samples_ms = {
        "iteration": measure(loop._iteration, state, carry, keys),
        "rollout": measure(loop._rollout, state, carry, keys),
        "of it acting": measure(act, state, carry.obs, noise.act),
        "environments": measure(step_environments, carry.env_state, actions, env_draws),
        "permutations": measure(
            lambda key: permutations(key, config.num_epochs, config.batch_size), keys[0]
        ),
        "learning": measure(loop.raw_agent.step, state, batch, step_noise),
        "of it all updates": measure(updates, state, minibatch),
        "one gradient": measure(gradients, state, minibatch),
    }
    Path(sys.argv[3]).write_text(json.dumps({"samples_ms": samples_ms}, indent=1) + "\n")


if __name__ == "__main__":
    main()
