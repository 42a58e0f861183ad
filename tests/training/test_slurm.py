"""Sweeps in a real SLURM of one node: `TIEBREAK_SLURM=1 pytest tests/training/test_slurm.py`.

It needs root and Debian's packages: `apt-get install --no-install-recommends slurm-wlm munge`. The
daemons run with files of their own in a temporary folder, and end with the test.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time

import psutil
import pytest
from training.many_agents import stored, train, words

DAEMONS = ("munged", "slurmctld", "slurmd")
pytestmark = pytest.mark.skipif(
    os.environ.get("TIEBREAK_SLURM") != "1" or not all(map(shutil.which, DAEMONS)),
    reason="on demand: TIEBREAK_SLURM=1, with slurm-wlm and munge installed",
)
START_S = 30

CONF = """
ClusterName=tiebreak
SlurmctldHost={host}
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmctldPort={port}
SlurmdPort={port1}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=1
ReturnToService=2
JobRequeue=1
KillWait=10
NodeName={host} CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60 State=UP
"""


@pytest.fixture
def slurm(tmp_path_factory, monkeypatch):
    """A SLURM of one node; yields its folder."""
    folder = tmp_path_factory.mktemp("slurm")
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    text = CONF.format(
        host=host, folder=folder, port=free_port(), port1=free_port(), cpus=os.cpu_count()
    )
    (folder / "slurm.conf").write_text(text)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    munge = ["--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munge += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
    commands = [["munged", *munge], ["slurmctld", "-D", "-i"], ["slurmd", "-D", "-N", host]]
    daemons = []
    try:
        for command in commands:
            with open(folder / f"{command[0]}.out", "wb") as out:
                daemons.append(subprocess.Popen(command, stdout=out, stderr=out))
            time.sleep(1)
        wait_for_node(folder)
        yield folder
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)


def wait_for_node(folder):
    deadline = time.monotonic() + START_S
    while "idle" not in said("sinfo", "--noheader", "--format=%t"):
        assert time.monotonic() < deadline, "\n".join(
            file.read_text(errors="replace")[-2000:] for file in folder.glob("*.log")
        )
        time.sleep(0.5)


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def test_a_sweep_in_slurm_goes_on_after_a_signal_of_preemption_and_a_kill(stub, slurm, tmp_path):
    (tmp_path / "kill-6").write_text("1")
    (tmp_path / "wait-7").touch()

    def preempt():
        """Send what SLURM sends before it takes a node away: submitit queues the job again."""
        while not (tmp_path / "run/agent-002/metrics.jsonl").exists():
            time.sleep(0.1)
        number = stored("submitit/agent-002.json")["job_id"]
        subprocess.run(["scancel", "--signal=USR2", number], check=True)
        while not (tmp_path / "run/agent-002/policy.safetensors").exists():
            time.sleep(0.1)
        (tmp_path / "wait-7").unlink()

    thread = threading.Thread(target=preempt, daemon=True)
    thread.start()
    result = train(executor="submitit:partition=main,timeout_min=30")
    assert result.returns == [[5.0, 7.0], [6.0, 8.0], [7.0, 9.0]]
    assert stored()["status"] == "ok"
    assert [words(agent)[-1] == "--resume" for agent in range(3)] == [False, True, True]
    running = [p for p in psutil.process_iter() if str(tmp_path) in " ".join(p.cmdline() or [])]
    assert running == []
