"""`tiebreak list`: read the registry and package metadata; import no framework."""

from __future__ import annotations

import argparse
from typing import Any

import tiebreak
from tiebreak import registry
from tiebreak.commands.options import Parser, print_json
from tiebreak.commands.run import suites
from tiebreak.core.errors import UsageError, unknown
from tiebreak.training.versions import versions


def parser() -> Parser:
    """Return the parser of `tiebreak list`."""
    out = Parser(
        "list",
        "List what is implemented, what is installed here, and how to install what is missing.",
        [
            "tiebreak list",
            "tiebreak list --tasks gymnax",
            "tiebreak list --settings fasttd3 --task playground/CheetahRun",
            "tiebreak list --json",
        ],
    )
    out.add_argument(
        "--tasks",
        nargs="?",
        const="",
        metavar="ENGINE",
        help=f"list the tasks of one engine ({', '.join(registry.ENGINES)}) or of all installed",
    )
    out.add_argument(
        "--settings",
        metavar="ALGORITHM",
        help=f"list the settings of an algorithm ({', '.join(registry.ALGORITHMS)})",
    )
    out.add_argument("--task", help="with --settings: the reference for this task, too")
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Print tables, task names one per line, or JSON."""
    if args.settings is not None or args.task is not None:
        return _run_settings(args)
    if args.tasks is not None:
        names = tasks(args.tasks)
        print_json(names) if args.json else print("\n".join(names))
    elif args.json:
        print_json(collect())
    else:
        _print(collect())
    return 0


def _run_settings(args: argparse.Namespace) -> int:
    """Print the settings of one algorithm."""
    from tiebreak.commands.settings_table import print_settings, settings

    if args.settings is None:
        raise UsageError("--task goes with --settings ALGORITHM, to show the task's reference")
    if args.tasks is not None:
        raise UsageError("--settings does not go with --tasks; ask for one of them")
    task = args.task or ""
    if args.json:
        print_json([row._asdict() for row in settings(args.settings, task)])
    else:
        print_settings(args.settings, task)
    return 0


def collect() -> dict[str, Any]:
    """Return everything that `list` shows."""
    frameworks = {
        name: {
            **_installed(
                row.packages_in(row.default_mode), *registry.extras(name, row.default_mode)
            ),
            "runtime": row.runtime or None,
            "modes": list(row.modes),
            "default_mode": row.default_mode,
            "begins_eager": row.begins_eager,
        }
        for name, row in registry.FRAMEWORKS.items()
    }
    algorithms = {
        name: [f for f in registry.FRAMEWORKS if (name, f) in registry.IMPLEMENTATIONS]
        for name in registry.ALGORITHMS
    }
    engines = {
        name: {
            **_installed(row.packages, row.extra),
            "kind": row.kind,
            "examples": list(row.examples),
        }
        for name, row in registry.ENGINES.items()
    }
    return {
        "version": tiebreak.__version__,
        "frameworks": frameworks,
        "algorithms": algorithms,
        "engines": engines,
        "suites": suites(),
    }


def _installed(packages: tuple[str, ...], *extras: str) -> dict[str, Any]:
    missing = registry.missing_packages(packages)
    return {
        "installed": not missing,
        "versions": versions(packages),
        "missing": missing,
        "install": registry.how_to_install(*extras) if missing else None,
    }


def tasks(engine: str = "") -> list[str]:
    """Return the names of an engine's tasks, or of all installed engines'. Imports the engines."""
    if engine and engine not in registry.ENGINES:
        raise unknown("engine", engine, registry.ENGINES)
    engines = [engine] if engine else _installed_engines()
    names = []
    for name in engines:
        row = registry.ENGINES[name]
        registry.require_packages(f"engine {name!r}", row.packages, row.extra)
        names += [f"{name}/{task}" for task in registry.load(row.module).tasks()]
    return names


def _installed_engines() -> list[str]:
    rows = registry.ENGINES.items()
    return [name for name, row in rows if not registry.missing_packages(row.packages)]


def install_commands(overview: dict[str, Any]) -> list[str]:
    """Return one line for each framework and engine that is not installed: how to install it."""
    rows = {**overview["frameworks"], **overview.get("engines", {})}
    return [f"{name}: {row['install']}" for name, row in rows.items() if row.get("install")]


def _print(overview: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("framework", "installed", "modes (the default in brackets)", title="frameworks")
    for name, row in overview["frameworks"].items():
        modes = [f"[{m}]" if m == row["default_mode"] else m for m in row["modes"]]
        if row["begins_eager"]:
            modes.append(f"(trainings: {registry.AUTO})")
        table.add_row(name, _versions(row), _plain(" ".join(modes)))
    console.print(table)
    table = Table("algorithm", *overview["frameworks"], title="algorithms")
    for name, implemented in overview["algorithms"].items():
        table.add_row(name, *("yes" if f in implemented else "–" for f in overview["frameworks"]))
    console.print(table)
    table = Table("engine", "installed", "runs on", "example tasks", title="engines")
    for name, row in overview["engines"].items():
        table.add_row(name, _versions(row), row["kind"], "\n".join(row["examples"]))
    console.print(table)
    for command in install_commands(overview):
        print(command)  # the console would break the line at the edge of the screen
    table = Table("suite", "what it is (tiebreak run SUITE)", title="suites")
    for name, description in overview["suites"].items():
        table.add_row(name, _plain(description))
    console.print(table)
    console.print("All tasks: tiebreak list --tasks. Train: tiebreak train --help.")


def _versions(row: dict[str, Any]) -> Any:
    if not row["installed"]:
        return _plain("not installed")
    return _plain("\n".join(f"{package} {number}" for package, number in row["versions"].items()))


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)  # square brackets are markup otherwise
