"""Read settings of an algorithm from a file: TOML, JSON, or the config.json of a run."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from tiebreak import registry
from tiebreak.core.config import override, without_aliases
from tiebreak.core.errors import UsageError
from tiebreak.core.files import read_small_text
from tiebreak.core.networks import is_own
from tiebreak.core.text import quoted


def read_settings(path: str, algorithm: str) -> dict[str, Any]:
    """Return the settings in a file; each is known to the algorithm, and its value of its type.

    The file is TOML (`learning_rate = 1e-3`) or, if its name ends in `.json`, JSON: an object of
    settings or a run's config.json, whose settings are below `config`. Raises UsageError.
    """
    values = _parse(path, _read(path))
    if isinstance(values, dict) and isinstance(values.get("config"), dict):
        stored = values.get("algorithm", algorithm)
        if stored != algorithm:
            raise UsageError(
                f"{quoted(path)} has the settings of {quoted(stored)}, not of {algorithm}"
            )
        values = values["config"]
    if isinstance(values, dict) and is_own(str(values.get("network", ""))):
        raise UsageError(
            f"{quoted(path)} names a network of someone's own, {quoted(values['network'])}, whose "
            "code would run: leave it out, and name it yourself with --set network=module:function"
        )
    if not isinstance(values, dict):
        raise UsageError(f"{quoted(path)} holds no settings: it is not a table of names and values")
    try:
        kind = registry.config_module(algorithm).Config
        override(kind(), without_aliases(kind, values)[0])
    except UsageError as error:
        raise UsageError(f"{quoted(path)}: {error}") from error
    return values


def _read(path: str) -> str:
    try:
        return read_small_text(Path(path))
    except OSError as error:
        raise UsageError(f"cannot read settings from {quoted(path)}: {error.strerror}") from error
    except ValueError as error:  # of a kind that is refused, no UTF-8, a name with a null character
        raise UsageError(f"cannot read settings from {quoted(path)}: {error}") from error


def _parse(path: str, text: str) -> Any:
    is_json = path.endswith(".json")
    try:
        return json.loads(text) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if is_json else "TOML"
        raise UsageError(f"{quoted(path)} is not {kind}: {error}") from error
