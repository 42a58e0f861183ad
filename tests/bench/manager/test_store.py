"""Results survive: torn tails, flipped bits, later schemas, several writers, full disks."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest

from tiebreak.bench.manager import store
from tiebreak.bench.record import SCHEMA, BadLine, dumps, seal, unseal
from tiebreak.core.errors import UsageError

CANARY = {"kind": "canary", "block": 0, "when": "before", "values_s": {"python_loop": 0.1}}


def fill(folder, *numbers):
    writer = store.Store(folder)
    for number in numbers:
        writer.append({**CANARY, "number": number})
    writer.close()
    return folder / store.RECORDS


def numbers(folder):
    return [record["number"] for record in store.read_records(folder)]


def test_records_come_back_in_order(tmp_path):
    file = fill(tmp_path, 1, 2, 3)
    assert numbers(tmp_path) == numbers(file) == [1, 2, 3]
    assert all(record["schema"] == SCHEMA == 2 for record in store.read_records(file))


def test_a_tail_torn_at_any_byte_is_healed(tmp_path):
    whole = fill(tmp_path, 1, 2).read_bytes()
    start = whole.index(b"\n") + 1
    for length in range(start, len(whole)):
        (tmp_path / store.RECORDS).write_bytes(whole[:length])
        fill(tmp_path, 3)
        log = store.read_log(tmp_path)
        intact = [1, 2, 3] if length == len(whole) - 1 else [1, 3]  # only the newline was lost
        assert [r["number"] for r in log.records] == intact, length
        assert not log.corrupt
    assert (tmp_path / store.TORN).read_bytes().startswith(whole[start : start + 1])


def test_a_flipped_bit_costs_that_line_only(tmp_path):
    whole = fill(tmp_path, *range(20)).read_bytes()
    rng = random.Random(0)
    for _ in range(300):
        bit = rng.randrange(8 * len(whole))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / store.RECORDS).write_bytes(damaged)
        log = store.read_log(tmp_path)
        assert len(log.records) >= 18  # a broken newline joins two lines
        assert {r["number"] for r in log.records} <= set(range(20))
        assert log.corrupt
        assert len(log.records) + len(log.corrupt) in (19, 20, 21)


def test_a_hash_covers_every_field():
    record = unseal(seal({"kind": "canary", "number": 1}))
    with pytest.raises(BadLine, match="hash"):
        unseal(json.dumps({**record, "number": 2}).encode())


def test_an_intact_record_may_be_written_with_spaces_and_in_another_order():
    record = unseal(seal({"kind": "canary", "number": 1}))
    other = json.dumps(dict(reversed(record.items())), indent=1).encode()
    assert unseal(other) == record
    with pytest.raises(BadLine, match="hash"):
        unseal(other.replace(b": 1", b": 2"))


def test_records_of_a_later_schema_are_counted_not_read(tmp_path):
    file = fill(tmp_path, 1)
    with open(file, "ab") as out:
        out.write(seal({"schema": SCHEMA + 1, "kind": "visit", "number": 9}))
        out.write(seal({**CANARY, "schema": 1, "number": 10}))
    log = store.read_log(tmp_path)
    assert ([r["number"] for r in log.records], log.newer, log.corrupt) == ([1, 10], 1, [])


def test_several_writers_lose_and_tear_nothing(tmp_path):
    code = (
        "import sys; from tiebreak.bench.manager.store import Store\n"
        f"canary = {CANARY}\n"
        "s = Store(sys.argv[1])\n"
        "for i in range(40): s.append({**canary, 'number': i, 'pad': 'x' * (i * 500)})"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    log = store.read_log(tmp_path)
    assert not log.corrupt
    assert sorted(r["number"] for r in log.records) == sorted(4 * list(range(40)))


def test_a_full_disk_leaves_no_half_record(tmp_path, monkeypatch):
    fill(tmp_path, 1)
    writer, write = store.Store(tmp_path), os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:20]))
    with pytest.raises(OSError, match="space"):
        writer.append({**CANARY, "number": 2})
    monkeypatch.undo()
    assert numbers(tmp_path) == [1]
    assert (tmp_path / store.RECORDS).read_bytes().count(b"\n") == 1
    assert (tmp_path / store.RECORDS).read_bytes().endswith(b"\n")
    writer.append({**CANARY, "number": 3})
    writer.close()
    assert store.read_log(tmp_path).corrupt == []
    assert numbers(tmp_path) == [1, 3]


def test_a_full_disk_is_one_line_where_a_torn_tail_cannot_be_kept(tmp_path, monkeypatch):
    file = fill(tmp_path, 1)
    torn = file.read_bytes() + b'{"torn'
    file.write_bytes(torn)
    monkeypatch.setattr(store, "TORN", "nowhere/torn")
    with pytest.raises(UsageError, match="cannot write results to"):
        store.Store(tmp_path)
    assert file.read_bytes() == torn  # what could not be kept was not cut off
    assert numbers(tmp_path) == [1]


def test_lines_that_are_deep_long_or_odd_are_bad_lines(tmp_path):
    file = fill(tmp_path, 1)
    odd = (b"[" * 100_000, b'{"hash": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", b"9" * 10_000,
           b'{"hash": NaN}', b"\xff\xfe", b"\0", b'{"hash": "\\ud800"}', b"null")  # fmt: skip
    with open(file, "ab") as out:
        out.write(b"\n".join(odd) + b"\n")
    log = store.read_log(tmp_path)
    assert [r["number"] for r in log.records] == [1]
    assert len(log.corrupt) == len(odd)
    fill(tmp_path, 2)
    assert numbers(tmp_path) == [1, 2]


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path):
    code = (
        "import sys; from tiebreak.bench.manager.store import hold\n"
        "with hold(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(UsageError, match="another process is measuring into"), store.hold(tmp_path):
        pass
    fill(tmp_path, 1)
    holder.kill()
    holder.communicate()
    with store.hold(tmp_path):
        fill(tmp_path, 2)
    assert numbers(tmp_path) == [1, 2]
    assert [file.name for file in tmp_path.iterdir()] == [store.RECORDS]  # nothing is left lying


def test_what_is_no_results_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no results folder"):
        store.read_records(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"it has no records\.jsonl"):
        store.read_records(tmp_path)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="holds no record"):
        store.read_records(tmp_path / "table.csv")
    with pytest.raises(UsageError, match=r"suite\.json"):
        store.read_suite(tmp_path)
    with pytest.raises(UsageError, match="cannot write results"):
        store.Store(tmp_path / "table.csv")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "x" * 81, "ä", "a\n"])
def test_names_that_are_no_plain_names_are_refused(name):
    with pytest.raises(UsageError, match="cannot name a run"):
        store.check_name(name)
    assert store.check_name("quick-20250131.1_b") == "quick-20250131.1_b"


def test_no_number_that_is_not_finite_is_stored():
    with pytest.raises(ValueError, match="JSON"):
        dumps({"value_s": float("inf")})
