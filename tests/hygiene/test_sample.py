"""The sample of slow tests: one of every value, a share of the rest, the same for one seed."""

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


def grid(**options):
    """Return a case of `planted` for every framework and number."""
    return [
        item("planted", framework=framework, number=number, **options)
        for framework in FRAMEWORKS
        for number in BUGS
    ]


def test_every_value_that_a_mark_names_is_drawn(draw):
    for seed in range(20):
        drawn = draw(grid(each=("framework",), share=0.01), 0.1, seed)
        for framework in FRAMEWORKS:
            assert any(name.startswith(f"planted[{framework}-") for name in drawn)


def test_of_two_parameters_each_value_is_drawn_and_no_more_than_that_takes(draw):
    for seed in range(20):
        drawn = draw(grid(each=("framework", "number"), share=0.0), 0.1, seed)
        words = [name[len("planted[") : -1].split("-") for name in drawn]
        assert {framework for framework, _ in words} == set(FRAMEWORKS)
        assert sorted(int(number) for _, number in words) == list(BUGS)


def test_pairs_that_were_not_drawn_are_drawn_by_other_seeds(draw):
    items = grid(each=("framework", "number"), share=0.0)
    drawn = set().union(*(draw(items, 0.1, seed) for seed in range(40)))
    assert drawn == {item.nodeid for item in items}


def test_what_is_drawn_by_the_share_counts(draw):
    items = grid(each=("framework",), share=0.5)
    assert all(len(draw(items, 0.1, seed)) == len(items) // 2 for seed in range(20))


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
