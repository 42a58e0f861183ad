"""Rows that differ in precision: what is compared with what, and under which name."""

from __future__ import annotations

from stats import synthetic

from tiebreak.report import answer, heat
from tiebreak.stats.ratios import summarize

GROUP = "fasttd3 · gymnax/Pendulum-v1 · train · num_envs 1"
SPEEDS = {
    "torch eager, float32": 1.0, "torch eager, bfloat16": 0.5,
    "torch compile, float32": 2.0, "torch compile, bfloat16": 4.0,
    "linen jit, float32": 3.0, "linen jit, bfloat16": 5.0,
    "equinox flat, float32": 3.0, "equinox flat, bfloat16": 5.0,
}  # fmt: skip


def records(**changes):
    found = synthetic.race(SPEEDS, blocks=4, group=GROUP, **changes)
    for record in found:
        label = record["cell"]["label"]
        precision = label.partition(", ")[2]
        changed = {"mode": label.split()[1].strip(","), "precision": precision}
        record["cell"] = {**record["cell"], **changed, "precision_varies": True}
        if changed["mode"] == "compile":
            record["phases_s"] = {**record["phases_s"], "first_call": 40.0}
    return found


def answered():
    return answer.answer(summarize(records()), {"suite": "fasttd3", "scale": "quick"})


def test_torch_in_float32_is_what_others_are_compared_with():
    (group,) = summarize(records())
    assert group.find(group.reference).label == "torch compile, float32"


def test_every_name_has_its_precision():
    names = [time.name for time in answered().cards[0].times]
    assert {"compiled torch (bfloat16)", "torch eager (float32)", "Linen (bfloat16)"} <= set(names)
    (table,) = heat.heat_tables(summarize(records()))
    assert set(table.columns) == set(SPEEDS)


def test_a_single_mode_of_such_a_race_has_no_column_with_others():
    one = [r for r in records() if "bfloat16" not in r["cell"]["label"]]
    plain = synthetic.race({"torch compile": 1.0, "linen jit": 2.0}, blocks=4)
    columns = [name for table in heat.heat_tables(summarize(one + plain)) for name in table.columns]
    assert {"torch compile", "torch compile, float32"} <= set(columns)


def test_compiling_pays_within_a_precision():
    said = answered().cards[0].break_even
    assert said.count(" pays after ") == 2
    for precision in ("float32", "bfloat16"):
        assert f"Compiled torch ({precision}) " in said


def test_identical_programs_are_those_of_one_precision():
    assert "came out 1.00× to 1.00× in 2 pairs, where 1 is right" in answered().controls
