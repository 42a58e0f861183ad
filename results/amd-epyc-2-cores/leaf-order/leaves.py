"""DQN's full step in Linen and in Equinox with `bias` or `kernel` first, in turns:
`python leaves.py > leaves.json`."""

import json
import time

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from tiebreak import registry
from tiebreak.core.config import override
from tiebreak.envs.base import make_env
from tiebreak.loops.base import make_loop
from tiebreak.networks import equinox_networks

TASK = "gymnax/CartPole-v1"
SETTINGS = {"num_envs": 10, "num_rounds": 1, "num_steps": 1, "num_updates": 1}
TURNS, CALLS = 100, 200


class KernelFirst(eqx.Module):
    """The layer, its leaves in the other order."""

    kernel: jnp.ndarray
    bias: jnp.ndarray

    def __init__(self, fan_in, fan_out, dtype):
        self.kernel, self.bias = jnp.zeros((fan_in, fan_out), dtype), jnp.zeros(fan_out, dtype)

    def __call__(self, x):
        return x @ self.kernel + self.bias


def made(framework, layer=None):
    ours = equinox_networks._Linear
    equinox_networks._Linear = layer or ours
    config = override(registry.reference_config("dqn", make_env(TASK).spec, TASK), SETTINGS)
    loop = make_loop("dqn", framework, TASK, config=config)
    for _ in range(1500):
        run(loop, 1)
    equinox_networks._Linear = ours
    return loop


def run(loop, calls):
    for _ in range(calls):
        loop.iterations_per_run = 1
        loop.run()
    loop.runtime.sync(loop.state)


def main():
    loops = {
        "linen": made("linen"),
        "equinox, bias first": made("equinox"),
        "equinox, kernel first": made("equinox", KernelFirst),
    }
    order, turns = np.random.default_rng(0), []
    for _ in range(TURNS):
        turn = {}
        for name in order.permutation(list(loops)):
            start = time.perf_counter()
            run(loops[name], CALLS)
            turn[str(name)] = (time.perf_counter() - start) / CALLS
        turns.append(turn)
    speeds = {name: [turn["linen"] / turn[name] for turn in turns] for name in loops}
    quartiles = {n: np.percentile(x, [25, 50, 75]).round(3).tolist() for n, x in speeds.items()}
    print(json.dumps({"speed_against_linen": quartiles, "seconds_per_call": turns}, indent=1))


if __name__ == "__main__":
    main()
