"""Nothing inside a training step waits for the device: no scalar is read, no Python is called."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak import registry
from tiebreak.verify.case import cases_of, fixed

EVERY = {"normalize_obs": True}
OWN = {"ppo": {"normalize_reward": True}, "dqn": {"double_q": True}}
CASES = {
    **{
        f"{algorithm} {actions}": {**EVERY, **OWN.get(algorithm, {})}
        for algorithm in registry.ALGORITHMS
        for actions in cases_of(algorithm).ACTIONS
    },
    "mpo continuous, newton": {**EVERY, "dual": "newton"},
}
"""Algorithm and kind of actions -> settings. (MPO's temperature by SciPy is found on the host.)"""
IN_JAX = [name for name, row in registry.FRAMEWORKS.items() if row.runtime == "jax"]
SYNCHRONIZING = ("_local_scalar_dense", "nonzero", "equal.default", "is_nonzero", "masked_select")
CALLBACKS = ("pure_callback", "io_callback", "debug_callback", "PyFunc", "EagerPyFunc")


def make(framework, name, mode):
    algorithm, kind = name.split(",")[0].split()
    case = fixed(algorithm, kind).changed(**CASES[name])
    runtime = registry.make_runtime(framework, mode)
    raw = registry.make_raw_agent(algorithm, case.spec, case.config, runtime)
    pair = registry.sample_batch(algorithm, case.spec, case.config)
    batch, noise = (type(part)(*map(runtime.asarray, part)) for part in pair)
    draw = registry.data_module(algorithm).act_noise(case.spec, len(batch.obs[0]))
    return raw, batch.obs[0], runtime.asarray(np.zeros(draw.shape, np.float32)), batch, noise


@pytest.mark.parametrize("name", CASES)
def test_torch_reads_no_scalar(name):
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    raw, obs, act_noise, batch, noise = make("torch", name, "eager")
    state, seen = raw.init(0), []
    with Recorder():
        raw.act(state, obs, act_noise)
        raw.step(state, batch, noise)
        assert len(seen) > 100
        assert not [op for op in seen if any(bad in op for bad in SYNCHRONIZING)]
        torch.ones(1).sum().item()
    assert any(SYNCHRONIZING[0] in op for op in seen)  # the recorder does see one


@pytest.mark.slow(each=("framework", "name"), share=0.0)  # the losses are the same functions
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("framework", IN_JAX)
def test_jax_is_one_program_without_callbacks(framework, name):
    import jax

    raw, obs, act_noise, batch, noise = make(framework, name, "jit")
    state = raw.init(0)
    # Tracing is the proof: reading a value would raise.
    text = str(jax.make_jaxpr(lambda *a: raw.act(*a))(state, obs, act_noise))
    text += str(jax.make_jaxpr(lambda *a: raw.step(*a)[1])(state, batch, noise))
    assert "scan" in text
    assert not [name for name in CALLBACKS if name in text]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_tensorflow_is_one_graph_without_python(name):
    import tensorflow as tf

    raw, obs, act_noise, batch, noise = make("tensorflow", name, "function")
    state = raw.init(0)
    graphs = [
        tf.function(lambda: raw.act(state, obs, act_noise)).get_concrete_function().graph,
        tf.function(lambda: raw.step(state, batch, noise)[1]).get_concrete_function().graph,
    ]
    definitions = [graph.as_graph_def() for graph in graphs]
    ops = {node.op for d in definitions for node in d.node}
    ops |= {node.op for d in definitions for f in d.library.function for node in f.node_def}
    assert ops & {"While", "StatelessWhile"}
    assert not ops & set(CALLBACKS)
