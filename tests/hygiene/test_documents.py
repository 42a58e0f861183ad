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


def test_every_folder_is_a_package():
    folders = sorted({path.parent for path in tree.files()})
    wrong = [tree.name(folder) for folder in folders if not (folder / "__init__.py").is_file()]
    assert not wrong, "Python files but no __init__.py:\n" + "\n".join(wrong)


def test_every_module_says_what_it_is():
    wrong = [tree.name(path) for path in tree.files() if not ast.get_docstring(tree.syntax(path))]
    assert not wrong, "no docstring:\n" + "\n".join(wrong)


def test_make_targets_in_documents_exist():
    targets = re.findall(r"^([a-z-]+):", (tree.ROOT / "Makefile").read_text(), re.MULTILINE)
    asked = {word for words in commands("make") for word in words if "=" not in word}
    assert {"bench", "test"} <= asked
    assert asked <= set(targets), f"no such target: {sorted(asked - set(targets))}"


def options_of(command: str, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return the options in the help of a command."""
    from tiebreak.cli import main

    assert main([command, "--help"]) == 0, f"tiebreak {command}: {capsys.readouterr().err}"
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", capsys.readouterr().out))


def test_commands_in_documents_exist(capsys, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")  # or the command line would set it for good
    documented = commands("tiebreak")
    known = {command: options_of(command, capsys) for command in {line[0] for line in documented}}
    wrong = []
    for command, *words in documented:
        options = {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)}
        wrong += [f"tiebreak {command} has no {name}" for name in options - known[command]]
    assert not wrong, "\n".join(wrong)


def test_the_workflow_to_copy_is_one_and_its_commands_exist(capsys):
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((tree.ROOT / "docs/speed.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["compare"]["steps"]
    lines = "\n".join(step.get("run", "") for step in steps).splitlines()
    used = [line.split() for line in lines if "bin/tiebreak " in line]
    assert [words[1] for words in used] == ["run", "run", "compare"]
    for _, command, *words in used:
        options = {word for word in words if re.fullmatch(r"--[a-z][a-z-]*", word)}
        assert options <= options_of(command, capsys)


def test_commands_that_the_overview_names_are_documented():
    from tiebreak.cli import COMMANDS

    asked = {words[0] for words in commands("tiebreak")}
    assert set(COMMANDS) == asked, "README.md and tiebreak.cli.COMMANDS differ"


def test_links_lead_somewhere():
    links = [
        (path, target)
        for path in DOCUMENTS
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
        if "://" not in target
    ]
    assert links
    dead = [
        f"{tree.name(path)} links to {target}"
        for path, target in links
        if not (path.parent / target).exists()
    ]
    assert not dead, "\n".join(dead)


def test_every_decision_is_in_the_index():
    folder = tree.ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    missing = [p.name for p in folder.glob("[0-9]*.md") if p.name not in index]
    assert not missing, f"docs/decisions/README.md does not list {missing}"


def test_versions_agree():
    from tiebreak import __version__

    assert f"version: {__version__}\n" in (tree.ROOT / "CITATION.cff").read_text()
    assert f"## {__version__}" in (tree.ROOT / "CHANGELOG.md").read_text()


def test_the_example_of_agents_runs():
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    _, example = blocks("python", "README.md")
    result = tree.run_python(example)
    assert result.returncode == 0, result.stderr
    numbers = [float(line) for line in result.stdout.split()]
    assert len(numbers) == 2, result.stdout
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4), result.stdout


@pytest.mark.slow(share=0.5)
def test_the_example_of_training_runs(tmp_path):
    pytest.importorskip("torch")
    example, _ = blocks("python", "README.md")
    assert example.count("\n") <= 10
    start = f"import os, sys; sys.path.insert(0, os.getcwd()); os.chdir({str(tmp_path)!r})\n"
    result = tree.run_python(start + example)
    assert result.returncode == 0, result.stderr
    assert "[5120" in result.stdout
    assert (tmp_path / "cartpole.safetensors").is_file()
