"""Keras on PyTorch: agents are pure functions, whose graphs TorchInductor compiles.

The runtime is PyTorch's own: it compiles `act`, and the functions that an agent hands to
`Build.compile`; loops over updates stay in Python.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import optree
import torch

from tiebreak.core.types import Agent, Array, State, Tree
from tiebreak.frameworks.keras.backend import allow_float64, kept_float64
from tiebreak.frameworks.runtime import Retraced
from tiebreak.frameworks.torch.runtime import Runtime as Base
from tiebreak.frameworks.torch.runtime import kept_settings as base_settings

COUNT_DTYPE = "int32"
"""Type of step counts."""


class Runtime(Base):
    """PyTorch, compiled by TorchInductor, for agents written in Keras."""

    def __init__(self, framework: str, mode: str, precision: str, device: str):
        super().__init__(framework, mode, precision, device)
        allow_float64(precision == "float64")

    @contextlib.contextmanager
    def precision_scope(self) -> Iterator[None]:
        with super().precision_scope(), kept_float64():
            allow_float64(self.precision == "float64")
            yield

    def agent(self, raw: Agent) -> Agent:
        return super().agent(self._placed(raw))

    def compile_update(
        self, raw: Agent, sample: Callable
    ) -> Callable[[State, Tree, Tree, int], Any]:
        return super().compile_update(self._placed(raw), sample)

    def _compile(self, fn: Callable) -> Callable:
        return _Traced(fn, super()._compile, str(self.native_device))

    def _placed(self, raw: Agent) -> Agent:
        """Return an agent that makes its tensors on this device: Keras prefers a GPU.

        `act` stays the same function, by which the runtime finds what it has compiled.
        """

        def place(fn: Callable) -> Callable:
            @functools.wraps(fn)
            def call(*args: Any) -> Any:
                with keras.device(str(self.native_device)):
                    return fn(*args)

            return call

        return raw._replace(init=place(raw.init), step=place(raw.step), load=place(raw.load))


@contextlib.contextmanager
def kept_settings() -> Iterator[None]:
    """Put the precision of the process back to what it was, at the end of the context."""
    with base_settings(), kept_float64():
        yield


def widest(x: Array) -> Array:
    """Return whole numbers as the widest floating-point numbers of this process."""
    return x.double()


def differentiate(loss: Callable[[Tree], Any], params: Tree) -> tuple[Any, Tree]:
    """Return the terms of a loss at `params`, and the gradient of its field `loss` there."""
    leaves, structure = optree.tree_flatten(params)
    with torch.enable_grad():
        inputs = [x.detach().requires_grad_() for x in leaves]
        terms = loss(optree.tree_unflatten(structure, inputs))
        grads = torch.autograd.grad(terms.loss, inputs)
    terms = type(terms)(*(x.detach() for x in terms))
    return terms, optree.tree_unflatten(structure, grads)


class _Program(NamedTuple):
    """A compiled graph from tensors to tensors, and the structure of its outputs."""

    call: Callable
    structure: Any


class _Traced:
    """A function as one graph, traced once for each shapes and types of its tensors, and compiled.

    Before Keras computes it opens scopes, binds signatures and converts arguments, in Python code
    that Dynamo does not follow in one piece. So the function is run once, and the operations that
    it calls are recorded. Tensors in its arguments are inputs of the graph; whatever else is in
    them must never change.
    """

    def __init__(self, fn: Callable, compile: Callable[[Callable], Callable], device: str):
        self._fn, self._compile, self._device = fn, compile, device
        self._programs: dict[tuple, _Program] = {}

    def __call__(self, *args: Any) -> Any:
        leaves, structure = optree.tree_flatten(args)
        tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
        key = tuple([(x.shape, x.dtype) for x in tensors])
        program = self._programs.get(key)
        if program is None:
            program = self._programs[key] = self._trace(leaves, structure)
        return optree.tree_unflatten(program.structure, program.call(*tensors))

    def _trace(self, leaves: list, structure: Any) -> _Program:
        import torch._dynamo.config as config
        from torch.fx.experimental.proxy_tensor import make_fx

        if self._programs and config.error_on_recompile:
            raise Retraced(f"{self._fn} was traced anew")
        structures: list[Any] = []

        def flat(*tensors: Array) -> list[Array]:
            given = iter(tensors)
            inputs = [next(given) if isinstance(x, torch.Tensor) else x for x in leaves]
            with keras.device(self._device):
                result = self._fn(*optree.tree_unflatten(structure, inputs))
            outputs, returned = optree.tree_flatten(result)
            structures.append(returned)
            return outputs

        # Copies: two inputs that are one tensor now need not be one later.
        examples = [x.clone() for x in leaves if isinstance(x, torch.Tensor)]
        graph = make_fx(flat)(*examples)
        return _Program(self._compile(graph), structures[-1])
