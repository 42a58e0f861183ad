"""Weights & Biases: online where there is a key, else offline, in the run's folder.

A training that goes on keeps the id of its run, in which no step that is there is logged again.
"""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from tiebreak.training.scalars import Scalar, ScalarTracker
from tiebreak.training.trackers import TrackedRun

PROJECT = "tiebreak"
"""Project of the runs, unless WANDB_PROJECT names one."""


class WandB(ScalarTracker):
    """Logs to one run of Weights & Biases."""

    def __init__(self, run: TrackedRun):
        self._folder, self._name = run.folder.resolve(), run.name
        self._mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
        self._run: Any = None
        if self._mode == "offline":
            runs = run.folder / "wandb" / "offline-run-*"
            self.about = (
                f"wandb: offline; upload with: wandb sync {quote(str(runs.parent))}/{runs.name}"
            )

    def start(self, config: Mapping[str, Any], step: int = 0) -> None:
        """Begin a run, or go on with the one of this folder."""
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=self._name,
            group=self._name.partition("/")[0],
            id=_last_id(self._folder),
            resume="allow",
            config=dict(config),
            dir=str(self._folder),
            mode=self._mode,  # type: ignore[arg-type]
            reinit="create_new",  # not the run of the program that calls us
            settings=wandb.Settings(console="off", silent=True),
        )

    def write(self, step: int, scalars: Sequence[Scalar]) -> None:
        self._run.log({scalar.full_name: scalar.value for scalar in scalars}, step=step)

    def finish(self, result: Mapping[str, Any]) -> None:
        for name in ("status", "return_mean", "return_std", "steps_per_s"):
            if name in result:
                self._run.summary[f"result/{name}"] = result[name]
        self._end(0 if result["status"] == "ok" else 1)

    def close(self) -> None:
        self._end(1)

    def _end(self, status: int) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.finish(exit_code=status)


def make(run: TrackedRun) -> WandB:
    """Choose between online and offline for `run`; `start` connects."""
    return WandB(run)


def _has_key() -> bool:
    """Return whether there is a key: in the environment or, after `wandb login`, in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].split("/")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _last_id(folder: Path) -> str | None:
    """Return the id of the newest run in a folder, by the name of its own folder; None: no run."""
    names = sorted(path.name.removeprefix("offline-") for path in folder.glob("wandb/*run-*-*"))
    return names[-1].rpartition("-")[2] if names else None
