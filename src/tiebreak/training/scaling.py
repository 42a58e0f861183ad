"""Predict how fast one training goes on in many processes, from what one process can measure.

    python -m tiebreak.training.scaling docs/devices.json

A rank's own work does not depend on the others: it is measured in one process, beside ranks that
answer at once with copies of what they were sent (`Mirror`), for any number of them. What is sent
is counted, and its time follows from a link's latency and bandwidth. Two real processes are
measured, too: they give the link of this machine, and check the sum. docs/devices.md has the table.
"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tiebreak import registry
from tiebreak.core.config import override
from tiebreak.core.files import write_json
from tiebreak.core.ranks import Address, Ranks
from tiebreak.frameworks.threads import make_runtime
from tiebreak.loops.base import make_loop

ENVS, BATCH = 1024, 2048
COUNTS = (1, 2, 8, 64, 256, 1024)
"""Numbers of ranks that are measured beside mirrors."""
CASES: dict[str, dict[str, Any]] = {
    "ppo": {"num_steps": 16, "num_minibatches": 4, "num_epochs": 4, "hidden_sizes": (256, 256)},
    "sac": {"batch_size": BATCH, "num_updates": 4, "hidden_sizes": (256, 256)},
    "fasttd3": {
        "batch_size": BATCH, "num_updates": 4, "actor_sizes": (256, 128),
        "critic_sizes": (256, 256),
    },
}  # fmt: skip
"""Algorithm -> settings beside `num_envs`, on TASK, in torch."""
OFF_POLICY = {"num_rounds": 1, "learning_starts": ENVS, "replay_size": 64 * ENVS}
TASK = "gymnasium/Pendulum-v1"
MEASURE_S, MOST_RUNS = 3.0, 8
"""Seconds and iterations after which a measurement ends, whichever comes first."""
LARGE = 1 << 22
"""Numbers in the message by which a link's bandwidth is measured."""


class Link(NamedTuple):
    """What connects two ranks."""

    latency_s: float
    """Seconds of a message without content."""
    bytes_per_s: float
    """In each direction."""
    is_tree: bool
    """Whether messages go through a tree of ranks (NCCL), or round a ring of them (gloo)."""


LINKS = {
    "Ethernet, 25 Gb/s, gloo": Link(30e-6, 25e9 / 8, is_tree=False),
    "InfiniBand, 400 Gb/s, NCCL": Link(6e-6, 400e9 / 8, is_tree=True),
}
"""Links as they are sold: assumed, not measured."""


class Exchange(NamedTuple):
    """What one rank sends in an iteration."""

    gathers: int
    """Messages that give every rank what each of them has."""
    gathered_bytes: int
    """Of this rank."""
    reductions: int
    """Messages that give every rank the mean of what they have."""
    reduced_bytes: int


class Mirror(Ranks):
    """Rank 0 of many, of which the others are where it is; counts what it sends."""

    def __init__(self, count: int):
        self.count = count
        self.sent = Exchange(0, 0, 0, 0)

    def gather(self, tree: Any, axis: int) -> Any:
        size = sum(array.nbytes for array in tree)
        sent = self.sent
        self.sent = sent._replace(
            gathers=sent.gathers + 1, gathered_bytes=sent.gathered_bytes + size
        )
        joined = tuple(np.concatenate([array] * self.count, axis) for array in tree)
        return tree._make(joined) if hasattr(tree, "_fields") else joined

    def mean(self, tensors: Any) -> Any:
        size = sum(x.numel() * x.element_size() for x in tensors)
        sent = self.sent
        self.sent = sent._replace(
            reductions=sent.reductions + 1, reduced_bytes=sent.reduced_bytes + size
        )
        return tensors


def exchange_s(sent: Exchange, link: Link, ranks: int) -> float:
    """Return the seconds in which `ranks` ranks exchange what each sends in an iteration.

    Round a ring, each of the others' parts arrives in a message of its own; a sum goes round twice,
    in parts. Through a tree, as many bytes arrive in fewer messages (Thakur et al. 2005).
    """
    if ranks == 1:
        return 0.0
    others = ranks - 1
    hops = math.ceil(math.log2(ranks)) if link.is_tree else others
    messages = (sent.gathers + 2 * sent.reductions) * hops
    arriving = others * sent.gathered_bytes + 2 * others / ranks * sent.reduced_bytes
    return messages * link.latency_s + arriving / link.bytes_per_s


def config_of(algorithm: str) -> Any:
    """Return the settings of a case."""
    settings = {"num_envs": ENVS, "total_steps": 10**9, **CASES[algorithm]}
    if registry.algorithm(algorithm).off_policy:
        settings = {**OFF_POLICY, **settings}
    return override(registry.config_module(algorithm).Config(), settings)


def iteration_s(algorithm: str, ranks: Ranks) -> float:
    """Return the median seconds of an iteration with this rank's share of a case."""
    loop: Any = make_loop(
        algorithm, "torch", TASK, mode="eager", loop="host", config=config_of(algorithm),
        ranks=ranks,
    )  # fmt: skip
    with contextlib.closing(loop):
        while loop.is_warmup:
            loop.run()
        loop.run()
        if isinstance(ranks, Mirror):
            ranks.sent = Exchange(0, 0, 0, 0)
        seconds: list[float] = []
        while len(seconds) < MOST_RUNS and sum(seconds) < MEASURE_S:
            start_s = time.perf_counter()
            loop.runtime.to_numpy(loop.run())
            seconds.append(time.perf_counter() - start_s)
            # Ranks measure times of their own, and have to end together.
            seconds[-1] = 1e-6 * ranks.agree(round(1e6 * seconds[-1]))
    if isinstance(ranks, Mirror):
        ranks.sent = Exchange(*(number // len(seconds) for number in ranks.sent))
    return float(np.median(seconds))


def measure_link(ranks: Any) -> Link:
    """Return the link between two processes, by the sums of a small and of a large message."""
    torch = registry.load("torch")

    def seconds(numbers: int, times: int) -> float:
        message = [torch.zeros(numbers)]
        ranks.mean(message)
        start_s = time.perf_counter()
        for _ in range(times):
            ranks.mean(message)
        return (time.perf_counter() - start_s) / times

    latency_s = seconds(1, 200) / 2  # a sum is two messages
    return Link(latency_s, 4 * LARGE / (seconds(LARGE, 5) - 2 * latency_s), is_tree=False)


def measure(folder: Path, address: str) -> dict[str, Any]:
    """Measure all cases in this process, beside mirrors, and in two processes; return the file."""
    make_runtime("torch", "eager", "float32", "cpu", 1)
    cases: dict[str, Any] = {}
    for algorithm in CASES:
        cases[algorithm] = {"ranks": {}}
        for count in COUNTS:
            mirror = Mirror(count)
            own_s = iteration_s(algorithm, mirror)
            cases[algorithm]["ranks"][str(count)] = {"own_s": own_s, **mirror.sent._asdict()}
    out = folder / "two.json"
    words = [sys.executable, "-m", "tiebreak.training.scaling", str(out)]
    both = [subprocess.Popen([*words, f"{address},{rank},2"]) for rank in (0, 1)]
    if any(process.wait() for process in both):
        raise RuntimeError("one of two processes has failed")
    two = json.loads(out.read_text(encoding="utf-8"))
    for algorithm, seconds in two["cases"].items():
        cases[algorithm]["two_s"] = seconds
    return {"schema": 1, "task": TASK, "envs": ENVS, "link": two["link"], "cases": cases}


def measure_together(out: Path, address: Address) -> None:
    """Measure link and cases as one of two processes; rank 0 writes what it finds."""
    make_runtime("torch", "eager", "float32", "cpu", 1)
    module = registry.load(registry.RUNTIMES["torch"].ranks)
    with module.joined(address, "cpu") as ranks:
        link = measure_link(ranks)
        cases = {algorithm: iteration_s(algorithm, ranks) for algorithm in CASES}
        if ranks.rank == 0:
            write_json(out, {"link": link._asdict(), "cases": cases})


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the file that is named; two processes of a measurement name a rank."""
    out = Path(arguments[0])
    if len(arguments) > 1:
        measure_together(out, Address.parse(arguments[1]))
        return
    import socket
    import tempfile

    with socket.socket() as found, tempfile.TemporaryDirectory() as folder:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
        found.close()
        write_json(out, measure(Path(folder), address))


if __name__ == "__main__":
    main(sys.argv[1:])
