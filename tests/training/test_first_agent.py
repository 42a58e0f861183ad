"""docs/first-agent.md, as a reader types it, but for fewer steps."""

from __future__ import annotations

import re
import shlex
import sys

import pytest
from hygiene import tree

from tiebreak.cli import main

FEWER = {
    "total_steps=1e5": ["total_steps=1024", "--eval-episodes", "2"],
    "20000": ["512"],
    "total_steps=2e4": ["total_steps=600", "--set", "learning_starts=500", "--eval-episodes", "2"],
}
PAGE = tree.ROOT / "docs" / "first-agent.md"


def blocks(language: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def typed(line: str) -> list[str]:
    """Return the words of a command, with less to train and nothing to compile."""
    words = [fewer for word in shlex.split(line)[1:] for fewer in FEWER.get(word, [word])]
    return [*words, "--mode", "eager", "--threads", "1"] if words[0] == "train" else words


@pytest.mark.slow
def test_the_page_works_as_it_is_typed(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("gymnasium")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_module", raising=False)
    use, own = blocks("python")
    (tmp_path / "my_module.py").write_text(own, encoding="utf-8")

    lines = [line for block in blocks("sh") for line in block.splitlines()]
    commands = [typed(line) for line in lines if line.startswith("tiebreak ")]
    assert [words[0] for words in commands] == ["train", "plot", "evaluate", "train"]
    for words in commands:
        assert main(words) == 0, f"{words}: {capsys.readouterr().err}"
    files = re.findall(r"^\| `([\w.]+)/?` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(path.name for path in (tmp_path / "runs/cartpole").iterdir()) == sorted(files)

    capsys.readouterr()
    exec(compile(use, str(PAGE), "exec"), {})
    assert re.fullmatch(r"return \d+\n", capsys.readouterr().out)
