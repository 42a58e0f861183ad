"""Blocks that were repeated: the last whole attempt counts, the first one tells the start."""

from __future__ import annotations

import pytest
from stats import synthetic

from tiebreak.stats.ratios import summarize
from tiebreak.stats.visits import last_attempts

LABELS = ("torch compile", "linen jit")


def block(number, factor=1.0, labels=LABELS, **changes):
    """Records of a block in which linen is `factor` times as fast as torch."""
    speed = {"torch compile": 1.0, "linen jit": factor}
    return [
        synthetic.visit(label, number, [1e-4 / speed[label]] * 3, **changes) for label in labels
    ]


def ratio(records):
    (group,) = summarize(records)
    return {cell.label: cell.comparison for cell in group.cells}["linen jit"].ratio


def test_a_repeated_block_replaces_the_contended_one():
    contended = [*block(0, 3.0), *block(1, 9.0), *block(2, 3.0)]
    assert ratio([*contended, *block(1, 3.0, attempt=1)]) == pytest.approx(3.0)
    again = [*block(1, 5.0, attempt=1), *block(1, 3.0, attempt=2)]
    assert ratio([*contended, *again]) == pytest.approx(3.0)


def test_an_attempt_that_was_interrupted_does_not_count():
    records = [*block(0, 3.0), *block(1, 3.0), *block(1, 9.0, labels=LABELS[:1], attempt=1)]
    assert last_attempts(records) == records[:4]


def test_a_run_that_fails_in_the_last_attempt_is_not_taken_from_an_earlier_one():
    failed = {"status": "crash", "error": "ended by SIGSEGV", "attempt": 1}
    again = [*block(1, labels=LABELS[:1], attempt=1), *block(1, labels=LABELS[1:], **failed)]
    (group,) = summarize([*block(0, 3.0), *block(1, 9.0), *again])
    assert {cell.label: cell.visits for cell in group.cells} == {LABELS[0]: 2, LABELS[1]: 1}


def test_the_time_of_a_start_is_that_of_the_first_attempt():
    warm = {"phases_s": {"import": 1.0, "build": 0.1, "first_call": 0.1, "steady": 2.0}}
    (group,) = summarize([*block(0), *block(1), *block(0, attempt=1, **warm)])
    assert {cell.start_s for cell in group.cells} == {1.2 + 0.3 + 4.1}


def test_a_start_beside_another_process_is_not_timed():
    slow = {"phases_s": {"import": 9.0, "build": 9.0, "first_call": 9.0, "steady": 2.0}}
    first = block(0, phases_overlapped=True, **slow)
    (group,) = summarize([*first, *block(1)])
    assert {cell.start_s for cell in group.cells} == {1.2 + 0.3 + 4.1}


def test_a_start_beside_another_process_counts_where_there_is_no_other():
    slow = {"phases_s": {"import": 9.0, "build": 9.0, "first_call": 9.0, "steady": 2.0}}
    (group,) = summarize(block(0, phases_overlapped=True, **slow))
    assert {cell.start_s for cell in group.cells} == {27.0}
