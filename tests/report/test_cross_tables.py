"""What stands side by side: shares of a full step, ceilings, and what others have published."""

from __future__ import annotations

import io
import re

from report.test_html import page
from rich.console import Console
from stats import synthetic

from tiebreak.report import cross_tables, published, tables
from tiebreak.stats.ratios import summarize

RACE = "dqn · gymnax/CartPole-v1 · {} · num_envs 2"
SECONDS = {"iteration": 4e-4, "forward": 2e-5, "interact": 5e-5, "update": 6e-4}
"""Seconds per unit: an iteration has 4 environment steps and one update, takes 1.6 ms."""
WORK = {
    "iteration": {"env_steps": 4, "updates": 1}, "forward": {},
    "interact": {"env_steps": 4}, "update": {"updates": 1},
}  # fmt: skip
TABLE = {
    "source": "somebody", "machine": "a GPU", "unit": "ms per call", "note": "Two calls.",
    "values": [
        {"what": "Full step", "value": 1.25, "plus_minus": 0.5, "over": "",
         "where": {"probe": ["iteration"], "framework": ["linen", "nnx"]}},
        {"what": "On Mars", "value": 2, "plus_minus": None, "over": "",
         "where": {"probe": ["iteration"], "framework": ["torch"]}},
    ],
}  # fmt: skip


def measured(seconds=SECONDS, race=RACE, labels=("linen jit", "nnx split")):
    records = []
    for probe, each in seconds.items():
        work = {**WORK.get(probe, {}), "calls": 1}
        units = {"forward": 2, "update": 1}.get(probe, 4)
        for label in labels if probe != "env" else ("numpy alone",):
            changes = {"group": race.format(probe), "work": {k: 50 * v for k, v in work.items()}}
            record = synthetic.visit(label, 0, [each] * 5, **changes)
            record.update(calls_per_sample=100, units_per_sample=100 * units)
            record["samples_s"] = [100 * units * each] * 5
            records.append(record)
    return records


def printed(records, elsewhere=()):
    file = io.StringIO()
    tables.print_summary(summarize(records), Console(file=file, width=140), elsewhere)
    return re.sub(r"[^\S\n]+", " ", file.getvalue())


def test_a_breakdown_has_the_shares_of_a_full_step_side_by_side():
    (table,) = cross_tables.cross_tables(summarize(measured()))
    assert table.title == "breakdown · dqn · gymnax/CartPole-v1 · num_envs 2"
    assert table.headings == ("cell", "full step", "forward", "collect", "update", "rest")
    # Acting for 4 environment steps: 80 µs; collecting them: 200 µs; one update: 600 µs.
    rest = ("1.60 ms", "80.0 µs (5 %)", "200 µs (12 %)", "600 µs (38 %)", "800 µs (50 %)")
    assert sorted(table.rows) == [("linen jit · fused", *rest), ("nnx split · fused", *rest)]
    assert "linen jit · fused 1.60 ms 80.0 µs (5 %)" in printed(measured())


def test_parts_that_take_longer_than_the_whole_have_a_sign():
    (table,) = cross_tables.cross_tables(summarize(measured({**SECONDS, "update": 3e-3})))
    assert table.rows[0][-1] == "-1.60 ms (-100 %)"


def test_what_lacks_a_part_is_no_breakdown():
    parts = {k: v for k, v in SECONDS.items() if k != "update"}
    assert cross_tables.cross_tables(summarize(measured(parts))) == []


def test_interact_is_held_against_the_slower_of_its_parts():
    race = "ppo · gymnasium/HalfCheetah-v4 · {} · num_envs 16"
    seconds = {"env": 1e-4, "forward": 1e-5, "interact": 1.25e-4}
    (table,) = cross_tables.cross_tables(summarize(measured(seconds, race)))
    assert sorted(table.rows) == [
        ("linen jit", "10.0k", "100k", "8.00k", "80 %"),
        ("nnx split", "10.0k", "100k", "8.00k", "80 %"),
    ]


def test_updates_are_told_per_thousand_with_their_batch():
    text = printed(measured())
    assert text.count("seconds per 1000 training steps (batch 128): linen jit 0.6, nnx") == 1
    for record in (records := measured()):
        record["cell"]["config"] = {"batch_size": 256}
    assert "1000 training steps (batch 256)" in printed(records)
    ppo = measured(race=RACE.replace("dqn", "ppo"))
    assert "1000 training steps" not in printed(ppo)


def test_a_published_table_stands_beside_ours_and_says_whose_it_is():
    text = printed(measured(), [TABLE])
    assert "published · somebody" in text
    assert "Full step 1.25 ± 0.5 1.6 linen jit · fused" in text
    assert "\n 1.6 nnx split · fused" in text
    assert "On Mars 2 – not measured in this run" in text
    assert f"Measured on: a GPU. Two calls. {published.CAVEAT}" in text.replace("\n", " ")


def test_a_source_without_numbers_is_named():
    text = printed(measured(), [{**TABLE, "values": []}])
    assert published.NO_NUMBERS in text
    assert published.CAVEAT not in text


def test_published_ratios_stand_beside_geometric_means():
    value = {"what": "Torch → Linen", "value": 5.88, "plus_minus": None, "over": "torch",
             "where": {"probe": ["train"], "framework": ["linen"]}}  # fmt: skip
    table = {**TABLE, "unit": "times as fast", "values": [value]}
    records = []
    for task, factor in (("A", 2.0), ("B", 8.0)):
        group = f"ppo · gymnax/{task} · train · num_envs 32"
        speeds = {"torch compile": 1.0, "torch eager": 0.5, "linen jit": factor}
        records += synthetic.race(speeds, blocks=3, noise=0.0001, group=group)
    (table,) = published.cross_tables(summarize(records), [table])
    ((what, theirs, ours, where),) = table.rows
    assert (what, theirs, where) == ("Torch → Linen", "5.88", "linen jit, 2 races")
    assert 3.9 < float(ours.removesuffix("×")) < 4.1


def test_s_per_1000_updates_are_ours_times_a_thousand():
    value = {"what": "DQN, JAX", "value": 3, "plus_minus": None, "over": "",
             "where": {"probe": ["update"], "label": ["linen jit"]}}  # fmt: skip
    table = {**TABLE, "unit": "s per 1000 updates", "values": [value]}
    (table,) = published.cross_tables(summarize(measured()), [table])
    assert table.rows == (("DQN, JAX", "3", "0.6", "linen jit"),)


def test_the_page_has_all_of_it_escaped(tmp_path):
    evil = {**TABLE, "source": "<script>alert(1)</script>"}
    found = page(tmp_path, measured(), published=[evil])
    for part in ("breakdown · dqn", "200 µs (12 %)", "published · <script>alert(1)</script>",
                 "Full step", "1.25 ± 0.5", published.CAVEAT,
                 "seconds per 1000 training steps (batch 128)"):  # fmt: skip
        assert part in found.text, part
    assert "<script" not in found.source


def test_json_has_what_stands_side_by_side():
    found = tables.sheets_json(summarize(measured()), [TABLE])
    assert [table["title"] for table in found] == [
        "breakdown · dqn · gymnax/CartPole-v1 · num_envs 2", "published · somebody",
    ]  # fmt: skip
    assert found[0]["rows"][0][1] == "1.60 ms"
