"""Read hosts.toml: the hosts that a suite is run on.

    [hosts.left]
    kind = "local"          # this machine; the default
    cores = "0-3"           # CPUs of its manager and workers

    [hosts.server]
    kind = "ssh"
    address = "me@server"   # as for ssh, whose own configuration applies
    command = "rl/.venv/bin/tiebreak"

The keys of a host are the fields of its class (`KINDS` in kinds.py). Errors name the line.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from tiebreak.bench.hosts.kinds import KINDS, Host
from tiebreak.bench.manager.store import NAME
from tiebreak.bench.suite import toml_table
from tiebreak.bench.suite.toml_table import Table
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.text import quoted

EXAMPLE = 'e.g. [hosts.left] with kind = "local" and cores = [0, 1]'


def read(path: Path) -> list[Host]:
    """Return the hosts of a file, in its order; raise UsageError for anything unknown."""
    table = toml_table.read(path, str(path), "file of hosts")
    table.check_keys("key", ("hosts",))
    listed = table.table("hosts")
    if not listed.values:
        raise table.wrong(f"the file names no host: {EXAMPLE}")
    hosts = [_host(listed.table(name), name) for name in listed.values]
    _refuse_shared_cores(listed, hosts)
    return hosts


def _host(table: Table, name: str) -> Host:
    """Return the host that a table describes."""
    if not NAME.fullmatch(name) or len(name) > 40 or set(name) == {"."}:
        raise table.wrong(
            f"{quoted(name)} cannot name a host: 1 to 40 letters, digits, dots, underscores or "
            "hyphens"
        )
    kind = table.values.get("kind", "local")
    if not isinstance(kind, str) or kind not in KINDS:
        raise table.wrong(unknown("kind of host", str(kind), KINDS), "kind")
    cls = KINDS[kind]
    keys = {field.name for field in fields(cls)} - {"name"}
    table.check_keys(f"key of a host of kind {kind!r}", ["kind", *sorted(keys)])
    types = typing.get_type_hints(cls)
    values = {}
    for key, value in table.values.items():
        if key != "kind":
            with table.at(key):
                values[key] = _value(key, value, types[key])
    host = cls(name=name, **values)
    if lacking := host.lacks():
        raise table.wrong(f"a host of kind {kind!r} needs {lacking}")
    return host


def _value(key: str, value: Any, kind: Any) -> Any:
    """Return a value of a host's field, which has to be of the field's type."""
    if key == "cores":
        return _cores(value)
    if kind is str:
        if isinstance(value, str) and value.strip() and "\n" not in value:
            return value
        raise UsageError(f"{key} takes a text on one line, got {quoted(value)}")
    if kind is int:
        if type(value) is int and value > 0:
            return value
        raise UsageError(f"{key} takes a whole number above 0, got {quoted(value)}")
    if isinstance(value, Mapping) and all(
        isinstance(item, (bool, int, float, str)) for item in value.values()
    ):
        return dict(value)
    raise UsageError(f"{key} takes a table of texts and numbers, got {quoted(value)}")


def _cores(value: Any) -> tuple[int, ...]:
    """Return the numbers of CPUs: `[0, 1]`, or `0-3,6` as taskset takes them."""
    if isinstance(value, str):
        value = [number for part in value.split(",") for number in _range(part)]
    are_numbers = isinstance(value, list) and all(type(n) is int and 0 <= n < 10_000 for n in value)
    if not are_numbers or not value or len(set(value)) < len(value):
        raise UsageError(f'cores takes numbers of CPUs, e.g. [0, 1] or "0-3", got {quoted(value)}')
    return tuple(sorted(value))


def _range(text: str) -> list[int]:
    """Return the numbers of `3` or `0-3`; -1, which is no CPU's, for anything else."""
    first, sign, last = text.strip().partition("-")
    ends = (first, last if sign else first)
    if not all(end.isascii() and end.isdigit() and len(end) < 5 for end in ends):
        return [-1]
    return list(range(int(ends[0]), int(ends[1]) + 1)) or [-1]


def _refuse_shared_cores(table: Table, hosts: list[Host]) -> None:
    """Refuse hosts on this machine that would take CPU time from one another."""
    owners: dict[int, str] = {}
    here = [host for host in hosts if host.is_here]
    for host in here:
        if len(here) > 1 and not host.cores:
            raise table.wrong(
                "several hosts on this machine would disturb one another: give each its cores",
                host.name,
            )
        for core in host.cores:
            if core in owners:
                raise table.wrong(
                    f"core {core} is that of host {owners[core]!r}, too", host.name, "cores"
                )
            owners[core] = host.name
