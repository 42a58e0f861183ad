"""Processes that a row starts: marked, so that whatever outlives it is found, and ended.

The mark is a folder with a name of its own on PYTHONPATH. A worker inherits that from its manager
and hands it to its children, whatever session they move to; /proc shows it. Subjects leave their
notes in the same folder: a witness that needs nothing of the store. All of it goes when it ends.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tiebreak
from tiebreak.bench.clock import nap
from tiebreak.selftest.workloads.crashing_workloads import MARK, NOTES

PROC = Path("/proc")


def watched() -> str:
    """Why processes cannot be watched here; empty where they can."""
    return "" if (PROC / "self" / "environ").exists() else "needs /proc, as Linux has it"


class Marked:
    """A mark, and what carries it. As a context it ends all of that, come what may."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve() / f"{MARK}{secrets.token_hex(8)}"
        (self.folder / "tmp").mkdir(parents=True)

    def __enter__(self) -> Marked:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self) -> str:
        """PYTHONPATH for marked processes: this package, the mark, what was there."""
        here = Path(tiebreak.__file__).resolve().parents[1]
        entries = [str(here), str(self.folder), os.environ.get("PYTHONPATH", "")]
        return os.pathsep.join(filter(None, entries))

    def environment(self) -> dict[str, str]:
        """What a marked process is started with; its temporary files lie with the mark."""
        return {**os.environ, "PYTHONPATH": self.path(), "TMPDIR": str(self.folder / "tmp")}

    def start(
        self, call: str, *arguments: object, stdout: Any = None, stderr: Any = None
    ) -> subprocess.Popen[bytes]:
        """`module:function` on strings, in a marked process of its own."""
        module, _, function = call.partition(":")
        code = f"import sys; from {module} import {function}; {function}(*sys.argv[1:])"
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=self.environment(), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
        )  # fmt: skip

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """Whatever this process starts inside is marked: for a manager that runs in it."""
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = self.path()
        try:
            yield
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before

    def alive(self) -> dict[int, str]:
        """Number -> command of every marked process that still runs, this one aside."""
        found = {}
        sought = str(self.folder).encode()
        for entry in PROC.iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):  # another user's, or gone meanwhile
                if sought in (entry / "environ").read_bytes():
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry.name)] = command.decode(errors="replace").strip()[:200]
        return found

    def outliving(self, patience_s: float = 5.0) -> dict[int, str]:
        """What still runs after a while: an ending takes a moment, a survivor does not."""
        for _ in range(int(patience_s / 0.1)):
            if not self.alive():
                return {}
            nap(0.1)
        return self.alive()

    def end(self) -> None:
        """End all that carries the mark."""
        for _ in range(50):
            if not (alive := self.alive()):
                return
            for pid in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            nap(0.1)

    def notes(self) -> list[str]:
        """What marked subjects have noted so far, line by line."""
        file = self.folder / NOTES
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []
