"""Siblings have the same names in the same order, so that their diff is the difference."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hygiene import tree

from tiebreak import registry

JAX_SIBLINGS = ("linen", "nnx", "equinox")
OWN = {"nnx": {"Statistic"}}
"""Public names that one framework has alone: NNX types its state by classes of variables."""

PLUMBING = {"AgentDef", "State", "init", "prepare", "named", "dump", "load"}
"""Names that a framework may define once, in its own room, instead of in every agent file."""

NOT_IN_ALL_OPS = {
    "Adam": "the optimizer's state; JAX has optax's",
    "adam": "the optimizer; JAX has optax's",
    "make_optimizer": "optax chains for JAX, an object for TensorFlow; torch needs none",
    "scan": "loops inside a program; torch's are Python",
    "BETA1": "of adam", "BETA2": "of adam",
    "Layout": "one flat vector of weights, for TensorFlow's many small kernels",
    "ALIGN": "of Layout", "assign": "of Layout", "pack": "of Layout", "unpack": "of Layout",
}  # fmt: skip
"""Public names in one or two ops files only, and why."""


def folder(algorithm: str) -> Path:
    return tree.SRC / "algorithms" / algorithm


def sibling(algorithm: str, framework: str) -> Path:
    return folder(algorithm) / f"{algorithm}_{framework}.py"


def whole(algorithm: str, framework: str) -> list[Path]:
    """The files that make up one framework's implementation: JAX shares its losses."""
    shared = [folder(algorithm) / "losses_jax.py"] if framework in JAX_SIBLINGS else []
    return [*shared, sibling(algorithm, framework)]


def names(algorithm: str, framework: str) -> list[str]:
    return [n for path in whole(algorithm, framework) for n in tree.top_level_names(path)]


def tags(algorithm: str, framework: str) -> set[str]:
    return set().union(*(tree.comment_tags(path) for path in whole(algorithm, framework)))


def decisions(algorithm: str) -> set[str]:
    """The numbers in the first column of the specification's table."""
    text = (folder(algorithm) / "README.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\|\s*(D\d+)\s*\|", text, re.MULTILINE))


def public(found: list[str]) -> list[str]:
    return [name for name in found if not name.startswith("_")]


@pytest.mark.parametrize("algorithm", registry.ALGORITHMS)
@pytest.mark.parametrize("framework", [f for f in tree.FRAMEWORKS if f != "linen"])
def test_same_names_in_the_same_order(algorithm, framework):
    excluded = PLUMBING | OWN.get(framework, set())
    ours = [n for n in names(algorithm, framework) if n not in excluded]
    others = [n for n in names(algorithm, "linen") if n not in PLUMBING]
    assert public(ours) == public(others)
    assert [n for n in ours if n in others] == [n for n in others if n in ours]


@pytest.mark.parametrize("algorithm", registry.ALGORITHMS)
@pytest.mark.parametrize("framework", tree.FRAMEWORKS)
def test_private_helpers_come_last(algorithm, framework):
    """What may differ between siblings stands behind what may not."""
    found = tree.top_level_names(sibling(algorithm, framework))
    assert found == sorted(found, key=lambda name: name.startswith("_"))


@pytest.mark.parametrize("algorithm", registry.ALGORITHMS)
@pytest.mark.parametrize("framework", [f for f in tree.FRAMEWORKS if f != "linen"])
def test_same_arguments_in_the_same_order(algorithm, framework):
    ours, others = (arguments(algorithm, f) for f in (framework, "linen"))
    differ = {n: (ours[n], others[n]) for n in ours.keys() & others if ours[n] != others[n]}
    assert not differ


def arguments(algorithm: str, framework: str) -> dict[str, list[str]]:
    """Public function -> names of its arguments."""
    return {
        node.name: [a.arg for a in node.args.args]
        for path in whole(algorithm, framework)
        for node in tree.syntax(path).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


@pytest.mark.parametrize("algorithm", registry.ALGORITHMS)
@pytest.mark.parametrize("framework", tree.FRAMEWORKS)
def test_every_decision_is_tagged_in_the_code(algorithm, framework):
    shared = " ".join((folder(algorithm) / f).read_text() for f in ("config.py", "data.py"))
    tagged = tags(algorithm, framework) | set(re.findall(r"\bD\d+\b", shared))
    assert decisions(algorithm), "no decisions found in the specification"
    assert tagged == decisions(algorithm)


@pytest.mark.parametrize("algorithm", registry.ALGORITHMS)
@pytest.mark.parametrize("framework", [f for f in tree.FRAMEWORKS if f != "linen"])
def test_same_decisions_are_tagged_in_each_sibling(algorithm, framework):
    assert tags(algorithm, framework) == tags(algorithm, "linen")


@pytest.mark.parametrize("runtime", ["torch", "tensorflow"])
def test_ops_have_the_same_functions_in_the_same_order(runtime):
    def shared(library: str) -> list[str]:
        found = tree.top_level_names(tree.SRC / "frameworks" / library / "ops.py")
        return [name for name in public(found) if name not in NOT_IN_ALL_OPS]

    assert shared(runtime) == shared("jax")


@pytest.mark.parametrize("framework", [f for f in tree.FRAMEWORKS if f != "linen"])
def test_networks_have_the_same_classes_in_the_same_order(framework):
    def found(name: str) -> list[str]:
        jax = tree.SRC / "frameworks" / "jax" / f"{name}.py"
        own = tree.SRC / "frameworks" / name / "networks.py"
        return public(tree.top_level_names(jax if jax.exists() else own))

    assert found(framework) == found("linen")
