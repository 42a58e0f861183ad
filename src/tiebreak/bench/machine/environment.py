"""Describe the Python environments of other interpreters, in which some rows run.

These are rows with `python`, and peers, whose environments peers/environments.py makes.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tiebreak.bench.machine.fingerprint import NOT_MEASURED, PACKAGES
from tiebreak.bench.suite.plan import Cell
from tiebreak.core.errors import UsageError
from tiebreak.core.git import head
from tiebreak.core.process_env import inherited_variables
from tiebreak.core.text import one_line
from tiebreak.peers import environments
from tiebreak.peers.table import PEERS

TIMEOUT_S = 60.0
"""Time in which an interpreter has to describe itself."""

SCRIPT = """
import hashlib, importlib.util, json, pathlib, platform, sys
from importlib import metadata

names, not_measured, modules = json.loads(sys.argv[1])
installed = {f"{d.name}=={d.version}".lower() for d in metadata.distributions()}
packages = {}
for name in names:
    try:
        packages[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        continue
spec = importlib.util.find_spec("tiebreak")
source = hashlib.sha256()
if spec and spec.origin:
    package = pathlib.Path(spec.origin).parent
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package)
        if name.parts[0] not in not_measured:
            source.update(name.as_posix().encode() + b"\\0" + file.read_bytes() + b"\\0")
print(json.dumps({
    "has_tiebreak": bool(spec and spec.origin),
    "missing": [name for name in modules if importlib.util.find_spec(name) is None],
    "python": f"{platform.python_implementation()} {platform.python_version()}",
    "packages": packages,
    "installed": len(installed),
    "installed_digest": hashlib.sha256("\\n".join(sorted(installed)).encode()).hexdigest()[:16],
    "source": source.hexdigest()[:16],
}))
"""
"""Run by the other interpreter, which need not have this version of Tiebreak: it imports nothing
but the standard library. The digests are those of `fingerprint`."""


def absolute(python: str) -> str:
    """Return the absolute path of an interpreter as a suite names it; links are kept.

    A virtual environment's interpreter is a link: behind it is another environment.
    """
    return os.path.abspath(os.path.expanduser(python))


def _require_interpreter(python: str, path: str) -> None:
    if not os.path.isfile(path):
        raise UsageError(
            f"there is no interpreter {python!r} (relative paths start from the current folder, "
            f"{os.getcwd()}); give the path of an environment's bin/python"
        )
    if not os.access(path, os.X_OK):
        raise UsageError(f"{python!r} cannot be executed: give an environment's bin/python")


def describe(python: str, lent: bool = False, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return versions of Python and packages, and digests of all packages and of Tiebreak's source.

    Args:
        lent: The environment needs no Tiebreak: it is lent ours.
        more: Distributions beside PACKAGES whose versions are returned.

    Raises UsageError if the interpreter does not run, or has no Tiebreak and is lent none.
    """
    described = dict(_ask(absolute(python), python, (), more))
    del described["missing"]
    if not described.pop("has_tiebreak") and not lent:
        raise UsageError(
            f"{python!r} has no tiebreak; install a checkout there: {python} -m pip install -e ."
        )
    return described


def describe_all(cells: Iterable[Cell]) -> dict[str, dict[str, Any]]:
    """Return the names of all environments but ours -> their descriptions; see `name`.

    Peers that are not installed are left out.
    """
    described = {}
    for cell in {name(cell): cell for cell in cells}.values():
        if cell.peer:
            if not environments.why_unavailable(cell.peer):
                described[name(cell)] = _describe_peer(cell.peer)
        elif cell.python:
            described[name(cell)] = describe(cell.python, lent=bool(cell.contestant))
    return described


def _describe_peer(peer: str) -> dict[str, Any]:
    """Return the description of a peer's environment, and the commit of its checkout."""
    described = describe(environments.interpreter(peer), True, PEERS[peer].distributions())
    if checkout := environments.checkout(peer):
        described["checkout"] = head(Path(checkout))
    return described


def name(cell: Cell) -> str:
    """Return the name of the environment that a cell runs in; empty for ours."""
    return f"peer {cell.peer}" if cell.peer else cell.python


def interpreter(cell: Cell) -> str:
    """Return the absolute path of the interpreter that runs a cell; empty for ours."""
    if cell.peer:
        return environments.interpreter(cell.peer)
    return absolute(cell.python) if cell.python else ""


def missing_packages(python: str, packages: Iterable[str]) -> list[str]:
    """Return those of `packages` that the interpreter's environment does not have."""
    return list(_ask(absolute(python), python, tuple(packages), ())["missing"])


@functools.cache
def _ask(path: str, python: str, modules: tuple[str, ...], more: tuple[str, ...]) -> dict[str, Any]:
    """Run SCRIPT in the interpreter at `path`, which the suite calls `python`."""
    _require_interpreter(python, path)
    question = json.dumps([[*PACKAGES, *more], sorted(NOT_MEASURED), modules])
    try:
        answer = subprocess.run(
            [path, "-P", "-c", SCRIPT, question],
            env=inherited_variables(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
        return json.loads(answer.stdout)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines()
        reason = one_line(lines[-1]) if lines else f"exit status {error.returncode}"
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        reason = one_line(error)
    raise UsageError(f"{python!r} is no interpreter of Python 3.11 or newer: {reason}")
