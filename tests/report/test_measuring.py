"""docs/measuring.md says what the code does: every threshold, flag, phase, field and test in it."""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path

import pytest

from tiebreak.bench.manager.store import read_records
from tiebreak.bench.record import STATUSES, empty_result
from tiebreak.bench.suite import suite
from tiebreak.report.flags import FLAGS
from tiebreak.selftest.checks import CHECKS
from tiebreak.stats.visits import PHASES
from tiebreak.verify.compare import BOUNDS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "measuring.md").read_text(encoding="utf-8")
NUMBER = r"(?P<number>\d[\d,]*(?:\.\d+)?)\s?(?P<unit>%|ms|MiB|KiB|s\b)?"
NAMED = re.compile(NUMBER + r"[^.\d(|`]{0,20}\s\(`(?P<module>[a-z_]+)\.(?P<name>[A-Z_]+[.\w]*)`")
UNITS = {"%": 0.01, "ms": 1e-3, "KiB": 1024.0, "MiB": 1024.0**2}
MODULES = {
    "clock": "tiebreak.bench.clock",
    "sampling": "tiebreak.bench.worker.sampling",
    "memory": "tiebreak.bench.worker.memory",
    "contention": "tiebreak.bench.machine.contention",
    "worker_process": "tiebreak.bench.manager.worker_process",
    "kernel_clock": "tiebreak.bench.manager.kernel_clock",
    "turns": "tiebreak.bench.worker.turns",
    "manager": "tiebreak.bench.manager.manager",
    "pending": "tiebreak.bench.manager.pending",
    "plan": "tiebreak.bench.suite.plan",
    "intervals": "tiebreak.stats.intervals",
    "sample_flags": "tiebreak.stats.sample_flags",
    "standing": "tiebreak.report.standing",
    "summaries": "tiebreak.stats.summaries",
    "compare": "tiebreak.stats.compare",
    "verify": "tiebreak.verify.compare",
}
UNSAID = {
    "kernel_clock.SO_TIMESTAMPNS", "kernel_clock.MESSAGE_BYTES", "kernel_clock.AT_ONCE",
    "contention.QUOTA", "manager.CALIBRATION", "plan.CALIBRATION", "sampling.COLD_S",
    "verify.NOT_COMPARABLE", "verify.BOUNDS",
}  # fmt: skip
"""Units, a block's number, an import, a stand-in, and bounds that have a test of their own."""


def constants(module: str) -> dict[str, float]:
    """The numbers at the top of a module, by name; those of a table or tuple as `NAME.key`."""
    out: dict[str, float] = {}
    for name, value in vars(importlib.import_module(MODULES[module])).items():
        if not re.fullmatch(r"[A-Z][A-Z_]+", name):
            continue
        parts = value.items() if isinstance(value, dict) else ()
        parts = enumerate(value) if isinstance(value, tuple) else parts
        found = {name: value, **{f"{name}.{key}": part for key, part in parts}}
        out |= {n: v for n, v in found.items() if isinstance(v, (int, float))}
    return out


def documented() -> list[tuple[str, str, float]]:
    """(module, constant, figure in front of it)."""
    return [
        (m["module"], m["name"], float(m["number"].replace(",", "")) * UNITS.get(m["unit"], 1.0))
        for m in NAMED.finditer(TEXT)
    ]


@pytest.mark.parametrize(("module", "name", "figure"), documented())
def test_figures_are_those_of_the_code(module, name, figure):
    value = constants(module)[name]
    if (module, name) == ("intervals", "MARGIN"):
        value = math.expm1(value)
    assert value == pytest.approx(figure), f"the code says {value}"


@pytest.mark.parametrize("module", MODULES)
def test_no_threshold_is_left_out(module):
    said = {f"{m}.{name}" for m, name, _ in documented()}
    there = {f"{module}.{name}" for name in constants(module)}
    unsaid = {name for name in there if name.startswith(tuple(UNSAID))}
    assert not there - said - unsaid, "say it in docs/measuring.md"


def test_every_named_constant_has_its_figure():
    named = re.findall(rf"\(`((?:{'|'.join(MODULES)})\.[A-Z_]+[.\w]*)`\)", TEXT)
    assert sorted(named) == sorted(f"{module}.{name}" for module, name, _ in documented())


def test_the_bounds_of_verify_are_there():
    paragraph = TEXT[TEXT.index("**`tiebreak verify`**") : TEXT.index("**`tiebreak train`**")]
    for bounds in BOUNDS.values():
        assert all(f"{bound:.0e}" in paragraph for bound in bounds.values() if bound)


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_has_its_line(flag):
    assert re.search(rf"^\| `{flag}` \|", TEXT, re.MULTILINE)


def test_every_row_of_the_self_test_has_its_line():
    missing = [check.name for check in CHECKS if f"| `{check.name}` |" not in TEXT]
    assert not missing


def test_every_phase_status_and_field_is_there():
    for name in (*PHASES, *STATUSES, *empty_result("ok", "")):
        assert f"`{name}`" in TEXT, name


def test_fields_of_published_visits_are_there():
    records = read_records(ROOT / "results" / "amd-epyc-2-cores" / "quick")
    visit = next(r for r in records if r["kind"] == "visit")
    missing = [name for name in visit if f"`{name}`" not in TEXT]
    assert not missing


SETTINGS = ("blocks", "samples", "sample_s", "steady_s", "memory_calls")


@pytest.mark.parametrize("scale", [name for name in suite.SCALES if name != "survey"])
def test_the_scales_are_those_of_the_suite_quick(scale):
    plan = suite.load("quick", scale, 0)
    settings = {**vars(plan.settings.effort), **vars(plan.settings)}
    heads, *rows = (
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in TEXT.splitlines()
        if re.match(r"\| (suite `quick`|`\w+`) \|", line)
    )
    column = heads.index(scale)
    said = {row[0].strip("`"): row[column] for row in rows if len(row) == len(heads)}
    for name in SETTINGS:
        assert float(said[name]) == settings[name], name
