"""The Dockerfile's RUN lines in a fresh Debian root; no Docker daemon is needed.

On demand, as root, with debootstrap installed (it takes minutes and 6 GB):
`DOCKERFILE=1 pytest -s tests/packaging/test_dockerfile.py`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
IMAGE = f"FROM python:3.11-slim-{SUITE} AS base"
"""Debian's own Python stands in for that of this image, which is the same version."""
PASSED_ON = re.compile(r"PIP_\w+|SSL_\w+|REQUESTS_CA_BUNDLE")
MOUNTED = ("/proc", "/dev", "/sys")


def instructions(target: str) -> list[tuple[str, str]]:
    """Return the instructions that make a target, those of `base` first."""
    stage, found = "", []
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stage = rest.rpartition(" AS ")[2]
        elif word and word != "#" and stage in ("base", target):
            found.append((word, rest))
    return found


def test_it_is_made_of_what_this_test_can_run():
    assert IMAGE in (ROOT / "Dockerfile").read_text()
    for target in ("cpu", "cuda"):
        words = [word for word, _ in instructions(target)]
        assert words.count("RUN") == 3
        assert set(words) == {"ARG", "RUN", "WORKDIR", "COPY", "ENV", "ENTRYPOINT", "CMD"}


@pytest.mark.skipif("DOCKERFILE" not in os.environ, reason="on demand: DOCKERFILE=1")
def test_its_lines_make_a_tiebreak_that_runs(tmp_path):
    assert shutil.which("debootstrap"), "apt-get install debootstrap"
    root = tmp_path / "root"
    packages = "python3,python3-venv,python3-dev,ca-certificates"
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", SUITE, str(root)]
    subprocess.run(command, check=True)
    with mounted(root):
        for word, rest in instructions("cpu"):
            if word == "COPY":
                copy_checkout(root / "tiebreak")
            elif word == "RUN":
                in_root(root, rest)
        in_root(root, ".venv/bin/tiebreak list && .venv/bin/tiebreak run quick --scale smoke")


def in_root(root: Path, line: str) -> None:
    print(f"RUN {line}", flush=True)
    kept = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root", **kept}
    inside = f"mkdir -p /tiebreak && cd /tiebreak && {line}"
    subprocess.run(["chroot", str(root), "/bin/sh", "-c", inside], check=True, env=environment)


def copy_checkout(target: Path) -> None:
    target.mkdir(exist_ok=True)
    archive = f"git -C {shlex.quote(str(ROOT))} archive HEAD | tar -x -C {shlex.quote(str(target))}"
    subprocess.run(["/bin/sh", "-c", archive], check=True)


@contextlib.contextmanager
def mounted(root: Path) -> Iterator[None]:
    """Give the root the kernel's folders, this machine's certificates and its local packages."""
    local = [path for path in os.environ.get("PIP_FIND_LINKS", "").split() if path.startswith("/")]
    folders = [*MOUNTED, "/etc/ssl/certs", *local]
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    try:
        for folder in folders:
            (root / folder[1:]).mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--rbind", folder, str(root / folder[1:])], check=True)
        yield
    finally:
        for folder in reversed(folders):
            subprocess.run(["umount", "-R", "-l", str(root / folder[1:])], check=True)
