"""Small functions, one line width, shallow nesting. Files may be as long as their one idea."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hygiene import tree

MAX_FUNCTION, MAX_WIDTH, MAX_NESTING = 40, 100, 3
BLOCKS = (ast.For, ast.While, ast.If, ast.With, ast.Try, ast.Match, ast.AsyncFor, ast.AsyncWith)


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in tree.files():
        for node in ast.walk(tree.syntax(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{tree.name(path)}:{node.lineno} {node.name}", node


def depth(node: ast.AST) -> int:
    """How deep control blocks lie in one another below `node`; `elif` is no deeper than `if`."""
    deepest = 0
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.FunctionDef):
                continue
            elif_ = field == "orelse" and isinstance(child, ast.If) and len(value) == 1
            deepest = max(deepest, depth(child) + (isinstance(child, BLOCKS) and not elif_))
    return deepest


def test_functions_are_short():
    long = [
        f"{where}: {lines} lines"
        for where, node in functions()
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION
    ]
    assert not long, f"over {MAX_FUNCTION} lines:\n" + "\n".join(long)


def test_nesting_is_shallow():
    deep = [f"{where}: {d}" for where, node in functions() if (d := depth(node)) > MAX_NESTING]
    assert not deep, f"nested deeper than {MAX_NESTING}:\n" + "\n".join(deep)


def test_lines_are_narrow():
    wide = [
        f"{tree.name(path)}:{number}: {len(line)} columns"
        for path in tree.files(tree.SRC, tree.ROOT / "tests")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > MAX_WIDTH
    ]
    assert not wide, f"over {MAX_WIDTH} columns:\n" + "\n".join(wide)
