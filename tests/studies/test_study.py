"""Study files: what they say, what is refused, and since when they are registered."""

from __future__ import annotations

import subprocess

import pytest
from studies import study_files as small

from tiebreak.core.errors import UsageError
from tiebreak.stats.equivalence import power_of_same
from tiebreak.studies import study as study_files
from tiebreak.studies.registration import is_older, registrations


def test_a_study_has_all_that_its_file_says():
    (study,) = small.parse()
    torch, nnx, clipped = study.programs
    assert (torch.label, torch.first_seed, torch.seeds) == ("torch", 10, 3)
    assert (clipped.label, clipped.seeds) == ("nnx-clip", 2)
    assert clipped.config == {"total_steps": 300, "hidden_sizes": [8], "clip": 0.3}
    pair, control = study.comparisons
    assert (pair.first, pair.second, pair.control) == (torch, nnx, "")
    assert (control.first, control.second, control.expected) == (nnx, clipped, "different")
    assert (study.margin_sd, study.level, study.measure) == (1.0, 0.05, "learning")


def test_what_decides_nothing_leaves_the_digest():
    (study,) = small.parse()
    (same,) = small.parse(small.TEXT.replace("minutes = 0.5", "minutes = 9\nabout = 'x'"))
    assert same.digest == study.digest
    for old, new in (("first_seed = 10", "first_seed = 11"), ("clip = 0.3", "clip = 0.4")):
        (changed,) = small.parse(small.TEXT.replace(old, new))
        assert changed.digest != study.digest
    (wider,) = small.parse(f"level = 0.1\n{small.TEXT}")
    assert wider.digest != study.digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ppo-small", "../x", "small.toml:3: name is '../x', not a name of small"),
        ('"ppo"', '"ppi"', "small.toml:4: unknown algorithm 'ppi'"),
        ("seeds = 3", "seed = 3", "small.toml:9: unknown key of a study 'seed'; did you mean"),
        ("seeds = 3", "seeds = 1", "seeds is 1, not a number of seeds from 2"),
        ("clip = 0.3", "klip = 0.3", "small.toml:18: unknown setting 'klip'"),
        ("nnx-clip", "nnx", "two of them are called 'nnx': give each program a name"),
        ('against = "nnx"', 'against = "jax"', "small.toml:17: unknown program 'jax'"),
        ("eval_every = 100", "eval_every = 0", "at least 1"),
        ('"different"', '"other"', "expected is 'other', not one of same, different"),
        ("label =", "alteration = 'x', label =", "small.toml:18: unknown alteration 'x'"),
        ('{ framework = "torch" }', '{ framework = "jax" }', "unknown framework 'jax'"),
        (
            'framework = "nnx", label =',
            'framework = "keras", alteration = "without-jacobian", label =',
            "small.toml:18: an alteration needs a framework with one array library, and keras",
        ),
        ("minutes = 0.5", "minutes = 0.5\npublished = { source = 'x', mean = 1.0 }", "mean and sd"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(old, new, message):
    with pytest.raises(UsageError, match=message) as found:
        small.parse(small.TEXT.replace(old, new, 1))
    assert "\n" not in str(found.value)


def test_published_returns_are_a_mean_and_a_deviation_or_values():
    published = "published = { source = 'a table', values = [1.0, 3.0] }"
    (study,) = small.parse(small.TEXT.replace("minutes = 0.5", f"minutes = 0.5\n{published}"))
    assert (study.published.mean, study.published.sd) == (2.0, pytest.approx(2**0.5))


def test_the_built_in_file_is_powered_and_has_its_controls():
    studies = study_files.read(study_files.path_of("learning"))
    controls = {one.control: one for study in studies for one in study.comparisons if one.control}
    assert {one.expected for one in controls.values()} == {"same", "different"}
    assert {"bootstrap cut at time limits", "Jacobian of tanh left out"} < set(controls)
    for study in studies:
        for one in study.comparisons:
            power = power_of_same(one.first.seeds, one.second.seeds, study.margin_sd, study.level)
            assert power > 0.88, study.name
        seeds = {p.first_seed + i for p in study.programs for i in range(p.seeds)}
        assert min(seeds) >= 1000, "seeds below were published before"
    assert sum(study.published is not None for study in studies) == 11


def git(folder, *words, date="2030-01-01T00:00:00+00:00"):
    env = {"GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date, "PATH": "/usr/bin:/bin"}
    names = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", *names, *words], cwd=folder, check=True, env=env, capture_output=True)


def test_a_study_is_registered_by_the_commit_since_which_it_is_as_it_is(tmp_path):
    path = small.write(tmp_path)
    studies = study_files.read(path)
    assert registrations(path, studies) == {}  # no checkout
    git(tmp_path, "init", "-q")
    assert registrations(path, studies) == {}  # not committed
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "a")
    first = registrations(path, studies)["ppo-small"]
    assert first.committed_at.startswith("2030-01-01T00:00:00")
    assert len(first.commit) == 40

    more = small.TEXT.replace("ppo-small", "ppo-more")
    small.write(tmp_path, f"# another comment\n{small.TEXT}{more}")
    git(tmp_path, "commit", "-qam", "b", date="2030-02-01T00:00:00+00:00")
    found = registrations(path, study_files.read(path))
    assert found["ppo-small"] == first
    assert found["ppo-more"].committed_at.startswith("2030-02")

    small.write(tmp_path, small.TEXT.replace("seeds = 3", "seeds = 4", 1))
    assert registrations(path, study_files.read(path)) == {}  # changed, and not committed
    git(tmp_path, "commit", "-qam", "c", date="2030-03-01T00:00:00+00:00")
    small.write(tmp_path)
    git(tmp_path, "commit", "-qam", "d", date="2030-04-01T00:00:00+00:00")
    back = registrations(path, study_files.read(path))["ppo-small"]
    assert back.committed_at.startswith("2030-04")  # it was another one in between


def test_a_commit_is_older_by_its_time_in_any_zone():
    assert is_older("2030-01-01T12:00:00+02:00", "2030-01-01T10:00:01+00:00")
    assert not is_older("2030-01-01T12:00:00+02:00", "2030-01-01T10:00:00+00:00")
    assert not is_older("", "2030-01-01T10:00:00+00:00")
