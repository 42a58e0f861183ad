"""Folders that cannot be written: a full disk, and one that is read-only.

Neither needs root. A disk is full to a process whose files may not grow (RLIMIT_FSIZE): the write
is cut short or refused, as on a full file system. Root may write anywhere, so it becomes nobody.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiebreak.bench.manager.store import RECORDS, Store, read_log
from tiebreak.bench.record import one_line, seal
from tiebreak.core.errors import UsageError
from tiebreak.selftest.mechanics import killed_manager
from tiebreak.selftest.mechanics.process_tracking import Marked

if TYPE_CHECKING:
    from tiebreak.selftest.mechanics.corrupt_records import Original

MODULE = "tiebreak.selftest.mechanics.unwritable"
SKIPPED = "not tried: "
NOBODY = 65534
CLEAR = ("No space left", "File too large", "cannot write")
"""What an error has to say, among other things."""
EXTRA = {"kind": "damage", "text": "x" * 200}


def full(run: Original) -> Iterator[str]:
    """No space for a record, for part of one, for all but its last byte; then for a whole run."""
    data = b"".join(run.lines)
    for room in (0, 1, 100, len(seal(EXTRA)) - 1):
        folder = run.with_records(data)
        code, said = _child(run, "append_limited", folder, len(data) + room)
        if code != 2 or not any(words in said for words in CLEAR):
            yield f"room for {room} bytes: status {code}, {said}"
        elif (folder / RECORDS).read_bytes() != data:
            yield f"room for {room} bytes: the file is another afterwards"
        else:
            yield _writable_again(folder, len(run.records))
    yield _full_run(run, _after_a_visit(run))


def _after_a_visit(run: Original) -> int:
    """Bytes that a run outgrows, after its first records: how long one is differs between runs."""
    lines = zip(run.records, run.lines, strict=True)
    visits = [len(line) for record, line in lines if record["kind"] == "visit"]
    before = next(i for i, record in enumerate(run.records) if record["kind"] == "visit")
    return sum(map(len, run.lines[:before])) + 4 * min(visits) // 3


def _writable_again(folder: Path, count: int) -> str:
    store = Store(folder)
    store.append(EXTRA)
    store.close()
    log = read_log(folder)
    right = len(log.records) == count + 1 and not log.corrupt
    return "" if right else f"{len(log.records)} records, with space again"


def _full_run(run: Original, limit: int) -> str:
    """A run whose disk fills up says so in one line, and goes on when there is space."""
    shutil.rmtree(run.copy, ignore_errors=True)
    code, said = _child(run, "run_limited", run.suite, run.copy, run.seed, limit)
    before = read_log(run.copy)
    if code != 2 or "Traceback" in said:
        return f"a run on a full disk: status {code}, {said}"
    if before.corrupt or not 0 < len(before.records) < len(run.records):
        return f"a run on a full disk: {len(before.records)} records, {len(before.corrupt)} bad"
    run.run(run.copy, resume=True)
    after = read_log(run.copy).records
    keys = [(r["block"], r["cell_id"]) for r in after if r["kind"] == "visit"]
    visits = sum(r["kind"] == "visit" for r in run.records)
    right = after[: len(before.records)] == before.records and len(set(keys)) == len(keys) == visits
    return "" if right else f"resumed after a full disk: {len(keys)} visits of {visits}"


def read_only(run: Original) -> Iterator[str]:
    """A folder without permission to write: it reads, and writing is refused in one line."""
    open_to_all = Path(tempfile.mkdtemp(prefix="tiebreak-"))
    open_to_all.chmod(0o755)
    folder = open_to_all / "results"
    try:
        shutil.copytree(run.folder, folder)
        for path in (*folder.iterdir(), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        code, said = _child(run, "look_only", folder)
        if code == 3:
            yield SKIPPED + said
        else:
            yield _judge_read_only(code, said, len(run.records))
    finally:
        folder.chmod(0o755)
        shutil.rmtree(open_to_all)


def _judge_read_only(code: int, said: str, count: int) -> str:
    try:
        found: dict[str, Any] = json.loads(said)
    except ValueError:
        return f"status {code}: {said}"
    if found["records"] != count:
        return f"{found['records']} of {count} records could be read"
    wrong = [text for text in found["refused"] if "cannot write results to" not in text]
    return f"not refused: {wrong}" if wrong or len(found["refused"]) != 2 else ""


def append_limited(folder: str, limit: str) -> None:
    """In a process of its own: append one record to a file that must not exceed `limit` bytes."""
    store = Store(folder)
    _limit(int(limit))
    try:
        store.append(EXTRA)
    except OSError as error:
        _give_up(str(error))


def run_limited(suite: str, folder: str, seed: str, limit: str) -> None:
    """In a process of its own: a run on a disk with so much space for each file."""
    _limit(int(limit))
    try:
        killed_manager.drive(suite, folder, seed, "")
    except (UsageError, OSError) as error:
        _give_up(str(error))


def look_only(folder: str) -> None:
    """In a process of its own, as nobody if it was root's: read, then try to write."""
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        except OSError as error:
            print(f"root cannot become nobody here ({error.strerror})")
            raise SystemExit(3) from None
    refused = []
    for target in (Path(folder), Path(folder) / "new"):
        try:
            Store(target).close()
        except UsageError as error:
            refused.append(str(error))
    print(json.dumps({"records": len(read_log(folder).records), "refused": refused}))


def _limit(size: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write that fails, not a signal that kills
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _give_up(reason: str) -> None:
    print(reason)
    raise SystemExit(2)


def _child(run: Original, function: str, *arguments: object) -> tuple[int, str]:
    """(status, what it said in one line) of a function in a process of its own."""
    with Marked(run.folder.parent) as marked:
        call, pipe = f"{MODULE}:{function}", subprocess.PIPE
        process = marked.start(call, *arguments, stdout=pipe, stderr=subprocess.STDOUT)
        said, _ = process.communicate()
    return process.returncode, one_line(said.decode(errors="replace"), 2000)
