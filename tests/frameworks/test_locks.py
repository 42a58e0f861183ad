"""Locks and fallbacks of the real runtimes: retracing is an error, running uncompiled is seen."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tiebreak import registry
from tiebreak.frameworks.runtime import keeps_small_bits, retraced

JAX_MODES = [
    (name, mode)
    for name, row in registry.FRAMEWORKS.items()
    if row.runtime == "jax"
    for mode in row.modes
    if mode != "eager"
]


def double(state, x):
    return state, x * 2


@pytest.mark.parametrize(("framework", "mode"), JAX_MODES)
def test_jax_does_not_retrace_under_its_lock(framework, mode):
    from flax import nnx

    runtime = registry.make_runtime(framework, mode)
    state = nnx.Dict(w=nnx.Param(np.ones(2))) if framework == "nnx" else {"w": np.ones(2)}
    pack, _ = runtime._boundary()
    state, function = pack(state), runtime.transform(double, keep=True)
    short, long = (runtime.asarray(np.ones(n, np.float32)) for n in (3, 4))
    for _ in range(2):
        function(state, short)
    with runtime.lock():
        function(state, short)
        with pytest.raises(Exception, match="no_tracing") as caught:
            function(state, long)
    assert retraced(caught.value)
    function(state, long)  # unlocked again


def test_eager_jax_is_not_locked():
    runtime = registry.make_runtime("linen", "eager")
    with runtime.lock():
        import jax

        jax.lax.scan(lambda carry, x: (carry + x, x), 0.0, np.arange(5.0))


@pytest.mark.parametrize("mode", ["function", "xla"])
def test_tensorflow_does_not_retrace_under_its_lock(mode):
    pytest.importorskip("tensorflow")
    runtime = registry.make_runtime("tensorflow", mode)
    from typing import NamedTuple

    class Out(NamedTuple):
        y: object

    function = runtime.compile(lambda state, x: Out(x * 2))
    function((), np.ones(3, np.float32))
    before = runtime.compile_count()
    with runtime.lock():
        function((), np.ones(3, np.float32))
        with pytest.raises(Exception, match="traced anew") as caught:
            function((), np.ones(4, np.float32))
    assert retraced(caught.value)
    assert runtime.compile_count() == before
    function((), np.ones(4, np.float32))
    assert runtime.compile_count() == before + 1
    assert runtime.fallbacks() == {"fell_to_eager": 0}


def test_tensorflow_counts_traces_that_are_not_its_own():
    tf = pytest.importorskip("tensorflow")
    runtime = registry.make_runtime("tensorflow", "function")
    function = tf.function(lambda x: x + 1, autograph=False)
    function(tf.ones(2))
    before = runtime.compile_count()
    function(tf.ones(2))
    assert runtime.compile_count() == before
    function(tf.ones(3))
    assert runtime.compile_count() == before + 1


TORCH = """
import torch
from tiebreak import registry
from tiebreak.frameworks.runtime import retraced
runtime = registry.make_runtime("torch", "eager")
assert runtime.fallbacks() == {}
runtime.mode = "compile"  # without Inductor, which would take half a minute

def compiled(function, **options):
    return torch.compile(function, backend="eager", dynamic=False, **options)

assert runtime.fallbacks()["fell_to_eager"] == 1, "nothing was compiled yet"
double = compiled(lambda x: x * 2)
double(torch.ones(3))
assert runtime.fallbacks() == {"fell_to_eager": 0, "graph_break": 0}
count = runtime.compile_count()
with runtime.lock():
    double(torch.ones(3))
    try:
        double(torch.ones(4))
    except Exception as error:
        assert retraced(error), error
    else:
        raise SystemExit("recompiled under the lock")
assert runtime.compile_count() == count
double(torch.ones(4))
assert runtime.compile_count() == count + 1
with runtime.lock():  # the ninth is refused: torch runs eager from then on, and locks are silent
    for n in range(5, 12):
        with torch._dynamo.config.patch(error_on_recompile=False):
            double(torch.ones(n))
    assert double(torch.ones(40)).shape == (40,)
assert runtime.fallbacks()["fell_to_eager"] > 0

def broken(x):
    y = x * 2
    torch._dynamo.graph_break()
    return y + 1

compiled(broken)(torch.ones(3))
assert runtime.fallbacks()["graph_break"] == 1
torch._dynamo.config.fail_on_recompile_limit_hit = True
triple = compiled(lambda x: x * 3)
try:
    for n in range(1, 12):
        triple(torch.ones(n))
except Exception as error:
    assert retraced(error), error
else:
    raise SystemExit("no ninth recompilation")
print("fine")
"""


@pytest.mark.slow
def test_torch_does_not_recompile_under_its_lock_nor_falls_back_unseen():
    pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, "-c", TORCH], capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == "fine", done.stderr[-2000:]


@pytest.mark.parametrize("framework", ["torch", "tensorflow", "linen"])
def test_float32_keeps_small_bits_on_a_cpu(framework):
    for precision in ("float32", "tf32"):
        runtime = registry.make_runtime(framework, None, precision)
        assert keeps_small_bits(runtime)
    registry.make_runtime(framework)  # leave the process as it was


def test_bits_that_are_lost_are_missed():
    class Rounding:
        def asarray(self, array):
            bits = array.view(np.uint32) & np.uint32(0xFFFFE000)  # TF32: ten bits of mantissa
            return bits.view(np.float32)

        def to_numpy(self, tree):
            return tree

    assert not keeps_small_bits(Rounding())


def test_jaxs_threads_are_counted():
    from tiebreak.frameworks.runtime import TASKS, count_threads

    settings = registry.make_runtime("linen").settings()
    assert settings["threads"] == count_threads("tf_XLAEigen")
    assert isinstance(settings["threads"], int) or not TASKS.exists()
    assert count_threads("no such pool") == "unknown"
