"""Quiet libraries, and the sample of slow tests.

A plain run takes a sample of the tests marked `slow` or `learning`, drawn by a seed that is
printed, so that over many runs all of them are run. `--slow-all` runs them all; tests that are
named (`file.py::test`, `-k`, `-m`) always run.
"""

from __future__ import annotations

import math
import os
import random
import sys
from collections.abc import Iterator

import pytest

for _name, _value in {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several test processes may share a GPU
}.items():
    os.environ.setdefault(_name, _value)

SAMPLED = ("slow", "learning")


@pytest.fixture(scope="module", autouse=True)
def _programs_end_with_their_file() -> Iterator[None]:
    """JAX keeps every program that was compiled: test processes grew to six gigabytes."""
    yield
    if jax := sys.modules.get("jax"):
        jax.clear_caches()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tiebreak")
    group.addoption("--slow-sample", type=float, default=0.3, help="share of slow tests to run")
    group.addoption("--slow-seed", type=int, default=None, help="repeat the sample of this seed")
    group.addoption("--slow-all", action="store_true", help="run every slow test")


def pytest_configure(config: pytest.Config) -> None:
    handed_over = getattr(config, "workerinput", {}).get("slow_seed")
    if handed_over is not None:  # all xdist workers must draw the same sample
        config.option.slow_seed = handed_over
    elif config.option.slow_seed is None:
        config.option.slow_seed = random.SystemRandom().randrange(10**6)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    node.workerinput["slow_seed"] = node.config.option.slow_seed


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _runs_all(config):
        return
    slow = [item for item in items if any(item.get_closest_marker(mark) for mark in SAMPLED)]
    names = sorted(item.nodeid for item in slow)
    count = math.ceil(config.option.slow_sample * len(names))
    kept = set(random.Random(config.option.slow_seed).sample(names, count))
    left_out = [item for item in slow if item.nodeid not in kept]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config = terminalreporter.config
    if not _runs_all(config):
        share, seed = config.option.slow_sample, config.option.slow_seed
        terminalreporter.write_line(
            f"slow tests: a sample of {share:.0%}, seed {seed} "
            f"(the same again: --slow-seed {seed}; all: --slow-all)"
        )


def _runs_all(config: pytest.Config) -> bool:
    named = any("::" in arg for arg in config.args)
    return bool(config.option.slow_all or config.option.keyword or config.option.markexpr or named)
