"""Making and using agents leaves the precision of the process alone, and theirs is their own."""

from __future__ import annotations

import numpy as np
import pytest

import tiebreak
from tiebreak import registry
from tiebreak.loops.evaluate import GreedyEpisodes
from tiebreak.training import evaluate, executors
from tiebreak.training.policy_files import save_policy

SPEC = tiebreak.EnvSpec.make(observation_shape=(4,), num_actions=2)


@pytest.fixture
def jax():
    """JAX with a user's own settings, which are put back."""
    module = pytest.importorskip("jax")
    names = ("jax_enable_x64", "jax_default_matmul_precision")
    before = [getattr(module.config, name) for name in names]
    module.config.update("jax_enable_x64", True)
    module.config.update("jax_default_matmul_precision", None)
    yield module
    for name, value in zip(names, before, strict=True):
        module.config.update(name, value)


def test_a_float64_agent_stays_one_beside_a_float32_one_and_the_users_settings_stay(jax):
    batch, noise = tiebreak.sample_batch("dqn", SPEC, None, np.random.default_rng(0))
    wide = tiebreak.make_agent("dqn", "linen", SPEC, precision="float64")
    narrow = tiebreak.make_agent("dqn", "linen", SPEC)
    for agent, dtype in ((wide, np.float64), (narrow, np.float32), (wide, np.float64)):
        state, _ = agent.step(agent.init(0), batch, noise)
        assert agent.dump(state)["q/0/kernel"].dtype == dtype
    assert jax.numpy.arange(3.0).dtype == np.float64
    assert jax.config.jax_default_matmul_precision is None


@pytest.fixture
def torch():
    """torch with a user's own settings, which are put back."""
    module = pytest.importorskip("torch")
    with registry.kept_settings("torch"):
        module.set_float32_matmul_precision("medium")
        module.backends.cudnn.allow_tf32 = True
        yield module


@pytest.fixture
def tensorflow():
    """TensorFlow with a user's own setting, which is put back."""
    module = pytest.importorskip("tensorflow")
    with registry.kept_settings("tensorflow"):
        module.config.experimental.enable_tensor_float_32_execution(True)
        yield module


def settings_of(framework: str) -> tuple:
    """Return what is set in this process for a framework's products and numbers."""
    if framework == "linen":
        import jax

        return jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision
    if framework == "tensorflow":
        import tensorflow as tf

        return (tf.config.experimental.tensor_float_32_execution_enabled(),)
    import torch

    backends = torch.backends
    products = torch.get_float32_matmul_precision(), backends.mkldnn.matmul.fp32_precision
    return *products, backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32


FRAMEWORKS = {"torch": "torch", "tensorflow": "tensorflow", "linen": "jax"}
"""Framework and the fixture of its library with a user's settings."""


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_train_and_evaluate_leave_the_users_precision(framework, request, tmp_path, monkeypatch):
    request.getfixturevalue(FRAMEWORKS[framework])
    mode = "jit" if framework == "linen" else "eager"
    inside = []

    def run_training(asked, progress):
        registry.make_runtime(framework, mode)
        inside.append(settings_of(framework))

    def run_policy(policy, runtime, *_):
        inside.append(settings_of(framework))
        return GreedyEpisodes(returns=[1.0], cut=0, limit=10)

    monkeypatch.setattr(executors, "run_training", run_training)
    monkeypatch.setattr(evaluate, "_run_policy", run_policy)
    before = settings_of(framework)
    task = "gymnasium/CartPole-v1"
    tiebreak.train("ppo", framework, task, mode=mode, out=tmp_path / "run", progress=False)
    assert settings_of(framework) == before

    config = registry.config_module("ppo").Config(hidden_sizes=(4,))
    weights = registry.data_module("ppo").initial_weights(SPEC, config, 0)
    about = {"task": task, "framework": framework, "seed": 0}
    save_policy(tmp_path, weights, "ppo", SPEC, config, **about)
    assert tiebreak.evaluate(tmp_path, mode=mode).returns == [1.0]
    assert settings_of(framework) == before
    assert inside[0] == inside[1] != before


def test_torch_settings_that_were_mixed_come_back(torch):
    products = torch.backends.cuda.matmul
    torch.set_float32_matmul_precision("highest")
    products.fp32_precision = "tf32"
    with pytest.raises(RuntimeError):  # the old setting says something else
        torch.get_float32_matmul_precision()
    tiebreak.make_agent("ppo", "torch", SPEC, mode="eager").init(0)
    assert products.fp32_precision == "tf32"
    assert torch.backends.cudnn.allow_tf32
