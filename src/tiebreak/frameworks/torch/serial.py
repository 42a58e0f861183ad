"""Acting with one thread: what PyTorch does best on a CPU between two steps of an environment."""

from __future__ import annotations

from collections.abc import Callable

import torch

SERIAL_ROWS = 256
"""Observations up to which one thread acts."""


def serial(act: Callable) -> Callable:
    """`act(state, obs, …)` that runs, and is compiled, with one thread if observations are few.

    The threads of a pool have gone to sleep while the environments stepped, and once woken they
    wait for more by spinning, on the cores that the environments need. See docs/decisions/0031.
    """

    def alone(state, obs, *rest):
        if len(obs) > SERIAL_ROWS:
            return act(state, obs, *rest)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return act(state, obs, *rest)
        finally:
            torch.set_num_threads(threads)

    return alone
