"""A row of a race that names another library's implementation, from the suite to the table."""

from __future__ import annotations

import io
import sys
import venv
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bench import fakes
from bench.suite.test_suite import MINIMAL, load
from rich.console import Console

from tiebreak.bench.machine.availability import required_packages, why_unavailable
from tiebreak.bench.manager.manager import run_suite
from tiebreak.bench.manager.store import read_records
from tiebreak.bench.probes import solve
from tiebreak.bench.probes.contestants import ContestantSubject
from tiebreak.core.errors import UsageError
from tiebreak.peers import environments
from tiebreak.report import bench_tables
from tiebreak.report.page_data import read_folders
from tiebreak.report.terminal import print_answer
from tiebreak.stats.ratios import summarize

SUITE = """
algorithm = "ppo"
[scales.smoke]
blocks = {blocks}
certificate = false
sample_s = 0.001
samples = {samples}
steady_s = 0.01
warmup_s = 0.01
silent_calls = 2
memory_calls = 0
timeout_s = 60
[[races]]
task = "gymnasium/CartPole-v1"
num_envs = 2
probes = ["train"]
config = {{ num_steps = 8 }}
rows = [
{rows}
]
"""


def row(kind: str, label: str = "", more: str = "") -> str:
    label = label or kind.lower()
    return f'{{ contestant = "bench.fake_contestant:{kind}", label = "{label}"{more} }},'


def race(folder, rows, blocks=1, samples=8):
    """Run a race of fakes; return its folder."""
    folder.mkdir(exist_ok=True)
    path = folder / "contestants.toml"
    path.write_text(SUITE.format(rows="\n".join(rows), blocks=blocks, samples=samples))
    return run_suite(str(path), folder / "out", "smoke", progress=False, seed=1)


def visits(folder):
    """Return label -> records, without the end of labels."""
    by_label = {}
    for record in read_records(folder):
        if record["kind"] == "visit":
            label = record["cell"]["label"].removesuffix(" (not proved)")
            by_label.setdefault(label, []).append(record)
    return by_label


def bare_environment(folder):
    """Return the interpreter of an environment that has NumPy and others, and no Tiebreak."""
    venv.EnvBuilder(symlinks=True).create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "base.pth").write_text("\n".join(environments._base()))
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("gymnasium")
    path = tmp_path_factory.mktemp("contestants")
    python = f', python = "{bare_environment(path / "bare")}"'
    differs = ', differences = "it steps at random"'
    rows = [
        row("Fake", "fake", differs), row("Fake", "copy"), row("Slow"), row("Lazy"), row("Liar"),
        row("Frozen"), row("Broken"), row("Fake", "elsewhere", python),
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", fakes.python_path())
        yield race(path, rows)


def test_one_that_works_is_measured_and_its_work_checked(folder):
    (fake,) = visits(folder)["fake"]
    assert (fake["status"], fake["error"]) == ("ok", "")
    assert fake["unit"] == "env steps"
    work, steps = fake["work"], fake["units_per_sample"] / fake["calls_per_sample"]
    assert steps == 2 * 8
    assert work["env_steps"] == work["calls"] * steps
    assert work["updates"] == work["calls"] * 4 * 4
    assert work["seen"]["env_steps"] >= steps
    assert fake["settings"]["affinity"]


def test_one_in_an_environment_without_tiebreak_is_measured_there(folder):
    for record in visits(folder)["elsewhere"]:
        assert (record["status"], record["error"]) == ("ok", "")
        assert record["environment"]["packages"]["numpy"]
        assert record["work"]["seen"]


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("lazy", "env_steps differ by"),
        ("liar", "it counts 16 env_steps in a call of which"),
        ("frozen", "left the weights as they were"),
        ("broken", "ValueError: no such task"),
    ],
)
def test_one_that_does_less_than_it_says_is_flagged(folder, label, reason):
    for record in visits(folder)[label]:
        assert record["status"] == "failed"
        assert reason in record["error"]
        assert record["value_s"] is None
        assert label == "broken" or "work_mismatch" in record["flags"]


def test_a_tenth_more_time_is_seen_and_a_copy_is_not(folder):
    least_s = {
        label: min(records[0]["samples_s"]) / records[0]["calls_per_sample"]
        for label, records in visits(folder).items()
        if records[0]["samples_s"]
    }  # of a busy machine, too
    assert least_s["slow"] / least_s["fake"] == pytest.approx(1.1, abs=0.05)
    assert least_s["copy"] / least_s["fake"] == pytest.approx(1.0, abs=0.05)
    assert least_s["elsewhere"] / least_s["fake"] == pytest.approx(1.0, abs=0.05)


def test_results_say_that_nothing_is_proved_and_what_is_different(folder):
    (data,) = read_folders([folder])
    text = io.StringIO()
    print_answer(data.answer, Console(file=text, width=160))
    assert "copy (not proved)" in text.getvalue()
    assert "fake (not proved): it steps at random" in text.getvalue()


def test_a_document_s_table_sets_ours_against_each_library(folder, monkeypatch):
    """`copy` stands for ours."""
    records = read_records(folder)
    for record in records:
        if record.get("cell", {}).get("label", "").startswith("copy"):
            record["cell"]["framework"] = "torch"
    monkeypatch.setattr(bench_tables, "_records", lambda folder: records)
    monkeypatch.setattr(bench_tables, "_groups", bench_tables._groups.__wrapped__)
    lines = list(bench_tables.peers(folder.parent, [folder.name], {"details": "yes"}))
    rows = {cells[3]: cells for line in lines if len(cells := line.split(" | ")) == 6}
    (slow,) = (cells for name, cells in rows.items() if name.startswith("slow"))
    assert slow[1].startswith("copy")
    (group,) = summarize(records, "copy (not proved)")
    (cell,) = (cell for cell in group.cells if cell.label.startswith("slow"))
    assert slow[-1] == f"{1 / cell.comparison.ratio:.2f}× |"  # of speeds: ours by its
    assert "differ by" in next(cells[4] for name, cells in rows.items() if name.startswith("lazy"))
    assert any("num\\_steps 8" in line for line in lines)
    assert "- fake, PPO: it steps at random." in lines


def test_a_document_says_how_to_measure_what_is_not_there(tmp_path):
    (line,) = bench_tables.peers(tmp_path, ["machine/peers"], {})
    assert line == "Not measured yet: `tiebreak run peers --out results/machine/peers`."


@pytest.mark.slow(share=0)
def test_a_tenth_is_seen_and_a_copy_is_not_in_eighteen_of_twenty_races(tmp_path, monkeypatch):
    """On command: `-k eighteen_of_twenty`."""
    monkeypatch.setenv("PYTHONPATH", fakes.python_path())
    right = 0
    for number in range(20):
        rows = [row("Fake", "fake"), row("Fake", "copy"), row("Slow")]
        folder = race(tmp_path / str(number), rows, blocks=4, samples=20)
        (group,) = summarize(read_records(folder), "fake (not proved)")
        verdicts = {cell.label: cell.comparison.verdict for cell in group.cells if cell.comparison}
        copies = verdicts["copy (not proved)"] not in ("SLOWER", "FASTER")
        right += verdicts["slow (not proved)"] == "SLOWER" and copies
    assert right >= 18


def test_packages_of_a_contestant_are_required(tmp_path):
    row = '{ contestant = "a.b:make", packages = ["no_such_package"] }'
    text = MINIMAL.replace('"update", "train"', '"train"')
    cells = load(tmp_path, text.replace('{ framework = "nnx" }', row)).cells
    cell = cells[-1]
    assert (cell.framework, cell.mode, cell.label) == ("contestant", "", "a.b (not proved)")
    assert required_packages(cell) == ("no_such_package", "gymnasium")
    assert "no_such_package" in why_unavailable(cell)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{ contestant = "a.b:make" }', "cannot be measured by the probe update (valid: train, "),
        ('{ contestant = "make" }', "contestant takes 'module:function', got 'make'"),
        ('{ contestant = "a:b", mode = "jit" }', "mode is for our own implementations"),
        ('{ contestant = "a:b", packages = [1] }', "packages takes a list of strings, got [1]"),
        ('{ framework = "nnx", packages = ["a"] }', "packages are those of a contestant"),
        ('{ framework = "nnx", differences = "a" }', "differences are those of a contestant"),
        ('{ peer = "sb4" }', "unknown peer 'sb4'; did you mean"),
        ('{ peer = "sb3", python = "a" }', "python does not go with peer, which has its own"),
    ],
)
def test_wrong_rows_are_refused(tmp_path, row, message):
    with pytest.raises(UsageError) as caught:
        load(tmp_path, MINIMAL.replace('{ framework = "nnx" }', row))
    assert message in str(caught.value)


def test_a_peer_is_refused_where_it_has_no_adapter(tmp_path):
    text = MINIMAL.replace("CartPole-v1", "HalfCheetah-v4").replace('"update", "train"', '"train"')
    text = text.replace("[[races]]", '[[races]]\nalgorithm = "mpo"')
    with pytest.raises(UsageError, match=r"peer sb3 has no mpo on gymnasium \(ppo: gymnasium"):
        load(tmp_path, text.replace('{ framework = "nnx" }', '{ peer = "sb3" }'))


def subject_of(contestant, **cell):
    """The subject of a contestant on a fused task, with iterations of 2000 steps."""
    config = SimpleNamespace(iteration_steps=2_000, updates_per_iteration=3)
    subject: Any = object.__new__(ContestantSubject)
    kind = SimpleNamespace(kind="device")
    subject.cell = SimpleNamespace(agents=1, engine=kind, task="gymnasium/CartPole-v1", **cell)
    subject.config, subject.contestant = config, contestant
    subject.job = SimpleNamespace(seed=0)
    return subject


class Counting:
    """Counts the steps of all of its agents, and has nested weights."""

    agents = 1

    def __init__(self):
        self.done = {"env_steps": 0, "updates": 0}

    def train(self, env_steps):
        self.done["env_steps"] += self.agents * env_steps
        self.done["updates"] += self.agents * env_steps // 2_000 * 3

    def counts(self):
        return dict(self.done)

    def weights(self):
        return {"policy": [np.full(2, self.done["updates"])], "value": {"kernel": np.zeros(1)}}


def test_the_work_of_a_population_is_that_of_all_agents():
    contestant = Counting()
    contestant.agents = 2
    subject = subject_of(contestant)
    subject.cell.agents = 2
    probe = subject.probe("population")  # 10,000 steps of all make a call, of whole iterations
    assert probe.units_per_call == 2 * 2 * 2_000
    assert probe.expected == {"env_steps": 8_000, "updates": 2 * 2 * 3}
    probe.call()
    assert probe.counted() == probe.expected


def test_nested_weights_have_paths_as_names():
    subject = subject_of(Counting())
    assert {name: array.shape for name, array in subject.weights().items()} == {
        "/policy/0": (2,), "/value/kernel": (1,),
    }  # fmt: skip


def test_the_threads_of_torch_are_read_back_without_a_word_of_the_contestant(monkeypatch):
    torch = SimpleNamespace(get_num_threads=lambda: 3)
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert subject_of(Counting()).settings()["threads"] == 3
    monkeypatch.delitem(sys.modules, "torch")
    assert "threads" not in subject_of(Counting()).settings()


class Learner(Counting):
    """Balances the pole once it has taken 6000 steps."""

    def act(self, obs):
        angle, speed = obs[:, 2], obs[:, 3]
        learnt = self.done["env_steps"] >= 6_000
        return (angle + 0.5 * speed + 0.05 * obs[:, 1] > 0).astype(int) if learnt else [0] * 10


def test_a_task_is_solved_at_the_first_evaluation_that_reaches_its_goal(monkeypatch):
    pytest.importorskip("gymnasium")
    monkeypatch.setitem(solve.GOALS, "CartPole-v1", solve.Goal(475.0, 2_000, 10_000))
    contestant = Learner()
    probe = subject_of(contestant).probe("solve")
    assert (probe.once, probe.units_per_call) == (True, 1)
    probe.call()
    assert contestant.done["env_steps"] == 6_000


def test_what_does_not_solve_its_task_in_time_has_failed(monkeypatch):
    pytest.importorskip("gymnasium")
    monkeypatch.setitem(solve.GOALS, "CartPole-v1", solve.Goal(475.0, 2_000, 4_000))
    with pytest.raises(RuntimeError, match="not solved after 4,000 environment steps"):
        subject_of(Learner()).probe("solve").call()


def test_a_contestant_without_actions_cannot_be_asked_to_solve_a_task():
    with pytest.raises(UsageError, match=r"it has no act\(obs\)"):
        subject_of(Counting()).probe("solve")


def test_the_start_of_a_process_is_measured_for_one_probe_alone(tmp_path):
    text = MINIMAL.replace('"update", "train"', '"train", "solve"')
    with pytest.raises(UsageError, match="solve is timed from the start of a process: give it a"):
        load(tmp_path, text)
