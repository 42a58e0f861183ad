"""Verdicts of planted records: same and different programs, missing and unregistered trainings."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hygiene import tree
from studies import study_files as small

from tiebreak.core.git import output
from tiebreak.report import documents
from tiebreak.report.learning_evidence import figure, finding_lines, finding_rows
from tiebreak.studies import seeds, verdicts
from tiebreak.studies.registration import is_older

TEXT = small.TEXT.replace("seeds = 3", "seeds = 23").replace("seeds = 2,", "seeds = 23,")


def planted(shift=0.0, seed=3, **changes):
    """Return a study and its records; the control's second program is better by `shift`."""
    (study,) = small.parse(TEXT)
    rng = np.random.default_rng(seed)
    shifts = {"torch": 0.0, "nnx": 0.0, "nnx-clip": shift}
    records = [
        small.record(study, name, 10 + i, 100 + value + by, **changes)
        for name, by in shifts.items()
        for i, value in enumerate(rng.normal(size=23))
    ]
    return study, records


def test_equal_programs_are_the_same_and_the_control_differs():
    pair, control = verdicts.judge(*planted(shift=2.0))
    assert (pair.verdict, pair.is_as_expected) == ("same", None)
    assert (control.verdict, control.is_as_expected) == ("different", True)
    assert pair.power == pytest.approx(0.909, abs=0.001)
    assert control.better.value > 0.8


def test_a_control_that_does_not_come_out_is_said_to():
    _, control = verdicts.judge(*planted(shift=0.0))
    assert (control.verdict, control.is_as_expected) == ("same", False)


def test_one_seed_less_is_not_judged():
    study, records = planted()
    pair, control = verdicts.judge(study, records[1:])
    assert (pair.verdict, control.verdict) == ("incomplete", "same")
    assert not verdicts.is_complete(study, records[1:])


@pytest.mark.parametrize(
    "changes",
    [
        {"registered": ""},
        {"digest": "of another study"},
        {"started_at": "2029-12-31T00:00:00+00:00"},
        {"registered_at": "yesterday"},
    ],
)
def test_a_training_that_began_before_its_study_was_written_down_does_not_count(changes):
    study, records = planted()
    records[30] = {**records[30], **changes}
    pair, control = verdicts.judge(study, records)
    assert (pair.verdict, control.verdict) == ("not registered",) * 2
    assert not verdicts.is_complete(study, records)


def test_the_word_same_stands_only_where_it_is_shown():
    study, records = planted(shift=2.0)
    lines = list(finding_lines([study], records))
    assert lines[0].startswith("ppo-small: torch and nnx: same, 23 and 23 seeds, difference ")
    assert "different (a control: different is expected)" in lines[1]
    few = [record for record in records if record["seed"] < 15]
    assert not any("same" in line for line in finding_lines([study], few))


def test_published_returns_are_met_within_two_deviations():
    published = "published = { source = 'a | table', mean = 101.0, sd = 0.6 }"
    (study,) = small.parse(TEXT.replace("minutes = 0.5", f"minutes = 0.5\n{published}"))
    values = {"torch": 102.1, "nnx": 102.3, "nnx-clip": 101.0}
    records = [
        small.record(study, name, 10 + i, value)
        for name, value in values.items()
        for i in range(23)
    ]
    found = verdicts.judge_published(study, records)
    assert [one.verdict for one in found] == ["within", "outside", "within"]
    assert verdicts.judge_published(study, records[:5])[0].verdict == "incomplete"


def test_tables_rows_and_figure_are_made_of_the_records(tmp_path):
    study, records = planted(shift=2.0)
    seeds.write(tmp_path / "results/here", [study], records)
    spec = "<!-- table: learning here part={} -->\n<!-- end of table -->"
    frameworks, controls = (
        documents.render(spec.format(part), tmp_path / "results")
        for part in ("frameworks", "controls")
    )
    assert "| ppo-small | torch, nnx | 23, 23 |" in frameworks
    assert frameworks.count("**same**") == 1
    assert "| different | **different** |" in controls
    rows = finding_rows([study], records)
    assert json.dumps(rows, allow_nan=False)
    assert len(rows[0]["values"]["first"]) == 23
    assert [one["verdict"] for one in figure([study], records)["data"]["values"]] == [
        "same",
        "different",
    ]


def test_frameworks_are_compared_over_complete_studies():
    text = TEXT.replace('{ framework = "torch" },', '{ framework = "torch" }, {framework="linen"},')
    (study,) = small.parse(text)
    rng = np.random.default_rng(0)
    records = [
        small.record(study, program.label, 10 + i, value + (program.label == "linen"))
        for program in study.programs
        for i, value in enumerate(rng.normal(size=23))
    ]
    found = {one.framework: one for one in verdicts.overall([study], records)}
    assert set(found) == {"torch", "linen", "nnx"}
    assert found["linen"].estimate.low > found["torch"].estimate.value
    assert verdicts.overall([study], records[1:]) == []


PUBLISHED = sorted(path.parent for path in (tree.ROOT / "results").rglob(seeds.SEEDS))


@pytest.mark.parametrize("folder", PUBLISHED, ids=tree.name)
def test_published_studies_were_written_down_before_their_trainings(folder):
    studies, records = seeds.read(folder)
    for study in studies:
        assert verdicts.is_complete(study, records), f"{study.name} is not complete"
    git = ["git", "-C", str(tree.ROOT)]
    for commit in {record["registered"] for record in records}:
        date = output([*git, "log", "-1", "--format=%cI", commit])
        if not date:
            pytest.skip("no history here")
        assert output([*git, "merge-base", commit, "HEAD"]) == commit, "not in this history"
        began = [r["started_at"] for r in records if r["registered"] == commit]
        assert all(is_older(date, at) for at in began)
