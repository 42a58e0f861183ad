"""Track the processes that a check starts, so that survivors are found and ended.

Processes are marked by a folder with a unique name on PYTHONPATH. A worker inherits it from its
manager and passes it on to its children, whatever session they move to; /proc shows it. Workloads
write notes into the same folder: evidence that is independent of the store.
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


def why_untrackable() -> str:
    """Return why processes cannot be tracked here; empty if they can."""
    return "" if (PROC / "self" / "environ").exists() else "needs /proc, as Linux has it"


class Marked:
    """A mark and the processes that carry it; as a context manager, ends them all."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve() / f"{MARK}{secrets.token_hex(8)}"
        (self.folder / "tmp").mkdir(parents=True)

    def __enter__(self) -> Marked:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self) -> str:
        """Return PYTHONPATH for marked processes: this package, the mark, and its present value."""
        package = Path(tiebreak.__file__).resolve().parents[1]
        entries = [str(package), str(self.folder), os.environ.get("PYTHONPATH", "")]
        return os.pathsep.join(filter(None, entries))

    def environment(self) -> dict[str, str]:
        """Return the environment of a marked process; its temporary files are with the mark."""
        return {**os.environ, "PYTHONPATH": self.path(), "TMPDIR": str(self.folder / "tmp")}

    def start(
        self, call: str, *arguments: object, stdout: Any = None, stderr: Any = None
    ) -> subprocess.Popen[bytes]:
        """Call `module:function` with strings as arguments, in a marked process of its own."""
        module, _, function = call.partition(":")
        code = f"import sys; from {module} import {function}; {function}(*sys.argv[1:])"
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )

    @contextlib.contextmanager
    def mark_children(self) -> Iterator[None]:
        """Mark every process that this one starts in the context, for a manager that runs in it."""
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
        """Return {pid: command} of every marked process that still runs, except this one."""
        running = {}
        mark = str(self.folder).encode()
        for entry in PROC.iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):  # another user's, or gone meanwhile
                if mark in (entry / "environ").read_bytes():
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                    running[int(entry.name)] = command.decode(errors="replace").strip()[:200]
        return running

    def survivors(self, patience_s: float = 5.0) -> dict[int, str]:
        """Return what still runs after a while: processes need a moment to end."""
        for _ in range(int(patience_s / 0.1)):
            if not self.alive():
                return {}
            nap(0.1)
        return self.alive()

    def end(self) -> None:
        """Kill every marked process."""
        for _ in range(50):
            if not (alive := self.alive()):
                return
            for pid in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            nap(0.1)

    def notes(self) -> list[str]:
        """Return the lines that marked workloads have noted so far."""
        file = self.folder / NOTES
        return file.read_text(encoding="utf-8").splitlines() if file.exists() else []
