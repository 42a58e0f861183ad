"""Installed versions, read from package metadata; nothing is imported."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable

import tiebreak
from tiebreak import registry

_DISTRIBUTIONS = {
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos"),
    "mujoco_playground": ("playground",),
}
"""Distributions of a package whose name is not its import name."""
_BESIDE = ("jaxlib", "keras", "numpy", "safetensors")


def version(package: str) -> str | None:
    """Return the installed version of an importable package; None if not installed."""
    for name in _DISTRIBUTIONS.get(package, (package,)):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of each package that is installed."""
    numbers = {package: version(package) for package in packages}
    return {package: number for package, number in numbers.items() if number}


def run_versions(framework: str, engine: str, mode: str | None = None) -> dict[str, str]:
    """Return every version that a training run depends on, Python and Tiebreak included.

    `mode`: the framework's mode; None means its default.
    """
    row, env = registry.FRAMEWORKS[framework], registry.ENGINES[engine]
    own = row.packages_in(mode or row.default_mode)
    packages = {*own, *env.packages, *env.simulators, *_BESIDE}
    return {
        "tiebreak": tiebreak.__version__,
        "python": platform.python_version(),
        **versions(sorted(packages)),
    }
