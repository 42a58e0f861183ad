"""The source tree as the hygiene tests see it: files, syntax trees, imports."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tiebreak import _PUBLIC, registry

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "tiebreak"
DEVICE_ENGINES = [row for row in registry.ENGINES.values() if row.kind == "device"]
LIBRARIES = frozenset(
    library
    for row in (*registry.FRAMEWORKS.values(), *DEVICE_ENGINES)
    for library in registry.allowed_imports(row.packages)
)
"""Importable names that a framework-free process must never load."""


class Import(NamedTuple):
    """One name brought in: `target` is a dotted module, as exact as the statement allows."""

    target: str
    line: int


def files(*folders: Path) -> list[Path]:
    """Every Python file below `folders` (default: the package), sorted."""
    return sorted(p for folder in folders or (SRC,) for p in folder.rglob("*.py"))


def name(path: Path) -> str:
    """The path for messages."""
    return path.relative_to(ROOT).as_posix()


def file_of(module: str) -> Path:
    """Where a dotted module lies in this tree."""
    return SRC.parent.joinpath(*module.split(".")).with_suffix(".py")


@cache
def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def top_level_names(path: Path) -> list[str]:
    """Functions, classes and constants in the order in which they are defined; no imports."""
    names: list[str] = []
    for node in syntax(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [leaf.id for t in node.targets for leaf in ast.walk(t) if _named(leaf)]
        elif isinstance(node, ast.AnnAssign) and _named(node.target):
            names.append(node.target.id)
    return names


def imports(path: Path) -> list[Import]:
    """Every import statement's targets, those inside functions included.

    `from tiebreak import x` counts as the module that x comes from.
    """
    found = []
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: imports are absolute"
            found += [
                Import(_origin(node.module or "", alias.name), node.lineno) for alias in node.names
            ]
    return found


def libraries(path: Path) -> set[str]:
    """The array libraries that a file imports anywhere."""
    return {item.target.partition(".")[0] for item in imports(path)} & LIBRARIES


def framework(path: Path) -> str | None:
    """Return the framework, runtime or numpy that a file or its folder is named for, or None."""
    known = (*registry.FRAMEWORKS, *registry.RUNTIMES, "numpy")
    words = [*path.stem.split("_"), path.parent.name]
    return next((name for name in known if name in words), None)


def comment_tags(path: Path) -> set[str]:
    """Decision tags (`# D4`) in comments."""
    text = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = " ".join(t.string for t in tokens if t.type == tokenize.COMMENT)
    return set(re.findall(r"\bD\d+\b", comments))


def published() -> list[Path]:
    """What a clone holds: tracked files and new ones that git does not ignore."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listing.returncode == 0:
        found = [ROOT / item for item in listing.stdout.split("\0") if item]
        return [path for path in found if path.is_file()]
    return [p for p in ROOT.rglob("*") if p.is_file() and not _local(p)]  # an unpacked archive


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run `code` in a fresh interpreter that sees this tree's package."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=SRC.parent, timeout=120, check=False
    )


def _named(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


def _origin(module: str, imported: str) -> str:
    if module == "tiebreak" and not imported.startswith("__"):
        return _PUBLIC.get(imported, f"tiebreak.{imported}")
    whole = f"{module}.{imported}"
    path = SRC.parent.joinpath(*whole.split("."))
    is_module = path.is_dir() or path.with_suffix(".py").is_file()
    return whole if is_module or not module.startswith("tiebreak") else module


def _local(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return any(p in {".venv", ".git", "build", "dist"} or "cache" in p for p in parts)
