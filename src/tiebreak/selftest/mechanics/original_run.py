"""A small real run, and copies of its folder whose records have been changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from tiebreak.bench.manager import manager
from tiebreak.bench.manager.store import RECORDS, read_log
from tiebreak.bench.record import Record
from tiebreak.selftest.mechanics import killed_manager
from tiebreak.selftest.mechanics.faults import SUBJECT

COMMAND = "from tiebreak.cli import main; raise SystemExit(main())"
"""The command line as code for a process of its own: importing it here would be a cycle."""


class OriginalRun:
    """The folder of an undamaged run, and a copy of it with other records."""

    def __init__(self, folder: Path, seed: int):
        folder.mkdir(parents=True)
        self.suite = folder / "races.toml"
        self.folder = folder / "out"
        self.copy = folder / "copy"
        self.seed = seed
        self.suite.write_text(killed_manager.RACES, encoding="utf-8")
        self.run(self.folder, resume=False)
        self.lines = (self.folder / RECORDS).read_bytes().splitlines(keepends=True)
        self.records = read_log(self.folder).records
        self.by_hash = {record["hash"]: record for record in self.records}
        if len(self.records) != len(self.lines):
            raise RuntimeError(f"an undamaged run does not load: {self.folder}")

    def run(self, folder: Path, resume: bool) -> None:
        """Run the suite into `folder`, or resume it there."""
        manager.run_suite(
            str(self.suite),
            folder,
            killed_manager.SCALE,
            resume,
            False,
            seed=self.seed,
            subject=SUBJECT,
        )

    def with_records(self, data: bytes) -> Path:
        """Return a copy of the folder whose records.jsonl is `data`."""
        shutil.rmtree(self.copy, ignore_errors=True)
        self.copy.mkdir()
        for file in self.folder.iterdir():
            if file.is_file():
                shutil.copy(file, self.copy)
        (self.copy / RECORDS).write_bytes(data)
        return self.copy

    def unknown_record(self, records: Iterable[Record]) -> str:
        """Return the first record that this run did not write, or wrote once and is repeated.

        Empty if there is none.
        """
        hashes = set()
        for record in records:
            if self.by_hash.get(record["hash"]) != record or record["hash"] in hashes:
                return f"accepted a record that was never written: {str(record)[:200]}"
            hashes.add(record["hash"])
        return ""
