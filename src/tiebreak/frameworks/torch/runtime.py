"""PyTorch in its modes: eager, compiled by Inductor, or compiled and replayed as CUDA graphs.

A compiled mode compiles `act`, and the functions that an agent hands to `Build.compile`. Loops
over updates, epochs and minibatches stay in Python.
"""

from __future__ import annotations

import contextlib
import re
import sys
import types
from collections.abc import Callable, Iterator
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

SERIAL_ROWS = 256
"""Largest number of observations for which a CPU acts with one thread."""


class Runtime(Base):
    """PyTorch in one of its modes."""

    name = "torch"

    def __init__(self, framework: str, mode: str, precision: str, device: str):
        super().__init__(framework, mode, precision, device)
        self.native_device = _find_device(device)
        self._on_cpu = self.native_device.type == "cpu"
        self._dtype = torch.float64 if precision == "float64" else torch.float32
        _set_precision(precision)
        if mode == "cudagraph" and self.native_device.type != "cuda":
            raise MissingDevice("mode 'cudagraph' needs a CUDA device; use mode 'compile' on a CPU")
        if mode not in ("eager", registry.AUTO):
            if self._on_cpu and (reason := registry.why_mode_unavailable(framework, mode)):
                raise UsageError(reason)
            _set_dynamo()
        self._generator = torch.Generator(self.native_device)
        self._acts: dict[Callable, Callable] = {}
        self._not_yet_compiled: list[_Later] = []

    def build(self) -> Build:
        return Build(
            dtype=str(self._dtype).removeprefix("torch."),
            device=str(self.native_device),
            compile=self.compile,
            network_dtype="bfloat16" if self.precision == "bfloat16" else "",
            ranks=self.ranks,
        )

    def agent(self, raw: Agent) -> Agent:
        act = self._compile_agent_act(raw)
        return Agent(
            init=lambda seed: self._mark_static(raw.init(seed)),
            act=lambda state, obs, noise, *memory: act(
                state, self.asarray(obs), self.asarray(noise), *_map(self.asarray, memory)
            ),
            step=lambda state, *args: raw.step(state, *(_map(self.asarray, x) for x in args)),
            dump=raw.dump,
            load=lambda weights: self._mark_static(raw.load(weights)),
        )

    @contextlib.contextmanager
    def precision_scope(self) -> Iterator[None]:
        with kept_settings():
            _set_precision(self.precision)
            yield

    def compile_act(self, raw: Agent) -> Callable[..., Any]:
        act, asarray = self._compile_agent_act(raw), self.asarray

        def call(state, obs, noise, t, *memory):
            # noise[t] is a view made on the host: indexing inside the program would save no kernel.
            return act(state, asarray(obs), noise[t], *_map(asarray, memory))

        return call

    def compile_exploring_act(
        self, raw: Agent, scales: tuple[float, float]
    ) -> Callable[..., Explored]:
        act = self._compile_acting(exploring_act(raw.act, scales, torch.where))
        asarray = self.asarray

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
        """Compile `fn` in this mode.

        Shapes are static, and only tensors are checked when the function is called again: whatever
        else is in its arguments must never change.
        """
        if self.mode == "eager":
            return fn
        if self.mode != registry.AUTO:
            return self._compile(fn)
        later = _Later(fn)
        self._not_yet_compiled.append(later)
        return later

    def start_compiling(self) -> None:
        if self._not_yet_compiled:
            _set_dynamo()
        for later in self._not_yet_compiled:
            later.call = self._compile(later.call)
        self._not_yet_compiled.clear()

    def _compile(self, fn: Callable) -> Callable:
        graphs = self.mode == "cudagraph"
        options = {
            "guard_filter_fn": _keep_guards,
            "cpp_wrapper": self._on_cpu,  # kernels called from C++: 15 % off a minibatch on a CPU
            "triton.cudagraphs": graphs,
        }
        # Older torch cannot trace autograd.grad, and breaks the graph there.
        whole = hasattr(torch._dynamo.config, "trace_autograd_ops")
        fn = _with_fresh_code(fn)
        compiled = torch.compile(fn, fullgraph=whole, dynamic=False, options=options)
        return _copying_outputs(compiled) if graphs else compiled

    def draw(self, draws: Tree, seed: int, index: int) -> Tree:
        self._generator.manual_seed(derive(seed, index))
        return _map(lambda draw: _draw_array(draw, self._generator), draws, leaf=Draw)

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
            # Start all copies to pinned memory, then wait once.
            tree = _map(_copy_to_host, tree)
            torch.cuda.current_stream(self.native_device).synchronize()
        return _map(_as_numpy, tree)

    def stack(self, trees: list[Tree]) -> Tree:
        return _map(lambda *leaves: torch.stack(leaves), *trees)

    def sync(self, tree: Tree) -> None:
        if self.native_device.type == "cuda":
            torch.cuda.synchronize(self.native_device)

    def compile_count(self) -> int:
        return _graph_count()

    def lock(self) -> AbstractContextManager[Any]:
        if self.mode == "eager":
            return contextlib.nullcontext()
        import torch._dynamo.config as config

        # Not `set_stance("fail_on_recompile")`: it costs 0.8 µs per compiled call, and is silent
        # for a function that has reached the recompile limit.
        return config.patch(error_on_recompile=True)  # type: ignore[attr-defined]

    def fallbacks(self) -> dict[str, int]:
        if self.mode == "eager":
            return {}
        # Frames that Dynamo gave up, and CUDA graphs that were not recorded.
        fell = sum(_dynamo_counts("unimplemented"))
        fell += sum(_dynamo_counts("inductor", "cudagraph_skips"))
        if not _graph_count():  # TORCHDYNAMO_DISABLE or a stance: nothing was compiled at all
            fell += 1
        return {"fell_to_eager": fell, "graph_break": sum(_dynamo_counts("graph_break"))}

    def memory(self) -> dict[str, int]:
        """Return the caching allocator's counts; it has none for a CPU."""
        device = self.native_device
        if device.type != "cuda":
            return {}
        live = torch.cuda.memory_allocated(device)
        # The driver counts the allocator's reserve as taken, but it is available here.
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - live
        peak = torch.cuda.max_memory_allocated(device)
        return {"live_bytes": live, "peak_bytes": peak, "free_bytes": free}

    def settings(self) -> dict[str, Any]:
        device = self.native_device
        return {
            "device": str(device),
            "device_kind": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "interop_threads": torch.get_num_interop_threads(),
            "blas_threads": _blas_threads(),
            "matmul_precision": torch.get_float32_matmul_precision(),
            "cuda_matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
            "cudnn_tf32": torch.backends.cudnn.allow_tf32,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "precision": self.precision,
            "matmul_keeps_2^-12": keeps_small_bits(self),
        }

    def set_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)
        if torch.get_num_interop_threads() != 1:
            with contextlib.suppress(RuntimeError):  # too late; `settings` will say so
                torch.set_num_interop_threads(1)

    def _compile_agent_act(self, raw: Agent) -> Callable:
        """Return the compiled `act` of an agent: one, however many loops ask for it."""
        return self._acts.setdefault(raw.act, self._compile_acting(raw.act))

    def _compile_acting(self, act: Callable) -> Callable:
        compiled = self.compile(act)
        return _with_one_thread(compiled) if self._on_cpu else compiled

    def _mark_static(self, state: State) -> State:
        """Tell CUDA graphs which tensors are changed in place: those that a state has in lists."""
        if self.mode == "cudagraph":
            _map(_mark_tensors_static, state)
        return state


class _Later:
    """A function that runs as it is written until `call` is replaced by a compiled one."""

    __slots__ = ("call",)

    def __init__(self, fn: Callable):
        self.call = fn

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)


def _find_device(name: str) -> torch.device:
    available = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    name = {"gpu": "cuda"}.get(name, name)
    if name not in available and not (name == "cuda" and len(available) > 1):
        devices = ", ".join(available)
        raise MissingDevice(f"torch sees no device {name!r} here (it sees: {devices})")
    return torch.device(name)


def _set_precision(precision: str) -> None:
    tf32 = precision == "tf32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


@contextlib.contextmanager
def kept_settings() -> Iterator[None]:
    """Put the precision of the process back to what it was, at the end of the context."""
    matmul, cudnn = _read_old_settings()
    holders = _holders_of_new_settings()
    before = [holder.fp32_precision for holder in holders]
    try:
        yield
    finally:
        # The old settings change the new ones, which therefore come last.
        if matmul is not None:
            torch.set_float32_matmul_precision(matmul)
        if cudnn is not None:
            torch.backends.cudnn.allow_tf32 = cudnn
        for holder, value in zip(holders, before, strict=True):
            holder.fp32_precision = value


def _holders_of_new_settings() -> tuple[Any, ...]:
    """Return all that has a `fp32_precision` which `_set_precision` changes; none before 2.9."""
    backends = torch.backends
    if not hasattr(backends.cudnn, "conv"):
        return ()
    return backends.cuda.matmul, backends.mkldnn.matmul, backends.cudnn.conv, backends.cudnn.rnn


def _read_old_settings() -> tuple[str | None, bool | None]:
    """Return precision of products and TF32 of cuDNN; None for what only the new settings say.

    torch raises RuntimeError for an old setting that disagrees with a new one.
    """
    matmul = cudnn = None
    with contextlib.suppress(RuntimeError):
        matmul = torch.get_float32_matmul_precision()
    with contextlib.suppress(RuntimeError):
        cudnn = torch.backends.cudnn.allow_tf32
    return matmul, cudnn


def _set_dynamo() -> None:
    import torch._dynamo.config as config

    # Without this the ninth shape would silently run eager.
    config.fail_on_recompile_limit_hit = True
    if hasattr(config, "trace_autograd_ops"):
        config.trace_autograd_ops = True


def _mark_tensors_static(leaf: Any) -> None:
    for tensor in leaf if isinstance(leaf, list) else ():
        torch._dynamo.mark_static_address(tensor)


def _keep_guards(entries: list) -> list[bool]:
    """Choose the guards that Dynamo checks at each call: those of tensors that are no parameters.

    Guards on the agent's own modules and settings, which never change, would take a seventh of the
    time of `act`.
    """
    kept = "TENSOR_MATCH", "DUPLICATE_INPUT"
    return [e.guard_type in kept and not isinstance(e.value, torch.nn.Parameter) for e in entries]


def _with_fresh_code(fn: Callable) -> Callable:
    """Wrap `fn` in a function with a code object of its own.

    Dynamo caches compiled code per code object. Because guards are dropped, two agents that shared
    one would reuse each other's programs.
    """

    def call(*args):
        return fn(*args)

    return types.FunctionType(call.__code__.replace(), globals(), closure=call.__closure__)


def _copying_outputs(compiled: Callable) -> Callable:
    """Wrap a CUDA graph, whose next run overwrites its outputs: copy them.

    Tensors in lists are the state itself, changed in place, and are not copied.
    """

    def call(*args):
        torch.compiler.cudagraph_mark_step_begin()
        return _map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, compiled(*args))

    return call


def _with_one_thread(act: Callable) -> Callable:
    """Wrap `act(state, obs, …)`: run, and compile, it with one thread if observations are few.

    The threads of a pool go to sleep while environments step. Woken for a small batch, they then
    spin while they wait for more work, on the cores that the environments need (decision 0031).
    """

    def call(state, obs, *rest):
        if len(obs) > SERIAL_ROWS:
            return act(state, obs, *rest)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return act(state, obs, *rest)
        finally:
            torch.set_num_threads(threads)

    return call


def _draw_array(draw: Draw, generator: torch.Generator) -> Array:
    """Draw one array on the generator's device."""
    device = generator.device
    if draw.kind == "permutation":
        return _draw_permutations(draw.shape, generator)
    if draw.kind == "integers":
        drawn = torch.randint(2**31, draw.shape, generator=generator, device=device)
        return drawn.to(torch.int32)
    if draw.kind == "gumbel":
        waiting_times = torch.empty(draw.shape, device=device).exponential_(generator=generator)
        return waiting_times.log_().neg_()
    sample = {"normal": torch.randn, "uniform": torch.rand}[draw.kind]
    return sample(draw.shape, generator=generator, device=device)


def _draw_permutations(shape: tuple[int, ...], generator: torch.Generator) -> Array:
    """Draw int32 permutations: each row of the last axis is independent and uniform."""
    device = generator.device
    if device.type != "cpu":
        keys = torch.rand(shape, dtype=torch.float64, generator=generator, device=device)
        return keys.argsort(-1).to(torch.int32)
    # A shuffle per row is 5 times faster than sorting on a CPU.
    rows = []
    for _ in range(int(np.prod(shape[:-1], dtype=int))):
        rows.append(torch.randperm(shape[-1], dtype=torch.int32, generator=generator))
    return torch.stack(rows).reshape(shape)


def _graph_count() -> int:
    """Return how many graphs Dynamo has captured so far."""
    return sum(_dynamo_counts("stats", "unique_graphs"))


def _dynamo_counts(name: str, key: str | None = None) -> list[int]:
    """Return the values of one of Dynamo's counters, without importing Dynamo for it."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    counter = dynamo.counters.get(name, {}) if dynamo else {}
    return [counter.get(key, 0)] if key else list(counter.values())


def _blas_threads() -> int | str:
    """Return MKL's number of threads; "unknown" if torch was built without it."""
    match = re.search(r"mkl_get_max_threads\(\) : (\d+)", torch.__config__.parallel_info())
    return int(match[1]) if match else "unknown"


def _copy_to_host(x: Any) -> Any:
    """Start a copy to the CPU. Counters of host loops are plain numbers already."""
    return x.detach().to("cpu", non_blocking=True) if isinstance(x, torch.Tensor) else x


def _as_numpy(x: Any) -> np.ndarray:
    return x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def _map(fn: Callable, *trees: Tree, leaf: type | None = None) -> Tree:
    """Call `fn` on the leaves of like trees of tuples, NamedTuples and dictionaries.

    Instances of `leaf`, and whatever else is no tuple and no dictionary, are leaves.
    """
    first = trees[0]
    if isinstance(first, dict):
        return {k: _map(fn, *(tree[k] for tree in trees), leaf=leaf) for k in first}
    if not isinstance(first, tuple) or (leaf and isinstance(first, leaf)):
        return fn(*trees)
    branches = [_map(fn, *nodes, leaf=leaf) for nodes in zip(*trees, strict=True)]
    return type(first)(*branches) if hasattr(first, "_fields") else tuple(branches)
