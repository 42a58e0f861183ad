"""Hashed names in records cannot be found by hashing a list of names."""

from __future__ import annotations

import hashlib
import json
import platform

import pytest

from tiebreak.bench.machine import fingerprint


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without a machine id, whose cache folder is `tmp_path`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fingerprint, "read", lambda path: "")
    fingerprint._secret.cache_clear()
    yield tmp_path
    fingerprint._secret.cache_clear()


def test_the_digest_of_a_name_is_not_the_digest_of_the_name_alone(machine):
    hashed = fingerprint._hashed("alice")
    assert len(hashed) == 12
    plain = (hashlib.sha256(text.encode()).hexdigest() for text in ("alice", "tiebreak:alice"))
    assert not any(digest.startswith(hashed) for digest in plain)


def test_a_machine_keeps_its_secret_and_another_has_another(machine, monkeypatch, tmp_path_factory):
    first = fingerprint._hashed("alice")
    fingerprint._secret.cache_clear()
    assert fingerprint._hashed("alice") == first

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("other")))
    fingerprint._secret.cache_clear()
    assert fingerprint._hashed("alice") != first


def test_without_a_place_for_a_secret_names_are_left_out(machine, monkeypatch):
    monkeypatch.setattr(fingerprint, "write_cached", lambda path, value: None)
    assert fingerprint._hashed("alice") == ""


def test_no_record_holds_the_secret():
    text = json.dumps(fingerprint.fingerprint())
    assert fingerprint._secret() not in text
    assert hashlib.sha256(f"tiebreak:{platform.node()}".encode()).hexdigest()[:12] not in text
