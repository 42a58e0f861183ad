"""Identify the source that is running; every published number carries it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def commit(root: Path = ROOT) -> str:
    """Return the commit of the checkout that is running, with a hash of uncommitted changes.

    Empty for an installed package.
    """
    if not (root / ".git").exists():
        return ""
    last = head(root)
    if not output(["git", "-C", str(root), "status", "--porcelain", "--", "src"]):
        return last
    text = hashlib.sha256()
    for file in sorted((root / "src").rglob("*.py")):
        text.update(file.read_bytes())
    return f"{last or 'uncommitted'}+{text.hexdigest()[:12]}"


def head(root: Path) -> str:
    """Return the first digits of the commit that a checkout is at; empty if it is none."""
    return output(["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"])


def output(command: list[str]) -> str:
    """Return what a program prints; empty if it is missing, fails or takes over ten seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
