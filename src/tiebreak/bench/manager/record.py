"""What one line of records.jsonl is: its kinds, its hash, and the check of what a worker sent.

Schema history
1: kinds visit, calibration, machine, canary, certificate.
2: kind selftest; status oom; visits carry a memory series, a second clock, contention in full
   and what else a worker sent or left behind; a canary names its groups, a closing one its seconds.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

SCHEMA = 2
KINDS = ("visit", "calibration", "machine", "canary", "certificate", "selftest")
STATUSES = ("ok", "failed", "timeout", "oom", "crash", "missing")

Record = dict[str, Any]

FAILED: Record = {
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
"""The fields of a visit that measured nothing; `status` and `error` say why."""


TABLES = ("flags", "phases_s", "memory", "work", "settings")
"""The fields of a visit that hold named values, in a failed one, too."""


class BadLine(ValueError):
    """A line that is no intact record; the message says what is wrong with it."""


def dumps(record: Mapping[str, Any]) -> str:
    """The one JSON form that is hashed; raises ValueError for NaN and infinities."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)


def seal(record: Mapping[str, Any]) -> bytes:
    """A record as the line that is stored, schema and hash added, newline included."""
    content = {"schema": SCHEMA, **record}
    content.pop("hash", None)
    digest = hashlib.sha256(dumps(content).encode()).hexdigest()
    return dumps({**content, "hash": digest}).encode() + b"\n"


def unseal(line: bytes) -> Record:
    """What `seal` wrote; raises BadLine for anything else."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadLine(f"not JSON: {error}") from error
    if not isinstance(record, dict) or "hash" not in record:
        raise BadLine("not a record")
    content = {k: v for k, v in record.items() if k != "hash"}
    try:
        intact = hashlib.sha256(dumps(content).encode()).hexdigest() == record["hash"]
    except (ValueError, RecursionError) as error:
        raise BadLine(f"not a record: {error}") from error
    if not intact:
        raise BadLine("its hash does not match its content")
    return record


def check_result(result: Any) -> str:
    """What is wrong with a worker's result, in one line; empty if nothing is."""
    if not isinstance(result, dict):
        return "the result is not a JSON object"
    try:
        dumps(result)
    except (ValueError, RecursionError):
        return "the result holds a number that is not finite"
    if result.get("status") not in ("ok", "failed", "missing"):
        return f"the result has status {result.get('status')!r}"
    if not all(isinstance(result.get(field), dict) for field in TABLES):
        return f"the result lacks one of {', '.join(TABLES)}"
    if result["status"] != "ok":
        return "" if isinstance(result.get("error"), str) else "the failure has no reason"
    samples = result.get("samples_s")
    if not isinstance(samples, list) or not samples or not all(map(_positive, samples)):
        return "the result has no list of positive samples"
    for field in ("value_s", "units_per_sample", "calls_per_sample"):
        if not _positive(result.get(field)):
            return f"the result's {field} is not a positive number"
    return ""


def _positive(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def one_line(text: str, limit: int = 300) -> str:
    """Whatever a failing process said, as one line of at most `limit` characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:limit]
