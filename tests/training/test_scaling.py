"""The model of many processes: what is sent, and how long it takes over a link."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tiebreak import registry
from tiebreak.report import devices_tables
from tiebreak.training.scaling import CASES, COUNTS, Exchange, Link, Mirror, config_of, exchange_s

RING, TREE = Link(1e-3, 1e6, is_tree=False), Link(1e-3, 1e6, is_tree=True)
SENT = Exchange(gathers=2, gathered_bytes=1000, reductions=3, reduced_bytes=8000)


def test_a_ring_has_a_message_for_each_of_the_others():
    assert exchange_s(SENT, RING, 1) == 0.0
    # 2 gathers and 3 sums of two rounds each; 1000 bytes of one other; 8000 bytes there and back.
    assert exchange_s(SENT, RING, 2) == pytest.approx(8 * 1e-3 + (1000 + 8000) / 1e6)
    assert exchange_s(SENT, RING, 8) == pytest.approx(8 * 7e-3 + (7000 + 2 * 7 / 8 * 8000) / 1e6)


def test_a_tree_has_fewer_messages_and_as_many_bytes():
    assert exchange_s(SENT, TREE, 2) == exchange_s(SENT, RING, 2)
    assert exchange_s(SENT, TREE, 8) == pytest.approx(8 * 3e-3 + (7000 + 14000) / 1e6)


class Tensor:
    """Four numbers of four bytes."""

    def numel(self) -> int:
        return 4

    def element_size(self) -> int:
        return 4


def test_a_mirror_answers_at_once_and_counts():
    mirror = Mirror(3)
    (joined,) = mirror.gather((np.zeros((2, 1), np.float32),), axis=1)
    assert joined.shape == (2, 3)
    tensors = [Tensor(), Tensor()]
    assert mirror.mean(tensors) is tensors
    assert mirror.sent == Exchange(1, 8, 1, 32)


@pytest.mark.parametrize("algorithm", CASES)
def test_cases_can_be_shared_out_by_all_numbers_of_ranks(algorithm):
    config = config_of(algorithm)
    row = registry.algorithm(algorithm)
    assert row.shares_batches
    rows = config.batch_size if row.off_policy else config.rows_per_pass
    assert all(config.num_envs % count == rows % count == 0 for count in COUNTS)


def test_a_table_has_what_was_measured_beside_what_is_predicted(tmp_path):
    def ranks(own_s: float) -> dict[str, float]:
        return {"own_s": own_s, **SENT._asdict()}

    case = {"ranks": {"1": ranks(1.0), "16": ranks(0.2), "2": ranks(0.5)}, "two_s": 0.625}
    (tmp_path / "docs").mkdir()
    measured = {"link": RING._asdict(), "cases": {"ppo": case}}
    (tmp_path / devices_tables.FILE).write_text(json.dumps(measured))
    lines = list(devices_tables.devices(tmp_path / "results", [], {}))
    assert lines[0] == "|  | link | two, measured | 2 | 16 |"
    assert lines[2] == "| ppo | this machine, gloo | 1.60 | 1.9 | 2.9 |"
    assert len(lines) == 3 + len(devices_tables.LINKS)
    (row,) = list(devices_tables.sent(tmp_path / "results", [], {}))[2:]
    assert row == "| ppo | 1000.0 ms | 500.0 ms | 2 × 0 kB | 3 × 3 kB |"
