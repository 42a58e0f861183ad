"""`tiebreak list` and `tiebreak doctor`: what is here, and what would disturb timings."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tiebreak import cli, registry
from tiebreak.commands import doctor, framework_info, machine_checks
from tiebreak.commands.machine_checks import findings
from tiebreak.core import cxx_compiler

LIBRARIES = ("jax", "torch", "tensorflow", "flax", "equinox", "gymnasium", "gymnax")


def run(capsys, *argv, status=0):
    assert cli.main(argv) == status
    return capsys.readouterr()


@pytest.mark.parametrize(
    "argv", [[], ["--help"], ["list"], ["list", "--json"], ["train", "--help"]]
)
def test_nothing_heavy_is_imported_to_look_around(argv):
    code = (
        "import sys; from tiebreak.cli import main; main(sys.argv[1:]); "
        f"sys.exit(', '.join(set(sys.modules) & set({LIBRARIES})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""


def test_list_says_everything_that_the_registry_holds(capsys):
    found = json.loads(run(capsys, "list", "--json").out)
    assert found["frameworks"].keys() == registry.FRAMEWORKS.keys()
    assert found["engines"].keys() == registry.ENGINES.keys()
    assert "quick" in found["suites"]
    for name, row in found["frameworks"].items():
        assert row["default_mode"] in row["modes"], name
        facts = registry.FRAMEWORKS[name]
        assert row["versions"].keys() == set(facts.packages_in(facts.default_mode)), name
    pairs = {(a, f) for a, names in found["algorithms"].items() for f in names}
    assert pairs == set(registry.IMPLEMENTATIONS)


def test_list_gives_the_command_for_what_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(
        registry, "missing_packages", lambda names: [n for n in names if n == "tensorflow"]
    )
    out = run(capsys, "list").out
    assert out.count(registry.how_to_install("tensorflow")) == 1
    assert "[compile]" in out  # not taken for markup


@pytest.mark.parametrize("argv", [("list",), ("list", "--json")])
def test_an_example_exists_for_every_engine(capsys, argv):
    out = run(capsys, *argv).out
    assert all(f"{engine}/" in out for engine in registry.ENGINES)


def test_tasks_are_full_names_one_per_line(capsys):
    names = run(capsys, "list", "--tasks", "gymnasium").out.split("\n")
    assert "gymnasium/HalfCheetah-v4" in names
    assert names[-1] == ""
    assert all(name.startswith("gymnasium/") for name in names[:-1])
    assert "gymnax/CartPole-v1" in json.loads(run(capsys, "list", "--tasks", "--json").out)


def machine(tmp_path, **files):
    for path, text in files.items():
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return tmp_path


TROUBLE = {
    "load": ({"proc/loadavg": "9.50 1 1 1/1 1"}, "load average 9.50", {"proc/loadavg": "0.01 9 9"}),
    "pressure": (
        {"proc/pressure/cpu": "some avg10=12.50 avg60=0 total=1\nfull avg10=0.00"},
        "waited for a CPU 12 %",
        {"proc/pressure/cpu": "some avg10=0.50 avg60=50 total=1"},
    ),
    "governor": (
        {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave"},
        "governor powersave",
        {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance"},
    ),
    "turbo": (
        {"sys/devices/system/cpu/intel_pstate/no_turbo": "0"},
        "turbo is on",
        {"sys/devices/system/cpu/intel_pstate/no_turbo": "1"},
    ),
    "limit": (
        {"sys/fs/cgroup/cpu.max": "50000 100000"},
        "may use 0.5 CPUs",
        {"sys/fs/cgroup/cpu.max": "max 100000"},
    ),
    "swap": (
        {"proc/meminfo": "SwapTotal: 900000 kB\nSwapFree: 100 kB"},
        "are swapped out",
        {"proc/meminfo": "SwapTotal: 900000 kB\nSwapFree: 900000 kB"},
    ),
    "memory": (
        {"proc/meminfo": "MemAvailable: 1048576 kB"},
        "only 1.0 GiB",
        {"proc/meminfo": "MemAvailable: 9048576 kB"},
    ),
    "battery": (
        {"sys/class/power_supply/BAT0/status": "Discharging"},
        "battery",
        {"sys/class/power_supply/BAT0/status": "Charging"},
    ),
}


@pytest.fixture
def _clean(monkeypatch):
    for name in machine_checks.TIMING_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    room = SimpleNamespace(free=1 << 40)
    monkeypatch.setattr(machine_checks.shutil, "disk_usage", lambda path: room)
    monkeypatch.setattr(machine_checks, "affinity", lambda: [0, 1])


@pytest.mark.usefixtures("_clean")
@pytest.mark.parametrize("case", TROUBLE)
def test_each_trouble_is_found_with_its_remedy_and_only_it(tmp_path, case):
    bad, told, good = TROUBLE[case]
    (found,) = findings(machine(tmp_path / "bad", **bad))
    assert told in found.what
    assert found.remedy
    assert findings(machine(tmp_path / "good", **good)) == []


@pytest.mark.usefixtures("_clean")
def test_variables_that_change_timings_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("XLA_FLAGS", "--xla_x")
    (found,) = findings(tmp_path)
    assert found.what.endswith("OMP_NUM_THREADS=1, XLA_FLAGS=--xla_x")
    assert found.remedy == "unset OMP_NUM_THREADS XLA_FLAGS"


def test_the_compiler_is_the_one_that_torch_will_take(monkeypatch):
    monkeypatch.setattr(cxx_compiler.shutil, "which", {"clang++": "/bin/clang++"}.get)
    monkeypatch.delenv("CXX", raising=False)
    assert cxx_compiler.find() == "/bin/clang++"
    monkeypatch.setenv("CXX", "icpx")
    assert cxx_compiler.find() is None


SEEN = {"devices": ["cpu"], "threads": "2", "matmul_precision": "highest", "blas": "x"}


def test_doctor_shows_what_is_there_and_names_what_does_not_start(capsys, monkeypatch):
    answers = {"nnx": {"error": "ImportError: no jaxlib [cuda]"}}
    monkeypatch.setattr(framework_info, "run_in_subprocess", lambda name: answers.get(name, SEEN))
    monkeypatch.setattr(
        registry, "missing_packages", lambda names: [n for n in names if n == "torch"]
    )
    monkeypatch.setattr(doctor.machine_checks, "findings", list)
    monkeypatch.setattr(doctor.contention, "CONTENDED", {"steal": 2.0, "others": 2.0})
    captured = run(capsys, "doctor", "--json", status=1)
    found = json.loads(captured.out)
    assert found["frameworks"]["torch"]["install"] == registry.how_to_install("torch")
    assert found["frameworks"]["equinox"]["devices"] == ["cpu"]
    assert found["findings"] == []
    assert captured.err.strip().endswith("does not start: nnx: ImportError: no jaxlib [cuda]")
    answers.clear()
    assert "Nothing found that would disturb timings" in run(capsys, "doctor").out


def test_a_missing_compiler_is_one_finding(capsys, monkeypatch):
    monkeypatch.setattr(framework_info, "run_in_subprocess", lambda name: SEEN)
    monkeypatch.setattr(cxx_compiler, "find", lambda: None)
    found = json.loads(run(capsys, "doctor", "--json").out)["findings"]
    assert [f["remedy"] for f in found if "no C++ compiler" in f["what"]]


def test_a_framework_that_crashes_is_told_by_its_last_line(monkeypatch):
    assert framework_info.run_in_subprocess("jakks")["error"].startswith(
        "tiebreak.core.errors.UsageError: unknown frame"
    )


@pytest.mark.slow
@pytest.mark.parametrize("framework", registry.FRAMEWORKS)
def test_each_framework_says_what_it_sees(framework):
    pytest.importorskip(registry.FRAMEWORKS[framework].packages[0])
    found = framework_info.run_in_subprocess(framework)
    assert "error" not in found, found
    assert found.keys() == SEEN.keys()
    assert any("cpu" in device.lower() for device in found["devices"])
