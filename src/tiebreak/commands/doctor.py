"""`tiebreak doctor`: what would disturb timings on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from tiebreak import registry
from tiebreak.bench.machine import contention
from tiebreak.bench.machine.fingerprint import fingerprint
from tiebreak.commands import framework_info, listing, machine_checks
from tiebreak.commands.machine_checks import Finding
from tiebreak.commands.options import Failure, Parser, print_json
from tiebreak.core import cxx_compiler


def parser() -> Parser:
    """Return the parser of `tiebreak doctor`."""
    out = Parser(
        "doctor",
        "Show what each framework sees on this machine, and what would disturb timings.\n"
        "Starts every installed framework once, in a process of its own.",
        ["tiebreak doctor", "tiebreak doctor --json > machine.json"],
    )
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Print the findings; raise Failure if an installed framework does not start."""
    report = collect()
    if args.json:
        print_json(report)
    else:
        _print(report)
    frameworks = report["frameworks"].items()
    broken = [f"{name}: {row['error']}" for name, row in frameworks if "error" in row]
    if broken:
        raise Failure(f"installed, but does not start: {'; '.join(broken)}")
    return 0


def collect() -> dict[str, Any]:
    """Return everything that `doctor` shows."""
    host = contention.Contention()
    findings = machine_checks.findings()  # before our own processes add load
    identity, facts = fingerprint()
    frameworks = _framework_info()
    steal = host.read().get("steal", 0.0)
    if steal > contention.CONTENDED["steal"]:
        findings.append(
            Finding(
                f"the host took {steal:.0%} of the CPU time during this check (steal)",
                "use a dedicated machine, or trust interleaved runs only",
            )
        )
    cxx = cxx_compiler.find()
    if not cxx and not registry.missing_packages(("torch",)):
        findings.append(
            Finding(
                "no C++ compiler: torch cannot run in mode compile on the CPU",
                "sudo apt install g++ (or set CXX to one)",
            )
        )
    findings += _unused_gpus(facts["gpus"], frameworks)
    return {
        "fingerprint": identity,
        "machine": {**facts, "blas_numpy": _numpy_blas(), "cxx": cxx},
        "frameworks": frameworks,
        "variables": machine_checks.timing_variables(),
        "caches": machine_checks.compile_caches(),
        "findings": [finding._asdict() for finding in findings],
    }


def _unused_gpus(gpus: list[str], frameworks: dict[str, dict[str, Any]]) -> list[Finding]:
    """Report frameworks whose build cannot use a GPU that is here."""
    devices = {name: row["devices"] for name, row in frameworks.items() if "devices" in row}
    cpu_only = [name for name, ds in devices.items() if all("cpu" in d.lower() for d in ds)]
    if not gpus or not cpu_only:
        return []
    return [
        Finding(
            f"{gpus[0]} is present, and these see no GPU: {', '.join(cpu_only)}",
            "to measure them on it, install builds with CUDA, e.g. pip install 'jax[cuda12]'",
        )
    ]


def _framework_info() -> dict[str, Any]:
    """Start each installed framework, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    rows = listing.collect()["frameworks"]
    names = track(
        list(rows),
        description="starting each framework",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    info = {}
    for name in names:
        row = rows[name]
        if row["installed"]:
            details = framework_info.run_in_subprocess(name)
        else:
            details = {"missing": row["missing"], "install": row["install"]}
        info[name] = {"versions": row["versions"], **details}
    return info


def _numpy_blas() -> str:
    import numpy as np

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index]
    return f"{blas['name']} {blas.get('version', '')}".strip()


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table("framework", "devices", "threads", "float32 matmul", "BLAS", title="frameworks")
    for name, row in report["frameworks"].items():
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
    for command in listing.install_commands(report):
        print(command)
    facts = Table("machine", "", title=f"fingerprint {report['fingerprint']}")
    for name, value in _machine_rows(report):
        facts.add_row(name, Text(value))
    console.print(facts)
    console.print(
        "These are the libraries' defaults; tiebreak sets threads and precision alike in all."
    )
    if not report["findings"]:
        console.print("Nothing found that would disturb timings.")
    for number, finding in enumerate(report["findings"], 1):
        console.print(
            Text(f"{number}. {finding['what']}\n   -> {finding['remedy']}"), soft_wrap=True
        )


def _machine_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    facts = report["machine"]
    limits = ", ".join(f"{k} {v}" for k, v in facts["cgroup"].items() if v)
    return [
        ("CPU", f"{facts['cpu']}, {facts['cores']} CPUs, of which usable {facts['affinity']}"),
        ("governor", facts["governor"] or "not visible"),
        ("limits", limits or "none"),
        ("memory", f"{facts['memory_bytes'] / 2**30:.1f} GiB"),
        ("GPUs", ", ".join(facts["gpus"]) or "none"),
        ("load average", str(facts["load_average"])),
        ("system", f"{facts['system']}, kernel {facts['kernel']}, {facts['python']}"),
        ("C++ compiler", facts["cxx"] or "none: torch cannot run in mode compile on the CPU"),
        ("NumPy's BLAS", facts["blas_numpy"]),
        ("variables", ", ".join(f"{k}={v}" for k, v in report["variables"].items()) or "none set"),
        ("compile caches", ", ".join(f"{k}: {v}" for k, v in report["caches"].items())),
    ]
