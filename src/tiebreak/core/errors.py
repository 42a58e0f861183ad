"""Errors that a user can cause: one line that says what was given, what is valid, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """Wrong use; the command line prints the message on one line and exits with status 2."""


class MissingDependency(UsageError):
    """A package that this request needs is not installed; the message holds the install command."""


class EnvironmentFailed(RuntimeError):
    """An environment in a process of its own raised what a note quotes, or its process is gone."""


class MissingDevice(UsageError):
    """A device that this request needs is not here, or the framework's build does not see it."""


def unknown(what: str, given: str, valid: Iterable[str], hint: str = "") -> UsageError:
    """An error for a name that is not in `valid`, with the nearest valid names."""
    names = list(valid)
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    guess = f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    listed = "" if len(names) > 24 else f" (valid: {', '.join(names)})"
    return UsageError(f"unknown {what} {given!r}{guess}{listed}{' ' + hint if hint else ''}")
