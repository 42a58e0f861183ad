"""The fingerprint names the machine, not its owner, and loads no framework to do so."""

from __future__ import annotations

import getpass
import json
import platform
import subprocess
import sys

import pytest

from tiebreak.bench import machine


def test_the_fingerprint_is_stable_and_names_nobody():
    first, about = machine.fingerprint()
    second, _ = machine.fingerprint()
    assert first == second
    assert len(first) == 16
    text = json.dumps(about)
    assert about["cores"] >= 1
    assert about["memory_bytes"] > 2**28
    assert about["packages"]["numpy"]
    for name in (platform.node(), getpass.getuser()):
        assert len(name) < 3 or f'"{name}"' not in text


def test_another_package_version_is_another_fingerprint(monkeypatch):
    first, _ = machine.fingerprint()
    monkeypatch.setattr(machine, "packages", lambda: {"numpy": "0.0"})
    assert machine.fingerprint()[0] != first
    monkeypatch.setattr(machine, "commit", lambda: "another")  # a note, not the machine
    assert machine.fingerprint()[0] == machine.fingerprint()[0]


def test_the_fingerprint_imports_no_framework():
    code = (
        "import sys; from tiebreak.bench import machine; machine.fingerprint()\n"
        "from tiebreak.core.fence import GUARDED; assert not GUARDED & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("shares", "value"),
    [
        ({"others": 0.049, "steal": 0.009}, 0.0),
        ({"others": 0.06, "steal": 0.0}, 0.06),
        ({"others": 0.01, "steal": 0.02}, 0.02),
    ],
)
def test_contention_is_flagged_from_its_thresholds_on(shares, value):
    assert machine.contended(shares) == value


def test_contention_is_what_others_took(monkeypatch):
    waited, own = iter([0, 250_000_000]), iter([1.0, 1.5])
    ticks = iter([(100, 0), (180, 10)])  # 0.8 s busy, of which 0.5 s were ours
    monkeypatch.setattr(machine, "_run_queue_ns", lambda: next(waited))
    monkeypatch.setattr(machine, "_own_s", lambda: next(own))
    monkeypatch.setattr(machine, "_ticks", lambda: next(ticks))
    monkeypatch.setattr(machine.Timer, "elapsed_s", lambda self: 1.0)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 100)
    shares = machine.Contention().read()
    assert shares == pytest.approx({"others": 0.15, "steal": 0.05, "run_queue": 0.25})


def test_a_waiting_thread_alone_is_not_contention():
    assert machine.contended({"others": 0.01, "steal": 0.0, "run_queue": 0.5}) == 0.0


def test_the_canary_measures_both_of_its_songs():
    assert all(value > 0 for value in machine.canary().values())
    assert set(machine.canary()) == {"numpy_product", "python_loop"}
