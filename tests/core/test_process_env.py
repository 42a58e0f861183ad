"""Children do not import what lies in the folder that they are started in."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tiebreak.core import process_env
from tiebreak.core.files import write_json

HIJACK = "raise SystemExit('imported from the working folder')"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("random", "tempfile", "json", "numpy", "tiebreak"):
        (tmp_path / f"{name}.py").write_text(HIJACK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_safe_child_ignores_modules_in_its_folder(folder):
    code = "import random, json; print(json.dumps('ok'))"
    unsafe = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert b"imported from the working folder" in unsafe.stderr
    command = [sys.executable, *process_env.SAFE, "-c", code]
    assert json.loads(subprocess.run(command, capture_output=True, check=True).stdout) == "ok"


def test_children_of_multiprocessing_are_safe_inside_and_nothing_stays(folder, monkeypatch):
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with process_env.safe_children():
        code = "import random, json; print(json.dumps('ok'))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b'"ok"\n'
    assert "PYTHONSAFEPATH" not in os.environ


def test_python_m_tiebreak_is_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "empty.json", {})
    command = [sys.executable, "-m", "tiebreak", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tiebreak ")
