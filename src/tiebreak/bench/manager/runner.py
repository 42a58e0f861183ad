"""Execute the runs of an interleaving and store a record for each cell, whatever happens."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiebreak.bench.clock import utc_now
from tiebreak.bench.machine import environment
from tiebreak.bench.machine.availability import required_packages, why_unavailable
from tiebreak.bench.machine.fingerprint import fingerprint
from tiebreak.bench.manager.interleave import Pace, run_interleaved
from tiebreak.bench.manager.settings import resolved_settings, why_unresolved
from tiebreak.bench.manager.store import Store, hold, read_records, read_run_id
from tiebreak.bench.manager.worker_process import Worker
from tiebreak.bench.record import Result, empty_result
from tiebreak.bench.suite.plan import CALIBRATION, Cell, Job, Plan, Run
from tiebreak.bench.worker.turns import STRETCH
from tiebreak.core.config import digest
from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_atomic
from tiebreak.core.process_env import affinity
from tiebreak.core.seeding import derive
from tiebreak.peers import environments

Results = list[tuple[Cell, Result]]


class Runner:
    """Writer of a results folder, with what earlier runs have shown."""

    def __init__(self, plan: Plan, folder: Path, subject: str = ""):
        self.plan, self.subject = plan, subject
        self.fingerprint, self.machine = fingerprint()
        self.environments = environment.describe_all(plan.cells)
        if self.environments:  # only then, so that fingerprints without them stay valid
            self.machine["environments"] = self.environments
            self.fingerprint = digest({"ours": self.fingerprint, "others": self.environments})
        self.cpus = affinity()
        self.run_id = read_run_id(folder)
        self.store = Store(folder)

        records = read_records(folder)
        measured = [r for r in records if r["kind"] in ("visit", "calibration")]
        self.certified = any(r["kind"] == "certificate" for r in records)
        self.done = {(r["block"], r["cell_id"]) for r in measured if r["status"] != "missing"}
        """(block, cell id) of every stored measurement; a missing package is not one."""
        successful = [r for r in measured if r["status"] == "ok"]
        self.calls = {r["cell_id"]: r["calls_per_sample"] for r in reversed(successful)}
        """Cell id -> calls per sample, fixed by the first successful run."""
        self.temporary, self._release = _make_temporary(f"tiebreak-{self.run_id}-")

    def close(self) -> None:
        """Release the results folder and remove the temporary one."""
        self.store.close()
        shutil.rmtree(self.temporary, ignore_errors=True)
        self._release()

    def append(self, kind: str, **content: Any) -> None:
        """Store a record."""
        record = {
            "kind": kind,
            "run_id": self.run_id,
            "suite": self.plan.suite,
            "scale": self.plan.scale,
            "fingerprint": self.fingerprint,
            "at": utc_now(),
            **content,
        }
        self.store.append(record)

    def execute(
        self,
        runs: Sequence[Run],
        on_start: Callable[[Run], None] = lambda run: None,
        at_once: int = 1,
        pace: Pace | None = None,
    ) -> list[tuple[Run, Results]]:
        """Execute runs, interleaved if there are several, and store their results.

        Runs that cannot be made here get a record with the reason. `on_start` is called as each of
        the others starts. For `at_once` and `pace` see manager/interleave.py.
        """
        executed, available = [], []
        for run in runs:
            if reason := why_unavailable(run.cells[0]):
                executed.append((run, self._store_unmade(run, "missing", reason)))
            elif reason := why_unresolved(run.cells[0]):
                executed.append((run, self._store_unmade(run, "failed", reason)))
            else:
                available.append(run)

        turns = secrets.token_hex(4) if len(available) > 1 else ""
        probes = available[0].probes if available else ()
        with contextlib.ExitStack() as stack:
            executions = []
            for run in available:
                folders = stack.enter_context(self._folders(run.cells[0].cache))
                executions.append(_Execution(self, run, self._job(run, turns), folders, on_start))
            workers = [execution.worker for execution in executions]
            settings = self.plan.settings
            run_interleaved(
                workers,
                settings.timeout_s,
                probes,
                at_once=at_once,
                end_at_once=min(settings.start_at_once, len(self.cpus)),
                pace=pace,
            )
            executed += [(execution.run, execution.finish()) for execution in executions]
        return executed

    def _store_unmade(self, run: Run, status: str, reason: str) -> Results:
        result: Result = {**empty_result(status, reason), "started_at": utc_now()}
        for cell in run.cells:
            self.store_result(run, cell, result)
        return [(cell, result) for cell in run.cells]

    def _job(self, run: Run, turns: str) -> Job:
        seed = derive(self.plan.seed, "visit", run.block, run.cells[0].task)
        # A worker of an older version does not know these: it is told of the cells without them.
        unknown = {"python": "", "threads": 0, "precision_varies": False, "ceiling_of": ()}
        cells = tuple(replace(cell, **unknown) for cell in run.cells)
        ids = [cell.id for cell in cells]
        calls = [self.calls.get(cell.id) for cell in run.cells]
        effort = self.plan.settings.effort
        begins = run.block == 0 and run.attempt == 0
        if not begins:  # one memory series is enough; it takes no part in ratios
            effort = replace(effort, memory_calls=0)
        return Job(
            cells=cells,
            effort=effort,
            calls={cell_id: n for cell_id, n in zip(ids, calls, strict=True) if n},
            packages=required_packages(run.cells[0]),
            threads=run.cells[0].threads or len(self.cpus),
            fixed_threads=bool(run.cells[0].threads),
            cpus=tuple(self.cpus),
            seed=seed,
            hash_seed=derive(seed, "hash", *ids),
            subject=self.subject,
            turns=turns,
            stretch=STRETCH if turns and begins else 0,
            **_of_contestant(run.cells[0]),
        )

    def store_result(self, run: Run, cell: Cell, result: Result) -> None:
        """Store the record of one cell, and remember what later runs need of it."""
        described = self.environments.get(environment.name(cell))
        self.append(
            "calibration" if run.block == CALIBRATION else "visit",
            block=run.block,
            position=run.position,
            group=cell.group,
            cell_id=cell.id,
            cell=cell.to_json(),
            shared_process=self.plan.settings.share_process,
            order=[c.probe for c in run.cells],
            **({"environment": described} if described else {}),
            **({"attempt": run.attempt} if run.attempt else {}),
            **result,
        )
        if result["status"] == "ok":
            self.calls.setdefault(cell.id, result["calls_per_sample"])
        if result["status"] != "missing":
            self.done.add((run.block, cell.id))

    @contextlib.contextmanager
    def _folders(self, cache: str) -> Iterator[tuple[Path, Path]]:
        """Make the private folder of a run, and its compile cache; all warm runs share one."""
        folder = Path(tempfile.mkdtemp(dir=self.temporary, prefix="run-"))
        compiled = (self.temporary if cache == "warm" else folder) / "cache"
        compiled.mkdir(mode=0o700, exist_ok=True)
        try:
            yield folder, compiled
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep_log(self, run: Run, log: bytes) -> None:
        """Store the output of a failed worker beside the records."""
        if not log:
            return
        name = f"block{run.block}-{run.position}-{run.cells[0].framework}.log"
        write_atomic(self.store.folder / "logs" / name, log)


class _Execution:
    """One run while it is executed."""

    def __init__(
        self,
        runner: Runner,
        run: Run,
        job: Job,
        folders: tuple[Path, Path],
        on_start: Callable[[Run], None],
    ):
        self.runner, self.run, self._on_start = runner, run, on_start
        self.results: Results = []
        self.cells = {told.id: cell for told, cell in zip(job.cells, run.cells, strict=True)}
        """Id by which the worker knows a cell -> the cell."""
        self.job, self.started_at = job, ""
        self.cache = folders[1]
        self.cache_files = 0
        """Files in the compile cache when the current probe began."""
        self.worker = Worker(
            job,
            *folders,
            on_result=self.keep,
            on_start=self.start,
            python=environment.interpreter(run.cells[0]),
        )

    def start(self) -> None:
        self.started_at = utc_now()
        self.cache_files = _count_files(self.cache)
        self._on_start(self.run)

    def keep(self, cell_id: str, result: Result) -> None:
        """Store a result when it arrives."""
        cell = self.cells[cell_id]
        if cell.cache == "cold" and self.cache_files:
            result["flags"] = {**result["flags"], "cache_not_cold": self.cache_files}
        result = {
            **result,
            "hash_seed": self.job.hash_seed,
            "turns": self.job.turns,
            "started_at": self.started_at,
            "cache_files": self.cache_files,
        }
        if self.worker.overlapped:
            result["phases_overlapped"] = True
        self.results.append((cell, result))
        self.runner.store_result(self.run, cell, result)
        self.cache_files = _count_files(self.cache)  # the next probe begins with these

    def finish(self) -> Results:
        """Store results of cells that have none, and the log if something failed."""
        worker, runner = self.worker, self.runner
        status, reason = worker.outcome
        for cell_id in sorted(worker.pending):
            result = empty_result(status, reason)
            result["flags"] = {status: round(worker.active_s, 3)}
            self.keep(cell_id, result)
        if any(result["status"] != "ok" for _, result in self.results):
            runner.keep_log(self.run, worker.log)
        return self.results


def _of_contestant(cell: Cell) -> dict[str, Any]:
    """Return the fields of a job that only a contestant needs."""
    if not cell.contestant:
        return {}
    checkout = environments.checkout(cell.peer) if cell.peer else ""
    return {"algorithm_settings": resolved_settings(cell), "checkout": checkout}


def _make_temporary(prefix: str) -> tuple[Path, Callable[[], None]]:
    """Make a private folder; return it with the function that releases its lock.

    Folders of killed managers are removed: nobody holds their locks any more. A copy of a results
    folder that is being filled has a folder and a lock of its own.
    """
    for old in Path(tempfile.gettempdir()).glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(UsageError), hold(old):
            shutil.rmtree(old, ignore_errors=True)
    folder, lock = Path(tempfile.mkdtemp(prefix=prefix)), contextlib.ExitStack()
    lock.enter_context(hold(folder))  # mkdtemp has made it with mode 0700
    return folder, lock.close


def _count_files(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))
