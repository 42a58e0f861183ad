"""Compilers keep programs below the user's cache folder, where nothing else was asked for."""

from __future__ import annotations

import os

import pytest

from tiebreak.core import cache

VARIABLES = (
    "TORCHINDUCTOR_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
)  # fmt: skip


@pytest.fixture
def environment(monkeypatch, tmp_path):
    variables = {"XDG_CACHE_HOME": str(tmp_path)}
    monkeypatch.setattr(os, "environ", variables)
    return variables


def test_programs_are_kept_in_a_folder_for_each_kind_of_cpu(environment, tmp_path, monkeypatch):
    cache.keep_compiled_programs()
    folders = [environment[name] for name in VARIABLES[:2]]
    assert all(folder.startswith(f"{tmp_path}/tiebreak/programs/") for folder in folders)
    assert len(set(folders)) == 2

    for name in VARIABLES:
        del environment[name]
    monkeypatch.setattr(cache.Path, "read_bytes", lambda path: b"flags : fpu\n")
    cache.keep_compiled_programs()
    assert environment[VARIABLES[1]] not in folders


def test_what_the_user_has_set_stays(environment):
    environment.update(dict.fromkeys(VARIABLES, "mine"))
    cache.keep_compiled_programs()
    assert [environment[name] for name in VARIABLES] == ["mine"] * 3


def test_without_a_folder_that_can_be_written_nothing_is_set(environment):
    environment["XDG_CACHE_HOME"] = os.devnull
    cache.keep_compiled_programs()
    assert not environment.keys() & set(VARIABLES)
