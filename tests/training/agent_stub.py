"""Stands for `tiebreak train` of one agent: writes a run's folder, fails or waits if told so.

Told by files in the working folder: `fail-SEED`, `wait-SEED`.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path


def main() -> int:
    words = sys.argv[1:]
    seed = words[words.index("--seed") + 1]
    steps = next(int(word[12:]) for word in words if word.startswith("total_steps="))
    folder = Path(words[words.index("--out") + 1])
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"words": words}))
    stop: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: stop.append(number))
    line = {"steps": steps, "mean_return": 5.0, "steps_per_s": 9}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    while Path(f"wait-{seed}").exists() and not stop:
        time.sleep(0.01)
    if Path(f"fail-{seed}").exists():
        print(f"tiebreak: the environment of seed {seed} is broken", file=sys.stderr)
        return 1
    (folder / "policy.safetensors").write_text(f"policy {seed}")
    if stop:
        return 130
    returns = [float(seed), float(seed) + 2]
    result = {"status": "ok", "returns": returns, "steps": steps, "updates": 16, "return_mean": 1.0}
    (folder / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
