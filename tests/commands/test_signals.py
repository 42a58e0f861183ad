"""SIGTERM and SIGHUP end a command as Ctrl-C does: same line, same cleaning up, status 128 + n."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest
from hygiene.tree import run_python

from tiebreak import cli
from tiebreak.commands import signals

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def ends_itself(monkeypatch):
    """Make `tiebreak list` send itself signals; return the list of them."""
    sent: list[int] = []

    class Command:
        @staticmethod
        def parser():
            return Command

        @staticmethod
        def parse(argv):
            return argv

        @staticmethod
        def run(args):
            for number in sent:
                os.kill(os.getpid(), number)
            return 0

    monkeypatch.setattr(cli.importlib, "import_module", lambda name: Command)
    return sent


@pytest.fixture(autouse=True)
def handlers(monkeypatch):
    """Give every test the handlers of a program that a shell starts, and check that they stay."""
    before = {number: signal.getsignal(number) for number in ENDING}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_each_signal_ends_a_command_in_one_line_with_its_status(ends_itself, capsys, number):
    ends_itself.append(number)
    assert cli.main(["list"]) == 128 + number
    assert capsys.readouterr().err == "tiebreak: interrupted; nothing new was kept\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ignored_signals_stay_ignored(ends_itself):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    ends_itself.append(signal.SIGHUP)
    assert cli.main(["list"]) == 0
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_background_job_that_ignores_ctrl_c_is_still_ended(ends_itself):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ends_itself.append(signal.SIGTERM)
    assert cli.main(["list"]) == 143


def test_a_second_signal_does_not_interrupt_the_cleaning_up():
    cleaned = []

    def interrupted():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGHUP)
            cleaned.append(True)

    with signals.ending_signals(), pytest.raises(KeyboardInterrupt):
        interrupted()
    assert cleaned


def test_the_first_signal_gives_the_status():
    def interrupted():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    with signals.ending_signals() as ending, pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ending.status == 128 + signal.SIGTERM


def test_signals_are_left_alone_in_other_threads(ends_itself):
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(cli.main(["list"])))
    thread.start()
    thread.join()
    assert statuses == [0]


def test_a_closed_terminal_does_not_hinder_the_end(tmp_path):
    """The kernel sends SIGHUP, and every write to the terminal fails from then on."""
    code = (
        "import sys, time\n"
        "from tiebreak.commands.signals import ending_signals\n"
        "with ending_signals() as signals:\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        while True: time.sleep(0.01)\n"
        "    except KeyboardInterrupt:\n"
        "        print('going', file=sys.stderr, flush=True)\n"
        "        open(sys.argv[1], 'w').write(str(signals.status))\n"
    )
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "status")],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: _take_terminal(),
    )  # fmt: skip
    os.close(theirs)
    assert b"ready" in os.read(ours, 100)
    os.close(ours)
    assert child.wait(timeout=30) == 0
    assert (tmp_path / "status").read_text() == str(128 + signal.SIGHUP)


def _take_terminal():
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_child_dies_with_its_parent():
    """Even when the parent is killed, and even where the child is deaf to everything."""
    child = (
        "import os, sys, time; from tiebreak.core.process_env import die_with_parent\n"
        "die_with_parent(int(sys.argv[1])); print(os.getpid(), flush=True); time.sleep(60)"
    )
    parent = (
        "import os, subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', sys.argv[1], str(os.getpid())])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent, child], stdout=subprocess.PIPE, text=True
    )
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            if file.read().rpartition(")")[2].split()[0] == "Z":
                break
        time.sleep(0.02)
    else:
        assert not os.path.exists(f"/proc/{pid}")


def test_a_second_signal_does_not_break_into_the_end_of_the_process():
    program = """
import atexit, os, signal, sys, time
from tiebreak import cli
from tiebreak.commands import listing

def again():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)

def run(args):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

listing.run = run
atexit.register(again)
sys.argv = ["tiebreak", "list"]
sys.exit(cli.main())
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("tiebreak: interrupted")


def test_an_interruption_inside_a_callback_is_not_lost():
    """Python drops what a weak reference's callback raises, and prints it."""
    result = run_python("""
import signal, time, weakref
from tiebreak.commands.signals import ending_signals
class Thing: pass
with ending_signals():
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    try:
        del thing
        time.sleep(20)
    except KeyboardInterrupt:
        print("interrupted")
""")
    assert (result.stdout, result.stderr) == ("interrupted\n", "")
