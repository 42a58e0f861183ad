"""The JSON Schema that editors use, and the loader: they take and refuse the same files."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields

import pytest
from bench.suite.test_published import TABLE, WRONG
from bench.suite.test_suite import MINIMAL
from bench.suite.test_suite_lines import LOCATED
from jsonschema import Draft202012Validator

from tiebreak import registry
from tiebreak.bench.suite import cells, published, scale, suite
from tiebreak.bench.suite.plan import Effort, Scale
from tiebreak.bench.suite.schema import build_schema

SCHEMA = json.loads(suite.SCHEMA_FILE.read_text(encoding="utf-8"))
TOP = SCHEMA["properties"]
RACE = TOP["races"]["items"]["properties"]
ROW = RACE["rows"]["items"]["properties"]
((SCALES, SCALE),) = TOP["scales"]["patternProperties"].items()
FILES = [*sorted(suite.SUITES.glob("*.toml")), suite.EXAMPLE_FILE]


def refuses(text: str) -> bool:
    return not Draft202012Validator(SCHEMA).is_valid(tomllib.loads(text))


def test_the_schema_is_one():
    Draft202012Validator.check_schema(SCHEMA)


def test_the_file_is_the_generated_one():
    """After a change of the tables: `python -m tiebreak.bench.suite.schema`."""
    assert build_schema() == SCHEMA


def test_keys_are_the_loaders():
    assert tuple(TOP) == suite.SUITE_KEYS
    assert tuple(RACE) == cells.RACE_KEYS
    assert tuple(ROW) == cells.ROW_KEYS
    assert tuple(RACE["ceilings"]["items"]["properties"]) == cells.CEILING_KEYS
    assert SCALE["properties"].keys() == scale.scale_fields().keys()
    assert f"^({'|'.join(suite.SCALES)})$" == SCALES


def choices(schema):
    one, many = schema["anyOf"]
    assert many == {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}
    return one.get("enum")


def test_choices_are_the_registrys():
    for table in (TOP, RACE):
        assert choices(table["algorithm"]) == list(registry.ALGORITHMS)
        assert choices(table["precision"]) == list(registry.PRECISIONS)
        assert choices(table["size"]) == list(cells.SIZES)
    assert choices(RACE["probes"]) == list(cells.PROBE_NAMES)
    assert RACE["task"]["anyOf"][0]["pattern"] == f"^({'|'.join(registry.ENGINES)})/.+$"
    assert ROW["framework"]["enum"] == list(registry.FRAMEWORKS)
    assert set(ROW["mode"]["enum"]) == {m for f in registry.FRAMEWORKS.values() for m in f.modes}
    assert ROW["loop"]["enum"] == list(cells.LOOPS)


def test_published_tables_are_the_loaders():
    table = TOP["published"]["items"]["properties"]
    assert tuple(table) == published.TABLE_KEYS
    assert table["unit"]["enum"] == list(published.UNITS)
    value = table["values"]["items"]["properties"]
    assert tuple(value) == published.VALUE_KEYS
    assert value["over"]["enum"] == list(registry.FRAMEWORKS)
    one, many = RACE["scales"]["anyOf"]
    assert one["enum"] == many["items"]["enum"] == list(suite.SCALES)


@pytest.mark.parametrize("message", WRONG)
def test_the_schema_refuses_wrong_tables(message):
    old, new, _ = WRONG[message]
    assert not refuses(MINIMAL + TABLE)
    if not any(part in message for part in ("over", "no cell with")):
        assert refuses(MINIMAL + TABLE.replace(old, new))


def test_defaults_are_the_ones_that_hold():
    assert {key: TOP[key]["default"] for key in cells.DEFAULTS} == cells.DEFAULTS
    usual = {f.name: f.default for kind in (Scale, Effort) for f in fields(kind)}
    for key, schema in SCALE["properties"].items():
        none = key in ("stages", "first")
        assert schema.get("default") == (usual[key] or None if none else usual[key]), key


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_of_ours_is_valid(path):
    assert not refuses(path.read_text(encoding="utf-8"))


BEYOND = ("has no mode", "loop 'fused' needs", "names a cell twice", "with other settings",
          "setting 'gama'", "num_envs is set by", "must divide", "not TOML", "takes float",
          "that rise", "is set by size", "has no precision",
          "is a list of the race's", "of another engine", "does not measure", "an earlier race",
          "belongs to the scale")  # fmt: skip
"""What only the loader knows: which mode belongs to whom, what contradicts what."""


@pytest.mark.parametrize("message", LOCATED)
def test_the_schema_refuses_what_the_loader_refuses(message):
    text, _ = LOCATED[message]
    assert not refuses(MINIMAL)
    if not any(part in message for part in BEYOND):
        assert refuses(text)
