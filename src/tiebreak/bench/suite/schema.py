"""Generate suites/suite.schema.json, with which editors complete and check suite files.

It is built from the same tables as the loader's checks: registry, probes, sizes and the fields of a
scale. `python -m tiebreak.bench.suite.schema` writes the file; a test holds it equal to
`build_schema()`. What depends on more than one value, such as the modes of a framework, is checked
by the loader only.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from tiebreak import registry
from tiebreak.bench.probe_table import ALIASES, PROBES
from tiebreak.bench.suite import published
from tiebreak.bench.suite.cells import (
    CACHES,
    DEFAULTS,
    LOOPS,
    PROBE_NAMES,
    SCALES,
    SIZES,
)
from tiebreak.bench.suite.plan import Effort, Scale
from tiebreak.bench.suite.scale import least, scale_fields
from tiebreak.bench.suite.suite import SCHEMA_FILE
from tiebreak.core.files import write_atomic
from tiebreak.peers.table import PEERS

Schema = dict[str, Any]

LISTS = "One, or a list: a race for each."
"""End of the description of a setting that may be a list."""

STRING: Schema = {"type": "string"}
TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 1}
POSITIVE: Schema = {"type": "number", "exclusiveMinimum": 0}


def build_schema() -> Schema:
    """Return the JSON Schema of a suite file."""
    properties = {
        "description": _described(STRING, "One line, shown in lists and reports."),
        **{key: {**schema, "default": DEFAULTS[key]} for key, schema in _shared_settings().items()},
        "scales": {
            "description": "How much is measured at each scale; a scale that is not here cannot be "
            "run.",
            **_table({}),
            "patternProperties": {
                f"^({'|'.join(SCALES)})$": {
                    **_table(_scale()),
                    "not": {
                        "anyOf": [{"required": [key, "stages"]} for key in ("blocks", "first")]
                    },
                }
            },
            "minProperties": 1,
        },
        "races": _array(
            _table(_race(), required=("task", "probes", "rows")),
            "Which of the rows of each is fastest? Rows are compared within a race only.",
            minItems=1,
        ),
        "published": _array(
            _table(_published(), required=("source", "machine")),
            "Tables published by others, shown beside the results and never computed with.",
        ),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A suite of tiebreak",
        "description": "What `tiebreak run FILE.toml` measures.",
        **_table(properties, required=("scales", "races")),
    }


def write_schema() -> None:
    """Write the schema beside the built-in suites."""
    text = json.dumps(build_schema(), indent=2, ensure_ascii=False)
    write_atomic(SCHEMA_FILE, f"{text}\n".encode())


def _shared_settings() -> dict[str, Schema]:
    """Return the settings that a suite or a race can have."""
    sizes = [
        f"{name} {'-'.join(map(str, widths))}" if widths else f"{name}: as the algorithm's settings"
        for name, widths in SIZES.items()
    ]
    return {
        "algorithm": _choice(registry.ALGORITHMS, f"The algorithm. {LISTS}"),
        "precision": _choice(registry.PRECISIONS, f"Precision of all arithmetic. {LISTS}"),
        "size": _choice(SIZES, f"Hidden layers of policy and value ({', '.join(sizes)}). {LISTS}"),
        "device": _one_or_list(STRING, f"cpu, gpu, or one of several, as cuda:1. {LISTS}"),
        "cache": _choice(
            CACHES,
            "Compile caches: warm, shared by all runs of a suite, or cold, empty for each run. "
            f"{LISTS}",
        ),
    }


def _scale() -> dict[str, Schema]:
    """Return the keys of [scales.NAME], described by the docstrings of their fields."""
    descriptions = {**_field_docs(Scale), **_field_docs(Effort)}
    defaults = {field.name: field.default for kind in (Scale, Effort) for field in fields(kind)}
    schemas = {}
    for key, kind in scale_fields().items():
        schema = {**_value_of(key, kind), "description": descriptions[key]}
        if defaults[key] not in (None, ()):
            schema["default"] = defaults[key]
        schemas[key] = schema
    return schemas


def _value_of(key: str, kind: Any) -> Schema:
    """Return the schema of a value of a scale by the type of its field."""
    if kind is bool:
        return {"type": "boolean"}
    if key == "first":
        probes = {"type": "string", "enum": list(PROBES)}
        return {"type": "array", "items": probes, "minItems": 1, "uniqueItems": True}
    if key == "rounds":
        return {"type": "integer", "minimum": least(key), "multipleOf": 2}
    if kind is int:
        return {"type": "integer", "minimum": least(key)}
    if typing.get_origin(kind) is tuple:
        even = {"type": "integer", "minimum": 2, "multipleOf": 2}
        return {"type": "array", "items": even, "minItems": 1, "uniqueItems": True}
    return POSITIVE


def _race() -> dict[str, Schema]:
    config = {"type": "object"}
    return {
        "name": _described(
            STRING, "Appended to the race's groups: tells races apart that differ in config only."
        ),
        "task": _one_or_list(
            _task(),
            f"engine/name, e.g. gymnax/CartPole-v1; `tiebreak list --tasks` lists them. {LISTS}",
        ),
        "num_envs": {**_one_or_list(COUNT, f"Number of environments. {LISTS}"), "default": 1},
        "agents": {
            **_one_or_list(COUNT, f"Agents trained at once, by the probe population. {LISTS}"),
            "default": 1,
        },
        **_shared_settings(),
        "scales": _choice(SCALES, "The scales at which the race is run; all, if left out."),
        "probes": _choice(PROBE_NAMES, _describe_probes()),
        "rows": _array(_row(), "What races: a framework in a mode each.", minItems=1),
        "ceilings": _array(
            _ceiling(),
            "Cells of another engine, drawn as lines in the race's charts. They are measured like "
            "rows, and compared with nothing.",
        ),
        "config": _described(
            config, "Settings of the algorithm that differ from its reference configuration."
        ),
        **{
            scale: _described(config, f"Settings of the algorithm at the scale {scale}.")
            for scale in SCALES
        },
    }


def _describe_probes() -> str:
    probes = [f"{name}: {row.measures}" for name, row in PROBES.items()]
    aliases = [f"{name}: {', '.join(probes)}, side by side" for name, probes in ALIASES.items()]
    return f"What is measured of each row. {'; '.join([*probes, *aliases])}."


def _ceiling() -> Schema:
    """Return a row with the keys that tell it from the race's rows."""
    row = _row()
    own = {
        "task": _described(_task(), "A task of another engine."),
        "num_envs": _described(COUNT, "Number of environments; if left out, the race's."),
        "probes": _choice(PROBE_NAMES, "Those of the race's probes that it is measured by; all."),
    }
    return {**row, "required": ["task"], "properties": {**own, **row["properties"]}}


def _task() -> Schema:
    return {"type": "string", "pattern": f"^({'|'.join(registry.ENGINES)})/.+$"}


def _row() -> Schema:
    modes = dict.fromkeys(mode for row in registry.FRAMEWORKS.values() for mode in row.modes)
    properties = {
        "framework": _one_of(registry.FRAMEWORKS, "One of the sibling implementations."),
        "mode": _one_of(
            modes,
            "How the framework runs the code; `tiebreak list` names the modes of each. If left "
            "out, the fastest on a CPU.",
        ),
        "loop": _one_of(
            LOOPS,
            "host: driven by Python; fused: one compiled program, with JAX on a device engine. If "
            "left out, fused where it can be.",
        ),
        "precision": _one_of(
            registry.PRECISIONS,
            "Precision of this row alone, to compare precisions. Labels name it then.",
        ),
        "label": _described(
            STRING, "The row's name in tables; if left out, framework, mode and config."
        ),
        "config": _described(
            {"type": "object"}, "Settings of the algorithm of this row alone, to compare them."
        ),
        **_contestant(),
        "python": _described(
            TEXT,
            "Interpreter of another environment in which the row runs: with Tiebreak installed or, "
            "for a contestant, NumPy and psutil.",
        ),
        "threads": _described(COUNT, "Threads of the row's library, to compare numbers of them."),
    }
    required = [{"required": [key]} for key in ("framework", "peer", "contestant")]
    return {**_table(properties), "oneOf": required}


def _contestant() -> dict[str, Schema]:
    """Return the keys of rows that are not ours."""
    return {
        "peer": _one_of(
            PEERS,
            "Another library, instead of framework; `tiebreak peers` lists them. Nothing proves "
            "that it computes the same.",
        ),
        "contestant": {
            "description": "module:function that makes an implementation of your own, instead of "
            "framework or peer. Nothing proves that it computes the same.",
            "type": "string",
            "pattern": "^[^:]+:[^:]+$",
        },
        "packages": _array(STRING, "Packages that a contestant imports."),
        "differences": _described(
            TEXT, "In what a contestant differs from our algorithm; shown with the results."
        ),
    }


def _published() -> dict[str, Schema]:
    values = {
        "what": _described(TEXT, "Its name at its source."),
        "value": POSITIVE,
        "plus_minus": POSITIVE,
        "over": _one_of(
            registry.FRAMEWORKS,
            "With unit 'times as fast': the framework that it is compared with.",
        ),
        **{
            key: _one_or_list({"type": "integer"} if key == "num_envs" else STRING)
            for key in published.PLACES
        },
    }
    return {
        "source": _described(TEXT, "Whose it is, and where it was published."),
        "machine": _described(TEXT, "The hardware that it was measured on."),
        "unit": {
            "description": "Unit of every value; our results are converted to it.",
            "type": "string",
            "enum": list(published.UNITS),
            "default": published.UNITS[0],
        },
        "note": _described(STRING, "Anything else that a reader should know."),
        "values": _array(
            _table(values, required=("what", "value")),
            "The published numbers, each with the properties of the cells that it belongs to, one "
            "value or a list for each property. None, where the source has none.",
        ),
    }


def _described(schema: Schema, description: str) -> Schema:
    return {"description": description, **schema}


def _table(properties: Mapping[str, Schema], required: Iterable[str] = ()) -> Schema:
    schema: Schema = {"type": "object", "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    if properties:
        schema["properties"] = dict(properties)
    return schema


def _array(items: Schema, description: str, **limits: int) -> Schema:
    return {"description": description, "type": "array", **limits, "items": items}


def _one_of(names: Iterable[str], description: str) -> Schema:
    return _described({"type": "string", "enum": list(names)}, description)


def _choice(names: Iterable[str], description: str) -> Schema:
    return _one_or_list({"type": "string", "enum": list(names)}, description)


def _one_or_list(one: Schema, description: str = "") -> Schema:
    many = {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}
    schema: Schema = {"anyOf": [one, many]}
    return _described(schema, description) if description else schema


def _field_docs(kind: type) -> dict[str, str]:
    """Return name -> docstring of the fields of a dataclass, on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for field, doc in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(doc, ast.Expr)
            docs[field.target.id] = " ".join(ast.literal_eval(doc.value).split())
    return docs


if __name__ == "__main__":
    write_schema()
