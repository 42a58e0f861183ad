"""The suite `fastsac`: one compiled program against many launches, and large products."""

from __future__ import annotations

from tiebreak.bench.suite import suite


def cells(scale="quick", **where):
    found = suite.load("fastsac", scale, 0).cells
    return [c for c in found if all(getattr(c, k) == v for k, v in where.items())]


def test_a_round_of_eight_small_updates_is_raced_by_all_five():
    found = cells(race="launch-bound")
    assert {c.probe for c in found} == {"update", "iteration"}
    assert len({c.framework for c in found}) == 5
    assert {c.mode for c in found if c.framework == "torch"} == {"eager", "compile"}
    assert all("num_updates" not in c.config for c in found)  # the reference's
    loops = {c.framework: c.loop for c in found if c.probe == "iteration"}
    assert {name for name, loop in loops.items() if loop == "fused"} == {"linen", "nnx", "equinox"}


def test_the_authors_sizes_are_for_a_gpu_in_both_precisions():
    found = [c for c in cells() if c.task.startswith("playground/")]
    assert {(c.device, c.num_envs) for c in found} == {("gpu", 4096)}
    assert {c.precision for c in found} == {"float32", "bfloat16"}
    assert all("batch_size" not in c.config for c in found)
    assert {c.device for c in cells("smoke")} == {"cpu", "gpu"}
