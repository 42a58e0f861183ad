"""The bridge: what it shows is the device engine's own trajectory, from the fused loop's keys."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tiebreak.core.errors import UsageError
from tiebreak.envs import gymnax_engine
from tiebreak.envs.bridge import BridgeEnv
from tiebreak.envs.jax_state import chunk_key, env_keys

NUM_ENVS, CHUNK, STEPS, SEED = 2, 16, 40, 3


class JaxRuntime:
    device = "cpu"

    @staticmethod
    def from_dlpack(array):
        return array


def actions_of(env, steps=STEPS):
    rng = np.random.default_rng(0)
    if env.spec.discrete:
        return rng.integers(env.spec.num_actions, size=(steps, NUM_ENVS))
    low, high = env.spec.action_low, env.spec.action_high
    return rng.uniform(low, high, (steps, NUM_ENVS, len(low))).astype(np.float32)


def head(noise, rows):
    return jax.tree.map(lambda x: x[: len(rows)], noise)


def fused(env, seed=SEED, impl=None):
    """What a fused loop does: chunks of a scan over `draw`. [T, N] per field, as NumPy."""
    reset_key, steps_key = env_keys(seed, impl)
    state, obs = env.reset(reset_key)
    actions, chunks = actions_of(env), []
    for i, start in enumerate(range(0, STEPS, CHUNK)):
        rows = jnp.asarray(actions[start : start + CHUNK])
        noise = env.draw(chunk_key(steps_key, i), CHUNK)
        state, steps = jax.lax.scan(lambda s, x: env.step(s, *x), state, (rows, head(noise, rows)))
        chunks.append(steps)
    return np.asarray(obs), [np.concatenate(field) for field in zip(*chunks, strict=True)]


def bridged(bridge, to_runtime=lambda x: x, to_numpy=np.asarray):
    first = to_numpy(bridge.reset()).copy()
    steps = [bridge.step(to_runtime(action)) for action in actions_of(bridge)]
    return first, [np.stack([to_numpy(x) for x in field]) for field in zip(*steps, strict=True)]


def assert_same(ours, theirs):
    np.testing.assert_array_equal(ours[0], theirs[0])
    for a, b in zip(ours[1], theirs[1], strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_torch_sees_the_trajectory_of_the_fused_loop(name):
    torch = pytest.importorskip("torch")

    class Torch:
        device = "cpu"
        from_dlpack = staticmethod(torch.from_dlpack)

    env = gymnax_engine.make(name, NUM_ENVS, 0)
    bridge = BridgeEnv(env, Torch, SEED, CHUNK)
    obs = bridge.reset()
    assert isinstance(obs, torch.Tensor)
    step = bridge.step(torch.as_tensor(actions_of(env)[0]))
    f32 = torch.float32
    assert [x.dtype for x in step] == [f32, f32, torch.bool, torch.bool, f32]
    ours = bridged(bridge, torch.as_tensor, lambda x: x.numpy())
    assert_same(ours, fused(env))
    assert ours[1][2].any() or name != "CartPole-v1"


def test_results_of_earlier_steps_stay():
    """The environment's state is donated at every call; what was handed out must not be."""
    torch = pytest.importorskip("torch")

    class Torch:
        device = "cpu"
        from_dlpack = staticmethod(torch.from_dlpack)

    bridge = BridgeEnv(gymnax_engine.make("CartPole-v1", NUM_ENVS, 0), Torch, SEED, CHUNK)
    handed_out, copies = [bridge.reset()], []
    for action in actions_of(bridge):
        copies.append(handed_out[-1].clone())
        handed_out.append(bridge.step(torch.as_tensor(action)).obs)
    assert all(torch.equal(a, b) for a, b in zip(handed_out, copies, strict=False))


def test_jax_passes_through_and_step_is_compiled_once():
    env = gymnax_engine.make("CartPole-v1", NUM_ENVS, 0)
    bridge = BridgeEnv(env, JaxRuntime, SEED, CHUNK)
    ours = bridged(bridge, jnp.asarray)
    assert isinstance(bridge.step(jnp.zeros(NUM_ENVS, jnp.int32)).reward, jax.Array)
    assert_same(ours, fused(env))
    assert_same(ours, bridged(bridge, jnp.asarray))
    assert bridge._step._cache_size() == bridge._draw._cache_size() == 1


def test_a_reset_that_uses_no_key_does_not_make_step_compile_twice():
    class Still(gymnax_engine.GymnaxEnv):
        def reset(self, key):
            return super().reset(jax.random.key(0))

    made = gymnax_engine.make("CartPole-v1", NUM_ENVS, 0)
    env = Still(made._env, made._params, made.spec, NUM_ENVS, ())
    bridge = BridgeEnv(env, JaxRuntime, SEED, CHUNK)
    bridged(bridge, jnp.asarray)
    assert bridge._step._cache_size() == 1


def test_seeds_and_kinds_of_keys_differ():
    env = gymnax_engine.make("CartPole-v1", NUM_ENVS, 0)
    firsts = [
        np.asarray(BridgeEnv(env, JaxRuntime, seed, CHUNK, impl=impl).reset())
        for seed, impl in ((0, None), (1, None), (0, "rbg"))
    ]
    assert len({first.tobytes() for first in firsts}) == 3
    np.testing.assert_array_equal(firsts[2], fused(env, 0, "rbg")[0])


def test_a_device_that_jax_does_not_see():
    class Elsewhere(JaxRuntime):
        device = "cuda:77"

    with pytest.raises(UsageError, match=r"no device 'cuda:77' here.*--device cpu"):
        BridgeEnv(gymnax_engine.make("CartPole-v1", 1, 0), Elsewhere, 0, 1)


@pytest.mark.slow
def test_tensorflow_sees_the_trajectory_of_the_fused_loop():
    """In a process of its own: TensorFlow's threads and memory stay out of the other tests."""
    pytest.importorskip("tensorflow")
    program = """
        import tensorflow as tf
        from tiebreak.envs import gymnax_engine
        from tiebreak.envs.bridge import BridgeEnv
        from test_bridge import CHUNK, NUM_ENVS, SEED, assert_same, bridged, fused

        class TensorFlow:
            device = "cpu"
            from_dlpack = staticmethod(
                lambda array: tf.experimental.dlpack.from_dlpack(array.__dlpack__())
            )

        for name in ("CartPole-v1", "Pendulum-v1"):
            env = gymnax_engine.make(name, NUM_ENVS, 0)
            bridge = BridgeEnv(env, TensorFlow, SEED, CHUNK)
            assert bridge.reset().dtype == tf.float32
            ours = bridged(bridge, tf.constant, lambda x: x.numpy())
            assert_same(ours, fused(env))
        print("same")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=__file__.rpartition("/")[0], capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "same", done.stderr[-2000:]
