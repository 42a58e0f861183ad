"""Stands for `tiebreak run` on a host, in tests: writes the records of its share at once.

`python stub_manager.py run SUITE --scale S --share K/N --out DIR [--seed N | --resume]`. Files in
the folder $STUBS change what it does as part K: `kill-K` kills it after one record, and `fail-K`
ends it with an error.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from tiebreak import __version__
from tiebreak.bench.manager import manager, store
from tiebreak.bench.suite import suite as suites
from tiebreak.bench.suite.share import Share, take_share


def visit(cell, block: int, part: int) -> dict:
    """A finished run; the cells' speeds are 1, 2, 3, … by label."""
    seconds = [
        (1 + part) / (1 + ord(cell.label[-1]) % 7) * (1 + 0.001 * (block + i)) for i in range(3)
    ]
    return {
        "block": block, "position": 0, "group": cell.group, "cell_id": cell.id,
        "cell": cell.to_json(), "status": "ok", "error": "", "unit": "updates",
        "units_per_sample": 1, "calls_per_sample": 1, "samples_s": seconds, "value_s": seconds[1],
        "phases_s": {"import": 1.0, "steady": 1.0}, "memory": {}, "work": {"updates": 3},
        "flags": {}, "settings": {}, "started_at": f"2026-01-02T03:04:{block:02d}Z",
    }  # fmt: skip


def main() -> None:
    if sys.argv[1:] == ["--version"]:
        print(f"tiebreak {os.environ.get('STUB_VERSION', __version__)}")
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("suite")
    for name in ("scale", "share", "out", "seed"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    share, folder = Share.parse(args.share), Path(args.out)
    planted = Path(os.environ["STUBS"])
    (planted / f"cores-{share.part}").write_text(str(sorted(os.sched_getaffinity(0))))
    if (planted / f"fail-{share.part}").exists():
        sys.exit("tiebreak: the stub was told to fail")
    seed = store.read_suite(folder)["seed"] if args.resume else int(args.seed)
    plan = take_share(suites.load(args.suite, args.scale, seed), share)
    if not args.resume:
        manager.write_suite(folder, manager.describe(plan, "tiebreak run"))
    fill(plan, folder, share.part, planted / f"kill-{share.part}")


def fill(plan, folder: Path, part: int, kill: Path) -> None:
    """Append what is missing of a share; die after the first record if the file `kill` exists."""
    mark = f"{part}" * 16
    origin = {"run_id": store.read_run_id(folder), "suite": plan.suite, "scale": plan.scale}
    records = store.Store(folder)
    done = {(r["block"], r["cell_id"]) for r in store.read_records(folder) if r["kind"] == "visit"}
    machine = {"cpu": "Stub", "cores": 2, "affinity": [part]}
    records.append({"kind": "machine", **origin, "fingerprint": mark, "machine": machine})
    for block in range(plan.settings.blocks):
        for cell in plan.cells:
            if (block, cell.id) in done:
                continue
            record = {"kind": "visit", **origin, "fingerprint": mark, **visit(cell, block, part)}
            print(f"[{block}] {cell.label}", file=sys.stderr, flush=True)
            records.append(record)
            if kill.exists():
                kill.unlink()
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
