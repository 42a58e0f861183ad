"""Say how optional packages are installed beside this one."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

NEWEST_PYTHON = {
    "dm-control": ((3, 12), "labmaze, which dm-control needs, has no build"),
    "tensorflow": ((3, 13), "tensorflow has no build"),
}
"""Extra -> the newest Python that can have all of it, and why no newer one can."""


def missing_packages(packages: Iterable[str]) -> list[str]:
    """Return those of `packages` that are not installed; nothing is imported."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def how_to_install(*extras: str) -> str:
    """Return the command that installs extras, or why this Python cannot have them."""
    for extra in extras:
        newest, why = NEWEST_PYTHON.get(extra, (sys.version_info[:2], ""))
        if sys.version_info[:2] > newest:
            return f"{why} for Python {_dotted(sys.version_info[:2])}; {_dotted(newest)} has one"
    return _command(extras)


def _command(extras: Sequence[str]) -> str:
    """Return the command that installs extras into this checkout, or from where this came."""
    checkout = Path(__file__).parents[3]
    if (checkout / "pyproject.toml").exists():
        return f"pip install -e '{checkout}[{','.join(extras)}]'"
    origin = _origin()
    return f"pip install 'tiebreak[{','.join(extras)}]{f' @ {origin}' if origin else ''}'"


def _dotted(version: Iterable[int]) -> str:
    return ".".join(map(str, version))


def _origin() -> str:
    """Return the file or repository that tiebreak was installed from; empty for a package index."""
    try:
        text = importlib.metadata.distribution("tiebreak").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return ""
    about = json.loads(text or "{}")
    version_control = about.get("vcs_info", {}).get("vcs")
    return f"{version_control}+{about['url']}" if version_control else about.get("url", "")
