"""One training in several processes: `--distributed`, with a rank for each (decision 0067).

Every rank runs the same training. Rank 0 holds the folder, evaluates, writes and shows progress.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from tiebreak import registry
from tiebreak.core.errors import EnvironmentFailed, UsageError
from tiebreak.core.process_env import affinity
from tiebreak.core.ranks import Address, Ranks, leaving_after_errors, require_parts
from tiebreak.core.seeding import seed_global_generators
from tiebreak.core.text import one_line
from tiebreak.frameworks.threads import make_runtime, thread_variables
from tiebreak.training.population import run_population
from tiebreak.training.request import TrainingRequest
from tiebreak.training.result import TrainResult
from tiebreak.training.session import TrainingFailed, run_training

TOLD = (
    "returns", "steps", "updates", "wall_s", "first_s", "steps_per_s", "summary", "stopped_at",
    "best", "cut",
)  # fmt: skip
"""Fields of the result that rank 0 tells the others."""
LOST = re.compile(
    r"gloo|nccl|connection (was )?(closed|reset|refused)|peer|coordination service|tim(ed|e) ?out",
    re.IGNORECASE,
)
"""What array libraries say where another process cannot be reached."""


def train_in_ranks(request: TrainingRequest, *, progress: bool = True) -> TrainResult:
    """Join the other processes and train with them; return rank 0's result in each of them.

    Raises UsageError where the others are not found, and for what cannot be shared out;
    TrainingFailed where another process has ended; else what a training raises.
    """
    request = _require(request)
    assert request.distributed is not None
    address = Address.parse(request.distributed)
    if request.threads is not None:
        os.environ.update(thread_variables(request.threads))  # before the library starts
    with leaving_after_errors(), _join(request, address) as ranks, _naming_lost_ranks(ranks):
        resolved = request.resolve()
        _require_shares(resolved, ranks)
        _set_up_process(resolved)
        ranks.agree(0)  # none looks for the folder any more, which rank 0 makes next
        with registry.kept_settings(resolved.framework, resolved.mode):
            return _follow(resolved, ranks) if ranks.rank else _lead(resolved, ranks, progress)


def _require(request: TrainingRequest) -> TrainingRequest:
    """Return the request with its mode and threads; UsageError for what no ranks can do."""
    registry.framework(request.framework)
    able = _frameworks()
    if request.framework not in able:
        raise UsageError(
            f"--distributed is there for {', '.join(able)}; {request.framework!r} trains in one "
            "process"
        )
    runtime = _runtime(request)
    if request.jobs is not None or (request.seeds is not None and not runtime.fused):
        raise UsageError(
            "--distributed trains one agent, or many in one program of a JAX framework; asked for "
            "are agents in processes of their own (--seeds, --sweep, --jobs)"
        )
    mode = request.mode
    if not runtime.fused:
        mode = _require_eager(request)
    threads = request.threads
    if threads == 0:
        threads = max(1, len(affinity()) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return dataclasses.replace(request, mode=mode, threads=threads)


def _frameworks() -> list[str]:
    """Return the frameworks of which several processes can train one agent; not Keras's modes."""
    rows = registry.FRAMEWORKS.items()
    return [n for n, row in rows if row.runtime and registry.RUNTIMES[row.runtime].ranks]


def _runtime(request: TrainingRequest) -> registry.Runtime:
    return registry.RUNTIMES[registry.framework(request.framework).runtime]


def _require_eager(request: TrainingRequest) -> str:
    """Return the mode in which ranks exchange gradients; UsageError for another one."""
    if not registry.algorithm(request.algorithm).shares_batches:
        able = registry.algorithms_with("shares_batches")
        raise UsageError(
            f"--distributed in {request.framework} is there for {', '.join(able)}; "
            f"{request.algorithm!r} can be distributed by a JAX framework, on a device engine"
        )
    if request.mode not in (None, "eager"):
        raise UsageError(
            f"--distributed in {request.framework} has the mode 'eager', as gradients are "
            f"exchanged between operations; asked for is {request.mode!r}"
        )
    return "eager"


@contextlib.contextmanager
def _join(request: TrainingRequest, address: Address) -> Iterator[Ranks]:
    registry.require_framework(request.framework, request.mode)
    module: ModuleType = registry.load(_runtime(request).ranks)
    with module.joined(address, request.device) as ranks:
        yield ranks


def _require_shares(request: TrainingRequest, ranks: Ranks) -> None:
    """Raise UsageError where a resolved training cannot be divided among the ranks."""
    config, device = request.config, request.device
    if request.jobs is not None:
        raise UsageError(
            "--distributed trains many agents only where they can be one program: on a device "
            "engine, without --resume, --checkpoint-every, --keep-best and --stop-at, and with "
            "sweeps of numbers that change no shape"
        )
    if _runtime(request).fused:
        if request.loop != "fused":
            raise UsageError(
                f"--distributed in {request.framework} runs one program on the devices of all "
                "processes: loop 'fused', on a device engine "
                f"({', '.join(_device_engines())}); here it is a host loop"
            )
        if ":" in device and not device.endswith(":all"):
            raise UsageError(
                f"--distributed takes all devices of a kind; asked for is {device!r}: use "
                f"--device {device.partition(':')[0]}"
            )
        return
    if getattr(config, "recurrent", False):
        envs = config.num_envs // config.num_minibatches
        require_parts("a minibatch's number of environments", envs, ranks.count)
    elif not registry.algorithm(request.algorithm).off_policy:
        require_parts("a minibatch's number of steps", config.rows_per_pass, ranks.count)
    else:
        require_parts("batch_size", config.batch_size, ranks.count)


def _device_engines() -> list[str]:
    return [name for name, row in registry.ENGINES.items() if row.kind == "device"]


def _set_up_process(request: TrainingRequest) -> None:
    """Set the library's threads and the global generators, if the process is ours."""
    if request.threads is None:
        return
    assert request.mode is not None, "the request is not resolved"
    make_runtime(
        request.framework, request.mode, request.precision, request.device, request.threads
    )
    seed_global_generators(request.seed)


def _lead(request: TrainingRequest, ranks: Ranks, progress: bool) -> TrainResult:
    """Train as rank 0, in a folder that the others are told; or tell them why there is none."""
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(request.hold_folder())
        except UsageError as error:
            ranks.tell({"refused": str(error)})
            raise
        ranks.tell({"folder": str(held.folder)})
        result = _run(held, progress, ranks)
        with contextlib.suppress(
            RuntimeError, ValueError
        ):  # all is stored, whether the others hear it or not
            ranks.tell({name: getattr(result, name) for name in TOLD})
        return result


def _follow(request: TrainingRequest, ranks: Ranks) -> TrainResult:
    """Train as another rank, and return what rank 0 has found."""
    answer: dict[str, Any] = ranks.tell()
    if "refused" in answer:
        raise UsageError(f"rank {ranks.rank} ends with rank 0: {answer['refused']}")
    request = dataclasses.replace(request, out=answer["folder"])
    own = _run(request, progress=False, ranks=ranks)
    return dataclasses.replace(own, **ranks.tell(), rank=ranks.rank)


def _run(request: TrainingRequest, progress: bool, ranks: Ranks) -> TrainResult:
    run = run_training if request.seeds is None else run_population
    return run(request, progress, ranks)


@contextlib.contextmanager
def _naming_lost_ranks(ranks: Ranks) -> Iterator[None]:
    """Raise TrainingFailed, in one line, where another process cannot be reached any more."""
    try:
        yield
    except (EnvironmentFailed, TrainingFailed, UsageError):
        raise
    except (RuntimeError, ValueError) as error:  # JAX raises one or the other
        if not LOST.search(str(error)):
            raise
        raise TrainingFailed(
            f"rank {ranks.rank} of {ranks.count} ends, as another process of this training has "
            f"ended or cannot be reached ({one_line(error)[:160]}): its own output says why; the "
            "last checkpoint is kept, and --resume goes on from it"
        ) from error
