"""PyTorch: eager, compiled by Inductor, or compiled and replayed as CUDA graphs."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from tiebreak import registry
from tiebreak.core.errors import MissingDevice, UsageError
from tiebreak.core.noise import Draw
from tiebreak.core.off_policy import ActNoise, Explored, exploring_act
from tiebreak.core.seeding import derive
from tiebreak.core.types import Agent, Array, Build, State, Tree
from tiebreak.frameworks.runtime import Runtime as Base
from tiebreak.frameworks.runtime import keeps_small_bits
from tiebreak.frameworks.torch import readings
from tiebreak.frameworks.torch.noise import draw_one
from tiebreak.frameworks.torch.serial import serial


class Runtime(Base):
    """PyTorch in one of its modes.

    What a mode compiles: `act`, and the functions that an agent hands to `Build.compile`. The
    loop over epochs and minibatches stays Python.
    """

    name = "torch"

    def __init__(self, framework: str, mode: str, precision: str, device: str):
        super().__init__(framework, mode, precision, device)
        self.native_device = _find_device(device)
        self._dtype = torch.float64 if precision == "float64" else torch.float32
        _set_precision(precision)
        if mode == "cudagraph" and self.native_device.type != "cuda":
            raise MissingDevice("mode 'cudagraph' needs a CUDA device; use mode 'compile' on a CPU")
        if mode != "eager":
            if self.native_device.type == "cpu" and (
                reason := registry.why_mode_unavailable("torch", mode)
            ):
                raise UsageError(reason)
            _set_dynamo()
        self._generator = torch.Generator(self.native_device)
        self._acts: dict[Callable, Callable] = {}

    def build(self) -> Build:
        dtype = str(self._dtype).removeprefix("torch.")
        networks = "bfloat16" if self.precision == "bfloat16" else ""
        return Build(dtype, str(self.native_device), self.compile, network_dtype=networks)

    def agent(self, raw: Agent) -> Agent:
        act, asarray = self._compiled_act(raw), self.asarray
        return Agent(
            init=lambda seed: self._pin(raw.init(seed)),
            act=lambda state, obs, noise: act(state, asarray(obs), asarray(noise)),
            step=lambda state, *args: raw.step(state, *(_map(asarray, x) for x in args)),
            dump=raw.dump,
            load=lambda weights: self._pin(raw.load(weights)),
        )

    def compile_act(self, raw: Agent) -> Callable[[State, Array, Array, int], Any]:
        act, asarray = self._compiled_act(raw), self.asarray
        # noise[t] is a view, made on the host: no kernel to save by taking it inside.
        return lambda state, obs, noise, t: act(state, asarray(obs), noise[t])

    def compile_exploring_act(
        self, raw: Agent, scales: tuple[float, float]
    ) -> Callable[..., Explored]:
        act, asarray = self._acting(exploring_act(raw.act, scales, torch.where)), self.asarray

        def explore(state, obs, noise, t, exploring):
            row = ActNoise(*(x[t] for x in noise))
            return act(state, asarray(obs), row, _map(asarray, exploring))

        return explore

    def compile_update(
        self, raw: Agent, sample: Callable
    ) -> Callable[[State, Tree, Tree, int], Any]:
        sample = self.compile(sample)

        def learn(state, replay, draws, r):
            batch = sample(replay, draws.index[r])
            return raw.step(state, batch, _map(lambda x: x[r], draws.step))

        return learn

    def compile_replay_write(self, fn: Callable) -> Callable[[Tree, Tree], Tree]:
        return fn

    def compile(self, fn: Callable) -> Callable:
        """`fn` in this mode; shapes are static, and whatever is no tensor must never change."""
        if self.mode == "eager":
            return fn
        on_cpu, graphs = self.native_device.type == "cpu", self.mode == "cudagraph"
        options = {
            "guard_filter_fn": _keep_guards,
            "cpp_wrapper": on_cpu,  # kernels called from C++: 15 % off a minibatch on a CPU
            "triton.cudagraphs": graphs,
        }
        # Older torch cannot trace autograd.grad, and breaks the graph there.
        whole = hasattr(torch._dynamo.config, "trace_autograd_ops")
        compiled = torch.compile(_own(fn), fullgraph=whole, dynamic=False, options=options)
        return _outliving(compiled) if graphs else compiled

    def draw(self, draws: Tree, seed: int, index: int) -> Tree:
        self._generator.manual_seed(derive(seed, index))
        return _map(lambda draw: draw_one(draw, self._generator), draws, leaf=Draw)

    def asarray(self, array: Array) -> Array:
        if not isinstance(array, torch.Tensor):
            array = np.asarray(array)
            # torch shares memory with NumPy, and has no read-only tensors.
            array = torch.from_numpy(array if array.flags.writeable else array.copy())
        dtype = self._dtype if array.dtype == torch.float64 else array.dtype
        return array.to(self.native_device, dtype, non_blocking=True)

    def from_dlpack(self, array: Array) -> Array:
        return array if isinstance(array, torch.Tensor) else torch.from_dlpack(array)

    def to_numpy(self, tree: Tree) -> Tree:
        if self.native_device.type == "cuda":
            # Into pinned memory, all under way at once.
            tree = _map(_to_host, tree)
            torch.cuda.current_stream(self.native_device).synchronize()
        return _map(_numpy, tree)

    def stack(self, trees: list[Tree]) -> Tree:
        return _map(lambda *leaves: torch.stack(leaves), *trees)

    def sync(self, tree: Tree) -> None:
        if self.native_device.type == "cuda":
            torch.cuda.synchronize(self.native_device)

    def compile_count(self) -> int:
        return readings.compile_count()

    def lock(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext() if self.mode == "eager" else readings.lock()

    def fallbacks(self) -> dict[str, int]:
        return readings.fallbacks(self.mode)

    def memory(self) -> dict[str, int]:
        return readings.memory(self.native_device)

    def settings(self) -> dict[str, Any]:
        read = readings.settings(self.native_device)
        own = {"precision": self.precision, "matmul_keeps_2^-12": keeps_small_bits(self)}
        return {**read, **own}

    def set_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)
        if torch.get_num_interop_threads() != 1:
            with contextlib.suppress(RuntimeError):  # too late; `settings` will say so
                torch.set_num_interop_threads(1)

    def _compiled_act(self, raw: Agent) -> Callable:
        """One compiled `act` per agent, however many loops ask for it."""
        return self._acts.setdefault(raw.act, self._acting(raw.act))

    def _acting(self, act: Callable) -> Callable:
        compiled = self.compile(act)
        return serial(compiled) if self.native_device.type == "cpu" else compiled

    def _pin(self, state: State) -> State:
        """Tell CUDA graphs which tensors are updated in place: those that a state has in lists."""
        if self.mode == "cudagraph":
            _map(_mark_static, state)
        return state


def _find_device(name: str) -> torch.device:
    kinds = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    name = {"gpu": "cuda"}.get(name, name)
    if name not in kinds and not (name == "cuda" and len(kinds) > 1):
        raise MissingDevice(f"torch sees no device {name!r} here (it sees: {', '.join(kinds)})")
    return torch.device(name)


def _set_precision(precision: str) -> None:
    tf32 = precision == "tf32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32


def _set_dynamo() -> None:
    import torch._dynamo.config as config

    # Else the ninth shape would silently run eager.
    config.fail_on_recompile_limit_hit = True
    if hasattr(config, "trace_autograd_ops"):
        config.trace_autograd_ops = True


def _mark_static(part: Any) -> None:
    for tensor in part if isinstance(part, list) else ():
        torch._dynamo.mark_static_address(tensor)


def _keep_guards(entries: list) -> list[bool]:
    """Check inputs, not the agent's own modules and settings: a seventh of the time of `act`."""
    kept = "TENSOR_MATCH", "DUPLICATE_INPUT"
    return [e.guard_type in kept and not isinstance(e.value, torch.nn.Parameter) for e in entries]


def _own(fn: Callable) -> Callable:
    """`fn` behind a code object of its own, by which Dynamo files what it compiled: without guards
    on `fn`, two agents must not find each other's.
    """

    def call(*args):
        return fn(*args)

    return types.FunctionType(call.__code__.replace(), globals(), closure=call.__closure__)


def _outliving(compiled: Callable) -> Callable:
    """A CUDA graph's next run overwrites its outputs: copy them. Lists hold the state itself."""

    def call(*args):
        torch.compiler.cudagraph_mark_step_begin()
        return _map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, compiled(*args))

    return call


def _to_host(x: Any) -> Any:
    """Towards the CPU, not waiting; counters of host loops are plain numbers already."""
    return x.detach().to("cpu", non_blocking=True) if isinstance(x, torch.Tensor) else x


def _numpy(x: Any) -> np.ndarray:
    return x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def _map(fn: Callable, *trees: Tree, leaf: type | None = None) -> Tree:
    """`fn` on the leaves of like trees of tuples, NamedTuples and dictionaries."""
    first = trees[0]
    if isinstance(first, dict):
        return {k: _map(fn, *(t[k] for t in trees), leaf=leaf) for k in first}
    if not isinstance(first, tuple) or (leaf and isinstance(first, leaf)):
        return fn(*trees)
    parts = [_map(fn, *branches, leaf=leaf) for branches in zip(*trees, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
