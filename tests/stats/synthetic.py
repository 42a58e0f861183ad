"""Bench records as a run would write them, from known truths: what the statistics must find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak.bench.record import SCHEMA, dumps, seal
from tiebreak.core.config import digest

TRAIN = "ppo · gymnax/CartPole-v1 · train · num_envs 4"
SPEEDS = {"torch compile": 1.0, "tensorflow xla": 0.8, "linen jit": 2.96, "nnx split": 3.0}
"""Label -> true speed."""


def visit(label: str, block: int, samples: Sequence[float], **changes: Any) -> dict:
    """One record; `samples` are seconds per unit."""
    group = changes.get("group", TRAIN)
    algorithm, task, probe, *_ = group.split(" · ")
    framework, mode = label.split()[:2]
    fused = "gymnax" in task and framework not in ("torch", "tensorflow")
    cell = {
        "algorithm": algorithm, "framework": framework, "mode": mode, "task": task,
        "loop": "fused" if fused else "host", "probe": probe, "precision": "float32",
        "size": "s", "num_envs": 4, "device": "cpu", "cache": "warm", "label": label,
    }  # fmt: skip
    return {
        "schema": 1, "kind": "visit", "run_id": "run-a", "suite": "quick", "scale": "quick",
        "block": block, "position": 0, "group": group,
        "cell_id": digest({"group": group, "label": label}),
        "cell": cell, "fingerprint": "f" * 16, "status": "ok", "error": "",
        "phases_s": {"import": 1.2, "build": 0.3, "first_call": 4.1, "warmup": 0.9, "steady": 2.0},
        "samples_s": [2048 * s for s in samples], "units_per_sample": 2048, "unit": "env steps",
        "value_s": float(np.median(samples)), "memory": {"rss_peak_bytes": 412_000_000},
        "work": {"env_steps": 2048}, "flags": {}, "settings": {"threads": 2},
        "started_at": f"2026-01-02T03:04:{block:02d}Z", **changes,
    }  # fmt: skip


def failed(label: str, block: int, error: str = "worker ended by signal 9", **changes: Any) -> dict:
    """A visit that did not finish."""
    empty = {"samples_s": [], "phases_s": {}, "memory": {}, "unit": "", "value_s": None}
    return visit(label, block, [1.0], **{**empty, "status": "crash", "error": error, **changes})


def race(
    speeds: Mapping[str, float] = SPEEDS,
    blocks: int = 10,
    noise: float = 0.005,
    seed: int = 0,
    unit_s: float = 1e-5,
    **changes: Any,
) -> list[dict]:
    """Visits of every cell in every block: drifting machine, noisy processes, noisy samples."""
    rng = np.random.default_rng(seed)
    records = []
    for block in range(blocks):
        machine = 0.1 * np.sin(block) + rng.normal(0, 0.05)  # shared by a block: pairs cancel it
        for label, speed in speeds.items():
            logs = machine + rng.normal(0, noise) + rng.normal(0, 0.02, 20)
            records.append(visit(label, block, unit_s / speed * np.exp(logs), **changes))
    return records


def machine(fingerprint: str = "f" * 16) -> dict:
    """A machine record."""
    facts = {
        "cpu": "Some CPU @ 2.4 GHz", "cores": 2, "memory_bytes": 8_000_000_000,
        "kernel": "6.1.0", "python": "3.11.9", "packages": {"jax": "0.10.2", "torch": "2.13.0"},
    }  # fmt: skip
    return {"schema": 1, "kind": "machine", "fingerprint": fingerprint, "machine": facts}


def canary(block: int, when: str, seconds: float) -> dict:
    """One canary."""
    values = {"numpy": seconds, "python": 2 * seconds}
    return {"schema": 1, "kind": "canary", "block": block, "when": when, "values_s": values}


def certificate(green: bool = True) -> dict:
    """A certificate record: float64 and float32, four frameworks, one red row if not green."""
    rows = [
        {"algorithm": "ppo", "framework": framework, "mode": mode, "actions": "discrete",
         "precision": precision, "rung": "L1", "quantity": quantity, "worst": worst * bound,
         "bound": bound, "ok": True, "case": "obs 5, act 3, hidden 17-9"}
        for framework, mode, worst in (
            ("torch", "compile", 0.02), ("tensorflow", "xla", 0.03),
            ("linen", "jit", 0.01), ("nnx", "split", 0.01), ("nnx", "jit", 0.04))
        for precision, bound in (("float64", 1e-10), ("float32", 1e-5))
        for quantity in ("forward", "loss", "gradients", "weights")
    ]  # fmt: skip
    if not green:
        rows[0].update(ok=False, worst=3e-2)
    content = {
        "schema": 1, "created_at": "2026-01-02T03:00:00Z", "version": "0.1.0",
        "algorithms": ["ppo"], "green": green, "rows": rows, "packages": {},
        "skipped": [{"framework": "equinox", "reason": "not installed: pip install"}],
    }  # fmt: skip
    return {"schema": 1, "kind": "certificate", "certificate": content}


def store(folder: Path, records: Sequence[dict], **suite: Any) -> Path:
    """Write a results folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "records.jsonl").write_bytes(b"".join(seal(r) for r in records))
    visits = [r for r in records if r["kind"] == "visit"]
    cells = {r["cell_id"]: {**r["cell"], "cell_id": r["cell_id"]} for r in visits}
    groups: dict[str, list[str]] = {}
    for r in visits:
        ids = groups.setdefault(r["group"], [])
        ids += [] if r["cell_id"] in ids else [r["cell_id"]]
    content = {
        "suite": "quick", "scale": "quick", "seed": 7, "command": "tiebreak run quick",
        "version": "0.1.0", "commit": "0123abcd", "cells": list(cells.values()),
        "groups": groups, "blocks_planned": 10, "created_at": "2026-01-02T03:00:00Z", **suite,
    }  # fmt: skip
    (folder / "suite.json").write_text(dumps(content))
    return folder


ELSEWHERE = [f"ppo · gymnax/CartPole-v1 · {probe} · num_envs 1024" for probe in ("train", "update")]


def elsewhere() -> list[dict]:
    """Two groups for a device that is not here."""
    lacking = {"status": "missing", "error": "device 'gpu' is not here: no GPU"}
    pairs = [(group, label) for group in ELSEWHERE for label in ("torch compile", "linen jit")]
    return [failed(label, b, group=group, **lacking) for group, label in pairs for b in range(2)]


def typical() -> list[dict]:
    """A run such as `quick` makes: several groups, one flagged cell, one that crashed."""
    update = "ppo · gymnasium/HalfCheetah-v4 · update · num_envs 4"
    host = "ppo · gymnasium/HalfCheetah-v4 · train · num_envs 4"
    five = {**SPEEDS, "equinox flat": 2.9}
    records = [machine(), certificate()]
    records += [canary(b, w, 0.01) for b in range(10) for w in ("open", "close")]
    records += race(five, seed=1)
    records += race({k: 1 + (v - 1) / 20 for k, v in five.items()}, seed=2, group=host)
    slow = {"equinox flat": 1.2, "torch compile": 1.0, "linen jit": 1.25}
    records += race(slow, seed=3, group=update, unit="updates", unit_s=3e-3)
    records += [failed("tensorflow xla", b, group=update) for b in range(10)]
    for r in records:
        if r["kind"] == "visit" and r["cell"]["framework"] == "linen" and r["group"] == host:
            r["flags"] = {"recompiled": 2, "noisy": 0.081} if r["block"] < 3 else {}
    return records


def selftest(row: str = "simulated-aa", passed: bool | None = True, **changes: Any) -> dict:
    """The record of one row of a self-test."""
    return {
        "schema": SCHEMA, "kind": "selftest", "run_id": "run-s", "suite": "self-test", "row": row,
        "title": f"the title of {row}", "rule": "3.6 to 6.5 % called different",
        "passed": passed, "detail": f"{row}: 48 of 1000 called different",
        "measured": {"false_different": 0.048, "by_noise": {"low": 0.0471, "high": [1, 2]}},
        "raw": {"seeds": [1, 2]}, "seconds": 12.5, "scale": "full", "fingerprint": "f" * 16,
        "at": "2026-01-02T02:00:00Z", **changes,
    }  # fmt: skip


def self_test(folder: Path, records: Sequence[dict], scale: str = "full") -> Path:
    """Write the results folder of a self-test."""
    about = {"suite": "self-test", "scale": scale, "command": "tiebreak run self-test"}
    return store(folder, records, **about)


def remembering(records: Sequence[dict], kept_bytes: Mapping[str, float]) -> list[dict]:
    """Finished visits with a memory series of 50 calls; label -> bytes that each call keeps."""
    rng = np.random.default_rng(0)
    for r in records:
        if r["kind"] != "visit" or r["status"] != "ok":
            continue
        slope = kept_bytes.get(r["cell"]["label"], 0.0)
        series = 3e8 + slope * np.arange(50) + rng.normal(0, 500, 50)
        r["memory"] = {
            "rss_peak_bytes": 412_000_000, "live_bytes": 1_310_000, "source": "heap",
            "series_bytes": [int(x) for x in series], "slope_bytes_per_call": slope,
            "growth_low_bytes_per_call": max(0.0, slope - 100),
        }  # fmt: skip
        if slope:
            r["flags"] = {**r["flags"], "memory_growing": slope}
    return list(records)


def leaking(blocks: int = 3) -> list[dict]:
    """The leak probe: one framework keeps every agent that it ever built."""
    group = "ppo · gymnasium/CartPole-v1 · rebuild · num_envs 4"
    speeds = {"torch eager": 1.0, "linen jit": 2.0, "nnx split": 0.5}
    records = race(speeds, blocks=blocks, seed=5, group=group, unit="agents", unit_s=0.2)
    return remembering(records, {"nnx split": 1_310_000.0})


def staged() -> list[dict]:
    """Groups that went to different stages, on a machine that moved during one block."""
    wide = "ppo · gymnax/CartPole-v1 · update · num_envs 4"
    records = [machine()]
    for block in range(20):
        records.append({**canary(block, "open", 0.01), "run_id": "run-a"})
        records += [r for r in race(blocks=10, seed=1) if r["block"] == block]
        records += [r for r in race(blocks=20, seed=2, group=wide) if r["block"] == block]
        moved = 0.014 if block == 15 else 0.01
        records.append({**canary(block, "close", moved), "run_id": "run-a"})
    return records
