"""Wrong files of every kind end in a line or in a result, never in a traceback.

`make test` tries a few with a stated seed; `FUZZ=10000 pytest tests/commands/test_fuzz.py -s` tries
so many of each kind, and FUZZ_SEED another seed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
from pathlib import Path

import fuzz
import numpy as np
import pytest
from safetensors.numpy import save as to_bytes
from stats import synthetic

import tiebreak
from tiebreak import cli, registry
from tiebreak.bench.record import seal
from tiebreak.bench.suite import suite
from tiebreak.core import config as configs
from tiebreak.core.config import to_dict
from tiebreak.core.errors import UsageError
from tiebreak.core.text import one_line
from tiebreak.envs.task import Task
from tiebreak.frameworks import weights
from tiebreak.training import checkpoints, policy_files
from tiebreak.training.versions import run_versions

SEED = int(os.environ.get("FUZZ_SEED", fuzz.SEED))


def inputs(short: int) -> int:
    """Number of inputs to try."""
    return int(os.environ.get("FUZZ", short))


def outcome(*argv: str) -> str:
    """Run a command in this process; return `ok`, `refused`, or what is wrong."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(argv)
    shown = out.getvalue() + err.getvalue()
    if "unexpected" in err.getvalue() or "Traceback" in shown or status not in (0, 1, 2, 3):
        return f"tiebreak {' '.join(argv)}: status {status}: {err.getvalue()}"
    if any(c in shown for c in "\x1b\x9b\u202e\x00"):
        return f"tiebreak {' '.join(argv)}: control characters in {shown!r}"
    errors = [line for line in err.getvalue().splitlines() if ": left out " not in line]
    if status == 2 and len(errors) != 1:
        return f"tiebreak {' '.join(argv)}: not one line: {err.getvalue()}"
    return "refused" if status == 2 else "ok"


@pytest.fixture(autouse=True)
def _debug(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Print tracebacks instead of writing files, and draw no colours."""
    monkeypatch.setenv("TIEBREAK_DEBUG", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))


CERTIFICATE = {
    "schema": 1, "green": True, "quick": True, "algorithms": ["ppo"], "created_at": "2026-01-02",
    "version": "0.1.0", "seed": 0, "packages": {}, "skipped": [{"framework": "nnx", "reason": "x"}],
    "rows": [
        {"actions": "box", "algorithm": "ppo", "bound": 1e-10, "case": "c", "framework": framework,
         "mode": "jit", "ok": True, "precision": "float64", "quantity": "loss", "reason": "",
         "rung": "L1", "worst": 1e-15}
        for framework in ("torch", "linen")
    ],
}  # fmt: skip


def records(run_id: str = "run-a") -> list[dict]:
    """Return records of all kinds: two cells, two blocks."""
    labels = ("torch compile", "linen jit")
    more = {
        "work": {"env_steps": 2048, "calls": 1, "weights_sha256": "a"}, "turns": "t1",
        "calls_per_sample": 1, "first_calls_s": [3.0, 0.1, 0.1, 0.1], "order": ["train"],
        "flags": {"noisy": 0.2}, "contention": {"others": 0.0}, "shared_process": False,
        "memory": {"rss_peak_bytes": 400, "series_bytes": [1] * 50, "source": "live_bytes"},
    }  # fmt: skip
    origin = {"run_id": run_id, "fingerprint": "f" * 16, "schema": 1, "suite": "quick"}
    made = [synthetic.machine(), {**origin, "kind": "certificate", "certificate": CERTIFICATE}]
    for block in range(2):
        made.append({**synthetic.canary(block, "open", 0.01), **origin})
        samples = [1e-5, 1.1e-5] * 4
        made += [synthetic.visit(x, block, samples, run_id=run_id, **more) for x in labels]
        made.append({**synthetic.canary(block, "close", 0.01), **origin})
    made.append(synthetic.failed("nnx split", 0, run_id=run_id))
    made.append({
        **origin, "kind": "selftest", "row": "damage", "title": "t", "rule": "r", "passed": True,
        "detail": "d", "measured": {"a": {"b": [1]}}, "seconds": 1.0, "at": "2026-01-02",
        "scale": "full",
    })  # fmt: skip
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder, whose files are then replaced."""
    return synthetic.store(tmp_path_factory.mktemp("fuzz") / "results", records())


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder that stays right."""
    return synthetic.store(tmp_path_factory.mktemp("fuzz-other") / "other", records("run-b"))


def read_in_some_way(folder: Path, other: Path, rng: random.Random) -> str:
    """Report, show or compare a folder."""
    page = str(folder.parent / "page.html")
    ways = (
        ("report", str(folder), "-o", page),
        ("report", str(folder), str(other), "-o", page),
        ("show", str(folder)),
        ("show", str(folder), "--tables"),
        ("show", str(folder), "--json"),
        ("show", str(folder), "--markdown"),
        ("compare", str(folder), str(other)),
        ("compare", str(other), str(folder), "--json", "--fail-over", "3%"),
        ("compare", str(other), str(folder), "--markdown", "--relative-to", "torch"),
    )
    return outcome(*rng.choice(ways))


def test_the_unchanged_folder_is_read_in_every_way(folder: Path, other: Path):
    for number in range(30):
        assert read_in_some_way(folder, other, random.Random(number)) == "ok"


def test_records_with_a_right_hash_and_wrong_values(folder: Path, other: Path):
    right = records()

    def try_one(rng: random.Random) -> str:
        lines = list(map(seal, right))
        for index in rng.sample(range(len(right)), rng.choice((1, 1, 2))):
            with contextlib.suppress(TypeError, AttributeError):
                lines[index] = seal(fuzz.mutated(right[index], rng))
        (folder / "records.jsonl").write_bytes(b"".join(lines))
        return read_in_some_way(folder, other, rng)

    print("records:", fuzz.run(inputs(12), SEED, try_one))


def test_suite_json_with_wrong_values(folder: Path, other: Path):
    (folder / "records.jsonl").write_bytes(b"".join(map(seal, records())))
    value = {"what": "w", "value": 1.0, "plus_minus": None, "over": "", "where": {"size": ["s"]}}
    table = {"source": "s", "machine": "m", "unit": "ms per call", "note": "", "values": [value]}
    settings = {"stages": [2, 4], "half_width": 0.01, "blocks": 4}
    right = json.loads((other / "suite.json").read_text())
    right |= {"published": [table], "settings": settings, "device": None, "run_id": "a" * 16}

    def try_one(rng: random.Random) -> str:
        (folder / "suite.json").write_text(json.dumps(fuzz.mutated(right, rng)))
        return read_in_some_way(folder, other, rng)

    print("suite.json:", fuzz.run(inputs(12), SEED, try_one))


def policy_bytes(metadata: dict, arrays: dict[str, np.ndarray]) -> bytes:
    """Return a policy's file."""
    return to_bytes(arrays, metadata={"tiebreak": json.dumps(metadata)})


def test_policies_with_wrong_descriptions_and_arrays(tmp_path: Path):
    """The policy is read and checked, not run: its description decides what would be."""
    spec = tiebreak.EnvSpec.make(observation_shape=(4,), num_actions=2)
    config = registry.config_module("ppo").Config(hidden_sizes=(8, 8))
    arrays = registry.data_module("ppo").initial_weights(spec, config, 0)
    path = policy_files.save_policy(
        tmp_path, arrays, "ppo", spec, config, task="gymnasium/CartPole-v1", framework="torch",
        mode="eager", seed=0, steps=1000,
    )  # fmt: skip
    arrays, right = weights.load(path)

    def try_one(rng: random.Random) -> str:
        changed = dict(arrays)
        if rng.random() < 0.3:
            name = rng.choice(list(changed))
            shapes = (np.zeros(3, np.int8), np.zeros((), np.float16), np.zeros((0, 4)), np.ones(9))
            changed[name] = rng.choice(shapes)
        metadata = fuzz.mutated(right, rng) if rng.random() < 0.9 else rng.choice(fuzz.NASTY)
        path.write_bytes(policy_bytes(metadata, changed))
        try:
            policy = policy_files.load_policy(path)
            Task.parse(str(policy.metadata.get("task")))
        except UsageError as error:
            return "refused" if "\x1b" not in str(one_line(error)) else repr(error)
        return "ok"

    print("policies:", fuzz.run(inputs(60), SEED, try_one))


def test_damaged_bytes_of_a_policy(tmp_path: Path):
    spec = tiebreak.EnvSpec.make(observation_shape=(4,), num_actions=2)
    config = registry.config_module("ppo").Config(hidden_sizes=(8, 8))
    arrays = registry.data_module("ppo").initial_weights(spec, config, 0)
    path = policy_files.save_policy(
        tmp_path, arrays, "ppo", spec, config, task="gymnasium/CartPole-v1", framework="torch"
    )
    whole = path.read_bytes()

    def try_one(rng: random.Random) -> str:
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 9)):
            data[rng.randrange(min(len(data), 2000))] = rng.randrange(256)
        path.write_bytes(bytes(data[: rng.choice((len(data), rng.randrange(len(data))))]))
        try:
            policy_files.load_policy(path)
        except UsageError:
            return "refused"
        return "ok"

    print("bytes of policies:", fuzz.run(inputs(60), SEED, try_one))


def test_config_json_with_wrong_values(tmp_path: Path):
    """A run is resumed as far as its settings are compared; what it lacks is a loop."""
    task = Task.parse("gymnasium/CartPole-v1")
    config = registry.config_module("ppo").Config()
    now = {
        "algorithm": "ppo", "framework": "torch", "task": str(task), "mode": "eager",
        "loop": "host", "seed": 0, "precision": "float32", "device": "cpu", "eval_episodes": 16,
        "eval_every": 0, "config": to_dict(config), "config_hash": "a", "threads": 2,
        "versions": run_versions("torch", "gymnasium"), "command": "tiebreak train ppo",
    }  # fmt: skip

    def try_one(rng: random.Random) -> str:
        stored = fuzz.mutated(now, rng)
        (tmp_path / "config.json").write_text(json.dumps(stored))
        try:
            checkpoints.require_run(tmp_path)
            checkpoints.load(tmp_path, None, now)
        except UsageError:
            return "refused"
        return "ok"

    print("config.json:", fuzz.run(inputs(60), SEED, try_one))


def test_settings_with_wrong_values():
    """Settings of every algorithm, as values of Python and as a user types them."""
    kinds = {name: registry.config_module(name) for name in registry.ALGORITHMS}

    def try_one(rng: random.Random) -> str:
        module = kinds[rng.choice(list(kinds))]
        values = fuzz.mutated(to_dict(module.Config()), rng)
        if rng.random() < 0.5:
            values = {key: str(value) for key, value in values.items()}
        try:
            module.check(configs.from_dict(module.Config, values))
        except UsageError:
            return "refused"
        return "ok"

    print("settings:", fuzz.run(inputs(60), SEED, try_one))


def test_suites_with_wrong_values(tmp_path: Path):
    """Suites are planned, not run."""
    race = {
        "task": "gymnasium/CartPole-v1", "num_envs": [1, 4], "probes": ["update", "train"],
        "config": {"num_steps": 128}, "smoke": {"num_steps": 8},
        "rows": [{"framework": "torch", "mode": "eager"}, {"framework": "linen", "label": "x"}],
    }  # fmt: skip
    right = {
        "description": "d", "algorithm": "ppo", "precision": "float32", "size": "s",
        "scales": {"quick": {"blocks": 4, "sample_s": 0.1, "rounds": 8, "first": ["train"]}},
        "races": [race, {**race, "name": "n", "task": ["gymnax/CartPole-v1"]}],
    }  # fmt: skip

    def try_one(rng: random.Random) -> str:
        text = "\n".join(toml_lines(fuzz.mutated(right, rng)))
        if rng.random() < 0.3:
            start = rng.randrange(len(text))
            text = text[:start] + rng.choice(("\x1b", "[[", "=", '"', "é", "")) + text[start + 2 :]
        path = tmp_path / "fuzzed.toml"
        path.write_text(text, encoding="utf-8", errors="replace")
        try:
            suite.load(str(path), "quick", seed=0)
        except UsageError:
            return "refused"
        return "ok"

    print("suites:", fuzz.run(inputs(40), SEED, try_one))


def toml_lines(table: dict) -> list[str]:
    """Return the keys of a table as TOML, nested values inline."""
    return [f"{json.dumps(key)} = {toml_value(value)}" for key, value in table.items()]


def toml_value(value: object) -> str:
    """Return a value as inline TOML; null, which it lacks, as an empty table."""
    if isinstance(value, dict):
        return "{" + ", ".join(toml_lines(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return "{}" if value is None else json.dumps(value, ensure_ascii=False).replace("\x7f", "?")
