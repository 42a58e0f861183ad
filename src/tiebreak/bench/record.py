"""Define one line of records.jsonl: its kinds, its hash, and the check of a worker's result.

Schema history
1: kinds visit, calibration, machine, canary, certificate. A record of kind visit is a run of a
   cell.
2: kind selftest; status oom; runs carry a memory series, a second clock, contention in full, and
   unexpected data from the worker; a canary names its groups, a closing one its seconds. Added
   later, without another number: kind pending; first_calls_s, attempt, phases_overlapped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from tiebreak.bench.record_fields import Outcome
from tiebreak.core.schema import check

SCHEMA = 2
KINDS = ("visit", "calibration", "machine", "canary", "certificate", "pending", "selftest")
STATUSES = ("ok", "failed", "timeout", "oom", "crash", "missing")

Record = dict[str, Any]
"""A line of records.jsonl of any kind. Fields of later versions are kept as they are."""


class Result(TypedDict):
    """Measurement of one cell: the fields of a record of kind visit that a worker fills."""

    status: str
    """One of STATUSES."""
    error: str
    """Reason of a status that is not ok, in one line."""
    unit: str
    """Unit of work, e.g. `env steps`."""
    units_per_sample: int
    calls_per_sample: int
    samples_s: list[float]
    """Seconds of each sample."""
    value_s: float | None
    """Seconds per unit: the median sample divided by its units; None if the run is invalid."""
    warmup_calls: NotRequired[int]
    first_calls_s: NotRequired[list[float]]
    """Seconds of the first calls, one by one, eight at most."""
    phases_s: dict[str, float]
    """Seconds by phase: import, build, first_call, warmup, steady, memory, proof."""
    parent_steady_s: NotRequired[float]
    """Seconds of the steady phase by the manager's clock."""
    contention: NotRequired[dict[str, float]]
    memory: dict[str, Any]
    work: dict[str, Any]
    """Work counted, checksum of the weights, and numbers that have to be finite."""
    flags: dict[str, Any]
    """Flag -> measured value."""
    settings: dict[str, Any]
    """Effective settings, read back from the library."""
    fault: NotRequired[str]
    """The first unexpected message of the worker, in one line."""
    started_at: NotRequired[str]
    hash_seed: NotRequired[int]
    turns: NotRequired[str]
    """Id of the interleaving."""
    phases_overlapped: NotRequired[bool]
    """Another process prepared at the same time: its phases are not the time of a start."""
    cache_files: NotRequired[int]
    """Files in the compile cache when the probe began."""


def empty_result(status: str, error: str) -> Result:
    """Return the result of a cell of which nothing was measured."""
    return {
        "status": status,
        "error": error,
        "phases_s": {},
        "samples_s": [],
        "units_per_sample": 0,
        "calls_per_sample": 0,
        "unit": "",
        "value_s": None,
        "memory": {},
        "work": {},
        "flags": {},
        "settings": {},
    }


class BadLine(ValueError):
    """A line that is not an intact record; the message gives the reason."""


def dumps(record: Mapping[str, Any]) -> str:
    """Return the canonical JSON text, which is hashed. Raises ValueError for NaN and infinity."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)


def seal(record: Mapping[str, Any]) -> bytes:
    """Return a record as a line to store: with schema, hash and newline."""
    content = {"schema": SCHEMA, **record}
    content.pop("hash", None)
    digest = hashlib.sha256(dumps(content).encode()).hexdigest()
    return dumps({**content, "hash": digest}).encode() + b"\n"


def unseal(line: bytes) -> Record:
    """Parse a line that `seal` wrote. Raises BadLine for anything else."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadLine(f"not JSON: {error}") from error
    if not isinstance(record, dict) or "hash" not in record:
        raise BadLine("not a record")
    if _is_as_sealed(line, record["hash"]):
        return record

    content = {key: value for key, value in record.items() if key != "hash"}
    try:
        digest = hashlib.sha256(dumps(content).encode()).hexdigest()
    except (ValueError, RecursionError) as error:
        raise BadLine(f"not a record: {error}") from error
    if digest != record["hash"]:
        raise BadLine("its hash does not match its content")
    return record


def _is_as_sealed(line: bytes, digest: Any) -> bool:
    """Return True if the line is byte by byte what `seal` wrote, which is quick to tell.

    A record whose text differs, in spaces or the order of its fields, may still be intact.
    """
    if not isinstance(digest, str) or not digest.isascii():
        return False
    before, found, after = line.partition(f'"hash":"{digest}",'.encode())
    return bool(found) and hashlib.sha256(before + after).hexdigest() == digest


def check_result(result: Any) -> str:
    """Return what is wrong with a worker's result, in one line; empty if it is valid."""
    if not isinstance(result, dict):
        return "the result is not a JSON object"
    try:
        dumps(result)
    except (ValueError, RecursionError):
        return "the result holds a number that is not finite"
    if problem := check(result, Outcome):
        return f"the result does not fit a record: {problem}"
    if result["status"] not in ("ok", "failed", "missing"):
        return f"the result has status {result['status']!r}"
    if "work" not in result:
        return "the result lacks 'work'"
    if result["status"] != "ok":
        return "" if "error" in result else "the failure has no reason"

    if not result["samples_s"] or not all(map(_is_positive, result["samples_s"])):
        return "the result has no list of positive samples"
    for field in ("value_s", "units_per_sample", "calls_per_sample"):
        if not _is_positive(result.get(field)):
            return f"the result's {field} is not a positive number"
    return ""


def _is_positive(value: Any) -> bool:
    return value is not None and value > 0


def one_line(text: str, limit: int = 300) -> str:
    """Return the output of a failed process as one printable line of at most `limit` characters."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())[:limit]
