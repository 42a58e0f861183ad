"""Processes that share out environments and batches, by `torch.distributed` (decision 0067)."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from tiebreak.core.errors import UsageError
from tiebreak.core.ranks import JOIN_S, WAIT_S, Address, Ranks
from tiebreak.core.text import one_line
from tiebreak.core.types import Array

LAUNCHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables by which torchrun tells a process where the others are."""


class TorchRanks(Ranks):
    """This process in a process group: gloo for what is on a CPU, NCCL for what is on a GPU."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()

    def agree(self, number: int) -> int:
        told = torch.tensor([number])
        dist.broadcast(told, 0)
        return int(told)

    def tell(self, value: Any = None) -> Any:
        told = [value]
        dist.broadcast_object_list(told, 0, device=torch.device("cpu"))
        return told[0]

    def gather(self, tree: Any, axis: int) -> Any:
        """Return the NumPy arrays of a tuple, joined along an axis over all ranks; one message."""
        message = torch.from_numpy(_pack(tree))
        messages = [torch.empty_like(message) for _ in range(self.count)]
        dist.all_gather(messages, message)
        parts = [_unpack(part.numpy(), tree) for part in messages]
        joined = tuple(np.concatenate(arrays, axis) for arrays in zip(*parts, strict=True))
        return tree._make(joined) if hasattr(tree, "_fields") else joined

    def gather_all(self, value: Any) -> list[Any]:
        values = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def mean(self, tensors: Sequence[Array]) -> list[Array]:
        """Return the mean over all ranks of each tensor; they travel as one, summed in one order.

        All ranks get the same bits.
        """
        flat = torch.cat([x.reshape(-1) for x in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        parts = flat.split([x.numel() for x in tensors])
        return [part.view_as(x) for part, x in zip(parts, tensors, strict=True)]


@contextlib.contextmanager
def joined(address: Address, device: str) -> Iterator[Ranks]:
    """Join the other processes, and take the GPU of this one's number on its machine.

    Raises UsageError where the others are not found.
    """
    if not address.coordinator and (missing := [x for x in LAUNCHER if x not in os.environ]):
        raise UsageError(
            f"--distributed finds no launcher ({', '.join(missing)} not set): start with torchrun "
            "--nproc-per-node N -m tiebreak train …, or give HOST:PORT,RANK,COUNT"
        )
    on_gpu = device != "cpu"
    if on_gpu and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    _init(address, "cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    yield TorchRanks()
    dist.destroy_process_group()  # not after an error: it might wait for the others


def _init(address: Address, backend: str) -> None:
    """Make the process group: the others have JOIN_S to come, and WAIT_S for each exchange."""
    url, rank, count = "env://", -1, -1
    if address.coordinator:
        url, rank, count = f"tcp://{address.coordinator}", address.rank, address.count
    join, wait = (datetime.timedelta(seconds=x) for x in (JOIN_S, WAIT_S))
    try:
        store, rank, count = next(dist.rendezvous(url, rank, count, timeout=join))
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=wait)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"--distributed: torch does not find the other processes ({one_line(error)[:200]})"
        ) from error


def _pack(tree: Any) -> np.ndarray:
    """Return the bytes of a tuple of arrays, one after the other."""
    return np.concatenate([np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in tree])


def _unpack(message: np.ndarray, like: Any) -> list[np.ndarray]:
    """Return the arrays in a message of `_pack`; shapes and types are those of `like`."""
    arrays, start = [], 0
    for array in like:
        end = start + array.nbytes
        arrays.append(message[start:end].view(array.dtype).reshape(array.shape))
        start = end
    return arrays
