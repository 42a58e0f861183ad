"""hosts.toml: what it may say, and the line of what it may not."""

from __future__ import annotations

import pytest

from tiebreak.bench.hosts import hosts_file
from tiebreak.bench.hosts.kinds import LocalHost, SshHost, SubmititHost
from tiebreak.core.errors import UsageError

ALL = """
[hosts.left]
cores = "0-2,5"

[hosts.server]
kind = "ssh"
address = "me@server"
command = "rl/bin/tiebreak"
directory = "work"
cores = [4, 3]

[hosts.node]
kind = "submitit"
minutes = 90
cpus = 8
[hosts.node.parameters]
slurm_partition = "fast"
"""


def read(tmp_path, text):
    path = tmp_path / "hosts.toml"
    path.write_text(text)
    return hosts_file.read(path)


def test_every_kind_of_host_is_read_in_the_order_of_the_file(tmp_path):
    left, server, node = read(tmp_path, ALL)
    assert left == LocalHost("left", cores=(0, 1, 2, 5))
    assert server == SshHost(
        "server",
        address="me@server",
        command="rl/bin/tiebreak",
        directory="work",
        cores=(3, 4),
    )
    assert node == SubmititHost("node", minutes=90, cpus=8, parameters={"slurm_partition": "fast"})
    assert not node.is_here


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"hosts\.toml: the file names no host: e\.g\."),
        ("[host.a]\n", r":1: unknown key 'host'; did you mean 'hosts'\?"),
        ("[hosts.a]\ncore = 1\n", r":2: unknown key of a host of kind 'local' 'core'; did"),
        ('[hosts.a]\nkind = "sssh"\n', r":2: unknown kind of host 'sssh'; did you mean 'ssh'"),
        ('[hosts.a]\naddress = "b"\n', r":2: unknown key of a host of kind 'local' 'address'"),
        ('[hosts.a]\nkind = "ssh"\n', r":1: a host of kind 'ssh' needs an address, e\.g\."),
        ("[hosts.a]\ncores = []\n", r":2: cores takes numbers of CPUs"),
        ('[hosts.a]\ncores = "0-"\n', r":2: cores takes numbers of CPUs"),
        ('[hosts.a]\ncores = "1,1"\n', r":2: cores takes numbers of CPUs"),
        ("[hosts.a]\ncommand = 3\n", r":2: command takes a text on one line, got 3"),
        ('[hosts.a]\nkind = "submitit"\nminutes = 0\n', r":3: minutes takes a whole number"),
        ('[hosts."a b"]\n', r":1: 'a b' cannot name a host"),
        ('[hosts."../a"]\n', r":1: '\.\./a' cannot name a host"),
        ("[hosts]\na = 1\n", r":2: a takes a table"),
        ("[hosts.a]\n[hosts.b]\ncores = [1]\n", r":1: several hosts on this machine"),
        ("[hosts.a]\ncores = [0, 1]\n[hosts.b]\ncores = [1]\n", r":4: core 1 is that of host 'a'"),
        ("[hosts.a\n", r":1: not TOML"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_its_place(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read file of hosts '.*none\.toml': No such file"):
        hosts_file.read(tmp_path / "none.toml")


def test_cores_that_are_not_ours_are_refused():
    with pytest.raises(UsageError, match="host 'a': core 9999 is not ours"):
        LocalHost("a", cores=(9999,)).check()
