"""What a process that needs no framework loads: none."""

from __future__ import annotations

import json

import pytest
from hygiene import tree

FRAMEWORK_FREE = ("core", "stats", "bench", "studies", "report", "commands", "registry")
LOADED = """
import importlib, json, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded(*modules: str) -> set[str]:
    result = tree.run_python(LOADED, *modules)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout))


def modules_of(*folders: str) -> list[str]:
    """Dotted names of every module in folders of the package (or of single modules)."""
    paths = [p for f in folders for p in [tree.SRC / f"{f}.py", *tree.files(tree.SRC / f)]]
    dotted = [".".join(p.relative_to(tree.SRC.parent).with_suffix("").parts) for p in paths]
    return [d.removesuffix(".__init__") for d, p in zip(dotted, paths, strict=True) if p.exists()]


def test_the_package_loads_nothing():
    heavy = loaded("tiebreak") & (tree.LIBRARIES | {"numpy", "scipy", "rich", "gymnasium"})
    assert not heavy, f"import tiebreak loads {sorted(heavy)}"


def test_framework_free_parts_load_no_framework():
    modules = {folder: modules_of(folder) for folder in FRAMEWORK_FREE}
    assert all(modules.values()), f"nothing in one of {sorted(modules)}"
    if loaded(*[name for names in modules.values() for name in names]) & tree.LIBRARIES:
        by_folder = {folder: loaded(*names) & tree.LIBRARIES for folder, names in modules.items()}
        pytest.fail("\n".join(f"{f} loads {sorted(libs)}" for f, libs in by_folder.items() if libs))


def test_the_command_line_starts_light():
    heavy = loaded("tiebreak.cli") & (tree.LIBRARIES | {"numpy", "scipy", "jinja2", "gymnasium"})
    assert not heavy, f"tiebreak.cli loads {sorted(heavy)}"
