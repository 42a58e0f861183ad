"""A network of the user's own in PyTorch: `network=module:function`. No proof covers it."""

from __future__ import annotations

import torch
from torch import nn

from tiebreak.core import user_modules
from tiebreak.core.errors import UsageError
from tiebreak.core.text import quoted
from tiebreak.core.types import Array


class OwnNetwork(nn.Module):
    """The module that a user's `build(inputs, outputs)` returns; x [B, inputs] -> [B, outputs]."""

    def __init__(self, name: str, sizes: tuple[int, ...], dtype: torch.dtype):
        super().__init__()
        self._arguments = name, sizes[0], sizes[-1], dtype
        with torch.device("meta"):
            self.module = _build(*self._arguments)

    def forward(self, x: Array) -> Array:
        """Apply the module."""
        return self.module(x)

    def names(self, prefix: str) -> list[str]:
        """Return canonical names in the order of `parameters`."""
        return [f"{prefix}/{name.replace('.', '/')}" for name, _ in self.module.named_parameters()]

    def initial(self, seed: int) -> list[Array]:
        """Return initial parameters, which the module draws itself; torch's generator stays."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return [x.detach() for x in _build(*self._arguments).parameters()]


def _build(name: str, inputs: int, outputs: int, dtype: torch.dtype) -> nn.Module:
    """Return the module that a user's function builds; UsageError for anything else."""
    module_name, _, function = name.partition(":")
    try:
        build = getattr(user_modules.import_module(module_name), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"network {quoted(name)} cannot be imported: {error}") from error
    user_modules.RUN.add(name)
    module = build(inputs, outputs)
    if not isinstance(module, nn.Module):
        raise UsageError(f"network {quoted(name)} returned {quoted(module)}; it must be a Module")
    if next(module.buffers(), None) is not None:
        raise UsageError(f"network {quoted(name)} has buffers; only parameters are kept")
    return module.to(dtype)
