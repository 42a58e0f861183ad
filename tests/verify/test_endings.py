"""`tiebreak verify` ended by signals: its workers end with it, and nothing is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import kills
import pytest

LONG_S = 600
"""More than anything here takes, on however busy a machine."""


@pytest.mark.slow
def test_a_certificate_that_is_cut_leaves_no_process_and_no_file(tmp_path, request):
    rng = random.Random(request.config.option.slow_seed)
    temporary, said = tmp_path / "temporary", tmp_path / "said"
    temporary.mkdir()
    code = "import sys; from tiebreak.cli import main; sys.exit(main(sys.argv[1:]))"
    verify = [sys.executable, "-c", code, "verify", "--algorithm", "ppo", "--framework", "torch"]
    for _ in range(max(1, kills.COUNT // 6)):
        with open(said, "wb") as output:
            child = subprocess.Popen(
                verify,
                stdout=output,
                stderr=output,
                env={**os.environ, "TMPDIR": str(temporary)},
                preexec_fn=kills.hear_signals,
            )
        deadline = time.monotonic() + LONG_S
        while len(kills.processes_with(str(temporary))) < 2 and time.monotonic() < deadline:
            assert child.poll() is None, said.read_text()
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1))
        number = kills.end(child, rng)
        status = child.wait(timeout=LONG_S)
        print(f"{number.name}, status {status}")
        kills.assert_nothing_runs(str(temporary))
        assert list(temporary.iterdir()) == []
        if number == signal.SIGKILL:
            assert status == -number
        else:
            assert status == 128 + number
            assert said.read_text().splitlines()[-1].startswith("tiebreak: interrupted")
