"""A suite that is too much is refused in a line, before it is read or expanded."""

from __future__ import annotations

import os
import time

import pytest

from tiebreak.bench.suite import suite
from tiebreak.core.errors import UsageError

RACE = """
[scales.quick]
{scale}
[[races]]
task = "gymnax/CartPole-v1"
probes = ["update"]
{race}
[[races.rows]]
framework = "linen"
"""


def refused(path, match):
    began = time.monotonic()
    with pytest.raises(UsageError, match=match) as caught:
        suite.load(str(path), None, 0)
    assert time.monotonic() - began < 5
    assert len(str(caught.value)) < 1000


def test_a_large_file(tmp_path):
    path = tmp_path / "large.toml"
    path.write_text(f'description = "{"x" * 2_000_000}"')
    refused(path, r"it has 1\.9 MiB, and at most 1 MiB are read")


def test_a_pipe_and_a_device(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    refused(tmp_path / "pipe.toml", "it is a pipe or a device")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    refused(tmp_path / "zero.toml", "it is a pipe or a device")


def test_a_million_combinations(tmp_path):
    numbers = list(range(1, 1001))
    path = tmp_path / "many.toml"
    path.write_text(RACE.format(scale="", race=f"num_envs = {numbers}\nagents = {numbers}"))
    refused(path, r"1000000 combinations of settings, and at most 10000")


@pytest.mark.parametrize("scale", ["blocks = 1000000000", "stages = [2, 1000000000]"])
def test_a_billion_blocks(tmp_path, scale):
    path = tmp_path / "blocks.toml"
    path.write_text(RACE.format(scale=scale, race=""))
    refused(path, "1000000000")


def test_what_was_written_is_cut_in_errors(tmp_path):
    path = tmp_path / "echo.toml"
    path.write_text(RACE.format(scale="", race=f"name = {['x' * 1000] * 100}"))
    refused(path, "name takes a string, got .*characters")
