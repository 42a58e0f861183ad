"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from tiebreak.core.errors import UsageError
from tiebreak.core.files import refuse_input, write_atomic, write_json


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


def test_the_umask_is_honoured_and_an_old_file_keeps_its_permissions(tmp_path):
    old = os.umask(0o077)
    try:
        write_atomic(tmp_path / "private", b"")
    finally:
        os.umask(old)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    os.chmod(tmp_path / "private", 0o640)
    write_atomic(tmp_path / "private", b"new")
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o640


def test_a_symbolic_link_stays_a_link(tmp_path):
    target = tmp_path / "elsewhere" / "page.html"
    target.parent.mkdir()
    target.write_text("old")
    link = tmp_path / "page.html"
    link.symlink_to(target)
    write_atomic(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "made")
    write_atomic(dangling, "x")
    assert (tmp_path / "made").read_text() == "x"


def test_a_pipe_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_atomic(pipe, "through")
    reader.join(10)
    assert received == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_written_to():
    before = os.stat("/dev/null")
    write_atomic(Path("/dev/null"), "nothing")
    assert os.stat("/dev/null").st_rdev == before.st_rdev
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_an_input_is_never_an_output(tmp_path):
    records = tmp_path / "records.jsonl"
    records.write_text("{}")
    (tmp_path / "report.html").write_text("old")
    other = tmp_path / "link"
    other.symlink_to(tmp_path, target_is_directory=True)
    for output in (records, other / "records.jsonl"):
        with pytest.raises(UsageError, match="would be replaced"):
            refuse_input(output, [tmp_path])
    refuse_input(tmp_path / "report.html", [tmp_path])
    refuse_input(tmp_path / "new.html", [tmp_path])
