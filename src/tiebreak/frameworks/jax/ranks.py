"""Processes that run one global program together, by `jax.distributed` (decision 0067)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from tiebreak.core.errors import UsageError
from tiebreak.core.ranks import JOIN_S, Address, Ranks
from tiebreak.core.text import one_line

BLOCK = 1024
"""Values travel in whole blocks of bytes, so that few sizes are compiled."""


class JaxRanks(Ranks):
    """This process among those of `jax.distributed`; every call is a program that all run."""

    def __init__(self) -> None:
        self.rank, self.count = jax.process_index(), jax.process_count()

    def agree(self, number: int) -> int:
        return int(multihost_utils.broadcast_one_to_all(np.int32(number)))

    def tell(self, value: Any = None) -> Any:
        text = json.dumps(value).encode() if self.rank == 0 else b""
        size = self.agree(len(text))
        block = np.zeros(-(-size // BLOCK) * BLOCK, np.uint8)
        block[: len(text)] = np.frombuffer(text, np.uint8)
        told = np.asarray(multihost_utils.broadcast_one_to_all(block))
        return json.loads(told[:size].tobytes())


@contextlib.contextmanager
def joined(address: Address, device: str) -> Iterator[Ranks]:
    """Join the other processes; on CPUs they exchange arrays by gloo, JAX's default.

    Call it before JAX computes anything. Raises UsageError where the others are not found.
    """
    del device  # a process has all of its machine's
    given: dict[str, Any] = {}
    if address.coordinator:
        given = {
            "coordinator_address": address.coordinator,
            "process_id": address.rank,
            "num_processes": address.count,
            "cluster_detection_method": "deactivate",
        }
    try:
        jax.distributed.initialize(**given, initialization_timeout=int(JOIN_S))
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"--distributed: JAX does not find the other processes ({one_line(error)[:200]}); "
            "where no SLURM, MPI or TPU says where they are, give HOST:PORT,RANK,COUNT"
        ) from error
    yield JaxRanks()
