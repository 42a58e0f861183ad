"""The fingerprint names the machine, not its owner; contention is what others took."""

from __future__ import annotations

import getpass
import json
import platform
import subprocess
import sys

import pytest

from tiebreak.bench.machine import canary, contention, fingerprint, nvidia_smi
from tiebreak.bench.machine.contention import Contention, contended, throttled
from tiebreak.core import procfs


def test_the_fingerprint_is_stable_and_names_nobody():
    first, about = fingerprint.fingerprint()
    second, _ = fingerprint.fingerprint()
    assert first == second
    assert len(first) == 16
    text = json.dumps(about)
    assert about["cores"] >= 1
    assert about["memory_bytes"] > 2**28
    assert about["packages"]["numpy"]
    for name in (platform.node(), getpass.getuser()):
        assert len(name) < 3 or f'"{name}"' not in text


IDENTITY = {
    "packages": lambda: {"numpy": "0.0"},
    "distributions": lambda: {"installed": 3, "installed_digest": "0"},
    "blas": lambda: {"blas_name": "another"},
    "source": lambda: "another",
    "_cxx": lambda: "cc 1.0",
    "_limits": lambda: {"nice": 19},
    "_clocks": lambda: {"smt": "1"},
    "_worker_variables": lambda: {"OMP_NUM_THREADS": "9"},
}


@pytest.mark.parametrize("part", IDENTITY)
def test_software_and_settings_are_part_of_the_fingerprint_alone(monkeypatch, part):
    first, about = fingerprint.fingerprint()
    monkeypatch.setattr(fingerprint, part, IDENTITY[part])
    second, changed = fingerprint.fingerprint()
    assert first != second
    assert about["hardware"] == changed["hardware"]


def test_another_machine_is_another_in_both(monkeypatch):
    first, about = fingerprint.fingerprint()
    monkeypatch.setattr(fingerprint, "affinity", lambda: [0, 1, 2, 3, 4, 5, 6])
    second, changed = fingerprint.fingerprint()
    assert first != second
    assert about["hardware"] != changed["hardware"]


def test_a_note_is_no_part_of_either(monkeypatch):
    first, about = fingerprint.fingerprint()
    monkeypatch.setattr(fingerprint, "commit", lambda: "another")
    monkeypatch.setattr(fingerprint.os, "getloadavg", lambda: (99.0, 0, 0))
    second, changed = fingerprint.fingerprint()
    assert (first, about["hardware"]) == (second, changed["hardware"])
    assert changed["load_average"] == 99.0


def test_facts_have_names_of_their_own():
    """A comparison lists them without saying in which table they stood."""
    _, about = fingerprint.fingerprint()
    names = [n for k, v in about.items() for n in (v if isinstance(v, dict) else [k])]
    assert len(names) == len(set(names))


def test_the_fingerprint_imports_no_framework():
    code = (
        "import sys; from tiebreak.bench.machine.fingerprint import fingerprint; fingerprint()\n"
        "from tiebreak.core.import_guard import GUARDED; assert not GUARDED & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("shares", "value"),
    [
        ({}, 0.0),
        ({"others": 0.049, "steal": 0.009}, 0.0),
        ({"others": 0.06, "steal": 0.0}, 0.06),
        ({"others": 0.01, "steal": 0.02}, 0.02),
        ({"others": 0.01, "steal": 0.0, "run_queue": 0.5, "psi": 0.9}, 0.0),  # its own threads
        ({"others": 0.03, "steal": 0.0, "run_queue": 0.01, "psi": 0.04}, 0.0),
        ({"others": 0.03, "steal": 0.0, "run_queue": 0.03, "psi": 0.0}, 0.03),
        ({"others": 0.03, "steal": 0.0, "run_queue": 0.0, "psi": 0.06}, 0.03),
    ],
)
def test_contention_is_flagged_from_its_thresholds_on(shares, value):
    assert contended(shares) == value


def test_throttling_is_flagged_from_its_threshold_on():
    assert throttled({}) == throttled({"throttled": 0.009}) == 0.0
    assert throttled({"throttled": 0.02}) == 0.02


@pytest.fixture
def counted(monkeypatch):
    """What was counted within one second of two CPUs, as shares."""

    def shares(own_s=0.5, **spent):
        before = {"idle": 7.0, "steal": 1.0, "total": 20.0, "run_queue": 3.0, "psi": 2.0}
        after = {k: v + spent.get(k, 0.0) for k, v in before.items()} | spent.get("more", {})
        counters, own = iter([before | spent.get("less", {}), after]), iter([1.0, 1.0 + own_s])
        monkeypatch.setattr(contention, "_counters", lambda cpus: next(counters))
        monkeypatch.setattr(contention, "_own_s", lambda: next(own))
        monkeypatch.setattr(contention, "affinity", lambda: [0, 1])
        monkeypatch.setattr(contention, "_uses_gpu", lambda: False)
        monkeypatch.setattr(contention.Timer, "elapsed_s", lambda self: 1.0)
        monkeypatch.setattr(contention.os, "sysconf", lambda name: 100)
        return Contention().read()

    return shares


def test_contention_is_what_others_took(counted):
    """Busy 0.8 of 2 s: 0.5 were ours, and a tick on each CPU may be the kernel's rounding."""
    shares = counted(idle=1.1, steal=0.1, total=2.0, run_queue=0.25, psi=0.3)
    wanted = {"others": 0.14, "steal": 0.05, "run_queue": 0.25, "psi": 0.3}
    assert shares == pytest.approx(wanted)


def test_what_a_system_does_not_count_is_left_out(counted):
    shares = counted()  # all zeros, as in some sandboxes
    assert not {"others", "steal", "throttled"} & set(shares)
    assert contended(shares) == throttled(shares) == 0.0


def test_a_quotas_share_is_of_the_time_of_all_cpus(counted):
    assert counted(total=2.0, less={"quota": 1.0}, more={"quota": 1.5})["throttled"] == 0.25


STAT = """cpu  9 9 9 9 9 9 9 9 0 0
cpu0 100 0 50 300 20 0 0 10 0 0
cpu1 200 0 50 100 0 0 0 0 0 0
cpu10 1 1 1 1 1 1 1 1 0 0
intr 5
"""


def test_only_cpus_that_may_be_used_are_counted(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text(STAT)
    found = contention._counters([0], tmp_path)
    assert found == pytest.approx({"idle": 3.2, "steal": 0.1, "total": 4.8})
    assert contention._counters([0, 1], tmp_path)["total"] == pytest.approx(8.3)
    assert contention._counters([3], tmp_path) == {"idle": 0.0, "steal": 0.0, "total": 0.0}


CGROUPS = {
    "v2": ("0::/own\n", "own/cpu.stat", "nr_throttled 3\nthrottled_usec 1500000\n"),
    "v1": (
        "2:cpuacct,cpu:/own\n",
        "cpu/own/cpu.stat",
        "nr_throttled 3\nthrottled_time 1500000000\n",
    ),
    "a container's": ("0::/not/seen\n", "cpu.stat", "throttled_usec 1500000\n"),
}


@pytest.mark.parametrize("kind", CGROUPS)
def test_a_quota_is_read_from_either_version_of_cgroups(tmp_path, kind):
    membership, file, text = CGROUPS[kind]
    for name, content in {"proc/self/cgroup": membership, f"sys/fs/cgroup/{file}": text}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert contention._counters([0], tmp_path)["quota"] == 1.5


def test_pressure_is_our_cgroups_where_it_has_one(tmp_path):
    line = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 total=1\n"
    system, own = tmp_path / "proc/pressure/cpu", tmp_path / "sys/fs/cgroup/own/cpu.pressure"
    for file in (system, own, tmp_path / "proc/self/cgroup"):
        file.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/own\n")
    system.write_text(line.format(3_000_000))
    assert contention._counters([0], tmp_path)["psi"] == 3.0
    own.write_text(line.format(500_000))
    assert contention._counters([0], tmp_path)["psi"] == 0.5
    assert procfs.cgroup("cpu", tmp_path) == [own.parent]


SMI = """#!/bin/sh
case "$1" in
*=name,memory.total) echo "NVIDIA H100 80GB HBM3, 81559";;
*=driver_version) echo "570.1";;
*=power.limit) echo "700.00";;
*counters*) {counters};;
*=clocks_throttle_reasons.active) echo "{mask}";;
*) echo "Field is not a valid field to query." >&2; exit 2;;
esac
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """A GPU as `nvidia-smi` would tell of it; its counters go up by 0.1 s at each look."""

    def put(mask="0x0000000000000000", counters=None):
        tally = tmp_path / "looks"
        counting = f'echo x >> {tally}; echo "$(wc -l < {tally})00000, 0, 0, 0"'
        program = tmp_path / "nvidia-smi"
        program.write_text(SMI.format(mask=mask, counters=counters or counting))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        monkeypatch.setattr(contention.Timer, "elapsed_s", lambda self: 0.5)

    return put


def test_gpus_are_described_and_those_without_are_not(smi, monkeypatch):
    smi()
    about = nvidia_smi.describe()
    assert about["gpus"] == ["NVIDIA H100 80GB HBM3, 81559"]
    assert about["driver"] == "570.1"
    assert about["gpu_settings"] == {"power_limit": ["700.00"]}
    monkeypatch.setenv("PATH", "")
    assert nvidia_smi.describe() == {"gpus": [], "driver": "", "gpu_settings": {}}


def test_a_gpu_held_back_is_throttled_for_as_long_as_it_was(smi):
    smi()
    assert Contention().read()["throttled"] == pytest.approx(0.2)


@pytest.mark.parametrize(("mask", "share"), [("0x4", 1.0), ("0x20", 1.0), ("0x1", 0.0), ("?", 0.0)])
def test_an_older_driver_tells_only_what_holds_now(smi, mask, share):
    smi(mask, counters="exit 2")
    assert Contention().read()["throttled"] == share


def test_a_worker_of_a_cpu_cell_asks_no_gpu(smi, monkeypatch):
    smi("0x4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(nvidia_smi, "query", None)
    assert Contention().read().get("throttled", 0.0) == 0.0


def test_the_canary_measures_both_of_its_songs():
    assert all(value > 0 for value in canary.canary().values())
    assert set(canary.canary()) == {"numpy_product", "python_loop"}
