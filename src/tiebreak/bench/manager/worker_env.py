"""Build the environment variables of a worker: an allow-list, threads, seeds, private folders."""

from __future__ import annotations

import os
from pathlib import Path

from tiebreak import registry
from tiebreak.bench.machine.fingerprint import fixed_variables
from tiebreak.bench.suite.plan import Cell, Job
from tiebreak.core import user_modules
from tiebreak.core.process_env import inherited_variables

PACKAGE = Path(__file__).resolve().parents[2]
"""Folder of this package."""


def worker_environment(job: Job, folder: Path, cache: Path, other: bool = False) -> dict[str, str]:
    """Return all variables of a worker with its private folder and its compile cache.

    `other`: it runs in another environment, with the Tiebreak that is installed there, or for a
    contestant with this one's source, alone in a folder.
    """
    temporary = str(_make_private(folder / "tmp"))
    contestant = job.cells[0].contestant
    env = {
        **inherited_variables("CUDA_HOME", "MUJOCO_GL"),
        **fixed_variables(job.threads),
        "PYTHONHASHSEED": str(job.hash_seed),
        "PYTHONPATH": python_path(other, _lend_source(folder) if other and contestant else ""),
        user_modules.FOLDER: user_modules.started_in(),
        "TMPDIR": temporary,
        "XDG_CACHE_HOME": temporary,
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "CUDA_CACHE_PATH": str(cache / "cuda"),
        "WARP_CACHE_PATH": str(cache / "warp"),
    }
    cell = job.cells[0]
    if cell.device == "cpu":  # otherwise a GPU would be initialised, or used
        env |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    elif _library(cell) in ("torch", "tensorflow"):  # leave memory to a simulator in JAX
        env |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    return env


def _library(cell: Cell) -> str:
    """Return the array library of a cell's agent; empty for a contestant, or without an agent."""
    row = registry.FRAMEWORKS.get(cell.framework)
    return row.library(cell.mode) if row else ""


def python_path(other: bool = False, lent: str = "") -> str:
    """Return this package's folder, then the manager's PYTHONPATH made absolute.

    For another environment, leave out every folder that has a Tiebreak, but for the `lent` one.
    """
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [str(PACKAGE.parent), *(os.path.abspath(entry) for entry in entries if entry)]
    if other:
        paths = [path for path in paths if not os.path.isdir(os.path.join(path, "tiebreak"))]
    return os.pathsep.join([lent, *paths] if lent else paths)


def _lend_source(folder: Path) -> str:
    """Return a folder with a link to this package, and nothing else, for another environment.

    The folder that has this package may have all others of our environment, too.
    """
    lent = _make_private(folder / "source")
    (lent / "tiebreak").symlink_to(PACKAGE, target_is_directory=True)
    return str(lent)


def _make_private(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
