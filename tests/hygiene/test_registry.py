"""The registry's tables and the files they name hold one another, both ways."""

from __future__ import annotations

from pathlib import Path

from hygiene import tree

from tiebreak import registry
from tiebreak.training.launchers import LAUNCHERS
from tiebreak.training.trackers import TRACKERS


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(tree.SRC.parent).with_suffix("").parts)


def on_disk(pattern: str) -> set[str]:
    return {dotted(path) for path in tree.SRC.glob(pattern)}


ROWS = registry.FRAMEWORKS.values()
TABLES = {
    "FRAMEWORKS": {row.plumbing for row in ROWS} | {row.backends for row in ROWS if row.backends},
    "IMPLEMENTATIONS": set(registry.IMPLEMENTATIONS.values()),
    "RUNTIMES": {row.module for row in registry.RUNTIMES.values()},
    "ENGINES": {row.module for row in registry.ENGINES.values()},
    "ALGORITHMS": {row.against for row in registry.ALGORITHMS.values() if row.against},
}


def test_what_a_table_names_exists():
    absent = [
        f"registry.{table} names {module}"
        for table, modules in TABLES.items()
        for module in sorted(modules)
        if not tree.file_of(module).is_file()
    ]
    assert not absent, "files that are not there:\n" + "\n".join(absent)


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


def test_an_algorithm_has_all_its_files():
    absent: list[str] = []
    for algorithm in registry.ALGORITHMS:
        folder = tree.SRC / "algorithms" / algorithm
        required = {"README.md", "config.py", "data.py", "losses_jax.py", f"{algorithm}_numpy.py"}
        required |= {
            f"{algorithm}_{framework}.py" for framework in registry.frameworks_of(algorithm)
        }
        absent += sorted(
            f"{tree.name(folder)}/{name}" for name in required if not (folder / name).is_file()
        )
    assert not absent, "files that are not there:\n" + "\n".join(absent)


def test_every_algorithm_is_implemented_in_every_framework_that_does_not_say_otherwise():
    for name, row in registry.FRAMEWORKS.items():
        algorithms = set(row.algorithms or registry.ALGORITHMS)
        assert algorithms <= set(registry.ALGORITHMS), name
        assert {a for a, f in registry.IMPLEMENTATIONS if f == name} == algorithms
    assert [name for name, row in registry.FRAMEWORKS.items() if row.algorithms] == ["keras"]


def test_rows_are_consistent():
    for name, row in registry.FRAMEWORKS.items():
        assert row.default_mode in row.modes, name
        libraries = {row.library(mode) for mode in row.modes}
        assert libraries <= set(registry.RUNTIMES), name
        assert bool(row.runtime) != bool(row.backends), name
    assert {row.kind for row in registry.ENGINES.values()} <= {"host", "device"}


def test_extras_that_the_registry_recommends_exist():
    import tomllib

    project = tomllib.loads((tree.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows = [
        *registry.FRAMEWORKS.values(),
        *registry.ENGINES.values(),
        *TRACKERS.values(),
        *LAUNCHERS.values(),
    ]
    absent = {row.extra for row in rows if row.packages} - set(project["optional-dependencies"])
    assert not absent, f"pyproject.toml has no extra {sorted(absent)}"
