"""Rooms and doors: which part may import which (docs/architecture.md has the picture)."""

from __future__ import annotations

import re
from pathlib import Path

from hygiene import tree

from tiebreak import registry
from tiebreak.peers.table import PEERS

FLOORS = (
    {"core", "stats"},
    {"frameworks", "envs", "registry", "peers"},
    {"algorithms", "loops", "verify"},
    {"training"},
    {"bench", "export"},
    {"selftest", "studies"},
    {"report"},
    {"__main__", "cli", "commands"},
)
"""Bottom first. A part imports from lower floors and from itself."""

SAME_FLOOR = {
    ("stats", "core"),
    ("envs", "registry"),  # the registry is tables; it lies at the very bottom of its floor
    ("frameworks", "registry"),
    ("peers", "registry"),
    ("verify", "algorithms"),  # the oracle, and what travels; no framework's file
    ("cli", "commands"),
    ("__main__", "cli"),
}
"""The few imports within a floor; none of them has its reverse."""


def shared_libraries(runtime: str) -> set[str]:
    """Return the libraries that all frameworks on top of a runtime may import."""
    rows = [row for row in registry.FRAMEWORKS.values() if row.runtime == runtime]
    return set.intersection(*(registry.allowed_imports(row.packages) for row in rows))


MAY_LOAD = {
    **{name: shared_libraries(name) for name in registry.RUNTIMES},
    **{name: registry.allowed_imports(row.packages) for name, row in registry.FRAMEWORKS.items()},
}
"""Array libraries open to a file whose name declares this framework or runtime."""

ENGINES = {
    f"{row.module.removeprefix('tiebreak.').replace('.', '/')}.py": set(row.packages)
    for row in tree.DEVICE_ENGINES
}
"""Array libraries open to the file of a device engine."""

ALSO = {
    "frameworks/jax/modes.py": {"flax", "equinox"},  # holds the modes of all three
    "envs/jax_simulator.py": {"jax"},
    "envs/jax_vector.py": {"jax"},
    "envs/bridge.py": {"jax"},
    "frameworks/keras/on_jax.py": {"jax"},
    "frameworks/keras/on_torch.py": {"keras"},
    "bench/probes/env.py": {"jax"},  # in a worker only: a device engine without an agent
    "commands/framework_info.py": {
        "jax",
        "tensorflow",
        "torch",
    },  # one each, in a process of its own
    "selftest/workloads/toy_model.py": {"jax", "torch"},  # in a worker only, as are the next
    "selftest/workloads/cheating_workloads.py": MAY_LOAD["linen"] | {"torch"},
}
"""Files that load libraries which their name does not declare."""

ADAPTERS = {f"peers/{name}.py" for name in PEERS}

MODULES = [p for p in tree.files() if p != tree.SRC / "__init__.py"]


def part(module: str) -> str:
    """The folder or top-level module of a dotted name: `tiebreak.core.types` -> core."""
    return module.split(".")[1] if "." in module else ""


def own_part(path: Path) -> str:
    return path.relative_to(tree.SRC).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    floors = [i for i, names in enumerate(FLOORS) if name in names]
    assert floors, f"{name} lies on no floor: add it to FLOORS"
    return floors[0]


def allowed(own: str, other: str) -> bool:
    return own == other or (own, other) in SAME_FLOOR or floor(other) < floor(own)


def inside(path: Path) -> list[tree.Import]:
    """What a file imports of this package; the package itself (its version) is free."""
    return [i for i in tree.imports(path) if i.target.startswith("tiebreak.")]


def test_imports_run_downwards():
    for path in MODULES:
        floor(own_part(path))
    wrong = [
        f"{tree.name(path)}:{i.line}: {i.target}"
        for path in MODULES
        for i in inside(path)
        if not allowed(own_part(path), part(i.target))
    ]
    assert not wrong, "imports sideways or upwards:\n" + "\n".join(wrong)


BENCH = (
    "clock",
    "record_fields",
    "record",
    "probe_table",
    "suite",
    "machine",
    "probes",
    "worker",
    "manager",
    "hosts",
)
"""Rooms of bench, bottom first; bench/__init__.py has the picture."""


def test_imports_in_bench_run_downwards():
    wrong = []
    for path in tree.files(tree.SRC / "bench"):
        own = path.relative_to(tree.SRC / "bench").parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for i in inside(path):
            words = i.target.split(".")
            if words[1] == "bench" and BENCH.index(words[2]) > BENCH.index(own):
                wrong.append(f"{tree.name(path)}:{i.line}: {i.target}")
    assert not wrong, "imports upwards in bench:\n" + "\n".join(wrong)


def door(path: Path, target: str) -> bool:
    """Whether a file of an algorithm may see `target`."""
    words = target.split(".")
    if words[1] == "algorithms":
        return words[2] == path.parent.name
    if words[1] == "frameworks":
        framework = tree.framework(path)
        row = registry.FRAMEWORKS.get(framework or "")
        folder = (row.runtime if row else "") or framework
        return words[2] in (folder, "weights")  # no framework's: the initial weights
    return words[1] == "core"


AGENTS = [p for p in MODULES if own_part(p) == "algorithms"]


def test_algorithms_see_core_their_framework_and_their_folder():
    wrong = [
        f"{tree.name(path)}:{i.line}: {i.target}"
        for path in AGENTS
        for i in inside(path)
        if not door(path, i.target)
    ]
    assert not wrong, "through a closed door:\n" + "\n".join(wrong)


def open_libraries(path: Path) -> set[str]:
    """Return the array libraries that a file may import."""
    where = path.relative_to(tree.SRC).as_posix()
    if path.stem.startswith("fused_") or where in FUSED:
        return {"jax"}  # one compiled program: what rollout and update share is JAX
    if where in ADAPTERS:
        peer = PEERS[path.stem]
        engines = {engine for names in peer.games.values() for engine in names}
        return {*peer.packages, *(p for name in engines for p in registry.ENGINES[name].packages)}
    named = MAY_LOAD.get(tree.framework(path) or "", set())
    return named | ENGINES.get(where, set()) | ALSO.get(where, set())


def test_only_files_named_for_a_library_import_it():
    wrong = [
        f"{tree.name(path)} imports {sorted(extra)}; its name opens {sorted(open_libraries(path))}"
        for path in MODULES
        if (extra := tree.libraries(path) - open_libraries(path))
    ]
    assert not wrong, "\n".join(wrong)


FUSED = {
    f"loops/{name}.py"
    for name in ("env_sharding", "memory_estimate", "population_evaluation", "population_vmap")
}
BY_NAME = {
    "__init__.py": "the public names, resolved when first used",
    "registry.py": "implementations, runtimes and engines",
    "cli.py": "its own table of commands",
    "core/postponed_imports.py": "what a library of others imports to draw with",
    "peers/purejaxrl.py": "the script of an algorithm, in a contestant's own environment",
    "core/user_modules.py": "a user's module, in `gymnasium/module:EnvId-v0`",
}
"""The files that import a module by a name in a variable, and what."""


def test_few_places_import_by_name():
    users = {
        path.relative_to(tree.SRC).as_posix()
        for path in tree.files()
        if re.search(r"importlib\.import_module\(|__import__\(", path.read_text(encoding="utf-8"))
    }
    assert users <= set(BY_NAME), sorted(users - set(BY_NAME))
