"""A small study file, changed for a test, and records of studies made up."""

from __future__ import annotations

from tiebreak.bench.suite import toml_table
from tiebreak.studies import study as study_files

TEXT = """
[[studies]]
name = "ppo-small"
algorithm = "ppo"
task = "gymnax/CartPole-v1"
config = { total_steps = 300, hidden_sizes = [8] }
eval_every = 100
eval_episodes = 2
seeds = 3
first_seed = 10
minutes = 0.5
programs = [{ framework = "torch" }, { framework = "nnx" }]

[[studies.controls]]
name = "clipped elsewhere"
expected = "different"
against = "nnx"
program = { framework = "nnx", label = "nnx-clip", seeds = 2, config = { clip = 0.3 } }
"""


def write(folder, text=TEXT):
    """Write a study file, and return its path."""
    path = folder / "small.toml"
    path.write_text(text)
    return path


def parse(text=TEXT):
    """Return the studies of a text."""
    return study_files.from_table(toml_table.parse(text, "small.toml", "study file"))


def record(study, program, seed, value, **changes):
    """Return the record of a training that counts."""
    return {
        "schema": 1,
        "study": study.name,
        "program": program,
        "seed": seed,
        "value": float(value),
        "steps": [100.0],
        "returns": [float(value)],
        "digest": study.digest,
        "registered": "f" * 40,
        "registered_at": "2030-01-01T00:00:00+00:00",
        "started_at": "2030-01-02T00:00:00+00:00",
        "commit": "c0de",
        "mode": "jit",
        "loop": "host",
        "config_hash": "ab",
        "versions": {"numpy": "2"},
        "seconds": 1.0,
        **changes,
    }
