"""Imports that happen when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tiebreak.core.postponed_imports import postponed_imports


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `drawing` with a submodule, and a library that imports both."""
    (tmp_path / "drawing").mkdir()
    (tmp_path / "drawing/__init__.py").write_text("name = 'drawing'\n")
    (tmp_path / "drawing/lines.py").write_text("width = 2\n")
    (tmp_path / "library.py").write_text("import drawing.lines as lines\nimport drawing\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in ("drawing", "drawing.lines", "library"):
        sys.modules.pop(name, None)


def test_a_module_is_imported_when_something_in_it_is_used(package):
    with postponed_imports("drawing", "drawing.lines"):
        import library
    assert not {"drawing", "drawing.lines"} & set(sys.modules)
    assert library.lines.width == 2
    assert library.drawing.name == "drawing"
    assert "drawing.lines" in sys.modules


def test_afterwards_an_import_means_the_module_itself(package):
    with postponed_imports("drawing", "drawing.lines"):
        import library  # noqa: F401
    import drawing.lines

    assert drawing.lines.__file__.endswith("lines.py")


def test_a_module_that_is_there_already_stays(package):
    import drawing.lines

    with postponed_imports("drawing", "drawing.lines"):
        import library
    assert library.lines is drawing.lines
    assert sys.modules["drawing"] is drawing


def test_an_attribute_that_does_not_exist_is_an_error(package):
    with postponed_imports("drawing", "drawing.lines"):
        import library
    with pytest.raises(AttributeError):
        _ = library.lines.height


def test_gymnax_is_imported_without_what_it_draws_with():
    pytest.importorskip("gymnax")
    code = (
        "import sys, tiebreak.envs.gymnax_engine as e; "
        "print(sorted({'matplotlib', 'seaborn', 'pandas'} & set(sys.modules))); "
        "from gymnax.environments.misc import pong; print(pong.plt.figure.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split("\n")[:2] == ["[]", "figure"]
