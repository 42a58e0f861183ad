"""Find the commit by which a study was written down as it is now.

A verdict counts only where that commit is older than the training. Whoever may rewrite the history
can forge it; a commit that others have pulled is evidence.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import NamedTuple

from tiebreak.bench.suite import toml_table
from tiebreak.core.errors import UsageError
from tiebreak.core.git import output
from tiebreak.studies import study as studies
from tiebreak.studies.study import Study


class Registration(NamedTuple):
    """The first commit since which a study has not changed."""

    commit: str
    """All 40 digits."""
    committed_at: str
    """Date of the commit, in ISO 8601."""


def registrations(path: Path, wanted: list[Study]) -> dict[str, Registration]:
    """Return the registration of each study of a file, by name; not of one that is not committed.

    Other studies of the file, comments and estimates may change later.
    """
    open_studies = {study.name: study.digest for study in wanted}
    found: dict[str, Registration] = {}
    for commit in _commits(path):
        digests = _digests(path, commit.commit)
        open_studies = {n: d for n, d in open_studies.items() if digests.get(n) == d}
        if not open_studies:
            break
        found |= dict.fromkeys(open_studies, commit)
    return found


def is_older(registered_at: str, started_at: str) -> bool:
    """Return whether a commit is older than a training; False for dates that cannot be read."""
    try:
        times = [datetime.datetime.fromisoformat(text) for text in (registered_at, started_at)]
        return times[0] < times[1]
    except (TypeError, ValueError):
        return False


def _commits(path: Path) -> list[Registration]:
    """Return the commits that changed a file, newest first; [] outside of a checkout."""
    folder = str(path.resolve().parent)
    log = output(["git", "-C", folder, "log", "--format=%H %cI", "--", path.name])
    return [Registration(*line.split(" ", 1)) for line in log.splitlines()]


def _digests(path: Path, commit: str) -> dict[str, str]:
    """Return name -> digest of the studies that a file had at a commit; {} where it is no such."""
    folder = str(path.resolve().parent)
    text = output(["git", "-C", folder, "show", f"{commit}:./{path.name}"])
    try:
        table = toml_table.parse(text, path.name, "study file")
        return {study.name: study.digest for study in studies.from_table(table)}
    except (UsageError, KeyError, TypeError):
        return {}
