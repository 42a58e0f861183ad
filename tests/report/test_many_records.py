"""Results folders of many records: small in memory, and the same numbers to the letter."""

from __future__ import annotations

import tracemalloc

from stats import synthetic

from tiebreak.bench.manager.store import read_log
from tiebreak.report.memory import memory_series
from tiebreak.report.page_data import call_times
from tiebreak.stats.ratios import summarize
from tiebreak.stats.result_set import from_records

MORE = {
    "work": {"calls": 2, "env_steps": 4096, "loss": 0.5, "weights_sha256": "a" * 64},
    "contention": {"others": 0.0, "steal": 0.1}, "order": ["train"], "turns": "t",
    "first_calls_s": [3.0, 0.2, 0.1, 0.1], "settings": {"threads": 2, "affinity": [0, 1]},
    "memory": {"rss_peak_bytes": 400, "series_bytes": [1, 2, 3], "source": "heap"},
}  # fmt: skip


def measured(read):
    """Return what `read` returns, and the bytes that it has left allocated."""
    tracemalloc.start()
    result = read()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result, size


def test_visits_are_read_small_for_tables_and_say_the_same(tmp_path):
    folder = synthetic.store(tmp_path / "run", synthetic.race(blocks=40, **MORE))
    whole, whole_bytes = measured(lambda: read_log(folder).records)
    small, small_bytes = measured(lambda: read_log(folder, for_tables=True).records)
    assert small_bytes < 0.5 * whole_bytes
    assert len({id(record["cell"]) for record in small}) == len(synthetic.SPEEDS)
    for summary in (summarize, memory_series, call_times, lambda all: from_records(all).cells):
        # As text: to the last digit, and a NaN equals itself.
        assert repr(summary(small)) == repr(summary(whole))
