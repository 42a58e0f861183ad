"""Robots' meshes are found where they are installed, and nothing is ever cloned."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("etils")

from tiebreak.core.errors import UsageError
from tiebreak.envs import playground_assets
from tiebreak.envs.playground_assets import INSIDE, PACKAGES, Menagerie, use_installed

ROBOTS = (
    "aloha", "apptronik_apollo", "berkeley_humanoid", "booster_t1", "boston_dynamics_spot",
    "franka_emika_panda", "google_barkour_vb", "leap_hand", "robotiq_2f85_v4", "robotis_op3",
    "tetheria_aero_hand_open", "unitree_g1", "unitree_go1", "unitree_h1",
)  # fmt: skip
"""All that Playground 0.2 asks for."""


def test_the_first_folder_that_has_a_robot_is_taken(tmp_path):
    for place in ("clone/t1", "one/t1", "one/g1", "two/h1/assets"):
        (tmp_path / place).mkdir(parents=True)
    menagerie = Menagerie([tmp_path / name for name in ("clone", "one", "two")])
    assert Path(menagerie / "t1") == tmp_path / "clone/t1"
    assert Path(menagerie / "g1") == tmp_path / "one/g1"
    assert (menagerie / "h1" / "assets").is_dir()


def test_where_there_is_none_the_command_that_helps_is_named(tmp_path):
    module = SimpleNamespace(MENAGERIE_PATH=tmp_path / "nowhere")
    use_installed(module)
    assert module.MENAGERIE_PATH.exists()  # else Playground clones
    command = f"pip install {' '.join(PACKAGES)}"
    with pytest.raises(UsageError, match=f"meshes of 'no_robot' are not .*: {command} .*nowhere"):
        module.MENAGERIE_PATH / "no_robot"
    before = module.MENAGERIE_PATH
    use_installed(module)
    assert module.MENAGERIE_PATH is before


def test_packages_are_looked_into_and_may_be_missing(tmp_path, monkeypatch):
    there = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    first = PACKAGES[0].replace("-", "_")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there if name == first else None)
    assert playground_assets.installed() == [tmp_path.joinpath(*INSIDE)]


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_packages_hold_all_robots(robot, tmp_path):
    folders = playground_assets.installed()
    if len(folders) < len(PACKAGES):
        pytest.skip(f"needs {' '.join(PACKAGES)}")
    assert any((Menagerie([tmp_path, *folders]) / robot).glob("*.xml"))
