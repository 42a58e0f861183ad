"""Report which devices and settings a framework sees when it starts.

`tiebreak doctor` runs `python -m tiebreak.commands.framework_info FRAMEWORK` for each framework in
a fresh interpreter, so that none sees what another has set, and reads the JSON on the last line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tiebreak import registry
from tiebreak.core.process_env import SAFE, affinity

TIME_LIMIT_S = 120


def run_in_subprocess(framework: str) -> dict[str, Any]:
    """Return devices, threads, matmul_precision and blas, from a fresh interpreter; or an error."""
    command = [sys.executable, *SAFE, "-m", "tiebreak.commands.framework_info", framework]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"did not start within {TIME_LIMIT_S} s"}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if done.returncode < 0:
        return {"error": f"killed by signal {-done.returncode} while starting"}
    lines = done.stderr.strip().splitlines()
    return {"error": lines[-1] if lines else f"ended with status {done.returncode}"}


def main(framework: str) -> None:
    """Import everything that the framework needs, and print what its array library sees."""
    registry.import_packages(framework)
    print(json.dumps(_BY_RUNTIME[registry.library(framework)]()))


def _torch() -> dict[str, Any]:
    import torch

    count = torch.cuda.device_count()
    gpus = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(count)]
    metal = ["mps"] if torch.backends.mps.is_available() else []
    described = torch.__config__.show()
    blas = described.partition("BLAS_INFO=")[2].partition(",")[0]
    return {
        "devices": ["cpu", *gpus, *metal],
        "threads": f"{torch.get_num_threads()} + {torch.get_num_interop_threads()} inter-op",
        "matmul_precision": torch.get_float32_matmul_precision(),
        "blas": blas or "unknown",
    }


def _tensorflow() -> dict[str, Any]:
    import tensorflow as tf

    devices = tf.config.list_physical_devices()
    threading = tf.config.threading
    intra = threading.get_intra_op_parallelism_threads()
    inter = threading.get_inter_op_parallelism_threads()
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    return {
        "devices": [device.name.removeprefix("/physical_device:") for device in devices],
        "threads": f"{intra or 'all'} + {inter or 'all'} inter-op",
        "matmul_precision": "tf32 where the device has it" if tf32 else "float32",
        "blas": "Eigen, oneDNN" if os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0" else "Eigen",
    }


def _jax() -> dict[str, Any]:
    import jax

    return {
        "devices": [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()],
        "threads": f"{len(affinity())}, by affinity",
        "matmul_precision": getattr(jax.config, "jax_default_matmul_precision", None)
        or "the device's default",
        "blas": "XLA (Eigen)" if jax.default_backend() == "cpu" else "XLA",
    }


_BY_RUNTIME = {"torch": _torch, "tensorflow": _tensorflow, "jax": _jax}


if __name__ == "__main__":
    main(sys.argv[1])
