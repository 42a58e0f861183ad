"""Training and measuring set threads by one function; a user's process keeps its own."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
from hygiene.tree import run_python

from tiebreak import registry
from tiebreak.bench.machine.fingerprint import fixed_variables
from tiebreak.commands import train as command
from tiebreak.core.config import override
from tiebreak.core.errors import UsageError
from tiebreak.core.process_env import affinity
from tiebreak.frameworks.threads import largest_pass, make_runtime, thread_variables, threads_for

COMMAND = """
import json, os, sys
from tiebreak.cli import main
status = main({arguments})
from tiebreak import registry
runtime = registry.make_runtime({framework!r}, None, "float32", "cpu")
print(json.dumps([status, runtime.settings()]))
"""
PROBE = """
import json, os
from tiebreak.bench.probes.subject import AgentSubject
from tiebreak.bench.suite.plan import Cell, Job
cell = Cell("dqn", {framework!r}, {mode!r}, "gymnasium/CartPole-v1", "host", "train")
subject = AgentSubject(Job((cell,), threads={threads}, fixed_threads={fixed}))
subject.load()
subject.build()
print(json.dumps([0, subject.settings()]))
"""
SETTINGS = ("threads", "interop_threads", "intra_op_threads", "inter_op_threads", "blas_threads")
MODES = {"torch": "eager", "tensorflow": "function", "linen": "jit"}


def threads_of(program: str) -> dict:
    result = run_python(program)
    assert result.returncode == 0, result.stderr
    status, settings = json.loads(result.stdout.splitlines()[-1])
    assert status == 0, result.stderr
    return {name: settings[name] for name in SETTINGS if name in settings}


def train_arguments(framework: str, out: object, *options: str) -> list[str]:
    task = ["--framework", framework, "--mode", MODES[framework], "--task", "gymnasium/CartPole-v1"]
    small = ["total_steps=100", "learning_starts=10", "num_rounds=1", "hidden_sizes=8,"]
    words = [word for setting in small for word in ("--set", setting)]
    return ["train", "dqn", *task, "--eval-episodes", "0", "--out", str(out), *words, *options]


@pytest.mark.slow(share=0.34)
@pytest.mark.parametrize("framework", MODES)
def test_the_command_has_the_threads_of_the_probe(framework, tmp_path):
    pytest.importorskip({"linen": "jax"}.get(framework, framework))
    arguments = train_arguments(framework, tmp_path / "run")
    trained = threads_of(COMMAND.format(arguments=arguments, framework=framework))
    measured = threads_of(
        PROBE.format(
            framework=framework, mode=MODES[framework], threads=len(affinity()), fixed=False
        )
    )
    assert trained == measured
    chosen = 1 if framework == "tensorflow" else len(affinity())
    assert set(trained.values()) <= {1, chosen}
    assert json.loads((tmp_path / "run/config.json").read_text())["threads"] == chosen


@pytest.mark.slow(share=0.5)
@pytest.mark.parametrize(("num_envs", "threads"), [(4, 1), (256, len(affinity()))])
def test_a_small_fused_loop_has_one_thread_of_xla(tmp_path, num_envs, threads):
    """Its spec is read before the number of threads is known, which starts XLA."""
    pytest.importorskip("gymnax")
    words = (
        "train ppo --framework linen --task gymnax/CartPole-v1 --eval-episodes 0 "
        f"--set num_envs={num_envs} --set num_steps=16 --set total_steps=8192 --out"
    )
    arguments = [*words.split(), str(tmp_path / "run")]
    program = COMMAND.format(arguments=arguments, framework="linen")
    assert threads_of(program) == {"threads": threads}


@pytest.mark.slow(share=0.34)
@pytest.mark.parametrize("framework", MODES)
def test_one_thread_is_one_thread(framework, tmp_path):
    pytest.importorskip({"linen": "jax"}.get(framework, framework))
    arguments = train_arguments(framework, tmp_path / "run", "--threads", "1")
    found = threads_of(COMMAND.format(arguments=arguments, framework=framework))
    assert set(found.values()) == {1}


@pytest.mark.slow(share=0.34)
def test_a_row_s_own_threads_are_not_chosen_anew():
    pytest.importorskip("tensorflow")
    probe = PROBE.format(framework="tensorflow", mode="function", threads=2, fixed=True)
    assert threads_of(probe) == {"intra_op_threads": 2, "inter_op_threads": 1}


def test_training_from_python_leaves_the_threads_of_the_process(tmp_path):
    pytest.importorskip("torch")
    result = run_python(f"""
import os, torch, tiebreak
torch.set_num_threads(3)
before = torch.get_num_threads(), torch.get_num_interop_threads(), dict(os.environ)
tiebreak.train("dqn", "torch", "gymnasium/CartPole-v1", mode="eager", out={str(tmp_path / "run")!r},
    overrides=dict(total_steps=100, learning_starts=10, num_rounds=1, hidden_sizes=(8,)),
    eval_episodes=1, progress=False)
after = torch.get_num_threads(), torch.get_num_interop_threads(), dict(os.environ)
assert before[:2] == after[:2], (before[:2], after[:2])
changed = {{k: v for k, v in after[2].items() if before[2].get(k) != v}}
assert not [name for name in changed if "THREADS" in name or "NPROC" in name], changed
""")
    assert result.returncode == 0, result.stderr
    assert "threads" not in json.loads((tmp_path / "run/config.json").read_text())


def test_variables_are_those_of_workers():
    assert thread_variables(3).items() <= fixed_variables(3).items()
    assert set(thread_variables(3).values()) == {"3", "1"}


def test_a_runtime_is_told_its_threads(monkeypatch):
    """Variables alone do not do it: a library that was imported before has read others."""
    told = []
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(registry, "load", lambda name: told.append(name))
    made = SimpleNamespace(set_threads=told.append)
    monkeypatch.setattr(registry, "make_runtime", lambda *args: told.append(args) or made)
    assert make_runtime("torch", "eager", "float32", "cpu", 3) is made
    assert told == ["torch", ("torch", "eager", "float32", "cpu"), 3]
    assert thread_variables(3).items() <= os.environ.items()


@pytest.mark.parametrize(
    ("framework", "device", "engine", "loop", "overrides", "threads"),
    [
        ("tensorflow", "cpu", "gymnasium", "host", {}, 1),  # 128 rows by 120 x 84
        ("tensorflow", "cpu", "gymnax", "host", {}, 4),  # JAX simulates in the same process
        ("tensorflow", "gpu", "gymnasium", "host", {}, 4),
        ("torch", "cpu", "gymnasium", "host", {}, 4),
        ("linen", "cpu", "gymnasium", "host", {}, 4),
        ("linen", "cpu", "gymnax", "host", {}, 4),
        ("linen", "cpu", "gymnax", "fused", {}, 1),
        ("nnx", "cpu", "brax", "fused", {}, 4),  # a simulator that has work for all of them
        ("equinox", "gpu", "gymnax", "fused", {}, 4),
        ("linen", "cpu", "gymnax", "fused", {"batch_size": 512}, 4),
        ("tensorflow", "cpu", "gymnasium", "host", {"batch_size": 4096}, 4),
        ("tensorflow", "cpu", "gymnasium", "host", {"hidden_sizes": (512, 512)}, 4),
        (
            "tensorflow", "cpu", "gymnasium", "host",
            {"num_envs": 4096, "replay_size": 1_000_000}, 4,
        ),
    ],
)  # fmt: skip
def test_small_networks_have_one_thread_where_that_is_faster(
    framework, device, engine, loop, overrides, threads
):
    config = override(registry.config_module("dqn").Config(), overrides)
    row = registry.ENGINES[engine]
    library = registry.library(framework)
    assert threads_for(library, device, row, loop, config, cpus=4) == threads


@pytest.mark.parametrize(("agents", "threads"), [(1, 1), (2, 1), (3, 4)])
def test_agents_of_one_program_are_one_large_network(agents, threads):
    config = registry.config_module("dqn").Config()  # 128 rows by 120 x 120
    row = registry.ENGINES["gymnax"]
    assert threads_for("jax", "cpu", row, "fused", config, cpus=4, agents=agents) == threads


@pytest.mark.parametrize("algorithm", registry.ALGORITHMS)
def test_every_algorithm_says_how_large_its_updates_are(algorithm):
    config = registry.config_module(algorithm).Config()
    assert largest_pass(config) >= config.rows_per_pass * 64 * 64
    sizes = "hidden_sizes" if hasattr(config, "hidden_sizes") else "actor_sizes"
    wider = override(config, {sizes: (4096,)})
    assert largest_pass(wider) == config.rows_per_pass * 4096**2


def test_minibatches_and_sampled_actions_count():
    ppo = registry.config_module("ppo").Config(num_envs=4, num_steps=128, num_minibatches=4)
    assert largest_pass(ppo) == 128 * 64 * 64
    mpo = registry.config_module("mpo").Config(batch_size=8, num_samples=20)
    assert largest_pass(mpo) == 160 * 256 * 256


def test_fewer_than_no_threads_are_refused(tmp_path):
    words = train_arguments("torch", tmp_path / "run", "--threads", "-1")
    with pytest.raises(UsageError, match="threads is -1; it must be at least 1, or 0"):
        command.run(command.parser().parse(words[1:]))
