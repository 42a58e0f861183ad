"""Two runs: known changes are found, identical programs are not called different."""

from __future__ import annotations

import numpy as np
import pytest
from report import two_runs
from report.two_runs import CELLS, run
from stats import synthetic

from tiebreak.core.errors import UsageError
from tiebreak.stats import compare as comparing
from tiebreak.stats.compare import REFERENCE, CellPair, FolderComparison, compare


def by_label(compared: FolderComparison) -> dict[str, CellPair]:
    return {p.a.label: p for p in compared.pairs}


def verdicts(compared: FolderComparison) -> dict[str, str]:
    return {p.a.label: p.change.verdict if p.change else "" for p in compared.pairs}


def test_a_slowdown_is_found_and_nothing_else():
    slow = {**CELLS, "linen jit": CELLS["linen jit"] / 1.1}
    found = compare(run("a"), run("b", slow))
    assert verdicts(found)["linen jit"] == "SLOWER"
    assert {v for k, v in verdicts(found).items() if k != "linen jit"} <= {"SAME", "AMBIGUOUS"}
    linen = by_label(found)["linen jit"]
    assert linen.change.low < 1 / 1.1 < linen.change.high
    assert linen.slowdown == pytest.approx(0.1, abs=0.01)
    assert verdicts(compare(run("b", slow), run("a")))["linen jit"] == "FASTER"


def test_the_same_program_twice_on_a_still_machine_is_the_same():
    still = {"blocks": 30, "noise": 0.001, "restless": 0.001}
    assert set(verdicts(compare(run("a", **still), run("b", **still))).values()) == {"SAME"}


def different(runs: int, **options) -> float:
    """How often at least one of four identical programs is called different between two runs.

    The machine is 3 % faster or slower (one sigma) in each, and cells feel 0.5 to 1.2 of it.
    """
    rng = np.random.default_rng(1)
    wrong = 0
    for seed in range(runs):
        felt = dict(zip(CELLS, rng.uniform(0.5, 1.2, len(CELLS)), strict=True))
        moved = rng.normal(0, 0.03, 2)
        both = [
            run(name, seed=seed, moved=float(m), response=felt, unseen=0.005, blocks=6)
            for name, m in zip(("a", "b"), moved, strict=True)
        ]
        wrong += bool({"FASTER", "SLOWER"} & set(verdicts(compare(*both, **options)).values()))
    return wrong / runs


@pytest.mark.parametrize("options", [{}, {"relative_to": "torch"}], ids=["alone", "relative"])
def test_a_machine_that_moved_between_the_runs_raises_no_alarm(options, monkeypatch):
    assert different(60, **options) <= 0.07
    monkeypatch.setattr(comparing, "_allowance", lambda *_, **__: 0.0)
    assert different(60, **options) > 0.3, "the control must fail, or this test shows nothing"


def test_a_machine_that_moved_far_has_no_verdicts_but_relative_ones():
    slow = {**CELLS, "nnx split": CELLS["nnx split"] / 1.3}
    a, b = run("a"), run("b", slow, moved=0.15)
    alone = compare(a, b)
    assert set(verdicts(alone).values()) == {"AMBIGUOUS"}
    assert not alone.judged
    assert "changed too much" in alone.obstacle
    assert alone.shift.largest == pytest.approx(0.15, abs=0.02)
    relative = compare(a, b, "torch")
    assert relative.obstacle == ""
    assert by_label(relative)["torch compile"].why == REFERENCE
    assert verdicts(relative)["nnx split"] == "SLOWER"
    assert verdicts(relative)["linen jit"] != "SLOWER"
    assert by_label(relative)["nnx split"].change.ratio == pytest.approx(1 / 1.3, rel=0.01)


def test_relative_speeds_are_paired_by_block():
    """A block that is twice as slow for all cells leaves a relative comparison sharp."""

    def rough(records):
        return [
            {**r, "samples_s": [s * (2.0 if r["block"] % 2 else 1.0) for s in r["samples_s"]]}
            if r["kind"] == "visit" else r
            for r in records
        ]  # fmt: skip

    alone, relative = (compare(rough(run("a")), rough(run("b")), x) for x in (None, "torch"))
    assert by_label(alone)["nnx split"].change.half_width > 0.3
    assert by_label(relative)["nnx split"].change.half_width < 0.05


def test_without_canaries_nothing_is_judged():
    a, b = ([r for r in run(name) if r["kind"] != "canary"] for name in "ab")
    assert "no canary" in compare(a, b).obstacle
    assert compare(a, b).shift is None


def test_canaries_of_a_calibration_are_no_part_of_a_run():
    early = [{**r, "block": -1, "values_s": {"numpy": 9.0, "python": 9.0}}
             for r in run("b") if r["kind"] == "canary"]  # fmt: skip
    assert compare(run("a"), early + run("b")).shift == compare(run("a"), run("b")).shift


def test_a_canary_that_rests_on_what_changed_is_no_witness():
    """NumPy's own product runs twice as fast in a newer NumPy: the machine has not moved."""
    a, b = run("a"), run("b", facts={"packages": {"numpy": "3"}})
    for r in b:
        if r["kind"] == "canary":
            r["values_s"] = {**r["values_s"], "numpy": r["values_s"]["numpy"] / 2}
    assert compare(a, b).shift.largest < 0.02
    assert compare(a, b).obstacle == ""


def test_other_hardware_stands_side_by_side():
    found = compare(run("a"), run("b", facts={"cpu": "Another CPU"}))
    assert not found.same_hardware
    assert {p.why for p in found.pairs} == {"measured on different hardware"}
    assert all(p.change is None and p.a.seconds_per_unit for p in found.pairs)
    relative = compare(run("a"), run("b", facts={"cpu": "Another CPU"}), "torch")
    assert not relative.judged


def test_a_flagged_cell_is_shown_without_a_verdict():
    slow = run("b", {**CELLS, "nnx split": 1.5})
    found = compare(run("a"), two_runs.changed(slow, "nnx split", flags={"crash": 1, "noisy": 2}))
    nnx = by_label(found)["nnx split"]
    assert (nnx.change.verdict, nnx.why) == ("AMBIGUOUS", "flagged in B: crash")
    assert nnx.change.ratio == pytest.approx(0.5, rel=0.02)
    restless = compare(run("a"), two_runs.changed(slow, "nnx split", flags={"noisy": 0.2}))
    assert by_label(restless)["nnx split"].change.verdict == "SLOWER"
    relative = compare(
        run("a"), two_runs.changed(run("b"), "torch compile", flags={"nan": 1}), "torch"
    )
    assert by_label(relative)["linen jit"].why == "reference flagged in B: nan"


def test_all_cells_are_one_family(monkeypatch):
    """Twice the cells: twice the smallest p, although each group holds as many as before."""
    other = "ppo · gymnax/CartPole-v1 · update · num_envs 4"

    def more(name):
        first = run(name, noise=0.03, seed=3)
        again = [
            {**r, "group": other, "cell_id": f"other {r['cell_id']}"}
            for r in first
            if r["kind"] == "visit"
        ]
        return first + again

    monkeypatch.setattr(comparing, "_allowance", lambda *_, **__: 0.0)  # it makes most p 1
    one = compare(*(run(name, noise=0.03, seed=3) for name in "ab"))
    two = compare(more("a"), more("b"))
    smallest = min(p.change.p for p in one.pairs)
    assert 0.0 < smallest < 0.2
    assert min(p.change.p_holm for p in one.pairs) == pytest.approx(4 * smallest)
    assert min(p.change.p_holm for p in two.pairs) == pytest.approx(min(1, 8 * smallest))
    label = min(one.pairs, key=lambda p: p.change.p).a.label
    again = next(p for p in two.pairs if p.a.label == label and p.group != other)
    assert again.change.p == pytest.approx(smallest)
    assert again.change.detectable > by_label(one)[label].change.detectable


def test_what_differs_is_named_and_nothing_else():
    facts = {"packages": {"jax": "0.11", "torch": "2.13.0"}, "load_average": 3.0, "hardware": "h"}
    b = two_runs.changed(run("b", facts=facts), "linen jit", settings={"threads": 4})
    found = compare(run("a"), [{**r, "scale": "full"} for r in b])
    assert [tuple(f) for f in found.differences] == [
        ("jax", "0.10.2", "0.11"), ("scale", "quick", "full"), ("threads of linen jit", "2", "4"),
    ]  # fmt: skip


def test_cells_of_one_folder_only_are_listed_and_not_compared():
    found = compare(run("a"), run("b", {"nnx split": 3.0, "torch eager": 0.5}))
    assert [p.a.label for p in found.pairs] == ["nnx split"]
    assert [label for _, label in found.only_a] == ["torch compile", "tensorflow xla", "linen jit"]
    assert found.only_b == ((synthetic.TRAIN, "torch eager"),)


def test_only_the_fingerprint_with_most_visits_is_used():
    later = run("c", blocks=2)
    found = compare(run("a") + later, run("b"))
    assert found.a.left_out == 8
    assert {p.a.visits for p in found.pairs} == {10}


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UsageError, match="the same run"):
        compare(run("a"), run("a"))
    with pytest.raises(UsageError, match=r"no cell is in both folders: '.*torch compile' is in A"):
        compare(run("a"), run("b", {"torch eager": 1.0}))
    with pytest.raises(UsageError, match="no visit"):
        compare(run("a"), [])
    with pytest.raises(UsageError, match="unknown cell 'linnen'; did you mean 'linen'"):
        compare(run("a"), run("b"), "linnen")


def test_one_block_says_nothing():
    found = compare(run("a"), run("b", blocks=1))
    assert {p.why for p in found.pairs} == {"fewer than two visits a side"}
    assert not found.judged
