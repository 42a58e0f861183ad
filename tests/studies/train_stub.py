"""Stands for `tiebreak train`: writes a run's folder; waits or fails if files in it tell it so.

Told by files in the working folder: `fail-SEED`, `wait-SEED`. A seed learns to its own number.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> int:
    words = sys.argv[1:]
    seed = int(words[words.index("--seed") + 1])
    folder = Path(words[words.index("--out") + 1])
    folder.mkdir(parents=True, exist_ok=True)
    stop: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: stop.append(number))
    about = {"seed": seed, "words": words, "started_at": "2031-01-01T00:00:00+00:00"}
    about |= {"commit": "c0de", "mode": "jit", "loop": "host", "config_hash": "ab", "versions": {}}
    (folder / "config.json").write_text(json.dumps(about))
    while Path(f"wait-{seed}").exists() and not stop:
        time.sleep(0.01)
    if stop or os.getppid() != int(
        os.environ["TIEBREAK_PARENT"]
    ):  # which `tiebreak train` asks for
        return 130
    if Path(f"fail-{seed}").exists():
        print(f"tiebreak: seed {seed} has diverged", file=sys.stderr)
        return 1
    lines = [{"steps": s, "returns": [seed - 1.0, seed + 1.0]} for s in (100, 200, 300)]
    (folder / "eval.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    log = [{"steps": s, "episodes": 1, "mean_return": float(s)} for s in (100, 280, 300)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    (folder / "result.json").write_text(json.dumps({"status": "ok", "steps": 300}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
