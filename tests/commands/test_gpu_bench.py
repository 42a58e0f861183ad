"""`make gpu-bench`: its reason to do nothing, its folder, and what doctor says of GPUs."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hygiene import tree

from tiebreak.bench.machine import fingerprint
from tiebreak.bench.suite import suite
from tiebreak.commands import doctor

MAKEFILE = (tree.ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
def test_without_a_gpu_it_says_why_it_does_nothing(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("make", "sh", "grep"):
        (tools / name).symlink_to(shutil.which(name))
    done = subprocess.run(
        ["make", "-C", str(tree.ROOT), "gpu-bench"], capture_output=True, text=True, check=False,
        env={"PATH": str(tools)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "gpu-bench: skipped: nvidia-smi is missing, or finds no GPU" in done.stdout


def test_it_runs_suites_that_there_are_and_is_documented():
    (named,) = re.findall(r"^GPU_SUITES := (.*)$", MAKEFILE, re.MULTILINE)
    assert set(named.split()) <= set(suite.names())
    assert "make gpu-bench" in (tree.ROOT / "docs" / "training.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("about", "name"),
    [
        ({"cpu": "AMD EPYC", "cores": 2, "gpus": []}, "amd-epyc-2-cores"),
        ({"cpu": "Intel(R) Core(TM) i9", "cores": 8, "gpus": []}, "intel-core-i9-8-cores"),
        ({"cpu": "x", "cores": 16, "gpus": ["NVIDIA H100 80GB HBM3, 81559"]},
         "nvidia-h100-80gb-hbm3"),
        ({"cpu": "x", "cores": 16, "gpus": ["NVIDIA A100, 1"] * 8}, "nvidia-a100-x8"),
    ],
)  # fmt: skip
def test_a_machine_has_a_folder_name(monkeypatch, about, name):
    monkeypatch.setattr(fingerprint, "fingerprint", lambda: ("", about))
    assert fingerprint.folder_name() == name


def test_doctor_names_those_that_do_not_see_the_gpu_that_is_here():
    seen = {
        "torch": {"devices": ["cpu", "cuda:0 NVIDIA H100"]},
        "tensorflow": {"devices": ["CPU:0"]},
        "nnx": {"devices": ["cpu:0 cpu"]},
        "linen": {"error": "does not start"},
    }
    (found,) = doctor._unused_gpus(["NVIDIA H100, 81559"], seen)
    assert found.what.endswith("these see no GPU: tensorflow, nnx")
    assert doctor._unused_gpus([], seen) == []
    assert doctor._unused_gpus(["NVIDIA H100, 81559"], {"torch": seen["torch"]}) == []
