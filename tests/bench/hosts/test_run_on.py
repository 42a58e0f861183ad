"""A suite on several hosts: a share each, one folder, and what is missing is run by --resume."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import kills
import pytest
from bench import fake_manager, fakes, stub_manager

from tiebreak import cli
from tiebreak.bench.hosts.run import Request, run_on
from tiebreak.bench.manager import certificates, manager, store
from tiebreak.core.errors import UsageError
from tiebreak.core.process_env import affinity
from tiebreak.stats.ratios import summarize

STUB = f"{shlex.quote(sys.executable)} {shlex.quote(stub_manager.__file__)}"
FAKE = f"{shlex.quote(sys.executable)} {shlex.quote(fake_manager.__file__)}"

NEEDS_CORES = pytest.mark.skipif(
    len(affinity()) < 2 or not shutil.which("taskset"), reason="needs two cores and taskset"
)

SSH = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift 2; done
address=$1
shift
if [ "$address" = gone ]; then
    echo "ssh: connect to host gone port 22: Connection refused" >&2
    exit 255
fi
cd "$FAKE_HOME" && exec sh -c "$*"
"""


@pytest.fixture(autouse=True)
def stubs(monkeypatch, tmp_path):
    """The folder in which files plant what a stub does."""
    monkeypatch.setenv("PYTHONPATH", fakes.python_path())
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("STUBS", str(tmp_path / "stubs"))
    (tmp_path / "stubs").mkdir()
    return tmp_path / "stubs"


@pytest.fixture
def home(monkeypatch, tmp_path):
    """The home folder of every host that our fake `ssh` reaches."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh").write_text(SSH)
    (tmp_path / "bin" / "ssh").chmod(0o755)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def request(tmp_path, *tables, scale="smoke", out="out"):
    """A fake suite of two cells, eight blocks, and a file of hosts."""
    suite = Path(fakes.suite(tmp_path, "fine", "fine 2", probes=["update"]))
    suite.write_text(suite.read_text().replace("blocks = 2", "blocks = 8"))
    hosts = tmp_path / "hosts.toml"
    hosts.write_text("\n".join(tables))
    return Request(str(suite), hosts, tmp_path / out, scale, seed=5)


def local(name, core=None, command=STUB):
    cores = f"cores = [{core}]\n" if core is not None else ""
    return f"[hosts.{name}]\n{cores}command = '''{command}'''\n"


def ssh(name, address):
    return f"[hosts.{name}]\nkind = \"ssh\"\naddress = \"{address}\"\ncommand = '''{STUB}'''\n"


def keys(folder):
    """(run_id, block, cell) of every run that is stored."""
    visits = [r for r in store.read_records(folder) if r["kind"] == "visit"]
    return [(r["run_id"], r["block"], r["cell_id"]) for r in visits]


@NEEDS_CORES
def test_two_hosts_divide_the_blocks_and_keep_to_their_cores(tmp_path, stubs):
    first, second, *_ = affinity()
    asked = request(tmp_path, local("left", first), local("right", second))
    folder, failures = run_on(asked, progress=False)
    assert failures == []
    assert folder == tmp_path / "out"
    assert (stubs / "cores-1").read_text() == f"[{first}]"
    assert (stubs / "cores-2").read_text() == f"[{second}]"
    left, right = (keys(folder / "hosts" / name) for name in ("left", "right"))
    assert len(set(left)) == len(left) == len(right) == 8  # four blocks of two cells
    assert sorted(keys(folder)) == sorted(left + right)
    assert [g.blocks for g in summarize(store.read_records(folder))] == [4, 4]
    suites = [store.read_suite(folder / "hosts" / name) for name in ("left", "right")]
    assert [s["share"] for s in suites] == ["1/2", "2/2"]
    assert [part["name"] for part in store.read_suite(folder)["merged"]] == ["left", "right"]


@NEEDS_CORES
def test_a_killed_manager_costs_nothing_but_its_rest_which_resume_runs(tmp_path, stubs):
    first, second, *_ = affinity()
    asked = request(tmp_path, local("left", first), local("right", second))
    (stubs / "kill-1").touch()
    folder, failures = run_on(asked, progress=False)
    (line,) = failures
    assert line.startswith("host 'left': its manager was ended by signal 9; go on with: tiebreak")
    assert line.endswith(f"--on {asked.hosts_file} --resume")
    kept = keys(folder)
    assert len(kept) == 1 + 8

    again = asked._replace(scale=None, seed=None)
    folder, failures = run_on(again, resume=True, progress=False)
    assert failures == []
    after = keys(folder)
    assert set(kept) < set(after)
    assert len(after) == len(set(after)) == 16


def test_a_host_that_fails_is_named_and_the_others_are_kept(tmp_path, stubs, home, capsys):
    (stubs / "fail-1").touch()
    asked = request(tmp_path, local("left"), ssh("server", "here"))
    options = ["--scale", "smoke", "--out", str(asked.out), "--on", str(asked.hosts_file)]
    assert cli.main(["run", asked.suite, *options]) == 1
    said = capsys.readouterr()
    assert "tiebreak: host 'left': its manager ended with status 1: tiebreak: the stub" in said.err
    assert "server: [0] fine" in said.err
    assert len(keys(asked.out)) == 8
    (stubs / "fail-2").touch()
    with pytest.raises(UsageError, match="no host has measured anything: left: its manager ended"):
        run_on(asked._replace(out=tmp_path / "none"), progress=False)


def test_a_host_over_ssh_gets_the_suite_and_the_certificate_and_returns_its_records(
    tmp_path, home, monkeypatch
):
    monkeypatch.setattr("tiebreak.bench.hosts.run.kept_files", lambda: {"key-1.json": b"{}"})
    monkeypatch.setattr("tiebreak.bench.hosts.run.find_certificate", lambda *_, **__: {})
    asked = request(tmp_path, ssh("server", "me@here"))
    suite = Path(asked.suite)
    suite.write_text(suite.read_text().replace("certificate = false", "certificate = true"))
    folder, failures = run_on(asked, progress=False)
    assert failures == []
    there = home / "bench-results" / "out-server"
    assert (there / suite.name).read_text() == suite.read_text()
    assert (there / "certificates" / "key-1.json").read_bytes() == b"{}"
    here = folder / "hosts" / "server"
    for name in (store.RECORDS, store.SUITE):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    assert len(keys(folder)) == 16


def test_a_host_that_cannot_be_reached_or_used_is_one_line(tmp_path, home, monkeypatch):
    asked = request(tmp_path, ssh("server", "gone"))
    with pytest.raises(UsageError, match=r"host 'server' cannot be reached: ssh: connect to host"):
        run_on(asked, progress=False)
    monkeypatch.setenv("STUB_VERSION", "0.0.1")
    with pytest.raises(UsageError, match=r"host 'a' has 'tiebreak 0\.0\.1', and here is"):
        run_on(request(tmp_path, ssh("a", "b")), progress=False)
    none = '[hosts.a]\nkind = "ssh"\naddress = "b"\ncommand = "none/tiebreak"\n'
    with pytest.raises(UsageError, match=r"host 'a': 'none/tiebreak' does not run there: .*none/"):
        run_on(request(tmp_path, none), progress=False)
    assert not (tmp_path / "out").exists()


def test_the_certificate_is_made_once_for_all_hosts(tmp_path, stubs, home, monkeypatch):
    made = []

    def make(plan, say):
        made.append(plan.suite)

    monkeypatch.setattr("tiebreak.bench.hosts.run.make_certificate", make)
    monkeypatch.setattr("tiebreak.bench.hosts.run.raced", lambda plan: (["ppo"], ["linen"]))
    asked = request(tmp_path, local("left"), ssh("server", "here"))
    suite = Path(asked.suite)
    suite.write_text(suite.read_text().replace("certificate = false", "certificate = true"))
    run_on(asked, progress=False)
    assert made == ["fake"]
    run_on(request(tmp_path, ssh("server", "here"), out="other"), progress=False)
    assert made == ["fake"]  # one of ours does not serve another installation


def test_a_manager_takes_a_certificate_that_lies_in_its_folder(tmp_path):
    from tiebreak.core.files import write_json

    checked = {
        "algorithm": "ppo", "framework": "linen", "mode": "jit", "actions": "discrete",
        "case": "reference", "rung": "L2", "quantity": "loss", "precision": "float64",
        "ok": True, "worst": 1e-12, "bound": 1e-10,
    }  # fmt: skip
    made = {"algorithms": ["ppo"], "created_at": "2026-01-01", "green": True, "quick": True}
    certificate = {**made, "rows": [checked], "skipped": []}
    write_json(tmp_path / f"{certificates._key()}-1.json", certificate)
    find = certificates.find_certificate
    assert find(["ppo"], ["linen"], quick=True) is None
    assert find(["ppo"], ["linen"], quick=True, also=tmp_path) == certificate
    write_json(tmp_path / f"{certificates._key()}-1.json", {**certificate, "rows": [{}]})
    assert find(["ppo"], ["linen"], quick=True, also=tmp_path) is None


def test_what_does_not_fit_together_is_refused(tmp_path, stubs, capsys):
    asked = request(tmp_path, local("left"))
    folder, _ = run_on(asked, progress=False)
    with pytest.raises(UsageError, match="holds results already"):
        run_on(asked, progress=False)
    with pytest.raises(UsageError, match="holds the records of other folders: add --on with its"):
        manager.run_suite(asked.suite, folder, resume=True)
    with pytest.raises(UsageError, match="was not run on several hosts: leave --on out"):
        run_on(asked._replace(out=folder / "hosts" / "left"), resume=True)
    other = request(tmp_path, local("right"))
    with pytest.raises(UsageError, match="was run on the hosts left, which divide its blocks; the"):
        run_on(other, resume=True)
    for more in (["--share", "1/2"], ["--dry-run"]):
        assert cli.main(["run", asked.suite, "--on", str(asked.hosts_file), *more]) == 2
        assert f"{more[0]} does not go with --on" in capsys.readouterr().err


def test_a_share_is_run_and_resumed_by_hand(tmp_path, stubs):
    suite = Path(request(tmp_path).suite)
    subject, folder, run = "bench.fakes:make_subject", tmp_path / "second", manager.run_suite
    suite.write_text(suite.read_text().replace("blocks = 8", "blocks = 1"))
    run(str(suite), folder, "smoke", progress=False, seed=3, share="2/2", subject=subject)
    stored = store.read_suite(folder)
    assert stored["share"] == "2/2"
    assert "--share 2/2" in stored["command"]
    assert stored["seed"] != 3
    before = keys(folder)
    run(str(suite), folder, resume=True, progress=False, subject=subject)
    assert keys(folder) == before
    with pytest.raises(UsageError, match="its share differs"):
        run(str(suite), folder, resume=True, progress=False, share="1/2", subject=subject)


@pytest.mark.slow(share=0.3)
def test_a_job_of_submitit_is_a_host(tmp_path, stubs):
    pytest.importorskip("submitit")
    table = f"[hosts.node]\nkind = \"submitit\"\ncluster = \"local\"\ncommand = '''{STUB}'''\n"
    (stubs / "kill-1").touch()
    asked = request(tmp_path, table)
    folder, failures = run_on(asked, progress=False)
    assert "signal 9" in failures[0]
    folder, failures = run_on(asked, resume=True, progress=False)
    assert failures == []
    assert len(set(keys(folder))) == 16


def coordinator(asked):
    """`tiebreak run --on` in a process of its own."""
    resume = ["--resume"] if (asked.out / store.SUITE).exists() else ["--seed", "5"]
    options = ["--scale", asked.scale, "--out", str(asked.out), "--on", str(asked.hosts_file)]
    return subprocess.Popen(
        [sys.executable, "-m", "tiebreak", "run", asked.suite, *options, *resume],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=kills.hear_signals,
    )


@pytest.mark.slow
@NEEDS_CORES
def test_real_managers_are_killed_again_and_again_and_nothing_is_lost(tmp_path):
    """Kill managers and their coordinator at random instants; KILLS=20 asks for so many."""
    first, second, *_ = affinity()
    tables = local("left", first, FAKE), local("right", second, FAKE)
    rng, ended, count = random.Random(7), 0, kills.COUNT or 2
    for number in range(count):
        asked = request(tmp_path, *tables, out=f"out-{number}")
        ended += fill_with_kills(asked, tmp_path / f"out-{number}", rng, count - ended)
        if ended >= count:
            break
    assert ended


def fill_with_kills(asked, out, rng, most):
    """Run and resume a suite to its end, with kills until there are enough; return their number."""
    kept, ended, status = {"left": [], "right": []}, 0, None
    while status != 0:
        process = coordinator(asked)
        if ended < most:
            time.sleep(rng.uniform(1.0, 6.0))
            ended += end_one(process, rng, out)
        _, said = process.communicate(timeout=300)
        status = process.returncode
        assert status < 2 or ended, said
        kills.assert_nothing_runs(str(asked.hosts_file.parent))
        for name, before in kept.items():
            here = out / "hosts" / name
            found = keys(here) if (here / store.RECORDS).exists() else []
            assert found[: len(before)] == before, said
            kept[name] = found
    for name, found in kept.items():
        assert len(found) == len(set(found)) == 8
        assert not store.read_log(out / "hosts" / name).corrupt
    assert sorted(keys(out)) == sorted(kept["left"] + kept["right"])
    return ended


def end_one(process, rng, out):
    """Kill -9 a manager, or end the coordinator in whatever way; return 0 if all is over."""
    if process.poll() is not None:
        return 0
    managers = managers_of(out)
    if managers and rng.random() < 0.7:
        os.kill(rng.choice(managers), signal.SIGKILL)
    else:
        kills.end(process, rng)
    return 1


def managers_of(out):
    """Pids of the managers, not of their shells, that fill the hosts' folders of a suite."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if command.startswith(sys.executable) and f"--out {out}/hosts/" in command:
            found.append(int(entry.name))
    return found


@pytest.mark.slow
@NEEDS_CORES
def test_hosts_come_to_what_a_single_run_comes_to(tmp_path):
    """The same cells, and intervals of ratios that overlap those of one run."""
    first, second, *_ = affinity()
    tables = local("left", first, FAKE), local("right", second, FAKE)
    asked = request(tmp_path, *tables)
    folder, failures = run_on(asked, progress=False)
    assert failures == []
    alone = tmp_path / "alone"
    subject = "bench.fakes:make_subject"
    manager.run_suite(asked.suite, alone, "smoke", progress=False, subject=subject)
    (single,) = summarize(store.read_records(alone))
    pair = summarize(store.read_records(folder))
    assert len(pair) == 2
    for group in pair:
        assert {c.cell_id for c in group.cells} == {c.cell_id for c in single.cells}
        (ours,) = [c.comparison for c in group.cells if c.comparison]
        (whole,) = [c.comparison for c in single.cells if c.comparison]
        assert None not in (ours.low, ours.high, whole.low, whole.high)
        assert max(ours.low, whole.low) <= min(ours.high, whole.high)  # type: ignore[type-var]
