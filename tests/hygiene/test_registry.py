"""The registry's tables and the files they name hold one another, both ways."""

from __future__ import annotations

from pathlib import Path

import pytest
from hygiene import tree

from tiebreak import registry


def file_of(module: str) -> Path:
    """Where a dotted module lies in this tree."""
    return tree.SRC.parent.joinpath(*module.split(".")).with_suffix(".py")


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(tree.SRC.parent).with_suffix("").parts)


def on_disk(pattern: str) -> set[str]:
    return {dotted(path) for path in tree.SRC.glob(pattern)}


TABLES = {
    "IMPLEMENTATIONS": set(registry.IMPLEMENTATIONS.values()),
    "RUNTIMES": {row.module for row in registry.RUNTIMES.values()},
    "ENGINES": {row.module for row in registry.ENGINES.values()},
}


@pytest.mark.parametrize("table", TABLES)
def test_what_a_table_names_exists(table):
    absent = {module for module in TABLES[table] if not file_of(module).is_file()}
    assert not absent, f"registry.{table} names files that are not there: {sorted(absent)}"


def test_every_framework_file_is_registered():
    found = {
        module
        for framework in registry.FRAMEWORKS
        for module in on_disk(f"algorithms/*/*_{framework}.py")
        if ".dual_" not in module  # MPO's dual problem is part of its siblings
    }
    assert found == TABLES["IMPLEMENTATIONS"]


def test_every_runtime_and_engine_file_is_registered():
    assert on_disk("frameworks/*/runtime.py") == TABLES["RUNTIMES"]
    assert on_disk("envs/*_engine.py") == TABLES["ENGINES"]


def test_every_algorithm_folder_is_registered():
    folders = {
        f"tiebreak.algorithms.{path.parent.name}"
        for path in tree.SRC.glob("algorithms/*/__init__.py")
    }
    assert folders == {row.package for row in registry.ALGORITHMS.values()}


@pytest.mark.parametrize("algorithm", registry.ALGORITHMS)
def test_an_algorithm_has_all_its_files(algorithm):
    folder = tree.SRC / "algorithms" / algorithm
    wanted = {"README.md", "config.py", "data.py", "losses_jax.py", f"{algorithm}_numpy.py"}
    wanted |= {f"{algorithm}_{framework}.py" for framework in registry.FRAMEWORKS}
    absent = wanted - {path.name for path in folder.iterdir()}
    assert not absent, f"{tree.name(folder)} lacks {sorted(absent)}"


def test_every_algorithm_is_implemented_in_every_framework():
    pairs = {(a, f) for a in registry.ALGORITHMS for f in registry.FRAMEWORKS}
    assert set(registry.IMPLEMENTATIONS) == pairs


def test_rows_are_consistent():
    for name, row in registry.FRAMEWORKS.items():
        assert row.default_mode in row.modes, name
        assert row.runtime in registry.RUNTIMES, name
    assert {row.kind for row in registry.ENGINES.values()} <= {"host", "device"}


def test_extras_that_the_registry_recommends_exist():
    import tomllib

    project = tomllib.loads((tree.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows = [*registry.FRAMEWORKS.values(), *registry.ENGINES.values()]
    absent = {row.extra for row in rows} - set(project["optional-dependencies"])
    assert not absent, f"pyproject.toml has no extra {sorted(absent)}"
