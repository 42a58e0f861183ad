"""What is missing is said with a command that works, or with the reason why none does."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from tiebreak.core import installation
from tiebreak.core.installation import NEWEST_PYTHON, how_to_install

ROOT = Path(__file__).parents[2]


@pytest.fixture
def no_checkout(monkeypatch, tmp_path):
    """Tiebreak lies where a wheel puts it."""
    monkeypatch.setattr(installation, "__file__", str(tmp_path / "a/b/c/installation.py"))


def came_from(monkeypatch, text):
    class Distribution:
        def read_text(self, name):
            return text if name == "direct_url.json" else None

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())


def test_a_checkout_is_installed_as_it_is():
    assert how_to_install("torch", "gymnasium") == f"pip install -e '{ROOT}[torch,gymnasium]'"


@pytest.mark.parametrize(
    ("origin", "wanted"),
    [
        ({"url": "file:///a/tiebreak.whl"}, "'tiebreak[torch] @ file:///a/tiebreak.whl'"),
        ({"url": "file:///a", "vcs_info": {"vcs": "git"}}, "'tiebreak[torch] @ git+file:///a'"),
        (None, "'tiebreak[torch]'"),
    ],
)
def test_elsewhere_it_comes_from_where_it_came_from(no_checkout, monkeypatch, origin, wanted):
    came_from(monkeypatch, json.dumps(origin) if origin else None)
    assert how_to_install("torch") == f"pip install {wanted}"


def test_a_python_without_builds_is_named(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 13, 0, "final", 0))
    assert how_to_install("gymnasium", "dm-control") == (
        "labmaze, which dm-control needs, has no build for Python 3.13; 3.12 has one"
    )
    assert how_to_install("tensorflow").startswith("pip install")


def test_the_project_leaves_out_what_has_no_build():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for extra, (newest, _) in NEWEST_PYTHON.items():
        marker = f"python_version < '{newest[0]}.{newest[1] + 1}'"
        assert any(marker in requirement for requirement in extras[extra]), extra


def test_the_pinned_packages_can_be_installed_on_every_python_that_is_supported():
    """pip hides what asks for a newer Python, and says that nothing fits."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split(";")[0].strip().split("==") for line in lines if "==" in line)
    too_new = []
    for name, version in pins.items():
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        needs = SpecifierSet(found.metadata.get("Requires-Python") or "")
        if found.version == version and not needs.contains(oldest):
            too_new.append(f"{name} {version} needs Python {needs}")
    assert not too_new
