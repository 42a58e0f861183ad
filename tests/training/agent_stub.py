"""Stands for `tiebreak train` of one agent: writes a run's folder, and does as it is told.

Told by files in the working folder: `fail-SEED`; `wait-SEED`; `kill-SEED`, with the number of
starts that end by SIGKILL, and `kill-SEED-stored`, after a new checkpoint each; `by-rate`, which
makes returns of the learning rate alone; `wait-low`, where a rate below 1e-4 waits to be ended.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from pathlib import Path


def setting(words: list[str], name: str, default: str) -> str:
    return next((w.partition("=")[2] for w in words if w.startswith(f"{name}=")), default)


def killed(folder: Path, seed: str) -> None:
    """End by SIGKILL as often as a file says, each time after a new checkpoint if it says so."""
    for file in (Path(f"kill-{seed}"), Path(f"kill-{seed}-stored")):
        if not file.exists() or int(file.read_text()) == 0:
            continue
        left = int(file.read_text()) - 1
        file.write_text(str(left))
        if file.name.endswith("stored"):
            (folder / "checkpoints").mkdir(exist_ok=True)
            (folder / "checkpoints" / f"{100 - left:012d}.npz").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    words = sys.argv[1:]
    seed = words[words.index("--seed") + 1]
    steps = int(setting(words, "total_steps", "0"))
    rate = float(setting(words, "learning_rate", "2.5e-4"))
    folder = Path(words[words.index("--out") + 1])
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"words": words}))
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stop.append(number))
    line = {"steps": steps, "mean_return": 5.0, "steps_per_s": 9}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    returns = [float(seed), float(seed) + 2]
    if Path("by-rate").exists():
        returns = [-abs(math.log10(rate) + 3)] * 2
        evaluations = [{"steps": at, "returns": returns} for at in (16, 32)]
        text = "".join(json.dumps(line) + "\n" for line in evaluations)
        (folder / "eval.jsonl").write_text(text)
    killed(folder, seed)
    waits = (Path(f"wait-{seed}"), *([Path("wait-low")] if rate < 1e-4 else []))
    while any(file.exists() for file in waits) and not stop:
        time.sleep(0.01)
    if Path(f"fail-{seed}").exists():
        print(f"tiebreak: the environment of seed {seed} is broken", file=sys.stderr)
        return 1
    (folder / "policy.safetensors").write_text(f"policy {seed}")
    if stop:
        return 130
    mean = sum(returns) / 2
    result = {
        "status": "ok",
        "returns": returns,
        "steps": steps,
        "updates": 16,
        "return_mean": mean,
    }
    (folder / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
