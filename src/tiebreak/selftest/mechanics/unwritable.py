"""Cases of the check `damage`: a full disk, and a read-only folder.

Neither needs root. To a process whose files may not grow (RLIMIT_FSIZE) the disk is full: a write
is cut short or refused. Root may write anywhere, so the process becomes user nobody.
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
from typing import Any

from tiebreak.bench.manager.store import RECORDS, Store, read_log
from tiebreak.bench.record import one_line, seal
from tiebreak.core.errors import UsageError
from tiebreak.selftest.mechanics import killed_manager
from tiebreak.selftest.mechanics.original_run import OriginalRun
from tiebreak.selftest.mechanics.process_tracking import Marked

MODULE = "tiebreak.selftest.mechanics.unwritable"
SKIPPED = "not tried: "
"""Prefix of a case that could not be run."""
NOBODY = 65534
EXPLANATIONS = ("No space left", "File too large", "cannot write")
"""An error must contain one of these."""
EXTRA = {"kind": "damage", "text": "x" * 200}


def full(run: OriginalRun) -> Iterator[str]:
    """Leave no space for a record, for part of one, for all but its last byte; then for a run."""
    data = b"".join(run.lines)
    for room in (0, 1, 100, len(seal(EXTRA)) - 1):
        folder = run.with_records(data)
        code, output = _child(run, "append_limited", folder, len(data) + room)
        if code != 2 or not any(text in output for text in EXPLANATIONS):
            yield f"room for {room} bytes: status {code}, {output}"
        elif (folder / RECORDS).read_bytes() != data:
            yield f"room for {room} bytes: the file was changed"
        else:
            yield _writable_again(folder, len(run.records))
    yield _full_run(run, _room_for_one_visit(run))


def _room_for_one_visit(run: OriginalRun) -> int:
    """Return the bytes of a run's first records and 4/3 of a visit: lengths vary between runs."""
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


def _full_run(run: OriginalRun, limit: int) -> str:
    """Fill up the disk of a run: it must report that in one line, and resume with space again."""
    shutil.rmtree(run.copy, ignore_errors=True)
    code, output = _child(run, "run_limited", run.suite, run.copy, run.seed, limit)
    before = read_log(run.copy)
    if code != 2 or "Traceback" in output:
        return f"a run on a full disk: status {code}, {output}"
    if before.corrupt or not 0 < len(before.records) < len(run.records):
        return f"a run on a full disk: {len(before.records)} records, {len(before.corrupt)} bad"
    run.run(run.copy, resume=True)
    after = read_log(run.copy).records
    keys = [(r["block"], r["cell_id"]) for r in after if r["kind"] == "visit"]
    visits = sum(r["kind"] == "visit" for r in run.records)
    right = after[: len(before.records)] == before.records and len(set(keys)) == len(keys) == visits
    return "" if right else f"resumed after a full disk: {len(keys)} visits of {visits}"


def read_only(run: OriginalRun) -> Iterator[str]:
    """Remove write permission: reading must work, and writing be refused in one line."""
    parent = Path(tempfile.mkdtemp(prefix="tiebreak-"))
    parent.chmod(0o755)
    folder = parent / "results"
    try:
        shutil.copytree(run.folder, folder)
        for path in (*folder.iterdir(), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        code, output = _child(run, "read_then_write", folder)
        if code == 3:
            yield SKIPPED + output
        else:
            yield _judge_read_only(code, output, len(run.records))
    finally:
        folder.chmod(0o755)
        shutil.rmtree(parent)


def _judge_read_only(code: int, output: str, count: int) -> str:
    try:
        result: dict[str, Any] = json.loads(output)
    except ValueError:
        return f"status {code}: {output}"
    if result["records"] != count:
        return f"{result['records']} of {count} records could be read"
    wrong = [text for text in result["refused"] if "cannot write results to" not in text]
    return f"not refused: {wrong}" if wrong or len(result["refused"]) != 2 else ""


def append_limited(folder: str, limit: str) -> None:
    """Append a record to a file that must not exceed `limit` bytes; in a process of its own."""
    store = Store(folder)
    _limit(int(limit))
    try:
        store.append(EXTRA)
    except OSError as error:
        _exit_with(str(error))


def run_limited(suite: str, folder: str, seed: str, limit: str) -> None:
    """Run a suite on a disk with `limit` bytes for each file; in a process of its own."""
    _limit(int(limit))
    try:
        killed_manager.drive(suite, folder, seed, "")
    except (UsageError, OSError) as error:
        _exit_with(str(error))


def read_then_write(folder: str) -> None:
    """Read a folder, then try to write; in a process of its own, as nobody instead of root."""
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


def _exit_with(reason: str) -> None:
    print(reason)
    raise SystemExit(2)


def _child(run: OriginalRun, function: str, *arguments: object) -> tuple[int, str]:
    """Call a function in a process of its own; return its status, and its output in one line."""
    with Marked(run.folder.parent) as marked:
        process = marked.start(
            f"{MODULE}:{function}",
            *arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = process.communicate()
    return process.returncode, one_line(output.decode(errors="replace"), 2000)
