"""Make, find and remove the Python environments of peers, below the user's cache folder.

An environment is a virtual one whose own packages come first, and in which the packages of
Tiebreak's environment are seen after them: what a peer needs and finds there is not installed
again. It counts as installed once `peer.json` is written, which is done last.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiebreak.core.cache import cache_folder
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.files import hold, read_json_or_empty, write_json
from tiebreak.core.import_guard import GUARDED
from tiebreak.core.installation import missing_packages
from tiebreak.core.text import one_line
from tiebreak.peers.table import PEERS, Peer, title
from tiebreak.registry import allowed_imports

SHARED = (*sorted(GUARDED), "numpy", "tensorflow-cpu")
"""Distributions that are taken from Tiebreak's environment, and never installed for a peer: another
version would be another race, and pip's default for torch is a build of several GB for GPUs."""

PACKAGE = Path(__file__).resolve().parents[1]
"""Folder of this package."""

STATE = "peer.json"
"""File in an environment's folder that says what is installed there."""


def folder(name: str) -> Path:
    """Return the folder of a peer's environment, which may not exist."""
    return cache_folder() / "peers" / name


def interpreter(name: str) -> str:
    """Return the path of its interpreter, which may not exist."""
    return str(folder(name) / "bin" / "python")


def checkout(name: str) -> str:
    """Return the checkout that it runs from; empty if it is a package, or none was named."""
    return str(_state(name).get("checkout", ""))


def install_command(name: str) -> str:
    """Return the command that installs a peer."""
    checkout = f" --checkout {name}=DIR" if PEERS[name].is_checkout else ""
    return f"tiebreak peers install {name}{checkout}"


def why_unavailable(name: str) -> str:
    """Return why a peer cannot run here, and the command that helps; empty if it can."""
    peer, state = PEERS[name], _state(name)
    command = install_command(name)
    if not state or not os.access(interpreter(name), os.X_OK):
        return f"{peer.title} is not installed: {command}"
    if state.get("requirements") != list(peer.requirements):
        return f"{peer.title} is installed in another version than {peer.version}: {command}"
    if state.get("python") != sys.version.split()[0] or state.get("base") != _base():
        return f"{peer.title} was installed for another Python environment: {command}"
    if peer.is_checkout and not os.path.isdir(checkout(name)):
        return f"the checkout of {peer.title}, {checkout(name)}, is gone: {command}"
    return ""


def install(name: str, checkout: str = "", say: Callable[[str], None] = print) -> None:
    """Make a peer's environment anew; `checkout` is the folder of its source if it has none.

    Raises UsageError, in one line, for whatever keeps it from being installed.
    """
    peer = PEERS[name]
    source = _checked_checkout(name, checkout)
    if missing := missing_packages(set(peer.packages) & GUARDED):
        raise UsageError(
            f"{peer.title} runs on {', '.join(sorted(missing))} of Tiebreak's environment, which "
            "has none: `tiebreak list` says how to install it"
        )
    say(f"installing {title(name)} into {folder(name)}")
    with hold(folder(name).parent, "installing"):
        shutil.rmtree(folder(name), ignore_errors=True)
        _make_environment(folder(name))
        _install_packages(name, peer)
        _check_import(name, peer, source)
        state = {
            "requirements": list(peer.requirements),
            "python": sys.version.split()[0],
            "base": _base(),
            "checkout": source,
        }
        write_json(folder(name) / STATE, state)


def remove(name: str) -> bool:
    """Remove a peer's environment; return whether there was one."""
    existed = folder(name).exists()
    shutil.rmtree(folder(name), ignore_errors=True)
    return existed


def require_known(name: str) -> None:
    """Raise UsageError for a name that is not in the table."""
    if name not in PEERS:
        raise unknown("peer", name, PEERS)


def _state(name: str) -> Mapping[str, Any]:
    return read_json_or_empty(folder(name) / STATE)


def _checked_checkout(name: str, given: str) -> str:
    """Return the absolute folder of a peer's source, the earlier one if none is given."""
    peer = PEERS[name]
    if not peer.is_checkout:
        if given:
            raise UsageError(f"{peer.title} is a package: leave --checkout {name}=… out")
        return ""
    source = given or checkout(name)
    if not source:
        raise UsageError(
            f"{peer.title} is no package: clone {peer.url} (tested: {peer.version}), then "
            f"{install_command(name)}"
        )
    if not os.path.isdir(source):
        raise UsageError(f"there is no folder {source!r}: name the checkout of {peer.url}")
    return os.path.abspath(source)


def _make_environment(path: Path) -> None:
    """Make a virtual environment without packages, which sees those of this one after its own."""
    import venv  # only to install

    venv.EnvBuilder(with_pip=False, symlinks=True).create(path)
    (packages,) = path.glob("lib/python*/site-packages")
    (packages / "tiebreak-base.pth").write_text("\n".join([*_base(), ""]), encoding="utf-8")


def _base() -> list[str]:
    """Return the folders of installed packages that this process sees, without Tiebreak's source.

    An installed Tiebreak lies in one of them; its workers find that of the manager first.
    """
    names = ("site-packages", "dist-packages")
    return [entry for entry in sys.path if os.path.basename(entry) in names]


def _install_packages(name: str, peer: Peer) -> None:
    """Let pip install what a peer needs and this environment does not have."""
    if not peer.requirements:
        return
    if importlib.util.find_spec("pip") is None:
        raise UsageError(f"pip is not installed here: {sys.executable} -m ensurepip")
    with tempfile.TemporaryDirectory(prefix="tiebreak-peers-") as temporary:
        constraints = Path(temporary) / "constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in _constraints()), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "--python", interpreter(name), "install"]
        command += ["--quiet", "--disable-pip-version-check", "-c", str(constraints)]
        done = _run([*command, *peer.requirements])
    if done.returncode:
        raise UsageError(f"pip could not install {title(name)}: {_reason(done.stderr)}")


def _constraints() -> list[str]:
    """Return the versions of SHARED that are installed here."""
    lines = []
    for distribution in SHARED:
        try:
            lines.append(f"{distribution}=={importlib.metadata.version(distribution)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return lines


def _check_import(name: str, peer: Peer, source: str) -> None:
    """Raise UsageError unless the environment can import what the adapter needs, and only that."""
    script = "from tiebreak.core import import_guard"  # as its worker has it
    script += f"; import_guard.install({sorted(allowed_imports(peer.packages))})"
    script += "".join(f"; import {package}" for package in peer.packages)
    with tempfile.TemporaryDirectory(prefix="tiebreak-peers-") as lent:
        (Path(lent) / "tiebreak").symlink_to(PACKAGE, target_is_directory=True)
        paths = [lent, source] if source else [lent]  # an empty one is the current folder
        more = {"PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu"}
        done = _run([interpreter(name), "-P", "-c", script], **more)
    if done.returncode:
        raise UsageError(f"{title(name)} is installed, but fails: {_reason(done.stderr)}")


def _run(command: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with `more` environment variables, and keep what it prints."""
    return subprocess.run(
        command,
        env={**os.environ, **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _reason(output: str) -> str:
    """Return the last line of a program's errors."""
    lines = [line for line in output.splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else "it gave no reason"
