"""Real visits: a clean cell of every framework and mode is not flagged; cheating cells are."""

from __future__ import annotations

import pytest

from tiebreak import registry
from tiebreak.bench.manager.manager import run_suite
from tiebreak.bench.manager.store import read_records
from tiebreak.bench.probes.subject import AgentSubject
from tiebreak.bench.suite.plan import Cell, Effort, Job
from tiebreak.bench.worker import main as worker

SUITE = """
algorithm = "ppo"
[scales.smoke]
share_process = true
blocks = 1
certificate = false
sample_s = 0.01
samples = 3
steady_s = 0.05
warmup_s = 1.0
memory_calls = 8
timeout_s = 400
[[races]]
task = "{task}"
num_envs = 2
probes = ["forward", "interact", "update", "train"]
rows = [{{ framework = "{framework}", mode = "{mode}" }}]
[races.config]
num_steps = 16
num_minibatches = 2
num_epochs = 1
"""

FLAGS = {
    "recompiled", "fell_to_eager", "graph_break", "parity_mismatch", "work_mismatch",
    "still_running", "memory_growing", "nan",
}  # fmt: skip
"""What a clean cell must not have, however busy the machine is."""

ROWS = [
    (name, mode, task)
    for name, row in registry.FRAMEWORKS.items()
    for mode in row.modes
    if mode != "cudagraph"
    for task in ("gymnasium/CartPole-v1", "gymnax/CartPole-v1")
    if task.startswith("gymnasium") or mode == row.default_mode
]


@pytest.mark.slow(share=0.02)  # the longest of all
@pytest.mark.parametrize(("framework", "mode", "task"), ROWS)
def test_clean_cells_are_not_flagged(framework, mode, task, tmp_path):
    if reason := registry.why_mode_unavailable(framework, mode):
        pytest.skip(reason)
    engine = registry.ENGINES[task.split("/")[0]]
    packages = registry.framework(framework).packages_in(mode) + engine.packages
    if absent := registry.missing_packages(packages):
        pytest.skip(f"{absent} not installed")
    path = tmp_path / "clean.toml"
    path.write_text(SUITE.format(framework=framework, mode=mode, task=task))
    folder = run_suite(str(path), tmp_path / "out", "smoke", progress=False)
    visits = [r for r in read_records(folder) if r["kind"] == "visit"]
    assert len(visits) == 4
    for visit in visits:
        raised = FLAGS & set(visit["flags"])
        if mode == "eager" and registry.framework(framework).runtime == "jax":
            raised.discard("memory_growing")  # true: jit caches of what it traces in every call
        assert (visit["status"], visit["error"], raised) == ("ok", "", set())
        own = visit["cell"]["probe"] not in ("interact", "train")  # else the environment's
        assert visit["work"]["inputs"] >= own
        assert visit["work"].get("varies", True)
        assert visit["settings"]["matmul_keeps_2^-12"] is True


def job(framework, mode):
    config = {"num_steps": 16, "num_minibatches": 2, "num_epochs": 1}
    task = "gymnasium/CartPole-v1"
    cell = Cell("ppo", framework, mode, task, "host", "update", num_envs=2, config=config)
    return Job((cell,), seed=3, threads=2)


def subject(framework, mode):
    pytest.importorskip(framework if framework == "torch" else "jax")
    one = AgentSubject(job(framework, mode))
    one.build()
    return one


def test_outputs_must_depend_on_inputs_and_on_the_weights_passed_in():
    one = subject("torch", "eager")
    act, state = one.agent.act, one.agent.init(0)
    obs, noise = None, None

    def ignoring_weights(_, *args):
        return act(state, *args)

    def ignoring_inputs(given, *args):
        nonlocal obs, noise
        obs, noise = (obs, noise) if obs is not None else args
        return act(given, obs, noise)

    assert one.probe("forward").varies()
    for cheating in (ignoring_weights, ignoring_inputs):
        one.agent = one.agent._replace(act=cheating)
        assert not one.probe("forward").varies()


@pytest.mark.parametrize("name", ["forward", "update", "rebuild"])  # environments feed the others
def test_what_is_fed_is_seen(name):
    one = subject("torch", "eager")
    probe = one.probe(name)
    probe.call()
    probe.call()
    inputs = list(probe.inputs())
    assert inputs
    assert all(array.std() > 0 for array in inputs)
    if name == "rebuild":  # its numbers; that no episode ended in a small batch is no cheating
        assert {array.dtype.kind for array in inputs} == {"f"}


EFFORT = Effort(0.001, 2, 0.001, silent_calls=2, memory_calls=8)


def test_agents_are_rebuilt():
    result = worker.measure(subject("torch", "eager"), "rebuild", EFFORT, None)
    assert result["status"] == "ok"
    assert result["unit"] == "agents"
    assert result["work"]["agents"] == result["work"]["calls"] >= 2 + 2 + 8
    assert len(result["memory"]["series_bytes"]) == 8


@pytest.mark.slow
def test_rebuilding_compiles_and_is_not_flagged_for_it():
    result = worker.measure(subject("linen", "jit"), "rebuild", EFFORT, None)
    assert result["status"] == "ok"
    assert not {"recompiled", "memory_growing"} & set(result["flags"])
