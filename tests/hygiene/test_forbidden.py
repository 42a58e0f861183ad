"""What must stand nowhere: pickles, clocks in agents, jit in agents, places only we can reach."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from hygiene import tree

AGENTS = [p for p in tree.files(tree.SRC / "algorithms") if tree.framework(p)]
COMPILERS = {
    "jit",
    "filter_jit",
    "pmap",
    "cached_partial",
    "function",
    "script",
    "block_until_ready",
}
"""Attributes that compile or synchronise: the runtime's business. `build.compile` is not here."""
OUTSIDE = {"time", "timeit", "gymnasium", "gymnax", "brax", "mujoco_playground", "datetime"}
UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
UNSAFE_CALLS = {"yaml.load", "yaml.unsafe_load", "torch.load", "torch.save", "pd.read_pickle"}
UNSAFE_NAMES = {"eval", "exec"}

# Written in halves, so that this file does not find itself.
PLACES = [
    "/wo" + "rk/", "../sha" + "red", "py" + "pi.org", "python" + "hosted", "down" + "load.pytorch",
    "index" + "-url", "find" + "-links", "trusted" + "-host", "/opt/" + "wheels",
]  # fmt: skip
LOCAL_BUILD = "+" + "cpu"
"""What no requirement may ask for. Records under results/ do say that it was installed."""


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute chain or name; "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def nodes(path):
    return ast.walk(tree.syntax(path))


def compilers_and_clocks(path: Path) -> set[str]:
    """Return the modules and attributes of a file that belong to runtimes and loops."""
    targets = [i.target for i in tree.imports(path)]
    modules = {target.partition(".")[0] for target in targets} & OUTSIDE
    attributes = [dotted(n) for n in nodes(path) if isinstance(n, ast.Attribute)]
    compilers = {n for n in [*attributes, *targets] if n.rpartition(".")[2] in COMPILERS}
    return modules | compilers


def test_agents_hold_no_jit_clock_or_environment():
    assert len(AGENTS) > 30
    wrong = [
        f"{tree.name(path)} uses {sorted(names)}"
        for path in AGENTS
        if (names := compilers_and_clocks(path))
    ]
    assert not wrong, "\n".join(wrong)


def unsafe(path: Path) -> set[str]:
    """Return the modules and calls of a file that run what they read."""
    names = {i.target for i in tree.imports(path) if i.target.partition(".")[0] in UNSAFE_MODULES}
    for call in (n for n in nodes(path) if isinstance(n, ast.Call)):
        name = dotted(call.func)
        if name in UNSAFE_CALLS or name in UNSAFE_NAMES:
            names.add(name)
        names |= {"allow_pickle" for k in call.keywords if k.arg == "allow_pickle"}
    return names


def test_nothing_is_pickled_or_evaluated():
    wrong = [
        f"{tree.name(path)} uses {sorted(names)}"
        for path in tree.files()
        if (names := unsafe(path))
    ]
    assert not wrong, "\n".join(wrong)


def test_published_files_name_no_private_place():
    found = []
    for path in tree.published():
        places = PLACES if "results" in path.parts else [*PLACES, LOCAL_BUILD]
        pattern = re.compile("|".join(map(re.escape, places)))
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # pictures and weights
        found += [
            f"{tree.name(path)}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()}"
            for match in pattern.finditer(text)
        ]
    assert not found, "\n".join(found)


def test_nothing_published_is_huge():
    big = [tree.name(p) for p in tree.published() if p.stat().st_size > 5 * 2**20]
    assert not big, f"over 5 MiB: {big}"
