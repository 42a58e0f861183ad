"""A program in a process of its own, in which XLA takes this machine for eight devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any


def assert_equal(program: str, asked: list[Any]) -> None:
    """Run `program` with `asked` as JSON for its argument; it says "equal" and nothing else."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    result = subprocess.run(
        [sys.executable, "-c", program, json.dumps(asked)],
        capture_output=True, text=True, timeout=400, check=False,
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert result.stdout == "equal\n", result.stderr[-3000:]
