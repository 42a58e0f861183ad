"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os

import pytest

from tiebreak.core.files import write_atomic, write_json


def test_a_refused_value_keeps_the_old_file(tmp_path):
    path = tmp_path / "suite.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["suite.json"]


def test_a_write_that_fails_half_way_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "new" / "page.html"
    write_atomic(path, "old ü")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_text(encoding="utf-8") == "old ü"
    assert os.listdir(path.parent) == ["page.html"]


def test_others_may_read_it(tmp_path):
    write_atomic(tmp_path / "a", b"")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
