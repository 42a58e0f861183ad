"""The command line: wrong use is one clear line and status 2, and nothing is written."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tempfile

import pytest

from tiebreak import __version__, cli, registry
from tiebreak.commands import options

FUSED = registry.fused_frameworks()
TASK = "gymnax/CartPole-v1"
TRAIN = ("train", "ppo", "--framework", "linen", "--task", TASK)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIEBREAK_DEBUG", raising=False)


def refused(capsys, *argv, status=2):
    """Run; the one line that it says, after checking that it is one, and all."""
    assert cli.main(argv) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"tiebreak: [^\n]+\n", err), err
    return err


WRONG = {
    "command": (("trian",), "unknown command 'trian'; did you mean 'train'"),
    "option before a command": (("--verson",), "did you mean '--version'"),
    "option": ((*TRAIN, "--sed", "1"), "unknown option '--sed'; did you mean '--seed'"),
    "option with a value": ((*TRAIN, "--sed=1"), "unknown option '--sed'"),
    "option, another left out": (("train", "ppo", "--framwork", "nnx"), "'--framework'"),
    "required option": (("train", "ppo", "--task", TASK), "--framework (see `tiebreak train"),
    "not a number": ((*TRAIN, "--seed", "one"), "invalid int value: 'one'"),
    "negative seed": ((*TRAIN, "--seed", "-1"), "seed is -1; it must be in 0 to"),
    "negative episodes": ((*TRAIN, "--eval-episodes", "-1"), "eval_episodes is -1"),
    "algorithm": (("train", "pp0", *TRAIN[2:]), "unknown algorithm 'pp0'; did you mean 'ppo'"),
    "framework": (
        ("train", "ppo", "--framework", "equinoks", "--task", TASK),
        "unknown framework 'equinoks'; did you mean 'equinox'? (valid: torch, tensorflow,",
    ),
    "mode": (
        (*TRAIN, "--mode", "cudagraph"),
        "'linen' has no mode 'cudagraph' (valid: eager, jit)",
    ),
    "loop": ((*TRAIN, "--loop", "fussed"), "unknown loop 'fussed'"),
    "precision": ((*TRAIN, "--precision", "float16"), "unknown precision 'float16'; did you mean"),
    "task without engine": ((*TRAIN[:-1], "CartPole-v1"), "a task is written engine/name"),
    "engine": ((*TRAIN[:-1], "gymnaks/CartPole-v1"), "did you mean 'gymnax'"),
    "tensorflow fused": (
        ("train", "ppo", "--framework", "tensorflow", "--task", TASK, "--loop", "fused"),
        f"'tensorflow' cannot run it (valid: {', '.join(FUSED)}, or --loop host)",
    ),
    "fused on a host engine": (
        (*TRAIN[:-1], "gymnasium/CartPole-v1", "--loop", "fused"),
        "needs an engine that runs on the device (valid: gymnax, xminigrid, craftax, brax, "
        "playground)",
    ),
    "setting": ((*TRAIN, "--set", "lerning_rate=1"), "did you mean 'learning_rate'"),
    "setting's type": ((*TRAIN, "--set", "num_envs=many"), "num_envs takes int, got 'many'"),
    "setting without value": ((*TRAIN, "--set", "num_envs"), "--set takes key=value"),
    "no run": (("evaluate", "nowhere"), "'nowhere' is not a training run"),
    "no run, but a folder": (("evaluate", "."), "it has no policy.safetensors"),
    "suite": (("run", "quik"), "unknown suite 'quik'; did you mean 'quick'"),
    "scale": (("run", "quick", "--scale", "ful"), "unknown scale 'ful'; did you mean 'full'"),
    "resume what": (("run", "quick", "--resume"), "--resume needs the folder"),
    "no results": (("report", "nowhere"), "nowhere"),
    "no results, but a folder": (("report", "."), "'.'"),
    "verify framework": (("verify", "--framework", "jaks"), "unknown framework 'jaks'"),
    "verify algorithm": (("verify", "--algorithm", "ddqn"), "unknown algorithm 'ddqn'"),
    "verify output": (("verify", "-o", "no/such/c.json"), "cannot write a file at 'no/such/c"),
    "engine to list": (("list", "--tasks", "gymnas"), "unknown engine 'gymnas'; did you mean"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_one_line_and_status_2(capsys, tmp_path, case):
    argv, told = WRONG[case]
    assert told in refused(capsys, *argv)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("task", ["gymnasium/HalfCheeta-v4", "gymnax/CartPol-v1"])
def test_an_unknown_task_is_named_with_its_neighbours(capsys, tmp_path, task):
    near = {"gymnasium": "'gymnasium/HalfCheetah-v4'", "gymnax": "'gymnax/CartPole-v1'"}
    assert near[task.partition("/")[0]] in refused(capsys, *TRAIN[:-1], task, "--loop", "host")
    assert list(tmp_path.iterdir()) == []


def test_a_garbled_policy_is_no_run(capsys, tmp_path):
    (tmp_path / "policy.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{garbled")
    assert "cannot read weights" in refused(capsys, "evaluate", ".")


def test_a_missing_extra_names_the_command_that_helps(capsys, monkeypatch):
    absent = {"flax", "gymnasium"}
    monkeypatch.setattr(
        registry, "missing_packages", lambda names: [n for n in names if n in absent]
    )
    wanted = f"needs flax, not installed here: {registry.how_to_install('jax')}"
    assert wanted in refused(capsys, *TRAIN)
    argv = ("train", "ppo", "--framework", "torch", "--task", "gymnasium/CartPole-v1")
    assert registry.how_to_install("gymnasium") in refused(capsys, *argv)


class Broken:
    """A command that ends in a way of its own."""

    def __init__(self, error):
        self.error = error

    def parser(self):
        return options.Parser("list", "", [])

    def run(self, args):
        raise self.error


def broken(monkeypatch, error):
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: Broken(error))


def test_an_unexpected_error_is_one_line_and_a_file(capsys, monkeypatch):
    broken(monkeypatch, RuntimeError("two\nlines"))
    said = refused(capsys, "list", status=1)
    assert "unexpected RuntimeError: two lines; please report it" in said
    path = said.split()[-1]
    with open(path, encoding="utf-8") as file:
        assert "raise self.error" in file.read()
    os.unlink(path)


def test_debug_shows_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("TIEBREAK_DEBUG", "1")
    broken(monkeypatch, RuntimeError("oh"))
    assert cli.main(["list"]) == 1
    assert "raise self.error" in capsys.readouterr().err


def test_failures_and_interruptions_have_their_status(capsys, monkeypatch):
    broken(monkeypatch, options.Failure("visit 3 failed"))
    assert refused(capsys, "list", status=1) == "tiebreak: visit 3 failed\n"
    broken(monkeypatch, KeyboardInterrupt("kept in x"))
    assert refused(capsys, "list", status=130) == "tiebreak: kept in x\n"
    broken(monkeypatch, KeyboardInterrupt())
    assert "nothing new was kept" in refused(capsys, "list", status=130)


@pytest.mark.parametrize("argv", [(), ("--help",), ("-h",)])
def test_the_overview_names_every_command(capsys, argv):
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in cli.COMMANDS)
    assert "Traceback" not in out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_helps_with_examples_that_parse(capsys, name):
    assert cli.main([name, "--help"]) == 0
    out = capsys.readouterr().out
    examples = out.partition("examples:\n")[2].replace("\\\n", " ")
    commands = re.findall(rf"^  tiebreak {name}(?: .*)?$", examples, re.MULTILINE)
    assert 2 <= len(commands) <= 4
    parser = cli.importlib.import_module(cli.COMMANDS[name][0]).parser()
    for command in commands:
        parser.parse(command.split(" > ")[0].split()[2:])


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tiebreak {__version__}\n"


def test_a_reader_that_leaves_early_is_no_error():
    code = "import sys; from tiebreak.cli import main; sys.exit(main(['list', '--json']))"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait() == 0


def test_no_folder_for_temporary_files_is_one_line(capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc"])
        with pytest.raises(OSError, match="No usable") as caught:
            tempfile.gettempdir()
    broken(monkeypatch, caught.value)
    said = refused(capsys, "list", status=1)
    assert said == (
        "tiebreak: no folder for temporary files can be written; set TMPDIR to one that can\n"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_one_line_and_no_fault_of_ours(capsys, monkeypatch, number):
    broken(monkeypatch, OSError(number, os.strerror(number), "a/report.html"))
    said = refused(capsys, "list", status=1)
    assert said == (
        f"tiebreak: cannot write 'a/report.html': {os.strerror(number)}; make room and try again\n"
    )
