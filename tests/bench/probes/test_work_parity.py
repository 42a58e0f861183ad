"""Settings that are read back are compared with what was set; what cannot be read is not."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from tiebreak.bench.suite.plan import Cell
from tiebreak.bench.worker.work_checks import check_parity

CELL = Cell("ppo", "torch", "eager", "gymnasium/CartPole-v1", "host", "update")


def parity(settings, **cell):
    result = {"status": "ok", "flags": {}, "settings": settings}
    check_parity(result, replace(CELL, **cell), threads=2, cpus=cpus())
    return result["flags"].get("parity_mismatch", "")


def cpus():
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@pytest.mark.parametrize(
    ("settings", "cell", "wrong"),
    [
        ({"threads": 2, "interop_threads": 1, "matmul_keeps_2^-12": True}, {}, ""),
        ({"threads": 3}, {}, "threads 3"),
        ({"intra_op_threads": 0}, {}, "intra_op_threads 0"),
        ({"inter_op_threads": 2}, {}, "inter_op_threads 2"),
        ({"threads": "unknown"}, {}, ""),
        ({"precision": "tf32"}, {}, "precision tf32"),
        ({"matmul_keeps_2^-12": False}, {}, "matmul_keeps_2^-12 False"),
        ({"matmul_keeps_2^-12": True}, {"precision": "tf32", "device": "cuda"},
         "matmul_keeps_2^-12 True"),
        ({"matmul_keeps_2^-12": True, "precision": "tf32"}, {"precision": "tf32"}, ""),
        ({"matmul_keeps_2^-12": True}, {"precision": "bfloat16", "device": "cuda"}, ""),
        ({"matmul_keeps_2^-12": False}, {"precision": "bfloat16"}, "matmul_keeps_2^-12 False"),
    ],
)  # fmt: skip
def test_parity_is_read_back(settings, cell, wrong, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    settings.setdefault("precision", cell.get("precision", "float32"))
    assert parity(settings, **cell) == wrong


def test_affinity_and_openmp_are_read_back(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert parity({"precision": "float32"}) == "omp_num_threads 4"
    result = {"status": "ok", "flags": {}, "settings": {"omp": 1}}
    check_parity(result, CELL, threads=4, cpus=(987,))
    assert "affinity" in result["flags"]["parity_mismatch"]
