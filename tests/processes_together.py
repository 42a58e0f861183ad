"""Processes that find one another at an address of this machine."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence

TIMEOUT_S = 400.0


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def environment() -> dict[str, str]:
    """Return this process's variables, without those of a launcher, and with the tests' path."""
    launcher = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    variables = {name: value for name, value in os.environ.items() if name not in launcher}
    return {**variables, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@contextlib.contextmanager
def started(arguments: Sequence[str], count: int = 2) -> Iterator[list[subprocess.Popen]]:
    """Start Python `count` times, with ADDRESS in the arguments replaced; kill what is left."""
    address = f"127.0.0.1:{free_port()}"
    processes = []
    try:
        for rank in range(count):
            own = [word.replace("ADDRESS", f"{address},{rank},{count}") for word in arguments]
            processes.append(
                subprocess.Popen(
                    [sys.executable, *own], env=environment(), text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                )
            )  # fmt: skip
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def run_together(arguments: Sequence[str], count: int = 2) -> list[tuple[int, str, str]]:
    """Return exit status, stdout and stderr of each process, in the order of the ranks."""
    with started(arguments, count) as processes:
        out = []
        for process in processes:
            stdout, stderr = process.communicate(timeout=TIMEOUT_S)
            out.append((process.returncode, stdout, stderr))
    return out
