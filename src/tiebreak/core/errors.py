"""Define the errors that a user can cause.

Each message is one line: what was given, what is valid, what to do.

UsageError
├── MissingDependency
├── MissingDevice
└── MissingMemory
EnvironmentFailed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from tiebreak.core.text import quoted


class UsageError(ValueError):
    """Report wrong use; the command line prints the message on one line and exits with status 2."""


class MissingDependency(UsageError):
    """Report a package that is needed and not installed, with the command that installs it."""


class EnvironmentFailed(RuntimeError):
    """Report an environment process that raised (a note quotes it) or was killed."""


class MissingDevice(UsageError):
    """Report a device that is needed and not here, or not seen by the framework's build."""


class MissingMemory(UsageError):
    """Report a training that takes more memory than is free."""


MOST_NAMES = 48
"""Names that an error lists: all settings of an algorithm, but not all tasks of an engine."""


def unknown(what: str, given: str, valid: Iterable[str], hint: str = "") -> UsageError:
    """Return an error for a name that is not in `valid`, with the nearest valid names."""
    names = list(valid)
    message = f"unknown {what} {quoted(given)}"

    if nearest := difflib.get_close_matches(given[:100], names, n=3, cutoff=0.5):
        message += f"; did you mean {' or '.join(map(repr, nearest))}?"
    if len(names) <= MOST_NAMES:
        message += f" (valid: {', '.join(names)})"
    if hint:
        message += f" {hint}"
    return UsageError(message)
