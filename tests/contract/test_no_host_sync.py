"""Nothing inside a training step waits for the device: no scalar is read, no Python is called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tiebreak import registry
from tiebreak.core.types import EnvSpec

SPECS = {
    "discrete": EnvSpec.make(observation_shape=(3,), num_actions=4),
    "continuous": EnvSpec.make(observation_shape=(3,), action_low=(-1, -2), action_high=(1, 2)),
}
SYNCHRONIZING = ("_local_scalar_dense", "nonzero", "equal.default", "is_nonzero", "masked_select")
CALLBACKS = ("pure_callback", "io_callback", "debug_callback", "PyFunc", "EagerPyFunc")


def make(framework, kind, mode):
    spec = SPECS[kind]
    config = replace(
        registry.reference_config("ppo", spec), num_envs=2, num_steps=8, num_minibatches=2,
        num_epochs=2, hidden_sizes=(8,), normalize_obs=True, normalize_reward=True,
    )  # fmt: skip
    runtime = registry.make_runtime(framework, mode)
    raw = registry.make_raw_agent("ppo", spec, config, runtime)
    pair = registry.sample_batch("ppo", spec, config)
    batch, noise = (type(part)(*map(runtime.asarray, part)) for part in pair)
    obs, act_noise = batch.obs[0], runtime.asarray(np.zeros((2, spec.action_size), np.float32))
    return raw, obs, act_noise, batch, noise


@pytest.mark.parametrize("kind", SPECS)
def test_torch_reads_no_scalar(kind):
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    raw, obs, act_noise, batch, noise = make("torch", kind, "eager")
    state, seen = raw.init(0), []
    with Recorder():
        raw.act(state, obs, act_noise)
        raw.step(state, batch, noise)
        assert len(seen) > 100
        assert not [op for op in seen if any(bad in op for bad in SYNCHRONIZING)]
        torch.ones(1).sum().item()
    assert any(SYNCHRONIZING[0] in op for op in seen)  # the recorder does see one


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("framework", ["linen", "nnx", "equinox"])
def test_jax_is_one_program_without_callbacks(framework, kind):
    import jax

    raw, obs, act_noise, batch, noise = make(framework, kind, "jit")
    state = raw.init(0)
    # Tracing is the proof: reading a value would raise.
    text = str(jax.make_jaxpr(lambda *a: raw.act(*a))(state, obs, act_noise))
    text += str(jax.make_jaxpr(lambda *a: raw.step(*a)[1])(state, batch, noise))
    assert "scan" in text
    assert not [name for name in CALLBACKS if name in text]


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPECS)
def test_tensorflow_is_one_graph_without_python(kind):
    import tensorflow as tf

    raw, obs, act_noise, batch, noise = make("tensorflow", kind, "function")
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
