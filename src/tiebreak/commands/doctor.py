"""`tiebreak doctor`."""

from __future__ import annotations

import argparse
from typing import Any

from tiebreak import registry
from tiebreak.bench.machine import contention
from tiebreak.bench.machine.fingerprint import fingerprint
from tiebreak.commands import checks, listing, probe
from tiebreak.commands.options import Failure, Parser, print_json
from tiebreak.core import cxx_compiler


def parser() -> Parser:
    """What `tiebreak doctor` takes."""
    out = Parser(
        "doctor",
        "What each framework sees on this machine, and what would make timings untrustworthy.\n"
        "Every installed framework is started once, in a process of its own.",
        ["tiebreak doctor", "tiebreak doctor --json > machine.json"],
    )
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Look, print, and fail if an installed framework does not start."""
    found = collect()
    if args.json:
        print_json(found)
    else:
        _print(found)
    broken = [f"{n}: {row['error']}" for n, row in found["frameworks"].items() if "error" in row]
    if broken:
        raise Failure(f"installed, but does not start: {'; '.join(broken)}")
    return 0


def collect() -> dict[str, Any]:
    """Everything that `doctor` shows."""
    waiting = contention.Contention()
    findings = checks.findings()  # before our own processes are the load
    identity, about = fingerprint()
    frameworks = _ask_all()
    steal = waiting.read().get("steal", 0.0)
    if steal > contention.CONTENDED["steal"]:
        findings.append(
            checks.Finding(
                f"the host took {steal:.0%} of the CPU time while we looked (steal)",
                "nothing from inside: use a dedicated machine, or trust interleaved runs only",
            )
        )
    cxx = cxx_compiler.find()
    if not cxx and not registry.missing_packages(("torch",)):
        findings.append(
            checks.Finding(
                "no C++ compiler: torch cannot run in mode compile on the CPU",
                "sudo apt install g++ (or set CXX to one)",
            )
        )
    findings += _unseen(about["gpus"], frameworks)
    return {
        "fingerprint": identity,
        "machine": {**about, "blas_numpy": _numpy_blas(), "cxx": cxx},
        "frameworks": frameworks,
        "variables": checks.variables(),
        "caches": checks.caches(),
        "findings": [finding._asdict() for finding in findings],
    }


def _unseen(gpus: list[str], frameworks: dict[str, dict[str, Any]]) -> list[checks.Finding]:
    """A GPU that is here and that a framework's build cannot use."""
    asked = {name: row["devices"] for name, row in frameworks.items() if "devices" in row}
    blind = [name for name, there in asked.items() if all("cpu" in d.lower() for d in there)]
    if not gpus or not blind:
        return []
    return [
        checks.Finding(
            f"{gpus[0]} is here, and these see no GPU: {', '.join(blind)}",
            "install builds with CUDA, e.g. pip install 'jax[cuda12]', if they are to be measured "
            "on it",
        )
    ]


def _ask_all() -> dict[str, dict[str, Any]]:
    from rich.console import Console
    from rich.progress import track

    console, out = Console(stderr=True), {}
    rows = listing.collect()["frameworks"]
    shown = {"console": console, "transient": True, "disable": not console.is_terminal}
    for name in track(list(rows), description="starting each framework", **shown):
        row = rows[name]
        about = {"versions": row["versions"]}
        out[name] = {**about, **(probe.ask(name) if row["installed"] else _absent(row))}
    return out


def _absent(row: dict[str, Any]) -> dict[str, Any]:
    return {"missing": row["missing"], "install": row["install"]}


def _numpy_blas() -> str:
    import numpy as np

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index]
    return f"{blas['name']} {blas.get('version', '')}".strip()


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table("framework", "devices", "threads", "float32 matmul", "BLAS", title="frameworks")
    for name, row in found["frameworks"].items():
        if "devices" in row:
            cells = [
                "\n".join(row["devices"]),
                row["threads"],
                row["matmul_precision"],
                row["blas"],
            ]
        else:
            cells = [row.get("error") or "not installed", "", "", ""]
        table.add_row(name, *map(Text, cells))
    console.print(table)
    for command in listing.install_commands(found):
        print(command)
    about = Table("machine", "", title=f"fingerprint {found['fingerprint']}")
    for name, value in _machine_rows(found):
        about.add_row(name, Text(value))
    console.print(about)
    console.print("As the libraries start; tiebreak sets threads and precision alike in all.")
    if not found["findings"]:
        console.print("Nothing found that would disturb timings.")
    for number, finding in enumerate(found["findings"], 1):
        console.print(
            Text(f"{number}. {finding['what']}\n   -> {finding['remedy']}"), soft_wrap=True
        )


def _machine_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    about = found["machine"]
    limits = ", ".join(f"{k} {v}" for k, v in about["cgroup"].items() if v)
    return [
        ("CPU", f"{about['cpu']}, {about['cores']} CPUs, of which usable {about['affinity']}"),
        ("governor", about["governor"] or "not visible"),
        ("limits", limits or "none"),
        ("memory", f"{about['memory_bytes'] / 2**30:.1f} GiB"),
        ("GPUs", ", ".join(about["gpus"]) or "none"),
        ("load average", str(about["load_average"])),
        ("system", f"{about['system']}, kernel {about['kernel']}, {about['python']}"),
        ("C++ compiler", about["cxx"] or "none: torch cannot run in mode compile on the CPU"),
        ("NumPy's BLAS", about["blas_numpy"]),
        ("variables", ", ".join(f"{k}={v}" for k, v in found["variables"].items()) or "none set"),
        ("compile caches", ", ".join(f"{k}: {v}" for k, v in found["caches"].items())),
    ]
