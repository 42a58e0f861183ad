"""Race SAC's update: torch modules compiled by Inductor, the same run by JAX, and plain JAX.

torchax lets JAX trace PyTorch code. Here it traces the networks and the losses of our PyTorch
sibling; gradients, optimizers and the order of updates are those of the plain JAX sibling, and
`jax.jit` compiles all of it. First each program makes 20 updates from the same weights, and all
weights are compared. Then the programs run in processes of their own, one at a time, in turns.

    pip install torchax==0.0.13
    python sac_update.py turns.json
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import random
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tiebreak import registry
from tiebreak.core.types import Agent, EnvSpec

SPEC = EnvSpec.make(observation_shape=(17,), action_low=[-1.0] * 6, action_high=[1.0] * 6)
"""Sizes of HalfCheetah."""
UPDATES = 20
"""Updates in a call of `step`."""
ROUNDS, CALLS = 30, 5
"""Turns of each program, and calls of `step` in a turn."""
PROGRAMS = {
    "torch": ("torch", "compile"),
    "torchax": ("plain", "jit"),
    "plain": ("plain", "jit"),
    "linen": ("linen", "jit"),
}
"""Rows: framework and mode of the runtime."""
LOSSES = ("critic_target", "critic_loss", "actor_loss", "alpha_loss")


def make_torchax_agent(config: Any) -> Agent:
    """Return the plain JAX sibling with networks and losses of the PyTorch sibling."""
    import jax
    import jax.numpy as jnp
    import torch

    name_missing_operators()
    import torchax
    from torch.utils import _pytree as pytree
    from torchax.interop import jax_view, torch_view

    from tiebreak.algorithms.sac import sac_torch
    from tiebreak.core.types import Build
    from tiebreak.frameworks.jax import plain

    torch_agent = sac_torch.make_agent_def(SPEC, config, Build())
    environment = torchax.default_env()

    def network(agent: Any, params: Mapping[str, Any], name: str) -> Callable:
        """Return a torch module as a function of torch tensors; `params` are its optimizer's."""
        module, tensors = torch_agent.networks[name], torch_view(params[name])
        return lambda *inputs: torch.func.functional_call(module, tensors, inputs)

    def traced(loss: Callable) -> Callable:
        """Return a loss of torch tensors as one of JAX's arrays; networks stay as they are."""

        def call(*args: Any) -> Any:
            with environment:
                return jax_view(loss(*pytree.tree_map_only(jax.Array, torch_view, args)))

        return call

    sibling = copy_of_module("tiebreak.algorithms.sac.sac_plain")
    sibling.plain.network = network
    for name in LOSSES:
        setattr(sibling, name, traced(getattr(sac_torch, name)))
    agent = sibling.make_agent_def(SPEC, config, Build())

    def init(seed: int) -> Any:
        """Return a new state: the modules' own arrays, which JAX keeps."""
        state = sac_torch.make_agent(SPEC, config, Build()).init(seed)
        params = {name: arrays_of(part) for name, part in state.params.items()}
        params = jax.tree.map(jnp.asarray, {**params, "alpha": {"log_alpha": np.float32(0)}})
        target = {name: arrays_of(part) for name, part in state.target.items()}
        opt_state = {name: agent.optimizers[name].init(part) for name, part in params.items()}
        return plain.AgentState(params, jax.tree.map(jnp.asarray, target), opt_state, {})

    def dump(state: Any) -> dict[str, np.ndarray]:
        """Return the weights under their canonical names, in the layout of all siblings."""
        arrays: dict[str, np.ndarray] = {"log_alpha": state.params["alpha"]["log_alpha"]}
        for optimizer in ("critic", "actor"):
            keys = [
                (network, key)
                for network in torch_agent.data.NETWORKS[optimizer]
                for key, _ in torch_agent.networks[network].named_parameters()
            ]
            for name, (network, key) in zip(torch_agent.names[optimizer], keys, strict=True):
                arrays[name] = state.params[optimizer][network][key].T
        return {name: np.asarray(array) for name, array in arrays.items()}

    step = lambda state, batch, noise: sibling.step(agent, state, batch, noise)  # noqa: E731
    return Agent(init=init, act=step, step=step, dump=dump, load=init)


def name_missing_operators() -> None:
    """Name the operators with named dimensions, which torchax lists and torch 2.13 has no more."""
    import torch

    torchax = importlib.util.find_spec("torchax")
    assert torchax is not None
    for file in Path(str(torchax.origin)).parent.rglob("*.py"):
        for operator, name in re.findall(r"torch\.ops\.aten\.(\w+)\.(\w+)", file.read_text()):
            if not hasattr(getattr(torch.ops.aten, operator), name):
                setattr(getattr(torch.ops.aten, operator), name, f"{operator}.{name}")


def arrays_of(params: Any) -> dict[str, dict[str, np.ndarray]]:
    """Return {network: {parameter: array}} of modules of the PyTorch sibling."""
    return {
        name: {key: tensor.detach().numpy().copy() for key, tensor in module.named_parameters()}
        for name, module in params.networks.items()
    }


def copy_of_module(name: str) -> ModuleType:
    """Return a module imported once more, so that its names can be replaced."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Its `plain` is shared with the true sibling: give it one whose `network` can be replaced.
    shared, module.plain = module.plain, ModuleType("plain")
    vars(module.plain).update(vars(shared))
    return module


def serve(program: str, pipe: Connection) -> None:
    """Build a program in this process; for each number n received, run n calls and send seconds.

    The first message sent holds the weights after one call.
    """
    config = replace(registry.reference_config("sac", SPEC), num_updates=UPDATES)
    batch, noise = registry.sample_batch("sac", SPEC, config)
    framework, mode = PROGRAMS[program]
    runtime = registry.make_runtime(framework, mode)
    runtime.set_threads(2)
    if program == "torchax":
        raw = make_torchax_agent(config)
    else:
        raw = registry.make_raw_agent("sac", SPEC, config, runtime)
    agent = runtime.agent(raw)
    batch, noise = (type(part)(*map(runtime.asarray, part)) for part in (batch, noise))
    state, _ = agent.step(agent.init(0), batch, noise)
    weights = raw.dump(state)
    pipe.send({name: x for name, x in weights.items() if not name.startswith(("adam", "target"))})
    while calls := pipe.recv():
        start = time.perf_counter()
        for _ in range(calls):
            state, metrics = agent.step(state, batch, noise)
        runtime.sync(metrics)
        pipe.send((time.perf_counter() - start) / (calls * UPDATES))


def compare(weights: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Return each program's largest difference from the weights of plain JAX."""
    reference = weights["plain"]
    return {
        program: max(float(np.abs(array - reference[name]).max()) for name, array in arrays.items())
        for program, arrays in weights.items()
    }


def main() -> None:
    """Compare the weights, race, and store both."""
    spawn = multiprocessing.get_context("spawn")
    pipes, weights = {}, {}
    for program in PROGRAMS:
        pipes[program], other = spawn.Pipe()
        spawn.Process(target=serve, args=(program, other), daemon=True).start()
        weights[program] = pipes[program].recv()
        print(f"{program} is ready", file=sys.stderr)

    turns: list[dict[str, float]] = []
    order = random.Random(0)
    for _ in range(ROUNDS + 1):
        turn = {}
        for program in order.sample(list(PROGRAMS), len(PROGRAMS)):
            pipes[program].send(CALLS)
            turn[program] = pipes[program].recv()
        turns.append({program: turn[program] for program in PROGRAMS})
    for pipe in pipes.values():
        pipe.send(0)
    content = {"differences": compare(weights), "seconds_per_call": turns[1:]}  # the first warms up
    Path(sys.argv[1]).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
