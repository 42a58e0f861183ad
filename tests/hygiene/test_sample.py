"""The sample of slow tests: one of every stratum, its share of the rest, the same for one seed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

FRAMEWORKS, BUGS = ("linen", "nnx"), range(40)


@pytest.fixture
def draw(request):
    """Return `draw` of tests/conftest.py, which is a plugin and not a module that imports."""
    plugins = request.config.pluginmanager.get_plugins()
    return next(plugin.draw for plugin in plugins if hasattr(plugin, "draw"))


def item(function, *, framework="torch", number=0, **options):
    """Return what the sample reads of a test item."""
    mark = SimpleNamespace(kwargs=options)
    return SimpleNamespace(
        nodeid=f"{function}[{framework}-{number}]",
        callspec=SimpleNamespace(params={"framework": framework, "number": number}),
        iter_markers=lambda name: [mark] if name == "slow" else [],
    )


def of_function(drawn, function):
    return [name for name in drawn if name.startswith(f"{function}[")]


def test_every_stratum_that_a_mark_names_is_drawn_from(draw):
    items = [
        item("planted", framework=framework, number=number, each=("framework",), share=0.01)
        for framework in FRAMEWORKS
        for number in BUGS
    ]
    for seed in range(20):
        drawn = draw(items, 0.1, seed)
        for framework in FRAMEWORKS:
            assert any(name.startswith(f"planted[{framework}-") for name in drawn)


def test_shares_are_kept_on_average(draw):
    items = [item("usual", number=number) for number in range(5)]
    items += [item("often", number=number, share=0.5) for number in range(5)]
    samples = [draw(items, 0.1, seed) for seed in range(400)]
    counts = {name: sum(len(of_function(s, name)) for s in samples) for name in ("usual", "often")}
    assert counts["usual"] / 400 == pytest.approx(0.5, abs=0.1)
    assert counts["often"] / 400 == pytest.approx(2.5, abs=0.1)


def test_a_seed_is_a_sample(draw):
    items = [item("usual", number=number) for number in range(50)]
    assert draw(items, 0.1, 7) == draw(items[::-1], 0.1, 7)
    assert draw(items, 0.1, 7) != draw(items, 0.1, 8)
