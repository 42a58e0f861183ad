"""Adapters are small, and play every game of the suite `peers`, on command."""

from __future__ import annotations

import ast
import os
import tokenize
from dataclasses import replace
from pathlib import Path

import pytest
from hygiene import tree

from tiebreak.bench.manager.manager import run_plan
from tiebreak.bench.manager.store import read_records
from tiebreak.bench.suite import suite
from tiebreak.envs.task import Task
from tiebreak.peers import environments
from tiebreak.peers.table import PEERS

CACHE = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
"""The user's, where installed peers are; tests have another one."""

MOST_LINES = 80
"""Lines of code of an adapter besides its imports."""

GAMES = {
    f"{cell.peer}-{cell.algorithm}-{cell.task}-{cell.probe}": cell
    for cell in reversed(suite.load("peers", "survey", 0).cells)  # the first has the fewest envs
    if cell.peer
}


def code_lines(path):
    """Return the numbers of lines that hold code: no comment, no docstring, no import."""
    left_out = set()
    for node in ast.walk(ast.parse(path.read_text())):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= set(range(node.lineno, node.end_lineno + 1))
    lines = set()
    empty = (
        tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
        tokenize.ENDMARKER,
    )  # fmt: skip
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type not in (*empty, tokenize.ENCODING):
                lines |= set(range(token.start[0], token.end[0] + 1))
    return lines - left_out


def test_adapters_are_small():
    lengths = {name: len(code_lines(tree.SRC / "peers" / f"{name}.py")) for name in PEERS}
    assert max(lengths.values()) <= MOST_LINES, lengths


def test_every_peer_plays_what_its_row_says():
    played = {(cell.peer, cell.algorithm, Task.parse(cell.task).engine) for cell in GAMES.values()}
    said = {
        (name, algorithm, engine)
        for name, peer in PEERS.items()
        for algorithm, engines in peer.games.items()
        for engine in engines
    }
    assert played == said


@pytest.mark.slow(share=0)
@pytest.mark.parametrize("game", GAMES)
def test_a_peer_trains_and_its_work_is_counted(game, tmp_path, monkeypatch):
    """On command, if the peer is installed: `-k "work_is_counted and sb3"`."""
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    cell = GAMES[game]
    if reason := environments.why_unavailable(cell.peer):
        pytest.skip(reason)
    smoke = suite.load("peers", "smoke", 0)
    plan = replace(smoke, cells=(cell,), settings=replace(smoke.settings, timeout_s=600.0))
    records = read_records(run_plan(plan, tmp_path / "out", progress=False))
    (record,) = [r for r in records if r["kind"] == "visit"]
    assert (record["status"], record["error"]) == ("ok", "")
    assert record["value_s"] > 0
    assert record["work"]["weights_sha256"]
    if cell.probe == "train" and cell.engine.kind == "host":
        assert record["work"]["seen"]["env_steps"] > 0
