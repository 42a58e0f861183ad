"""Put results folders of one suite together, record by record.

Nothing is computed: a record keeps the run and the fingerprint that it has, by which statistics
pool blocks of one fingerprint, and never those of two.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

from tiebreak import __version__
from tiebreak.bench.clock import stamp, utc_now
from tiebreak.bench.manager import store
from tiebreak.bench.manager.manager import RESULTS, refuse_used, write_suite
from tiebreak.bench.record import Record, seal
from tiebreak.core.errors import UsageError
from tiebreak.core.files import open_atomic
from tiebreak.core.text import quoted

SAME = ("suite", "scale", "device", "cells", "groups", "settings")
"""Fields of suite.json in which folders of one suite agree."""

MAY_DIFFER = ("blocks", "stages", "least_blocks", "budget_s", "limit_s")
"""Settings that say only how many blocks a folder has."""

ABOUT = ("run_id", "command", "seed", "version", "commit", "created_at", "blocks_planned")
"""Fields of suite.json that are kept of each folder."""


class Part(NamedTuple):
    """A results folder that is put together with others."""

    name: str
    folder: Path
    suite: Mapping[str, Any]
    records: list[Record]
    loss: str
    """Records that cannot be read, and why, in one line; empty if there are none."""


def read_part(folder: Path, name: str = "") -> Part:
    """Read a folder; raise UsageError if it is not one of a suite."""
    log = store.read_log(folder)
    return Part(
        name or folder.resolve().name, folder, store.read_suite(folder), log.records, log.loss()
    )


def merge(folders: Sequence[Path], out: Path | None = None) -> tuple[Path, list[Part]]:
    """Put folders of one suite into a new one; return it, and what was read.

    Raises UsageError for folders of different suites, and for `out` that holds results.
    """
    if len(folders) < 2:
        raise UsageError("there is nothing to merge: name two folders of results, or more")
    parts = _with_own_names([read_part(folder) for folder in folders])
    check_same_suite(parts)
    suite = str(parts[0].suite["suite"])
    folder = out or Path(RESULTS) / f"{suite}-merged-{stamp()}"
    refuse_used(folder)
    command = f"tiebreak merge {' '.join(quote(str(part.folder)) for part in parts)}"
    first = parts[0].suite
    description = {
        **{key: value for key, value in first.items() if key not in ("share", "hosts")},
        "version": __version__,
        "created_at": utc_now(),
        "run_id": secrets.token_hex(8),
        "command": f"{command} --out {quote(str(folder))}",
    }
    with store.hold(folder):
        write_merged(folder, description, parts)
    return folder, parts


def write_merged(folder: Path, description: Mapping[str, Any], parts: Sequence[Part]) -> None:
    """Write the records of all parts, then suite.json with what the parts were."""
    about = [one for part in parts for one in _about(part)]
    try:
        with open_atomic(folder / store.RECORDS) as file:
            for record in merged_records(parts):
                file.write(seal(record))
    except OSError as error:
        raise UsageError(f"cannot write results to {folder}: {error.strerror}") from error
    write_suite(folder, {**description, "merged": about})


def _about(part: Part) -> list[dict[str, Any]]:
    """Return what is kept of a folder, or of the folders that it was put together of."""
    if inner := part.suite.get("merged"):
        return [{**one, "name": f"{part.name}, {one['name']}"} for one in inner]
    return [{"name": part.name, **{key: part.suite[key] for key in ABOUT if key in part.suite}}]


def merged_records(parts: Sequence[Part]) -> list[Record]:
    """Return every record of the parts once, in their order.

    Certificates stand at the end, with one that is not green last, which is then the one that is
    shown. There are none if a part has none: nothing is known of that machine.
    """
    unique = {record["hash"]: record for part in parts for record in part.records}
    certificates = [r for r in unique.values() if r["kind"] == "certificate"]
    records = [r for r in unique.values() if r["kind"] != "certificate"]
    if all(any(r["kind"] == "certificate" for r in part.records) for part in parts):
        records += sorted(certificates, key=lambda r: not r["certificate"]["green"])
    return records


def check_same_suite(parts: Sequence[Part]) -> None:
    """Raise UsageError unless all parts are of one suite, and hold runs."""
    first = parts[0]
    for part in parts:
        if not any(record["kind"] == "visit" for record in part.records):
            raise UsageError(f"{quoted(str(part.folder))} holds no run yet: leave it out")
        for key in SAME:
            ours, theirs = _compared(first.suite, key), _compared(part.suite, key)
            if ours != theirs:
                values = f" ({ours} and {theirs})" if isinstance(ours, str) else ""
                raise UsageError(
                    f"{quoted(str(first.folder))} and {quoted(str(part.folder))} are not of one "
                    f"suite: their {key} differ{values}; see `tiebreak compare`"
                )


def _compared(suite: Mapping[str, Any], key: str) -> Any:
    """Return a field of suite.json without what may differ in it."""
    value = suite.get(key)
    if key == "settings" and isinstance(value, Mapping):
        return {name: item for name, item in value.items() if name not in MAY_DIFFER}
    return value


def _with_own_names(parts: Sequence[Part]) -> list[Part]:
    """Return the parts with names that differ: those of the folders, numbered if they do not."""
    names = [part.name for part in parts]
    if len(set(names)) == len(names):
        return list(parts)
    return [part._replace(name=f"{i}: {part.name}") for i, part in enumerate(parts, 1)]
