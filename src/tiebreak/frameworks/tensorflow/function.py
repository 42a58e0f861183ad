"""A traced TensorFlow function, called without what `tf.function` does on every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tiebreak.core.types import Array, State
from tiebreak.frameworks.tensorflow import readings
from tiebreak.frameworks.tensorflow.quiet_import import tf


class Exported:
    """JAX asks for its own stream on a GPU, which TensorFlow refuses; exporting waits instead."""

    def __init__(self, tensor: Array):
        self._tensor = tensor

    def __dlpack__(self, **_: Any) -> Any:
        return self._tensor.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._tensor.__dlpack_device__()


class Nothing(NamedTuple):
    """What a function returns that only writes."""


class Trace(NamedTuple):
    """A traced graph and how to call it."""

    graph: Any
    call: Callable
    """Flat tensors in, then variables' handles; flat tensors out."""
    variables: list[int]
    """Which of the state's variables, in order of `tf.nest.flatten`."""
    kind: type
    """Of the NamedTuple that the outputs make up."""


class Function:
    """`fn(state, *args) -> NamedTuple of tensors`, traced once for the shapes and types of `args`.

    tf.function spends 100 to 200 µs of Python on every call: it sorts out arguments, defaults
    and gradients. Here the graph is called with flat tensors at once. The variables that it uses
    are inputs, so that any number of like states share one trace.
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
        return trace.kind(*(trace.call(*flat, *used) or ()))  # None: nothing comes out

    def _trace(self, state: State, args: tuple, flat: list[Array]) -> Trace:
        kind: list[type] = []

        def traced(*tensors):
            readings.check_trace(getattr(self._fn, "__name__", "a function"))
            out = self._fn(state, *tf.nest.pack_sequence_as(args, tensors))
            kind[:] = [type(out)]
            return list(out)

        function = tf.function(traced, jit_compile=self._xla, autograph=False)
        with tf.device(self._device):
            graph = function.get_concrete_function(*(tf.TensorSpec(x.shape, x.dtype) for x in flat))
        readings.count_graph(graph, self._xla)
        order = {id(v.handle): i for i, v in enumerate(tf.nest.flatten(state))}
        variables = [order[id(handle)] for handle in graph.captured_inputs]
        return Trace(graph, graph.inference_fn.call_flat, variables, kind[0])
