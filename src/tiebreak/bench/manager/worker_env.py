"""The environment variables of a worker: an allow-list, whoever started the manager."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiebreak.core.process_env import inherited_variables

MATTERING = ("CC", "CUDA_HOME", "CXX", "LD_LIBRARY_PATH", "MUJOCO_GL")
"""Those that say which compiler, library or renderer is found."""


def environment(job: Mapping[str, Any], folder: Path, cache: Path) -> dict[str, str]:
    """Every variable that a worker sees."""
    env = inherited_variables("CUDA_HOME", "MUJOCO_GL")
    env |= fixed(job["threads"])
    env |= {"PYTHONHASHSEED": str(job["hash_seed"]), "PYTHONPATH": _python_path()}
    env |= {"TMPDIR": str(_private(folder / "tmp")), "XDG_CACHE_HOME": str(folder / "tmp")}
    env |= {
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "CUDA_CACHE_PATH": str(cache / "cuda"),
        "WARP_CACHE_PATH": str(cache / "warp"),
    }
    cell = job["cells"][0]
    if cell["device"] == "cpu":  # or a GPU that is there would be started, or used
        env |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    elif cell["framework"] in ("torch", "tensorflow"):  # a simulator in JAX beside it needs room
        env |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    return env


def fixed(threads: int) -> dict[str, str]:
    """Those that are the same in every visit of a run."""
    counts = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM")
    env = {f"{name}_NUM_THREADS": str(threads) for name in counts}
    env |= {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": "1"}
    env |= {"PJRT_NPROC": str(threads), "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
    return env


def _python_path() -> str:
    """This package, then the manager's own PYTHONPATH, absolute: workers run elsewhere."""
    own = str(Path(__file__).resolve().parents[3])
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([own, *(os.path.abspath(entry) for entry in given if entry)])


def _private(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
