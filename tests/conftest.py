"""Quiet libraries, compile caches, and the sample of slow tests.

A plain run takes a sample of the tests marked `slow` or `learning`, drawn by a seed that is
printed, so that over many runs all of them are run. `--slow-all` runs them all; tests that are
named (`file.py::test`, `-k`, `-m`) always run.
"""

from __future__ import annotations

import os
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_SETTINGS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several test processes may share a GPU
}
if sys.prefix != sys.base_prefix:  # keep compiled programs with the versions that compiled them
    _SETTINGS |= {
        "JAX_COMPILATION_CACHE_DIR": str(Path(sys.prefix) / "jax-cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": str(Path(sys.prefix) / "inductor-cache"),
    }
for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)

SAMPLED = ("slow", "learning")


@pytest.fixture(scope="module", autouse=True)
def _programs_end_with_their_file() -> Iterator[None]:
    """Drop JAX's compiled programs: test processes grew to six gigabytes."""
    yield
    if jax := sys.modules.get("jax"):
        jax.clear_caches()


@pytest.fixture(autouse=True)
def _arrays_outlive_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no training start XLA again for its threads: a process of tests has arrays of others."""
    if module := sys.modules.get("tiebreak.frameworks.jax.runtime"):
        monkeypatch.setattr(module.Runtime, "set_threads", lambda self, threads: None)


@pytest.fixture(autouse=True, scope="session")
def _cache_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep certificates and durations of tests out of the user's cache folder."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _compile_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Turn JAX's cache on disk off for tests that count, time or read compilations."""
    if not request.node.get_closest_marker("compiles_anew"):
        yield
        return
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
    _use_compile_cache(False)
    yield
    _use_compile_cache(True)


def _use_compile_cache(use: bool) -> None:
    if jax := sys.modules.get("jax"):
        from jax.experimental.compilation_cache import compilation_cache

        jax.config.update("jax_enable_compilation_cache", use)
        compilation_cache.reset_cache()  # JAX decides once per process whether to use it


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tiebreak")
    group.addoption("--slow-sample", type=float, default=0.03, help="share of slow tests to run")
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
    drawn = draw(slow, config.option.slow_sample, config.option.slow_seed)
    left_out = [item for item in slow if item.nodeid not in drawn]
    dropped = {item.nodeid for item in left_out}
    items[:] = [item for item in items if item.nodeid not in dropped]
    config.hook.pytest_deselected(items=left_out)


def draw(slow: list[pytest.Item], share: float, seed: int) -> set[str]:
    """Return the ids of a sample, drawn in each stratum of the slow tests on its own.

    A stratum is a test function, or each combination of the parameters that its mark names:
    `slow(each=("algorithm", "framework"))` runs at least one case of every combination.
    `slow(share=0.5)` sets another share. What a stratum's share leaves over after whole tests is
    drawn too, so that every test is run once in 1 / share runs on average.
    """
    strata: dict[tuple, list[str]] = defaultdict(list)
    for item in slow:
        strata[_stratum(item, share)].append(item.nodeid)
    drawn: set[str] = set()
    for (function, *combination, least, part), names in sorted(strata.items()):
        rng = random.Random(f"{seed} {function} {combination}")
        count = int(part * len(names) + rng.random())
        drawn.update(rng.sample(sorted(names), max(count, least)))
    return drawn


def _stratum(item: pytest.Item, share: float) -> tuple:
    """Return (test function, values of `each` in its mark, …, least number, share)."""
    options: dict[str, Any] = {}
    for mark in SAMPLED:
        for found in reversed(list(item.iter_markers(mark))):
            options.update(found.kwargs)
    each = options.get("each", ())
    parameters = item.callspec.params if hasattr(item, "callspec") else {}  # type: ignore
    function = item.nodeid.partition("[")[0]
    values = [str(parameters[name]) for name in each]
    return (function, *values, int(bool(each)), options.get("share", share))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config = terminalreporter.config
    if not _runs_all(config):
        seed = config.option.slow_seed
        terminalreporter.write_line(
            f"slow tests: a sample drawn with seed {seed} "
            f"(the same again: --slow-seed {seed}; all: make test-all)"
        )


def _runs_all(config: pytest.Config) -> bool:
    named = any("::" in arg for arg in config.args)
    return bool(config.option.slow_all or config.option.keyword or config.option.markexpr or named)
