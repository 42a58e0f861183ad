"""The cache of what can be computed again: whatever goes wrong with it, it is empty."""

from __future__ import annotations

from tiebreak.core import cache


def test_a_user_without_a_home_has_an_empty_one(monkeypatch):
    """A container's user often is a number only: no HOME, no entry in the list of users."""

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(cache.Path, "home", home)
    file = cache.cache_folder() / "a.json"
    cache.write_cached(file, {"a": 1})
    assert cache.read_cached(file) == {}
