"""Documents say what is there: commands exist, links lead somewhere, folders explain themselves."""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from hygiene import tree

from tiebreak import _PUBLIC, registry
from tiebreak.core.config import override, parse_assignments, parse_sweeps
from tiebreak.core.errors import UsageError
from tiebreak.training.policy_files import POLICY
from tiebreak.training.search import read_space

DOCUMENTS = [p for p in tree.published() if p.suffix == ".md" and "results" not in p.parts]
OF_OTHERS = {"CHANGELOG.md", "coming-from.md"}
"""Documents that name options of other tools, or of earlier versions; decisions do, too."""
OF_USERS = [p for p in DOCUMENTS if "decisions" not in p.parts and p.name not in OF_OTHERS]


def blocks(language: str, document: str) -> list[str]:
    """The fenced blocks of one language in a document."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(document), re.MULTILINE | re.DOTALL)


def text_of(document: str) -> str:
    """A document's text, by its path in the repository."""
    return (tree.ROOT / document).read_text(encoding="utf-8")


def commands(program: str) -> list[list[str]]:
    """Every command of `program` that a reader is told to type, split into words."""
    lines: set[str] = set()
    for path in DOCUMENTS:
        for block in blocks("sh", tree.name(path)):
            lines |= {line.strip() for line in block.replace("\\\n", " ").splitlines()}
        lines |= {text for text in inline(path) if text.startswith(f"{program} ")}
    split = [shlex.split(line, comments=True) for line in sorted(lines)]
    return [words[1:] for words in split if words[:1] == [program] and words[1:]]


def inline(path: Path) -> list[str]:
    """The code within the sentences and tables of a document."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.findall(r"`([^`\n]+)`", text)


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


def test_options_that_sentences_name_exist(capsys, monkeypatch):
    from tiebreak.cli import COMMANDS

    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    known = {"--version", *set().union(*(options_of(command, capsys) for command in COMMANDS))}
    wrong: list[str] = []
    for path in OF_USERS:
        ours = [text for text in inline(path) if re.match(r"--[a-z]", text)]
        named = {re.match(r"--[a-z-]+", text)[0] for text in ours}  # type: ignore[index]
        wrong += [f"{tree.name(path)}: no command has {name}" for name in named - known]
    assert not wrong, "\n".join(wrong)


def test_settings_in_documents_exist():
    wrong: list[str] = []
    for command, *words in commands("tiebreak"):
        if command == "train" and words and words[0] in registry.ALGORITHMS:
            given = list(pairwise(words))
            settings = [value for option, value in given if option == "--set"]
            sweeps = [value for option, value in given if option == "--sweep"]
            wrong += refused(words[0], settings, sweeps)
    assert not wrong, "\n".join(wrong)


def refused(algorithm: str, settings: list[str], sweeps: list[str]) -> list[str]:
    """Return why an algorithm refuses settings, one line each."""
    config = registry.config_module(algorithm).Config()
    found: list[str] = []
    for name, value in parse_assignments(settings).items():
        try:
            override(config, {name: value})
        except UsageError as error:
            found.append(f"{algorithm} {name}={value}: {error}")
    for name, values in parse_sweeps(sweeps).items():
        try:
            read_space(algorithm, config, {name: values})
        except UsageError as error:
            found.append(f"{algorithm} {name}={values}: {error}")
    return found


def test_python_in_documents_is_python_and_its_names_exist():
    wrong: list[str] = []
    for path in DOCUMENTS:
        for block in blocks("python", tree.name(path)):
            used = [
                node.attr
                for node in ast.walk(ast.parse(block))
                if isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "tiebreak"
            ]
            wrong += [f"{tree.name(path)}: tiebreak.{n}" for n in used if n not in _PUBLIC]
    assert not wrong, "\n".join(wrong)


def test_names_for_those_who_come_from_another_library_exist(capsys, monkeypatch):
    from tiebreak.cli import COMMANDS

    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    options = set().union(*(options_of(command, capsys) for command in COMMANDS))
    kinds = [registry.config_module(name).Config for name in registry.ALGORITHMS]
    fields = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    metrics = {
        n for name in registry.ALGORITHMS for n in registry.data_module(name).Metrics._fields
    }
    documented = set(inline(tree.ROOT / "docs" / "metrics.md"))  # which a test compares with a log
    functions = {f"tiebreak.{name}" for name in _PUBLIC} | {"policy.act(obs)", POLICY}
    known = options | fields | metrics | documented | functions

    rows = re.findall(r"^\|(.*)\|(.*)\|(.*)\|$", text_of("docs/coming-from.md"), re.MULTILINE)
    assert len(rows) > 50
    named = {token for _, here, _ in rows for token in re.findall(r"`([^`]+)`", here)}
    words = {name: name.split()[0] for name in named}  # `--track wandb`
    wrong = {name for name, word in words.items() if word not in {*known, "tiebreak", "callback="}}
    assert not wrong, f"docs/coming-from.md names what is not here: {sorted(wrong)}"


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


@pytest.mark.slow(share=0.3)
def test_the_example_of_agents_runs():
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    _, example = blocks("python", "README.md")
    result = tree.run_python(example)
    assert result.returncode == 0, result.stderr
    numbers = [float(line) for line in result.stdout.split()]
    assert len(numbers) == 2, result.stdout
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4), result.stdout


@pytest.mark.slow(share=0.3)
def test_the_example_of_training_runs(tmp_path):
    pytest.importorskip("torch")
    example, _ = blocks("python", "README.md")
    assert example.count("\n") <= 10
    start = f"import os, sys; sys.path.insert(0, os.getcwd()); os.chdir({str(tmp_path)!r})\n"
    start += "os.environ['OMP_NUM_THREADS'] = '1'\n"  # two take far longer beside other tests
    result = tree.run_python(start + example)
    assert result.returncode == 0, result.stderr
    assert "[2048 4096]" in result.stdout
    assert (tmp_path / "cartpole.safetensors").is_file()
