"""List an algorithm's settings: name, default, a task's reference, and what each is."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from tiebreak import registry
from tiebreak.core.config import field_texts
from tiebreak.envs.base import make_spec
from tiebreak.envs.task import Task


class Setting(NamedTuple):
    """One setting of an algorithm."""

    name: str
    type: str
    """As it is declared, e.g. `int` or `Literal['adam', 'sgd']`."""
    default: Any
    reference: Any
    """Value for the task that was asked for; the default without a task."""
    meaning: str


def settings(algorithm: str, task: str = "") -> list[Setting]:
    """Return the settings of an algorithm, with the reference of a task if one is named.

    The task's environment is made, for its spec. Raises UsageError for unknown names, and where the
    algorithm is not for the task's actions.
    """
    module = registry.config_module(algorithm)
    default = reference = module.Config()
    if task:
        reference = registry.reference_config(algorithm, make_spec(Task.parse(task)), task)
    meanings = field_texts(module.Config)
    return [
        Setting(
            name=field.name,
            type=str(field.type),
            default=getattr(default, field.name),
            reference=getattr(reference, field.name),
            meaning=meanings[field.name],
        )
        for field in dataclasses.fields(module.Config)
    ]


def print_settings(algorithm: str, task: str = "") -> None:
    """Print the settings as a table; those that the task's reference changes are marked."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = ["setting", "default", *(["for the task"] if task else []), "what it is"]
    title = f"settings of {algorithm}{f', with the reference for {task}' if task else ''}"
    table = Table(*columns, title=title, box=SIMPLE_HEAD)
    for row in settings(algorithm, task):
        changed = row.reference != row.default
        reference = Text(_text(row.reference), style="bold" if changed else "")
        values = [Text(_text(row.default)), *([reference] if task else [])]
        table.add_row(row.name, *values, Text(row.meaning))
    console = Console()
    console.print(table)
    console.print("Set one: tiebreak train … --set NAME=VALUE. Marks as D4 are decisions of")
    console.print(f"the specification, algorithms/{algorithm}/README.md.")


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)
