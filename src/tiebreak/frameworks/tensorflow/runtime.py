"""TensorFlow: how each mode executes the same functions.

`function` is `tf.function` over all of `act` and all of `step`, `xla` the same with
`jit_compile=True`. Calls go straight to the traced graph: see tensorflow_function.py.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tiebreak.core.errors import MissingDevice
from tiebreak.core.off_policy import Explored, exploring_act
from tiebreak.core.types import Agent, Array, Build, State, Tree
from tiebreak.frameworks.runtime import Runtime as Base
from tiebreak.frameworks.runtime import keeps_small_bits
from tiebreak.frameworks.tensorflow import readings
from tiebreak.frameworks.tensorflow.function import Exported, Function, Nothing
from tiebreak.frameworks.tensorflow.noise import draw_tree
from tiebreak.frameworks.tensorflow.quiet_import import tf, without_stderr


class Runtime(Base):
    """TensorFlow in one of its modes."""

    name = "tensorflow"

    def __init__(self, framework: str, mode: str, precision: str, device: str):
        super().__init__(framework, mode, precision, device)
        _configure(precision)
        self.native_device = _find_device(device)
        self._is_default = self.native_device == _default_device()
        self._dtype = "float64" if precision == "float64" else "float32"

    def build(self) -> Build:
        with without_stderr():
            tf.zeros(())  # starts the runtime, after the threads are set: it logs then as well
        networks = "bfloat16" if self.precision == "bfloat16" else ""
        return Build(
            self._dtype, self.native_device, host_calls=self.mode != "xla", network_dtype=networks
        )

    def agent(self, raw: Agent) -> Agent:
        act, step = self.compile(raw.act), self.compile(lambda *args: raw.step(*args)[1])
        return Agent(
            init=self._placed(raw.init),
            act=act,
            step=lambda state, batch, noise: (state, step(state, batch, noise)),
            dump=self._placed(raw.dump),
            load=self._placed(raw.load),
        )

    def compile_act(self, raw: Agent) -> Callable[[State, Array, Array, int], Any]:
        # With `noise[t]` XLA would compile once for every t: to it, bounds of slices are constants.
        act = self.compile(lambda state, obs, noise, t: raw.act(state, obs, tf.gather(noise, t)))
        index = functools.cache(self._tensor)
        return lambda state, obs, noise, t: act(state, obs, noise, index(t))

    def compile_exploring_act(
        self, raw: Agent, scales: tuple[float, float]
    ) -> Callable[..., Explored]:
        act = exploring_act(raw.act, scales, tf.where)

        def explore(state, obs, noise, t, exploring):
            row = tf.nest.map_structure(lambda x: tf.gather(x, t), noise)
            return act(state, obs, row, exploring)

        compiled, index = self.compile(explore), functools.cache(self._tensor)
        return lambda state, obs, noise, t, exploring: compiled(
            state, obs, noise, index(t), exploring
        )

    def compile_update(
        self, raw: Agent, sample: Callable
    ) -> Callable[[State, Tree, Tree, int], Any]:
        def learn(both, draws, r):
            noise = tf.nest.map_structure(lambda x: tf.gather(x, r), draws.step)
            return raw.step(both[0], sample(both[1], tf.gather(draws.index, r)), noise)[1]

        compiled, index = self.compile(learn), functools.cache(self._tensor)
        # The replay's variables go in with the state's, by reference.
        return lambda state, replay, draws, r: (
            state, compiled((state, replay), draws, index(r)),
        )  # fmt: skip

    def compile_replay_write(self, fn: Callable) -> Callable[[Tree, Tree], Tree]:
        def write(arrays, rows):
            fn(arrays, tf.nest.map_structure(self._tensor, rows))
            return Nothing()

        # Never by XLA, which hands back a copy of what it writes to.
        compiled = write if self.mode == "eager" else self._compiled(write, False)
        compiled = self._placed(compiled)

        def writing(arrays, rows):
            compiled(arrays, rows)
            return arrays

        return writing

    def compile(self, fn: Callable) -> Callable:
        """`fn(state, *args) -> NamedTuple` in this mode; the state's variables change in place."""
        if self.mode == "eager":
            return self._placed(fn)
        return self._placed(self._compiled(fn, self.mode == "xla"))

    def draw(self, draws: Tree, seed: int, index: int) -> Tree:
        return _draw_function(self.native_device, draws)(tf.constant([seed, index], tf.int64))

    def asarray(self, array: Array) -> Array:
        return self._placed(self._tensor)(array)

    def from_dlpack(self, array: Array) -> Array:
        if isinstance(array, tf.Tensor):
            return array
        if hasattr(array, "block_until_ready"):  # JAX: the two share no stream on a GPU
            array.block_until_ready()
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())

    def to_dlpack(self, array: Array) -> Array:
        """A tensor as an object that other libraries' `from_dlpack` take, on every device."""
        return Exported(array)

    def to_numpy(self, tree: Tree) -> Tree:
        if isinstance(tree, (tuple, list)):
            leaves = [self.to_numpy(x) for x in tree]
            return type(tree)(*leaves) if hasattr(tree, "_fields") else type(tree)(leaves)
        if isinstance(tree, dict):
            return {k: self.to_numpy(v) for k, v in tree.items()}
        return np.asarray(tree)

    def stack(self, trees: list[Tree]) -> Tree:
        return tf.nest.map_structure(lambda *leaves: tf.stack(leaves), *trees)

    def sync(self, tree: Tree) -> None:
        tf.test.experimental.sync_devices()

    def compile_count(self) -> int:
        return readings.trace_count()

    def lock(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext() if self.mode == "eager" else readings.lock()

    def fallbacks(self) -> dict[str, int]:
        return readings.fallbacks(self.mode)

    def memory(self) -> dict[str, int]:
        return readings.memory(self.native_device)

    def settings(self) -> dict[str, Any]:
        own = {"precision": self.precision, "matmul_keeps_2^-12": keeps_small_bits(self)}
        return {**readings.settings(self.native_device), **own}

    def set_threads(self, threads: int) -> None:
        # Once anything has run the pools are fixed: `settings` then says what they are.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)

    def _tensor(self, x: Array) -> Array:
        if isinstance(x, tf.Tensor):
            return x
        x = np.asarray(x)
        return tf.constant(x, self._dtype if x.dtype.kind == "f" else None)

    def _compiled(self, fn: Callable, xla: bool) -> Function:
        return Function(fn, xla, self._tensor, self.native_device)

    def _placed(self, fn: Callable) -> Callable:
        """`fn` with new tensors and variables on this device, if they would not go there anyway."""
        if self._is_default:
            return fn

        def call(*args):
            with tf.device(self.native_device):
                return fn(*args)

        return call


@functools.cache
def _draw_function(device: str, draws: Tree) -> Callable[[Array], Tree]:
    """`draws` from a seed [2], compiled once; not by XLA, which is slower at it (see draw_tree)."""

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(2, tf.int64)])
    def draw(seed):
        readings.check_trace("draw")
        with tf.device(device):
            return draw_tree(draws, seed)

    return draw


def _configure(precision: str) -> None:
    tf.get_logger().setLevel("ERROR")
    tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")


def _find_device(name: str) -> str:
    kind, _, index = name.partition(":")
    kind = {"cuda": "GPU"}.get(kind, kind.upper())
    there = [d.name.removeprefix("/physical_device:") for d in tf.config.list_physical_devices()]
    if f"{kind}:{index or 0}" not in there:
        seen = ", ".join(d.lower() for d in there)
        raise MissingDevice(f"TensorFlow sees no device {name!r} here (it sees: {seen})")
    return f"/{kind}:{index or 0}"


def _default_device() -> str:
    return "/GPU:0" if tf.config.list_physical_devices("GPU") else "/CPU:0"
