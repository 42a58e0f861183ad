"""See from outside what another library does: steps of environments, updates, compilations.

A contestant counts its own work. One that counts wrongly is found by one call off the clock, in
which the environments of Gymnasium and the optimizers of torch in this process are counted, too:
counting while the clock runs would slow the contestant down.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tiebreak.bench.probes.base import Recount

_compiled = 0
"""Programs that JAX has compiled since the first `compile_count`."""
_is_counting = False


class _Tally:
    """Calls seen."""

    def __init__(self) -> None:
        self.env_steps = self.resets = self.optimizer_steps = 0
        self.environments = 0


def recount(
    train: Callable[[], None],
    counts: Callable[[], Mapping[str, int]],
    expected: Mapping[str, int],
    weights: Callable[[], Mapping[str, np.ndarray]],
    optimizers: bool = True,
) -> Recount:
    """Train once more; return what the contestant claims of it, and what was seen.

    `weights` returns nothing if they are not known; without `optimizers` torch's are not watched,
    which would compile a program that has one anew. What cannot be seen is left out: environments
    in other processes or in a compiled program, optimizers of other libraries. Some vector
    environments reset in a step of its own, which libraries count: a reset counts as a step here.
    """
    before, old = dict(counts()), {name: array.copy() for name, array in weights().items()}
    with _watched(optimizers) as tally:
        train()
    claimed = {name: number - before[name] for name, number in counts().items()}
    seen: dict[str, int] = {}
    if tally.environments:
        seen["env_steps"] = tally.env_steps + tally.resets
    if tally.optimizer_steps:
        seen["updates"] = tally.optimizer_steps
        claimed.setdefault("updates", expected["updates"])
    new = weights()
    moved = not old or any(not np.array_equal(old[name], new[name]) for name in old)
    return Recount(claimed, seen, moved)


@contextlib.contextmanager
def _watched(optimizers: bool) -> Iterator[_Tally]:
    """Count in this process until the block ends."""
    tally = _Tally()
    with contextlib.ExitStack() as stack:
        for environment, steps in _environments():
            tally.environments += 1
            stack.enter_context(_counting(environment, "step", tally, "env_steps", steps))
            stack.enter_context(_counting(environment, "reset", tally, "resets", steps))
        if optimizers and "torch.optim.optimizer" in sys.modules:
            stack.callback(_watch_optimizers(tally).remove)
        yield tally


OUTER = ("VectorWrapper", "VectorEnvWrapper", "SyncVectorEnv", "AsyncVectorEnv")
"""Classes of gymnasium.vector, of several versions, that hold other environments: those are counted
one by one, or are in other processes."""


def _environments() -> Iterator[tuple[Any, int]]:
    """Yield Gymnasium's environments in this process, without wrappers, and their number inside."""
    gymnasium = sys.modules.get("gymnasium")
    if gymnasium is None:
        return
    vector = gymnasium.vector
    known = (getattr(vector, name) for name in OUTER if hasattr(vector, name))
    outer = (gymnasium.Wrapper, *known)
    for thing in gc.get_objects():
        kind = type(thing)  # not isinstance: a proxy would answer for what it stands for
        if issubclass(kind, outer):
            continue
        if issubclass(kind, vector.VectorEnv):
            yield thing, thing.num_envs
        elif issubclass(kind, gymnasium.Env):
            yield thing, 1


@contextlib.contextmanager
def _counting(
    environment: Any, method: str, tally: _Tally, name: str, steps: int
) -> Iterator[None]:
    """Count the calls of an environment's method, each as so many steps."""
    original = getattr(environment, method)
    had_own = method in vars(environment)

    def counted(*args: Any, **kwargs: Any) -> Any:
        setattr(tally, name, getattr(tally, name) + steps)
        return original(*args, **kwargs)

    setattr(environment, method, counted)
    try:
        yield
    finally:
        if had_own:
            setattr(environment, method, original)
        else:
            delattr(environment, method)


def _watch_optimizers(tally: _Tally) -> Any:
    """Count the steps of all optimizers of torch; return the handle that ends it."""
    register = sys.modules["torch.optim.optimizer"].register_optimizer_step_post_hook

    def count(*_: Any) -> None:
        tally.optimizer_steps += 1

    return register(count)


def settings() -> dict[str, Any]:
    """Return the number of threads of torch, if it is loaded here."""
    torch = sys.modules.get("torch")
    return {"threads": torch.get_num_threads()} if torch else {}


def compile_count() -> int:
    """Return the programs that JAX (since the first call) and TorchDynamo have compiled here."""
    global _is_counting
    if "jax" in sys.modules and not _is_counting:
        monitoring = sys.modules["jax"].monitoring
        monitoring.register_event_duration_secs_listener(_count_compilation)
        _is_counting = True
    dynamo = sys.modules.get("torch._dynamo.utils")
    graphs = dynamo.counters["stats"]["unique_graphs"] if dynamo else 0
    return _compiled + graphs


def _count_compilation(event: str, duration: float, **_: Any) -> None:
    global _compiled
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled += 1
