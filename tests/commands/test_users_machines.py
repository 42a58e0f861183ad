"""What users bring: environments of theirs, folders with spaces, terminals without UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

import pytest

from tiebreak import cli, registry
from tiebreak.core import jax_devices
from tiebreak.core.errors import MissingDevice

SMALL = (
    "--framework", "torch", "--mode", "eager", "--set", "num_envs=2", "--set", "num_steps=16",
    "--set", "num_minibatches=2", "--set", "num_epochs=1", "--set", "total_steps=64",
    "--set", "hidden_sizes=8,", "--eval-episodes", "1",
)  # fmt: skip
LOUD = """
import gymnasium, numpy as np
class Loud(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.ones(3, np.float32), {}
    def step(self, action):
        print("step", action)
        self.t += 1
        return np.ones(3, np.float32), 1.0, self.t >= 5, False, {}
gymnasium.register("Loud-v0", entry_point=Loud)
"""
MODULE = "loud_of_test"


@pytest.fixture
def loud(tmp_path, monkeypatch):
    """A folder with a policy that was trained on an environment in a file of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{MODULE}.py").write_text(LOUD)
    task = f"gymnasium/{MODULE}:Loud-v0"
    assert cli.main(["train", "ppo", *SMALL, "--task", task, "--out", "run"]) == 0
    forget()
    yield tmp_path
    forget()


def forget():
    """As in a new process."""
    import gymnasium

    sys.modules.pop(MODULE, None)
    gymnasium.registry.pop("Loud-v0", None)


def test_a_policy_s_module_is_imported_only_if_the_user_says_so(loud, capsys):
    capsys.readouterr()
    assert cli.main(["evaluate", "run", "--episodes", "1"]) == 2
    error = capsys.readouterr().err
    assert f"names an environment in the module '{MODULE}', whose code would run" in error
    assert f"--task gymnasium/{MODULE}:Loud-v0" in error
    assert MODULE not in sys.modules
    named = ["--task", f"gymnasium/{MODULE}:Loud-v0"]
    assert cli.main(["evaluate", "run", "--mode", "eager", "--episodes", "1", *named]) == 0


def test_an_environment_that_prints_does_not_break_json(loud, capsys):
    capsys.readouterr()
    evaluated = ["evaluate", "run", "--mode", "eager", "--episodes", "1"]
    assert cli.main([*evaluated, "--allow-import", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["returns"] == [5.0]
    assert "step" in err


def test_printed_commands_can_be_pasted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = ["train", "ppo", *SMALL, "--task", "gymnasium/CartPole-v1", "--out", "my runs/a b"]
    assert cli.main(run) == 0
    assert "(tiebreak evaluate 'my runs/a b')" in capsys.readouterr().out
    assert cli.main([*run, "--resume"]) == 2
    assert "`tiebreak evaluate 'my runs/a b'` runs" in capsys.readouterr().err
    os.remove("my runs/a b/result.json")
    assert cli.main([*run, "--set", "learning_rate=0.5", "--resume"]) == 2
    assert "--out 'my runs/a b' --resume" in capsys.readouterr().err


def test_a_run_of_an_older_version_without_a_newer_setting_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = ["train", "ppo", *SMALL, "--task", "gymnasium/CartPole-v1", "--out", "o"]
    assert cli.main(run) == 0
    os.remove("o/result.json")
    stored = json.loads((tmp_path / "o" / "config.json").read_text())
    del stored["config"]["prng"]
    (tmp_path / "o" / "config.json").write_text(json.dumps(stored))
    assert cli.main([*run, "--resume"]) == 0
    os.remove("o/result.json")
    stored["config"]["prng"] = "rbg"
    (tmp_path / "o" / "config.json").write_text(json.dumps(stored))
    capsys.readouterr()
    assert cli.main([*run, "--resume"]) == 2
    assert "prng rbg (here threefry2x32)" in capsys.readouterr().err


def test_a_suite_with_a_byte_order_mark_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "--example"]) == 0
    text = capsys.readouterr().out.replace("\n", "\r\n")
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert cli.main(["run", "bom.toml", "--dry-run"]) == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_gets_other_signs(encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "tiebreak", "train", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"--framework" in done.stdout


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("no backend\n'cuda'")])
def test_a_platform_that_is_not_here_is_named(monkeypatch, error):
    import jax

    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(MissingDevice, match="JAX_PLATFORMS='cuda' is set: unset it") as caught:
        jax_devices.require_devices()
    assert "\n" not in str(caught.value)


def test_without_devices_and_without_the_variable_a_remedy_is_given(monkeypatch):
    import jax

    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(jax, "devices", lambda: 1 / 0)
    with pytest.raises(MissingDevice, match="set JAX_PLATFORMS=cpu, or reinstall JAX"):
        jax_devices.require_devices()


@pytest.mark.parametrize(
    ("closed", "prints"), [("<&- >&-", False), ("2>&-", True), (">&- 2>&-", False)]
)
def test_closed_streams_are_no_error(closed, prints, tmp_path):
    command = f"{sys.executable} -m tiebreak train --help {closed}"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (b"--framework" in done.stdout) == prints


@pytest.mark.parametrize(
    ("variable", "folder"),
    [("TMPDIR", "with space"), ("TMPDIR", "it's"), ("TORCHINDUCTOR_CACHE_DIR", "with space")],
)
def test_a_folder_that_torch_cannot_compile_in_is_named(variable, folder, tmp_path, monkeypatch):
    path = tmp_path / folder
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv(variable, str(path))
    reason = registry.why_mode_unavailable("torch", "compile")
    assert folder in reason
    assert "set TMPDIR" in reason
    assert registry.why_mode_unavailable("torch", "eager") == ""
