"""Read, check, write and hash configurations, which are frozen dataclasses."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
import math
import textwrap
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.text import quoted

C = TypeVar("C")

LARGEST = 1e18
"""Numbers of settings lie within ± this: counts of 64 bits, and no infinity or NaN."""
LONGEST_TEXT = 1000
"""Texts of more characters are no numbers."""


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as plain values that JSON can hold."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(kind: type[C], values: Mapping[str, Any]) -> C:
    """Build a config from plain values; raise UsageError for unknown keys."""
    return override(kind(), values)


def digest(config: Any) -> str:
    """Return a short hash of every field; equal hashes mean equal settings."""
    values = config if isinstance(config, Mapping) else to_dict(config)
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def names_of(kind: type, hint: type) -> list[str]:
    """Return the names of a config's fields of one type."""
    return [name for name, field_type in typing.get_type_hints(kind).items() if field_type is hint]


def field_texts(kind: type) -> dict[str, str]:
    """Return the text below each field of a dataclass or NamedTuple; a subclass's own counts."""
    meanings: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        if "__annotations__" not in vars(part):
            continue
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(node, ast.ClassDef)
        for field, text in zip(node.body, node.body[1:], strict=False):
            is_field = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            if is_field and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                meanings[field.target.id] = " ".join(str(text.value.value).split())  # type: ignore
    return meanings


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """Parse `["key=value", …]` (from `--set`) into a dictionary of strings."""
    assignments_by_key = {}
    for item in assignments:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise UsageError(f"--set takes key=value, got {quoted(item)}")
        assignments_by_key[key.strip()] = value.strip()
    return assignments_by_key


def parse_sweeps(sweeps: Iterable[str]) -> dict[str, list[str]]:
    """Parse `["key=1e-3,3e-4", …]` (from `--sweep`) into the values of each key, as strings.

    A value that is a list stands in brackets: `hidden_sizes=(64,64),(256,256)`.
    """
    values_by_key: dict[str, list[str]] = {}
    for item in sweeps:
        key, sign, listed = item.partition("=")
        values = [value.strip() for value in _split(listed)]
        if not sign or not key or not all(values):
            raise UsageError(f"--sweep takes key=value,value,…, got {quoted(item)}")
        key = key.strip()
        if key in values_by_key:
            raise UsageError(f"--sweep names {key} twice; put its values into one: {key}=…,…")
        values_by_key[key] = values
    return values_by_key


def _split(listed: str) -> list[str]:
    """Split a text at the commas outside of brackets: `(64,64),(256,256)` are two values."""
    parts, depth = [""], 0
    for character in listed:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


ALIASES: dict[str, tuple[str, ...]] = {
    "lr": ("learning_rate", "actor_lr", "critic_lr", "alpha_lr"),
    "learning_rate": ("actor_lr", "critic_lr", "alpha_lr"),
    "policy_lr": ("actor_lr",),
    "q_lr": ("critic_lr",),
    "discount": ("gamma",),
    "batch": ("batch_size",),
    "buffer_size": ("replay_size",),
    "replay_buffer_size": ("replay_size",),
    "total_timesteps": ("total_steps",),
    "n_envs": ("num_envs",),
    "n_steps": ("num_steps",),
    "rollout_length": ("num_steps",),
    "train_freq": ("num_steps",),
    "train_frequency": ("num_steps",),
    "gradient_steps": ("num_updates",),
    "n_epochs": ("num_epochs",),
    "update_epochs": ("num_epochs",),
    "clip_range": ("clip",),
    "clip_coef": ("clip",),
    "clip_eps": ("clip",),
    "clip_vloss": ("clip_value",),
    "norm_adv": ("normalize_advantage",),
    "normalize_observations": ("normalize_obs",),
    "ent_coef": ("entropy_coef",),
    "vf_coef": ("value_coef",),
    "policy_freq": ("policy_delay",),
    "policy_frequency": ("policy_delay",),
    "target_policy_noise": ("target_noise",),
    "policy_noise": ("target_noise",),
    "target_noise_clip": ("noise_clip",),
    "target_update_interval": ("target_every",),
    "target_network_frequency": ("target_every",),
    "exploration_initial_eps": ("epsilon_start",),
    "exploration_final_eps": ("epsilon_end",),
    "start_e": ("epsilon_start",),
    "end_e": ("epsilon_end",),
    "eps_start": ("epsilon_start",),
    "eps_end": ("epsilon_end",),
    "fill_buffer": ("learning_starts",),
    "hidden": ("hidden_sizes",),
    "net_arch": ("hidden_sizes",),
}
"""Names of settings elsewhere (Stable-Baselines3, CleanRL, rejax) -> ours of the same meaning; an
alias stands for those of them that an algorithm has."""


def meant_by(kind: type, name: str) -> tuple[str, ...]:
    """Return the settings of `kind` that a name stands for: itself, or those of an alias.

    Raises UsageError, with all names, for one that is neither.
    """
    settings = typing.get_type_hints(kind)
    if name in settings:
        return (name,)
    meant = tuple(setting for setting in ALIASES.get(name, ()) if setting in settings)
    if not meant:
        raise unknown("setting", name, settings)
    return meant


def without_aliases(kind: type, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return settings by the names that `kind` has, and a line about each alias among them.

    Where two names stand for one setting, the later one counts.
    """
    settings: dict[str, Any] = {}
    notes = []
    for name, value in values.items():
        meant = meant_by(kind, name)
        for setting in meant:
            settings.pop(setting, None)
            settings[setting] = value
        if meant != (name,):
            notes.append(f"{name} is {' and '.join(meant)} here")
    return settings, notes


def override(config: C, values: Mapping[str, Any]) -> C:
    """Return a copy of `config` with some values replaced, parsed if strings, and checked."""
    hints = typing.get_type_hints(type(config))
    changes = {}
    for key, value in values.items():
        if key not in hints:
            raise unknown("setting", key, hints)
        changes[key] = _coerce(key, value, hints[key])
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def check_numbers(
    config: Any, ranges: Mapping[str, tuple[float, float]], may_be_0: Collection[str] = ()
) -> None:
    """Raise UsageError for a count below 1 (below 0, if it may be 0) or a number out of its range.

    Counts are the settings of type int; `ranges` has the lowest and highest values of others.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        least = 0 if field.name in may_be_0 else 1
        if field.type == "int" and value < least:
            raise UsageError(f"{field.name} is {value}; it must be at least {least}")
    for name, (low, high) in ranges.items():
        if not low <= getattr(config, name) <= high:
            span = f"in [{low:g}, {high:g}]" if high < math.inf else f"at least {low:g}"
            raise UsageError(f"{name} is {getattr(config, name)}; it must be {span}")


def _coerce(key: str, value: Any, hint: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        value = value.item()  # a scalar of NumPy
    if origin is typing.Literal:
        if not isinstance(value, str) or value not in args:
            raise unknown(f"value for {key}", str(value), args)
        return value
    parsed = parse_value(value) if isinstance(value, str) and hint is not str else value
    if origin is tuple:
        items = parsed if isinstance(parsed, (tuple, list)) else (parsed,)
        return tuple(_coerce(key, item, args[0]) for item in items)
    if hint is float and isinstance(parsed, int) and not isinstance(parsed, bool):
        parsed = _to_float(parsed)
    if hint is int and isinstance(parsed, float) and parsed.is_integer():
        parsed = int(parsed)  # 5e5 steps
    if type(parsed) is not hint:
        raise UsageError(f"{key} takes {hint.__name__}, got {quoted(value)}")
    if isinstance(parsed, (int, float)) and not -LARGEST <= parsed <= LARGEST:
        raise UsageError(f"{key} is {quoted(value)}; it must be a number below {LARGEST:.0e}")
    return parsed


def _to_float(number: int) -> float:
    """Return a whole number as a float; infinity if it is larger than any."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


def parse_value(text: str) -> Any:
    """Return the number, truth value or list that a text stands for; else the text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if len(text) > LONGEST_TEXT:
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return text
