"""Checkpoints: all that a run needs to continue exactly, in one file without compression.

`checkpoints/<steps>.npz` is written to a temporary file, synced and renamed: a process killed at
any instant leaves the one before. Two are kept during a run, the last one after it.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from tiebreak import registry
from tiebreak.core.config import to_dict
from tiebreak.core.errors import UsageError
from tiebreak.core.files import open_atomic, remove_leftovers
from tiebreak.core.prefixes import Arrays
from tiebreak.core.schema import check
from tiebreak.core.text import one_line
from tiebreak.envs.task import Task

FOLDER, SCHEMA, KEPT = "checkpoints", 1, 2
RUN_SETTINGS = (
    "algorithm", "framework", "task", "mode", "loop", "seed", "precision", "device",
    "eval_episodes", "eval_every",
)  # fmt: skip
"""Settings that must be equal when a run resumes, beside the algorithm's."""
READ_ERRORS = (
    OSError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, TypeError,
    ValueError, NotImplementedError, RuntimeError,
)  # fmt: skip
"""Errors that reading a damaged file can raise."""


class RunConfig(TypedDict):
    """The fields of `config.json` that are read again; those of older versions may be fewer."""

    config: dict[str, Any]
    algorithm: NotRequired[str]
    framework: NotRequired[str]
    task: NotRequired[str]
    mode: NotRequired[str]
    loop: NotRequired[str]
    seed: NotRequired[int]
    precision: NotRequired[str]
    device: NotRequired[str]
    eval_episodes: NotRequired[int]
    eval_every: NotRequired[int]
    command: NotRequired[str]
    threads: NotRequired[int]
    versions: NotRequired[dict[str, Any]]


@dataclasses.dataclass
class Marks:
    """Progress of a run outside its loop; stored with every checkpoint."""

    wall_s: float = 0.0
    first_s: float = 0.0
    first_steps: int = 0
    """Seconds and steps of the intervals that are not steady (`train_loop.Interval`)."""
    evaluated_at: int = 0
    saved_at: int = 0
    metrics: tuple[int, int] = (0, 0)
    """Lines and bytes of metrics.jsonl up to here."""
    evaluations: tuple[int, int] = (0, 0)
    """Lines and bytes of eval.jsonl up to here."""
    other_positions: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Where the output of other trackers ends, by the name that they chose."""
    resumed: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Steps at which the run was resumed, and whether exactly."""

    def positions(self) -> dict[str, tuple[int, int]]:
        """Return where each tracker's output ends (see `Tracker.position`)."""
        return {
            "metrics": self.metrics,
            "evaluations": self.evaluations,
            **self.other_positions,
        }

    def with_positions(self, positions: Mapping[str, tuple[int, int]]) -> Marks:
        """Return a copy with new positions of the trackers' output."""
        others = dict(positions)
        return dataclasses.replace(
            self,
            metrics=others.pop("metrics", self.metrics),
            evaluations=others.pop("evaluations", self.evaluations),
            other_positions=others,
        )


def save(folder: Path, arrays: Arrays, config_hash: str, marks: Marks) -> None:
    """Write the checkpoint of `marks.saved_at` steps, and remove all but the one before."""
    header = {"schema": SCHEMA, "config_hash": config_hash, "marks": dataclasses.asdict(marks)}
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with open_atomic(folder / FOLDER / f"{marks.saved_at:012d}.npz") as file:
        np.savez(file, **{"about": text, **arrays})
    prune(folder, KEPT)


def prune(folder: Path, kept: int) -> None:
    """Remove all checkpoints but the last `kept`, and half-written ones of killed processes."""
    for path in _all(folder)[:-kept]:
        path.unlink(missing_ok=True)
    remove_leftovers(folder / FOLDER, "[0-9]*.npz")


def _all(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob("[0-9]*.npz"))


def exists(folder: Path) -> bool:
    """Return whether there is a checkpoint to continue from."""
    return bool(_all(folder))


def require_run(out: str | Path | None) -> Path:
    """Return the folder of a run that can be resumed; UsageError for anything else."""
    if out is None:
        raise UsageError("--resume needs --out DIR, the folder of the run that is to go on")
    folder = Path(out)
    if "seeds" in _read_run_config(folder):
        raise UsageError(
            f"the run in {str(out)!r} is of many agents, of which no checkpoints are stored: start "
            "it again, in a new or an empty folder"
        )
    result = folder / "result.json"
    if result.is_file() and '"status": "ok"' in result.read_text(encoding="utf-8"):
        raise UsageError(
            f"the run in {str(out)!r} is complete: there is nothing to resume "
            f"(`tiebreak evaluate {shlex.quote(str(out))}` runs its policy)"
        )
    return folder


def load(folder: Path, loop: Any, run_config: Mapping[str, Any]) -> tuple[Marks, list[str]]:
    """Restore the newest checkpoint into `loop`; return the run's marks and notes for the user.

    Raises UsageError if the folder has other settings, or the checkpoint is damaged or foreign.
    """
    stored = _read_run_config(folder)
    _require_same(folder, stored, run_config)
    paths = _all(folder)
    if not paths:
        return Marks(), ["there is no checkpoint yet: starting again at step 0"]
    marks, exact = _read(paths, str(run_config["config_hash"]), loop)
    marks.resumed.append({"steps": loop.steps, "exact": exact})
    notes = [f"going on at step {loop.steps:,}"]
    if not exact:
        task = Task.parse(run_config["task"])
        notes.append(
            f"NOT exactly: the environments of {str(task)!r} cannot be stored ({task.engine}), so "
            "new episodes start here"
        )
    notes += _what_has_changed(stored, run_config)
    return marks, notes


def _read(paths: list[Path], config_hash: str, loop: Any) -> tuple[Marks, bool]:
    path = paths[-1]
    advice = f"; remove it to go on from {paths[-2].name}" if len(paths) > 1 else ""
    try:
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():
                raise ValueError(f"{damaged} does not match its checksum")
        with np.load(path) as arrays:  # refuses pickles
            header = json.loads(arrays["about"].tobytes())
            if header["schema"] != SCHEMA:
                raise ValueError(f"its schema is {header['schema']}, not {SCHEMA}")
            if header["config_hash"] != config_hash:
                raise ValueError("it belongs to a run with other settings")
            if problem := check(header["marks"], Marks):
                raise ValueError(f"its marks cannot be read: {problem}")
            marks = Marks(**header["marks"])
            return marks, loop.load(arrays)
    except READ_ERRORS as error:
        reason = one_line(error) or type(error).__name__
        raise UsageError(f"cannot go on from {str(path)!r}: {reason}{advice}") from error


def _read_run_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        run_config = json.loads(path.read_text(encoding="utf-8"))
        if problem := check(run_config, RunConfig):
            raise ValueError(f"it describes no run: {problem}")
        return run_config
    except FileNotFoundError:
        raise UsageError(
            f"{str(folder)!r} holds no run to resume (no config.json): start one with the same "
            "command without --resume"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{str(path)!r} cannot be read: {error}") from error


def _require_same(folder: Path, stored: Mapping[str, Any], run_config: Mapping[str, Any]) -> None:
    pairs = [(name, stored.get(name), run_config[name]) for name in RUN_SETTINGS]
    # A setting that an older version did not have is taken as its default, as policies are read.
    defaults = to_dict(registry.config_module(run_config["algorithm"]).Config())
    settings = {**defaults, **stored["config"]}
    pairs += [(name, settings[name], now) for name, now in run_config["config"].items()]
    others = [
        f"{name} {one_line(was)[:100]} (here {now})" for name, was, now in pairs if was != now
    ]
    if others:
        raise UsageError(
            f"the run in {str(folder)!r} has other settings: {', '.join(others)}; go on with: "
            f"{stored.get('command')} --out {shlex.quote(str(folder))} --resume"
        )


def _what_has_changed(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line about versions and threads that differ; [] if none do."""
    was, new = stored.get("versions", {}), now["versions"]
    changed = [
        f"{name} {was[name]} -> {new.get(name)}" for name in was if was[name] != new.get(name)
    ]
    if "threads" in stored and stored["threads"] != now.get("threads"):
        changed.append(f"threads {stored['threads']} -> {now.get('threads', 'as they are')}")
    if not changed:
        return []
    return [f"perhaps not bit for bit: other than before are {', '.join(changed)}"]
