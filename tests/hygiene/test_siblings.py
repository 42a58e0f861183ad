"""Siblings have the same names in the same order, so that their diff is the difference."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from hygiene import tree

from tiebreak import registry

JAX_SIBLINGS = [name for name, row in registry.FRAMEWORKS.items() if row.runtime == "jax"]
OWN = {"nnx": {"Statistic"}}
"""Public names that one framework has alone: NNX types its state by classes of variables."""

NOT_IN_ALL_OPS = {
    "Adam": "the optimizer's state; JAX has optax's",
    "adam": "the optimizer; JAX has optax's",
    "radam": "the optimizer; JAX's are private, behind make_optimizer",
    "make_optimizer": "optax chains for JAX, an object for TensorFlow; torch needs none",
    "scan": "loops inside a program; torch's are Python",
    "convolve": "a product on CPUs, in JAX (decision 0052); others have their library's",
    "BETA1": "of adam", "BETA2": "of adam",
    "clip": "Keras's own rounds its bounds (decision 0064)",
    "Layout": "one flat vector of weights, for TensorFlow's many small kernels",
    "ALIGN": "of Layout", "assign": "of Layout", "pack": "of Layout", "unpack": "of Layout",
}  # fmt: skip
"""Public names in one or two ops files only, and why."""

LACKS = {
    "keras": {
        "ACTIVATIONS", "LayerNormMLP", "DeterministicPolicy", "ScaledPolicy", "at_least_float32",
    },
}  # fmt: skip
"""Names that no algorithm of a framework needs, and which it therefore does not have."""

SHARED = (
    "AgentDef", "AgentState", "features", "prepare", "apply_gradients", "update_targets",
    "copy_targets", "update_statistics", "named", "dump", "load", "make_agent",
)  # fmt: skip
"""What the agents of every framework share, written once per framework."""


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


def public(names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith("_")]


SIBLINGS = list(registry.IMPLEMENTATIONS)
OTHERS = [(a, f) for a, f in SIBLINGS if f != "linen"]
"""Those that are compared with Linen's."""


def difference(where: str, ours: list[str], linens: list[str]) -> list[str]:
    """Return one line if two lists of names differ, else none."""
    return [] if ours == linens else [f"{where}: {ours}, Linen {linens}"]


def test_same_names_in_the_same_order():
    wrong: list[str] = []
    for algorithm, framework in OTHERS:
        excluded = OWN.get(framework, set())
        ours = [n for n in names(algorithm, framework) if n not in excluded]
        linens = names(algorithm, "linen")
        where = f"{algorithm} {framework}"
        wrong += difference(f"{where}, public names", public(ours), public(linens))
        common = [n for n in ours if n in linens], [n for n in linens if n in ours]
        wrong += difference(f"{where}, common names", *common)
    assert not wrong, "\n".join(wrong)


def test_private_helpers_come_last():
    """What may differ between siblings stands behind what may not."""
    wrong: list[str] = []
    for algorithm, framework in SIBLINGS:
        path = sibling(algorithm, framework)
        ours = tree.top_level_names(path)
        if ours != sorted(ours, key=lambda name: name.startswith("_")):
            wrong.append(f"{tree.name(path)}: {ours}")
    assert not wrong, "\n".join(wrong)


def test_same_arguments_in_the_same_order():
    wrong: list[str] = []
    for algorithm, framework in OTHERS:
        ours, linens = arguments(algorithm, framework), arguments(algorithm, "linen")
        for name in sorted(ours.keys() & linens):
            wrong += difference(f"{algorithm} {framework}: {name}", ours[name], linens[name])
    assert not wrong, "\n".join(wrong)


def arguments(algorithm: str, framework: str) -> dict[str, list[str]]:
    """Public function -> names of its arguments."""
    return {
        node.name: [a.arg for a in node.args.args]
        for path in whole(algorithm, framework)
        for node in tree.syntax(path).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def test_every_decision_is_tagged_in_the_code():
    wrong: list[str] = []
    for algorithm, framework in SIBLINGS:
        shared = " ".join((folder(algorithm) / f).read_text() for f in ("config.py", "data.py"))
        tagged = tags(algorithm, framework) | set(re.findall(r"\bD\d+\b", shared))
        assert decisions(algorithm), f"no decisions found in the specification of {algorithm}"
        if tagged != decisions(algorithm):
            wrong.append(f"{algorithm} {framework}: {sorted(tagged ^ decisions(algorithm))}")
    assert not wrong, "in the code or in the specification only:\n" + "\n".join(wrong)


def test_same_decisions_are_tagged_in_each_sibling():
    wrong: list[str] = []
    for algorithm, framework in OTHERS:
        ours, linens = sorted(tags(algorithm, framework)), sorted(tags(algorithm, "linen"))
        wrong += difference(f"{algorithm} {framework}", ours, linens)
    assert not wrong, "\n".join(wrong)


def test_ops_have_the_same_functions_in_the_same_order():
    def shared(library: str) -> list[str]:
        names = tree.top_level_names(tree.SRC / "frameworks" / library / "ops.py")
        return [name for name in public(names) if name not in NOT_IN_ALL_OPS]

    assert shared("torch") == shared("jax")
    assert shared("tensorflow") == shared("jax")
    assert shared("keras") == [name for name in shared("jax") if name not in LACKS["keras"]]


def test_networks_have_the_same_classes_in_the_same_order():
    wrong: list[str] = []
    for framework in registry.FRAMEWORKS:
        expected = [n for n in networks("linen") if n not in LACKS.get(framework, ())]
        wrong += difference(framework, networks(framework), expected)
    assert not wrong, "\n".join(wrong)


def test_agents_have_the_same_plumbing_in_the_same_order():
    wrong: list[str] = []
    for framework in registry.FRAMEWORKS:
        shared = [name for name in plumbing(framework) if name in SHARED]
        wrong += difference(framework, shared, list(SHARED))
    assert not wrong, "\n".join(wrong)


def test_backends_of_keras_have_the_same_names_in_the_same_order():
    folder = tree.SRC / "frameworks" / "keras"
    found = {path.stem: public(tree.top_level_names(path)) for path in folder.glob("on_*.py")}
    assert set(found) == {f"on_{name}" for name in registry.FRAMEWORKS["keras"].modes}
    own = {name: [n for n in names if n != "Runtime"] for name, names in found.items()}
    assert len({tuple(names) for names in own.values()}) == 1, own


def networks(framework: str) -> list[str]:
    """Return the public names of a framework's networks; in JAX, all names before AgentDef."""
    if framework not in JAX_SIBLINGS:
        path = tree.SRC / "frameworks" / framework / "networks.py"
        return public(tree.top_level_names(path))
    names = public(tree.top_level_names(tree.SRC / "frameworks" / "jax" / f"{framework}.py"))
    return names[: names.index("AgentDef")]


def plumbing(framework: str) -> list[str]:
    """Return the public names of the module that holds a framework's agent plumbing."""
    module = registry.framework(framework).plumbing
    return public(tree.top_level_names(tree.file_of(module)))
