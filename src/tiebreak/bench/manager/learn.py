"""Keep how long runs took on this machine, for the next estimate.

`python -m tiebreak.bench.manager.learn FOLDER…` writes the table that comes with the package, from
the records of results folders.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tiebreak.bench.machine.fingerprint import computer
from tiebreak.bench.manager.store import read_records
from tiebreak.bench.record import Record
from tiebreak.bench.suite import durations
from tiebreak.bench.suite.durations import Durations
from tiebreak.core.cache import cache_folder, read_cached, write_cached
from tiebreak.core.files import write_atomic

MOST_CELLS = 5000
"""Cells whose durations are kept; the ones that were measured longest ago are dropped."""


def known_durations() -> Durations:
    """Return what is known of this machine, then what comes with the package."""
    return Durations([read_cached(_file()), durations.read_shipped()])


def keep_durations(records: Sequence[Record]) -> None:
    """Keep the durations of these records for this machine."""
    learned = durations.learn(records)
    if learned["rows"]:
        write_cached(_file(), durations.merge([learned, read_cached(_file())], MOST_CELLS))


def _file() -> Path:
    return cache_folder() / "durations" / f"{computer()}.json"


def main(folders: Sequence[str]) -> None:
    """Write the table of the package."""
    tables = [durations.learn(read_records(folder)) for folder in folders]
    table = durations.merge(tables, MOST_CELLS)
    rows = ",\n".join(json.dumps(row, sort_keys=True) for row in sorted(table["rows"], key=str))
    text = f'{{"columns": {json.dumps(table["columns"])},\n"rows": [\n{rows}\n]}}\n'
    write_atomic(durations.FILE, text)


if __name__ == "__main__":
    main(sys.argv[1:])
