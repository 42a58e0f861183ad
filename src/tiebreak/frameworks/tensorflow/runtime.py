"""TensorFlow in its modes: eager, `tf.function`, and `tf.function` compiled by XLA.

In mode `function` all of `act` and all of `step` are one `tf.function`; `xla` adds
`jit_compile=True`. Calls go straight to the traced graph (see Function).
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from tiebreak.core.errors import MissingDevice
from tiebreak.core.noise import Draw
from tiebreak.core.off_policy import Explored, exploring_act
from tiebreak.core.types import Agent, Array, Build, State, Tree
from tiebreak.frameworks.runtime import Retraced, count_threads, keeps_small_bits
from tiebreak.frameworks.runtime import Runtime as Base


@contextlib.contextmanager
def without_stderr() -> Iterator[None]:
    """Discard what is written to file descriptor 2; exceptions are not affected.

    TensorFlow logs from C++ before any of its settings can stop it.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    discard = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(discard, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(discard)


with without_stderr():
    import tensorflow as tf
    from tensorflow.python.eager import context  # pyright: ignore

XLA_POOL = "tf_XLAEigen"
"""Name of XLA's compute threads on a CPU (Linux)."""
TINY = float(np.finfo(np.float32).tiny)


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
            tf.zeros(())  # starts the runtime after the threads are set; it logs here as well
        network_dtype = "bfloat16" if self.precision == "bfloat16" else ""
        return Build(
            dtype=self._dtype,
            device=self.native_device,
            host_calls=self.mode != "xla",
            network_dtype=network_dtype,
        )

    def agent(self, raw: Agent) -> Agent:
        # A step writes into the state's variables: only its metrics come out.
        step = self.compile(lambda *args: raw.step(*args)[1])
        return Agent(
            init=self._placed(raw.init),
            act=self.compile(raw.act),
            step=lambda state, batch, noise: (state, step(state, batch, noise)),
            dump=self._placed(raw.dump),
            load=self._placed(raw.load),
        )

    @contextlib.contextmanager
    def precision_scope(self) -> Iterator[None]:
        with kept_settings():
            tf.config.experimental.enable_tensor_float_32_execution(self.precision == "tf32")
            yield

    def compile_act(self, raw: Agent) -> Callable[..., Any]:
        # XLA takes bounds of slices as constants: with `noise[t]` it would compile for every t.
        def act(state, obs, noise, t, *memory):
            return raw.act(state, obs, tf.gather(noise, t), *memory)

        compiled, index = self.compile(act), functools.cache(self._tensor)

        def call(state, obs, noise, t, *memory):
            return compiled(state, obs, noise, index(t), *memory)

        return call

    def compile_exploring_act(
        self, raw: Agent, scales: tuple[float, float]
    ) -> Callable[..., Explored]:
        act = exploring_act(raw.act, scales, tf.where)

        def explore(state, obs, noise, t, exploring):
            row = tf.nest.map_structure(lambda x: tf.gather(x, t), noise)
            return act(state, obs, row, exploring)

        compiled, index = self.compile(explore), functools.cache(self._tensor)

        def call(state, obs, noise, t, exploring):
            return compiled(state, obs, noise, index(t), exploring)

        return call

    def compile_update(
        self, raw: Agent, sample: Callable
    ) -> Callable[[State, Tree, Tree, int], Any]:
        def update(state_and_replay, draws, r):
            state, replay = state_and_replay
            batch = sample(replay, tf.gather(draws.index, r))
            noise = tf.nest.map_structure(lambda x: tf.gather(x, r), draws.step)
            return raw.step(state, batch, noise)[1]

        compiled, index = self.compile(update), functools.cache(self._tensor)

        def call(state, replay, draws, r):
            # The replay's variables are passed by reference, together with the state's.
            return state, compiled((state, replay), draws, index(r))

        return call

    def compile_replay_write(self, fn: Callable) -> Callable[[Tree, Tree], Tree]:
        def write(arrays, rows):
            fn(arrays, tf.nest.map_structure(self._tensor, rows))
            return Nothing()

        # Never by XLA, which returns a copy of the variables that it writes to.
        compiled = write if self.mode == "eager" else self._traced(write, xla=False)
        compiled = self._placed(compiled)

        def call(arrays, rows):
            compiled(arrays, rows)
            return arrays

        return call

    def compile(self, fn: Callable) -> Callable:
        """Compile `fn(state, *args) -> NamedTuple`; it may write into the state's variables."""
        if self.mode == "eager":
            return self._placed(fn)
        return self._placed(self._traced(fn, xla=self.mode == "xla"))

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
        """Wrap a tensor so that other libraries' `from_dlpack` accept it on every device."""
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
        return traces.count()

    def lock(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext() if self.mode == "eager" else traces.lock()

    def fallbacks(self) -> dict[str, int]:
        if self.mode == "eager":
            return {}
        return {"fell_to_eager": traces.without_xla + bool(tf.config.functions_run_eagerly())}

    def memory(self) -> dict[str, int]:
        # The GPU allocator counts; there is no counter for a CPU.
        if "GPU" not in self.native_device:
            return {}
        info = tf.config.experimental.get_memory_info(self.native_device.lstrip("/"))
        return {"live_bytes": info["current"], "peak_bytes": info["peak"]}

    def settings(self) -> dict[str, Any]:
        threading = tf.config.threading
        return {
            "device": self.native_device,
            "intra_op_threads": threading.get_intra_op_parallelism_threads(),
            "inter_op_threads": threading.get_inter_op_parallelism_threads(),
            # JAX, if it runs the environment, has a pool of the same name.
            "xla_threads": "unknown" if "jax" in sys.modules else count_threads(XLA_POOL),
            "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
            "jit": str(tf.config.optimizer.get_jit()),
            "functions_run_eagerly": tf.config.functions_run_eagerly(),
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            "tf_xla_flags": os.environ.get("TF_XLA_FLAGS", ""),
            "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
            "precision": self.precision,
            "matmul_keeps_2^-12": keeps_small_bits(self),
        }

    def set_threads(self, threads: int) -> None:
        # The pools are fixed once anything has run: `settings` then reports what they are.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)

    def _tensor(self, x: Array) -> Array:
        if isinstance(x, tf.Tensor):
            return x
        x = np.asarray(x)
        return tf.constant(x, self._dtype if x.dtype.kind == "f" else None)

    def _traced(self, fn: Callable, xla: bool) -> Function:
        return Function(fn, xla, self._tensor, self.native_device)

    def _placed(self, fn: Callable) -> Callable:
        """Put new tensors and variables of `fn` on this device, if that is not the default."""
        if self._is_default:
            return fn

        def call(*args):
            with tf.device(self.native_device):
                return fn(*args)

        return call


class Exported:
    """A tensor for other libraries' `from_dlpack`.

    JAX asks for its own stream on a GPU, which TensorFlow refuses; exporting waits instead.
    """

    def __init__(self, tensor: Array):
        self._tensor = tensor

    def __dlpack__(self, **_: Any) -> Any:
        return self._tensor.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._tensor.__dlpack_device__()


class Nothing(NamedTuple):
    """Result of a function that only writes."""


class Trace(NamedTuple):
    """A traced graph and how to call it."""

    graph: Any
    call: Callable
    """Takes flat tensors, then handles of variables; returns flat tensors."""
    variables: list[int]
    """Indices of the state's variables that the graph uses, in order of `tf.nest.flatten`."""
    kind: type
    """NamedTuple that the outputs make up."""


class Function:
    """`fn(state, *args) -> NamedTuple of tensors`, traced once per shapes and types of `args`.

    tf.function spends 100 to 200 µs of Python on every call: it sorts out arguments, defaults
    and gradients. Here the graph is called with flat tensors at once. The variables that it uses
    are inputs, so that any number of states of one layout share one trace.
    """

    def __init__(self, fn: Callable, xla: bool, tensor: Callable[[Array], Array], device: str):
        self._fn, self._xla, self._tensor, self._device = fn, xla, tensor, device
        self._traces: dict[Any, Trace] = {}

    def __call__(self, state: State, *args: Any) -> Any:
        flat = [self._tensor(x) for x in tf.nest.flatten(args)]
        key = tuple([(x.shape, x.dtype) for x in flat])
        trace = self._traces.get(key)
        if trace is None:
            trace = self._traces[key] = self._trace(state, args, flat)
        variables = tf.nest.flatten(state)
        used = [variables[i].handle for i in trace.variables]
        return trace.kind(*(trace.call(*flat, *used) or ()))  # None: there is no output

    def _trace(self, state: State, args: tuple, flat: list[Array]) -> Trace:
        kind: list[type] = []

        def traced(*tensors):
            traces.check(getattr(self._fn, "__name__", "a function"))
            out = self._fn(state, *tf.nest.pack_sequence_as(args, tensors))
            kind[:] = [type(out)]
            return list(out)

        function = tf.function(traced, jit_compile=self._xla, autograph=False)
        signature = [tf.TensorSpec(x.shape, x.dtype) for x in flat]
        with tf.device(self._device):
            graph = function.get_concrete_function(*signature)
        traces.count_graph(graph, self._xla)
        order = {id(v.handle): i for i, v in enumerate(tf.nest.flatten(state))}
        variables = [order[id(handle)] for handle in graph.captured_inputs]
        return Trace(graph, graph.inference_fn.call_flat, variables, kind[0])


class Traces:
    """Count this process's traces, and forbid new ones while locked."""

    def __init__(self):
        self._names: set[str] = set()
        self._locked = False
        self.without_xla = 0
        """Graphs that XLA was asked to compile and does not."""

    def count(self) -> int:
        """Return the number of graphs traced so far: each has a name of its own.

        Graphs that came and went between two calls are not counted.
        """
        names: list[str] = context.context().list_function_names()  # type: ignore[union-attr]
        self._names.update(name for name in names if name.startswith("__inference_"))
        return len(self._names)

    def check(self, name: str) -> None:
        """Raise Retraced if locked; our own functions call this when they are traced."""
        if self._locked:
            raise Retraced(f"{name} was traced anew")

    def count_graph(self, graph: Any, xla: bool) -> None:
        """Read back from a traced graph if XLA must compile it, as was asked for."""
        attributes = graph.function_def.attr
        must_compile = "_XlaMustCompile" in attributes and attributes["_XlaMustCompile"].b
        self.without_xla += xla and not must_compile

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Make tracing an error inside this context."""
        self._locked = True
        try:
            yield
        finally:
            self._locked = False


traces = Traces()


def draw_tree(draws: Tree, seed: Array) -> Tree:
    """Draw every leaf of a tree of `Draw`, each from its own fold of `seed` [2].

    For plain tf.function in every mode: on the CPU, XLA's sort and its Philox take 2 to 15 times
    as long as TensorFlow's own kernels, and it has no kernel for the shuffle.
    """
    if isinstance(draws, Draw):
        return _draw(draws, seed)
    seeds = [tf.random.experimental.stateless_fold_in(seed, i) for i in range(len(draws))]
    return type(draws)(*(draw_tree(d, s) for d, s in zip(draws, seeds, strict=True)))


def permutations(seed: Array, rows: int, n: int) -> Array:
    """Draw [rows, n] int32, each row an independent uniform permutation of range(n).

    A shuffle per row takes a third of the time of one argsort of random keys on the CPU.
    """
    seeds = [tf.random.experimental.stateless_fold_in(seed, row) for row in range(rows)]
    shuffle = tf.random.experimental.stateless_shuffle
    return tf.stack([shuffle(tf.range(n), row_seed) for row_seed in seeds])


def _draw(draw: Draw, seed: Array) -> Array:
    if draw.kind == "permutation":
        rows = int(np.prod(draw.shape[:-1], dtype=int))
        return tf.reshape(permutations(seed, rows, draw.shape[-1]), draw.shape)
    if draw.kind == "integers":
        bits = tf.random.stateless_uniform(draw.shape, seed, None, None, tf.int32)
        return tf.bitwise.bitwise_and(bits, 2**31 - 1)
    if draw.kind == "normal":
        return tf.random.stateless_normal(draw.shape, seed)
    uniform = tf.random.stateless_uniform(draw.shape, seed)
    if draw.kind == "gumbel":
        return -tf.math.log(-tf.math.log(tf.maximum(uniform, TINY)))
    return uniform


@functools.cache
def _draw_function(device: str, draws: Tree) -> Callable[[Array], Tree]:
    """Compile `draws` as a function of a seed [2], once; not by XLA (see draw_tree)."""

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(2, tf.int64)])
    def draw(seed):
        traces.check("draw")
        with tf.device(device):
            return draw_tree(draws, seed)

    return draw


def _configure(precision: str) -> None:
    tf.get_logger().setLevel("ERROR")
    tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")


@contextlib.contextmanager
def kept_settings() -> Iterator[None]:
    """Put the precision of the process back to what it was, at the end of the context."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _find_device(name: str) -> str:
    kind, _, index = name.partition(":")
    kind = {"cuda": "GPU"}.get(kind, kind.upper())
    devices = [d.name.removeprefix("/physical_device:") for d in tf.config.list_physical_devices()]
    if f"{kind}:{index or 0}" not in devices:
        available = ", ".join(d.lower() for d in devices)
        raise MissingDevice(f"TensorFlow sees no device {name!r} here (it sees: {available})")
    return f"/{kind}:{index or 0}"


def _default_device() -> str:
    return "/GPU:0" if tf.config.list_physical_devices("GPU") else "/CPU:0"
