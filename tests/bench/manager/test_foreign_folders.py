"""A folder from elsewhere is data: its texts become part of no path, and remove nothing."""

from __future__ import annotations

import os
import tempfile

import pytest

from tiebreak.bench.manager import runner, store
from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_json

SUITE = {
    "suite": "quick", "scale": "quick", "seed": 0, "command": "", "version": "", "commit": "",
    "cells": [],
}  # fmt: skip


@pytest.mark.parametrize(
    "run_id",
    ["*/../../home/my", "*", "", "0123456789abcdeF", "0123456789abcdef0", 7, None, "a" * 10**6],
)
def test_a_run_id_that_no_version_wrote_is_refused(tmp_path, run_id):
    write_json(tmp_path / "suite.json", {**SUITE, "run_id": run_id})
    with pytest.raises(UsageError, match="not 16 hexadecimal digits") as caught:
        store.read_run_id(tmp_path)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_right_run_id_is_read(tmp_path):
    write_json(tmp_path / "suite.json", {**SUITE, "run_id": "0123456789abcdef"})
    assert store.read_run_id(tmp_path) == "0123456789abcdef"


def test_only_folders_with_this_very_prefix_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("tiebreak-x-old", "tiebreak-other", "my"):
        (tmp_path / name).mkdir()
    folder, release = runner._make_temporary("tiebreak-*-")
    release()
    assert sorted(os.listdir(tmp_path)) == sorted(
        [folder.name, "my", "tiebreak-other", "tiebreak-x-old"]
    )
    _, release = runner._make_temporary("tiebreak-x-")
    release()
    assert "tiebreak-x-old" not in os.listdir(tmp_path)
