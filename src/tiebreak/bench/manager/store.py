"""Write and read a results folder: records.jsonl, which is append-only, and suite.json.

Each record is one line, written whole by one `write` under a lock and flushed to the disk. A line
that a killed writer left incomplete is moved to records.torn; one that was damaged later is skipped
and counted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak.bench.record import SCHEMA, BadLine, Record, seal, unseal
from tiebreak.bench.record_fields import Suite, problem_of
from tiebreak.core import files
from tiebreak.core.errors import UsageError
from tiebreak.core.schema import check
from tiebreak.core.text import one_line, plural

RECORDS, SUITE, TORN = "records.jsonl", "suite.json", "records.torn"
NAME = re.compile(r"[A-Za-z0-9._-]{1,80}")
RUN_ID = re.compile(r"[0-9a-f]{16}")


class Log(NamedTuple):
    """Content of a records file."""

    records: list[Record]
    corrupt: list[tuple[int, str]]
    """Line number (from 1) and reason of each damaged line."""
    newer: int
    """Number of intact records of a later schema than this version reads; they are skipped."""

    @property
    def left_out(self) -> int:
        """Number of lines that are not among the records."""
        return len(self.corrupt) + self.newer

    def loss(self) -> str:
        """Return in one line what was left out and why; empty if nothing was."""
        reasons = []
        if self.corrupt:
            line, reason = self.corrupt[0]
            more = f", and {len(self.corrupt) - 1} more" if len(self.corrupt) > 1 else ""
            reasons.append(f"damaged: line {line}: {one_line(reason)[:200]}{more}")
        if self.newer:
            reasons.append(f"of a later version: {self.newer}")
        return (
            f"left out {plural(self.left_out, 'record')} ({'; '.join(reasons)})" if reasons else ""
        )


def check_name(name: str) -> str:
    """Return a folder's name if it is valid for results; raise UsageError if not."""
    if not NAME.fullmatch(name) or set(name) == {"."}:
        raise UsageError(
            f"{name!r} cannot name a run: 1 to 80 letters, digits, dots, underscores or hyphens"
        )
    return name


@contextlib.contextmanager
def hold(folder: str | Path) -> Iterator[None]:
    """Make a folder and lock it against other managers, until the context or this process ends.

    Two managers would measure on one machine at once. Records may still be appended: that lock is
    on the file.

    Raises UsageError if another process holds the lock, or if the folder cannot be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.hold(folder, "measuring"))
        except OSError as error:
            raise _unwritable(folder, error) from error
        yield


def _unwritable(folder: str | Path, error: OSError) -> UsageError:
    return UsageError(f"cannot write results to {folder}: {error.strerror}")


class Store:
    """Writer of a results folder. Several writers may use the same one."""

    def __init__(self, folder: str | Path):
        """Open or make the folder and repair an incomplete last line.

        Raises UsageError if it cannot be written.
        """
        self.folder = Path(folder)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.folder / RECORDS, flags, 0o644)
            with self._locked():
                self._heal()
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record to the disk. Raises OSError if the disk is full."""
        line = seal(record)
        with self._locked():
            size = self._heal()
            try:
                if os.write(self._file, line) != len(line):
                    raise OSError(errno.ENOSPC, "No space left for a whole record")
                os.fsync(self._file)
            except OSError as error:
                os.ftruncate(self._file, size)
                raise OSError(error.errno, error.strerror, str(self.folder / RECORDS)) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _heal(self) -> int:
        """Move an incomplete last line to records.torn; return the size of the file."""
        size = os.fstat(self._file).st_size
        if size == 0 or os.pread(self._file, 1, size - 1) == b"\n":
            return size
        start = self._last_newline(size) + 1
        tail = os.pread(self._file, size - start, start)
        with contextlib.suppress(BadLine):
            unseal(tail)
            os.write(self._file, b"\n")
            return size + 1
        with open(self.folder / TORN, "ab") as torn:
            torn.write(tail + b"\n")
        os.ftruncate(self._file, start)
        return start

    def _last_newline(self, end: int, step: int = 1 << 16) -> int:
        while end > 0:
            start = max(0, end - step)
            index = os.pread(self._file, end - start, start).rfind(b"\n")
            if index >= 0:
                return start + index
            end = start
        return -1


def read_log(path: str | Path, for_tables: bool = False) -> Log:
    """Read a results folder or a records file, with its damaged lines.

    Args:
      path: results folder or records file.
      for_tables: leave out of visits what no table or chart shows, and share equal values among
        them, so that 10^5 of them fit into memory several times. They must not be changed then.

    Raises UsageError if there is no such file.
    """
    file = _records_file(Path(path))
    log = Log([], [], 0)
    newer = 0
    shared: dict[str, Any] = {}
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            line = line.removesuffix(b"\n")
            if not line:
                continue
            try:
                record = unseal(line)
            except BadLine as error:
                log.corrupt.append((number, str(error)))
                continue
            schema = record.get("schema")
            if isinstance(schema, int) and schema > SCHEMA:
                newer += 1
            elif problem := problem_of(record):
                log.corrupt.append((number, problem))
            else:
                log.records.append(_for_tables(record, shared) if for_tables else record)
    if log.corrupt and not log.records and not newer:
        raise UsageError(f"{file} holds no record of tiebreak: {log.corrupt[0][1]} (line 1)")
    return log._replace(newer=newer)


NOT_SHOWN = {
    "at", "cache_files", "contention", "environment", "hash", "hash_seed", "parent_steady_s",
    "position", "schema", "value_s", "warmup_calls",
}  # fmt: skip
"""Fields of visits that no table or chart uses."""
SHOWN_WORK = ("calls", "env_steps", "updates")
"""Counts of a visit's work that tables use; numbers that only had to be finite are left out."""
UNIQUE = ("started_at",)
"""Texts that differ from visit to visit."""


def _for_tables(record: Record, shared: dict[str, Any]) -> Record:
    """Return a visit with the fields that are shown; records of other kinds are few and stay.

    shared: values by their text; a cell, its settings and the order of probes are equal in all of
      its visits. Names of fields become one object each, which JSON makes anew for every line.
    """
    if record["kind"] != "visit":
        return record
    kept = {}
    for name, value in record.items():
        if name in NOT_SHOWN:
            continue
        if name == "work":
            value = {count: value[count] for count in SHOWN_WORK if count in value}
        elif name in ("cell", "settings", "order"):
            value = shared.setdefault(repr(value), value)
        elif isinstance(value, dict):
            value = {sys.intern(key): item for key, item in value.items()}
        elif isinstance(value, str) and name not in UNIQUE:
            value = sys.intern(value)
        kept[sys.intern(name)] = value
    return kept


def read_records(path: str | Path) -> list[Record]:
    """Return the intact records of a results folder or a records.jsonl, in order of writing.

    Raises UsageError if there is no such file.
    """
    return read_log(path).records


def _records_file(path: Path) -> Path:
    hint = "tiebreak run SUITE --out DIR makes one"
    if not path.exists():
        raise UsageError(f"there is no results folder {str(path)!r} ({hint})")
    file = path / RECORDS if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"{str(path)!r} is not a results folder: it has no {RECORDS} ({hint})")
    return file


def read_run_id(folder: str | Path) -> str:
    """Return the run_id of a results folder: 16 hexadecimal digits.

    It becomes part of folder names. Raises UsageError for any other text, which no version wrote.
    """
    run_id = read_suite(folder).get("run_id")
    if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"{Path(folder) / SUITE} is damaged: its run_id is {str(run_id)[:80]!r}, not 16 "
            "hexadecimal digits; use another --out"
        )
    return run_id


def read_suite(folder: str | Path) -> dict[str, Any]:
    """Return suite.json of a results folder; raise UsageError if it is missing or damaged."""
    path = Path(folder) / SUITE
    try:
        suite = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{str(folder)!r} has no readable {SUITE}: {error}") from error
    if problem := check(suite, Suite):
        raise UsageError(f"{path} is not a resolved suite: {problem}")
    return suite
