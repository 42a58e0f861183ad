"""Means over groups: the geometric mean, its interval, and of which groups they can be."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from scipy import stats

from tiebreak.stats import overall
from tiebreak.stats.summaries import Comparison


def compared(ratio, error=0.02, freedom=9.0, blocks=10):
    return Comparison(
        blocks=blocks, ratio=ratio, low=None, high=None, bootstrap_low=None, bootstrap_high=None,
        sd=None, p=None, p_holm=None, detectable=None, verdict="FASTER", error=error,
        freedom=freedom,
    )  # fmt: skip


def cell(label, comparison=None, barred=()):
    return SimpleNamespace(cell_id=label, label=label, comparison=comparison, barred=barred)


def group(*cells, reference="torch"):
    def find(cell_id):
        return next((c for c in cells if c.cell_id == cell_id), None)

    return SimpleNamespace(cells=cells, reference=reference, find=find)


def test_groups_with_the_commonest_reference_are_compared():
    torch, linen = cell("torch"), cell("linen")
    groups = [group(linen, reference="linen"), group(torch), group(torch, linen)]
    assert overall.comparable(groups) == ("torch", groups[1:])
    assert overall.comparable(groups[::-1]) == ("torch", groups[:0:-1])
    barred = group(cell("linen", barred=("nan",)), reference="linen")
    assert overall.comparable([barred, barred, groups[1]]) == ("torch", [groups[1]])
    assert overall.comparable([group(torch, reference=None)]) == ("", [])
    assert overall.comparable([]) == ("", [])


def test_the_mean_is_geometric_and_only_of_valid_cells_that_all_groups_have():
    first = group(
        cell("torch"), cell("nnx", compared(2.0)), cell("linen", compared(9.0)),
        cell("flagged", compared(50.0)), cell("alone", compared(50.0)),
    )  # fmt: skip
    second = group(
        cell("nnx", compared(8.0, blocks=6)), cell("linen", compared(4.0)), cell("torch"),
        cell("flagged", compared(50.0), barred=("oom",)),
    )  # fmt: skip
    linen, nnx = overall.means([first, second])
    assert [linen.cell.label, nnx.cell.label] == ["linen", "nnx"]
    assert linen.comparison.ratio == pytest.approx(6.0)
    assert nnx.comparison.ratio == pytest.approx(4.0)
    assert nnx.groups == 2
    assert nnx.comparison.blocks == 6
    assert overall.means([first]) == []


def test_the_interval_adds_the_errors_of_the_groups():
    groups = [group(cell("nnx", compared(2.0, 0.03, 4.0))), group(cell("nnx", compared(8.0, 0.04)))]
    (mean,) = overall.means(groups)
    # √(0.03² + 0.04²) / 2, and Welch and Satterthwaite's degrees of freedom of it.
    error = 0.025
    freedom = (0.03**2 + 0.04**2) ** 2 / (0.03**4 / 4 + 0.04**4 / 9)
    found = mean.comparison
    assert found.error == pytest.approx(error)
    assert found.freedom == pytest.approx(freedom)
    half = stats.t.ppf(0.975, freedom) * error
    assert found.low == pytest.approx(4 * math.exp(-half))
    assert found.high == pytest.approx(4 * math.exp(half))
    assert found.p == pytest.approx(2 * stats.t.sf(math.log(4) / error, freedom))
    assert found.verdict == "FASTER"


def test_one_group_of_a_single_block_leaves_no_interval():
    alone = Comparison.single_block(2.0)
    (mean,) = overall.means([group(cell("nnx", alone)), group(cell("nnx", compared(8.0)))])
    assert mean.comparison.ratio == pytest.approx(4.0)
    assert mean.comparison.blocks == 1
    assert mean.comparison.low is None
