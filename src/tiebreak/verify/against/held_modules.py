"""Read and write the arrays of modules, models and variables that an agent holds in `modules`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


class HeldModules:
    """Stands for `weights` and `load` of an agent that has `modules` instead of them.

    modules: name -> a module or parameter of torch, a Keras model, a variable, or a dictionary of
    these. optimizers: optimizers of torch, whose moments are compared.
    """

    def __init__(self, modules: Mapping[str, Any], optimizers: Iterable[Any] = ()):
        self._modules = modules
        self._optimizers = list(optimizers)

    def weights(self) -> dict[str, Any]:
        """Return all arrays, with Adam's moments once there are any."""
        tree = {name: _read(held) for name, held in self._modules.items()}
        moments = self._moments()
        return {**tree, "adam": moments} if moments else tree

    def load(self, tree: Mapping[str, Any]) -> None:
        """Write arrays into the modules."""
        for name, held in self._modules.items():
            _write(held, tree[name])

    def _moments(self) -> dict[str, dict[str, Any]]:
        paths = {
            id(p): path for name, held in self._modules.items() for path, p in _walk(held, name)
        }
        out: dict[str, dict[str, Any]] = {"mu": {}, "nu": {}}
        for optimizer in self._optimizers:
            for parameter, state in optimizer.state.items():
                path = paths.get(id(parameter))
                if path and "exp_avg" in state:
                    out["mu"][path] = state["exp_avg"]
                    out["nu"][path] = state["exp_avg_sq"]
        return out if out["mu"] else {}


def _read(held: Any) -> Any:
    if isinstance(held, Mapping):
        return {name: _read(value) for name, value in held.items()}
    if hasattr(held, "state_dict"):
        return held.state_dict()
    if hasattr(held, "layers"):
        return {str(i): _variables(layer) for i, layer in enumerate(_with_weights(held))}
    return held


def _write(held: Any, tree: Any) -> None:
    if isinstance(held, Mapping):
        for name, value in held.items():
            _write(value, tree[name])
    elif hasattr(held, "state_dict"):
        held.load_state_dict({name: _tensor(value) for name, value in tree.items()})
    elif hasattr(held, "layers"):
        for i, layer in enumerate(_with_weights(held)):
            _write(_variables(layer), tree[str(i)])
    elif hasattr(held, "assign"):
        held.assign(tree)
    else:
        held.data.copy_(_tensor(tree))


def _with_weights(model: Any) -> list[Any]:
    return [layer for layer in model.layers if layer.weights]


def _variables(layer: Any) -> dict[str, Any]:
    return {v.name.rpartition("/")[2].partition(":")[0]: v for v in layer.weights}


def _walk(held: Any, path: str) -> Iterable[tuple[str, Any]]:
    """Yield the parameters of torch below `held`, with their paths."""
    if isinstance(held, Mapping):
        for name, value in held.items():
            yield from _walk(value, f"{path}/{name}")
    elif hasattr(held, "named_parameters"):
        for name, parameter in held.named_parameters():
            yield f"{path}/{name}", parameter
    else:
        yield path, held


def _tensor(array: np.ndarray) -> Any:
    return sys.modules["torch"].as_tensor(array)
