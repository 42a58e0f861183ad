"""Documents say what is there: commands exist, links lead somewhere, folders explain themselves."""

from __future__ import annotations

import ast
import re
import shlex

import pytest
from hygiene import tree

DOCUMENTS = [p for p in tree.published() if p.suffix == ".md" and "results" not in p.parts]


def blocks(language: str, document: str) -> list[str]:
    """The fenced blocks of one language in a document."""
    text = (tree.ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[list[str]]:
    """Every command of `program` that a reader is told to type, split into words."""
    lines = {
        line.strip()
        for path in DOCUMENTS
        for block in blocks("sh", tree.name(path))
        for line in block.splitlines()
    }
    split = [shlex.split(line, comments=True) for line in sorted(lines)]
    return [words[1:] for words in split if words[:1] == [program]]


@pytest.mark.parametrize("path", sorted({p.parent for p in tree.files()}), ids=tree.name)
def test_every_folder_explains_itself(path):
    first = path / "__init__.py"
    assert first.is_file(), f"{tree.name(path)} has Python files but no __init__.py"
    assert ast.get_docstring(tree.syntax(first)), f"{tree.name(first)} has no docstring"


@pytest.mark.parametrize("path", tree.files(), ids=tree.name)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(tree.syntax(path)), f"{tree.name(path)} has no docstring"


def test_make_targets_in_documents_exist():
    targets = re.findall(r"^([a-z-]+):", (tree.ROOT / "Makefile").read_text(), re.MULTILINE)
    asked = {word for words in commands("make") for word in words if "=" not in word}
    assert {"bench", "test"} <= asked
    assert asked <= set(targets), f"no such target: {sorted(asked - set(targets))}"


@pytest.mark.parametrize("words", commands("tiebreak"), ids=" ".join)
def test_commands_in_documents_exist(words):
    code = "import sys; from tiebreak.cli import main; sys.exit(main())"
    result = tree.run_python(code, words[0], "--help")
    assert result.returncode == 0, result.stderr
    options = {word for word in words[1:] if re.fullmatch(r"--?[a-z][a-z-]*", word)}
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", result.stdout))
    assert options <= known, f"tiebreak {words[0]} has no {sorted(options - known)}"


def test_commands_that_the_overview_names_are_documented():
    from tiebreak.cli import COMMANDS

    asked = {words[0] for words in commands("tiebreak")}
    assert set(COMMANDS) == asked, "README.md and tiebreak.cli.COMMANDS differ"


@pytest.mark.parametrize("path", DOCUMENTS, ids=tree.name)
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    dead = [target for target in local if not (path.parent / target).exists()]
    assert not dead, f"{tree.name(path)} links to {dead}"


def test_every_decision_is_in_the_index():
    folder = tree.ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    missing = [p.name for p in folder.glob("[0-9]*.md") if p.name not in index]
    assert not missing, f"docs/decisions/README.md does not list {missing}"


def test_versions_agree():
    from tiebreak import __version__

    assert f"version: {__version__}\n" in (tree.ROOT / "CITATION.cff").read_text()
    assert f"## {__version__}" in (tree.ROOT / "CHANGELOG.md").read_text()


def test_the_example_runs():
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    (example,) = blocks("python", "README.md")
    result = tree.run_python(example)
    assert result.returncode == 0, result.stderr
    numbers = [float(line) for line in result.stdout.split()]
    assert len(numbers) == 2, result.stdout
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4), result.stdout
