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

    A stratum is the cases of a test function whose marks have the same options.
    `slow(each=("algorithm", "framework"))` runs at least one case of every algorithm and one of
    every framework, but not of every pair. `slow(share=0.5)` sets another share. What a stratum's
    share leaves over after whole tests is drawn too, so that every test is run once in 1 / share
    runs on average.
    """
    strata: dict[tuple, dict[str, set]] = defaultdict(dict)
    for item in slow:
        stratum, values = _stratum(item, share)
        strata[stratum][item.nodeid] = values
    drawn: set[str] = set()
    for (function, each, part), cases in sorted(strata.items()):
        rng = random.Random(f"{seed} {function} {each} {part}")
        count = int(part * len(cases) + rng.random())
        names = rng.sample(sorted(cases), len(cases))
        drawn.update(names[:count])
        drawn.update(_one_of_each({name: cases[name] for name in names}, names[:count]))
    return drawn


def _one_of_each(cases: dict[str, set], drawn: list[str]) -> list[str]:
    """Return the cases that must join those drawn before every value occurs in one.

    Cases come first that bring more new values, and among them the first ones.
    """
    seen = set().union(*(cases[name] for name in drawn))
    joining: list[str] = []
    for least in range(max(map(len, cases.values())), 0, -1):
        for name, values in cases.items():
            if len(values - seen) >= least:
                joining.append(name)
                seen |= values
    return joining


def _stratum(item: pytest.Item, share: float) -> tuple[tuple, set]:
    """Return (test function, names in `each`, share), and the values that those names have."""
    options: dict[str, Any] = {}
    for mark in SAMPLED:
        for found in reversed(list(item.iter_markers(mark))):
            options.update(found.kwargs)
    each = options.get("each", ())
    parameters = item.callspec.params if hasattr(item, "callspec") else {}  # type: ignore
    function = item.nodeid.partition("[")[0]
    values = {(name, str(parameters[name])) for name in each}
    return (function, each, options.get("share", share)), values


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
