"""`--sampler`: settings that Optuna draws, trials that are pruned, searches that go on."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training.fakes import CONFIG
from training.many_agents import STUB, asked, stored, train

from tiebreak import registry
from tiebreak.core.errors import MissingDependency, UsageError
from tiebreak.training.request import Intervals

pytest.importorskip("optuna")
from tiebreak.training import search

RATES = {"learning_rate": ["1e-5..1e-1:log"]}


def drawn(**changes):
    """Return the settings of the agents of a search with stubs, whose best rate is 1e-3."""
    Path("by-rate").touch()
    train(**{"sampler": "random", "trials": 4, "seeds": 1, "sweep": RATES, "jobs": 1, **changes})
    return [agent["learning_rate"] for agent in stored("config.json")["agents"]]


def trials(folder="run"):
    """Return Optuna's view of the study in a folder."""
    return search._open_study(Path(folder) / search.JOURNAL).get_trials()


def test_trials_are_drawn_by_the_seed_and_told_to_optuna(stub):
    rates = drawn()
    assert len(set(rates)) == 4
    assert all(1e-5 <= rate <= 1e-1 for rate in rates)
    assert [trial.params["learning_rate"] for trial in trials()] == rates
    returns = [row[0] for row in stored()["returns"]]
    assert [trial.value for trial in trials()] == pytest.approx(returns)
    table = [row["return_iqm"] for row in stored()["by_settings"]]
    assert table == sorted(table, reverse=True)
    assert "--sampler random --trials 4" in stored("config.json")["command"]
    again = drawn(out="other", jobs=3)
    assert stored("../other/config.json")["agents"] == stored("config.json")["agents"]
    assert again == rates
    assert stored("../other/result.json")["by_settings"] == stored()["by_settings"]


def test_each_trial_has_all_seeds_and_choices_may_be_lists(stub):
    sweep = {"hidden_sizes": ["(8,)", "(16,16)"], "num_steps": ["4..16"]}
    train(sampler="tpe", trials=3, seeds=2, sweep=sweep, jobs=2)
    agents = stored("config.json")["agents"]
    assert [agent["seed"] for agent in agents] == [5, 6] * 3
    assert all(agents[i] == {**agents[i + 1], "seed": 5} for i in (0, 2, 4))
    assert {tuple(agent["hidden_sizes"]) for agent in agents} <= {(8,), (16, 16)}
    assert [trial.value for trial in trials()] == [6.5] * 3


def test_tpe_comes_nearer_to_the_best_rate_than_random(tmp_path):
    best = {}
    for sampler in search.SAMPLERS:
        (tmp_path / sampler).mkdir()
        space = search.read_space("ppo", CONFIG, RATES)
        study = search.Search("ppo", CONFIG, space, sampler, 0, tmp_path / sampler)
        worth = []
        for number in range(30):
            trial, settings = study.ask(number)
            worth.append(-abs(math.log10(settings["learning_rate"]) + 3))
            study.tell(trial, worth[-1])
        best[sampler] = sum(worth[15:]) / 15
    assert best["tpe"] > best["random"] + 0.3


def test_a_trial_below_the_median_is_ended_and_stays_so(stub, tmp_path):
    (tmp_path / "wait-low").touch()  # rates below 1e-4 wait until they are ended
    sweep = {"learning_rate": ["1e-3", "2e-3", "1e-5"]}
    options = {"sweep": sweep, "trials": 12, "prune": True, "jobs": 12}  # none waits for a slot
    drawn(**options, intervals=Intervals(eval_every=16))
    states = {trial.params["learning_rate"]: trial.state.name for trial in trials()}
    assert states == {1e-3: "COMPLETE", 2e-3: "COMPLETE", 1e-5: "PRUNED"}
    pruned = [agent for agent in stored()["agents"] if agent["status"] == "pruned"]
    assert {agent["learning_rate"] for agent in pruned} == {1e-5}
    assert stored()["pruned"] == len(pruned)
    before = stored()["agents"]
    drawn(**options, intervals=Intervals(eval_every=16), resume=True)
    assert stored()["agents"] == before


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from training import fakes, many_agents
from tiebreak import registry
from tiebreak.training import agents, jobs, request
jobs.PROGRAM = (sys.executable, "-S", {stub!r})
jobs.POLL_S = 0.01
registry.missing_packages = lambda packages: []
for module in (request, agents):
    module.make_spec = lambda task: fakes.SPEC
many_agents.train(sampler="random", trials=6, seeds=1, sweep={rates!r}, jobs=2, out="cut")
"""


@pytest.mark.slow(share=0.2)
def test_a_search_that_is_killed_goes_on_with_the_same_trials(stub, tmp_path):
    whole = drawn(trials=6, jobs=2)
    (tmp_path / "wait-5").touch()
    script = SCRIPT.format(tests=str(STUB.parents[1]), stub=str(STUB), rates=RATES)
    child = subprocess.Popen([sys.executable, "-c", script])
    while not (tmp_path / "cut/agent-001/metrics.jsonl").exists():
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait()
    (tmp_path / "wait-5").unlink()
    journal = tmp_path / "cut" / search.JOURNAL
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "work')  # a disk that was full
    assert drawn(trials=6, jobs=2, out="cut", resume=True) == whole
    assert stored("../cut/config.json")["agents"] == stored("config.json")["agents"]
    assert stored("../cut/result.json")["returns"] == stored()["returns"]


def test_a_search_goes_on_with_more_trials(stub):
    first = drawn(trials=2)
    assert drawn(trials=4, resume=True)[:2] == first
    assert len(trials()) == 4


def test_settings_that_do_not_go_together_are_drawn_again(stub):
    sweep = {"num_minibatches": ["1..16"]}  # must divide the batch of 16
    train(sampler="random", trials=4, seeds=1, sweep=sweep, jobs=1)
    assert all(16 % a["num_minibatches"] == 0 for a in stored("config.json")["agents"])
    failed = [trial for trial in trials() if trial.state.name == "FAIL"]
    assert len(trials()) == 4 + len(failed)
    with pytest.raises(UsageError, match="no settings of 100 that were drawn go together"):
        train(sampler="random", trials=1, seeds=1, sweep={"gamma": ["2..3"]}, out="other")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampler": "bayes"}, "unknown sampler 'bayes'"),
        ({"sampler": ""}, "--trials needs --sampler random or --sampler tpe"),
        ({"sampler": "", "trials": None}, "learning_rate has a range: add --sampler random"),
        ({"trials": None}, "--sampler needs --trials N, at least 1"),
        ({"sweep": {}}, "--sampler needs something to draw: add --sweep"),
        ({"prune": True}, "--prune needs evaluations during training: add --eval-every"),
        ({"intervals": Intervals(eval_episodes=0)}, "--sampler compares evaluations"),
        ({"sweep": {"learning_rate": ["1e-2..1e-4"]}}, "its low end must be below its high end"),
        ({"sweep": {"learning_rate": ["0..1:log"]}}, "a logarithmic one begins above 0"),
        ({"sweep": {"learning_rate": ["1..2:cube"]}}, "has the scale 'cube'"),
        ({"sweep": {"learning_rate": ["1..2", "3"]}}, "takes one range or several values"),
        ({"sweep": {"num_step": ["1..2"]}}, "unknown setting 'num_step'; did you mean 'num_steps'"),
    ],
)
def test_wrong_searches_are_refused(stub, changes, said):
    fields = {"sampler": "random", "trials": 3, "seeds": 1, "sweep": RATES, **changes}
    with pytest.raises(UsageError, match=re.escape(said)):
        asked(**fields).resolve()


def test_without_optuna_one_line_says_how_to_install_it(stub, monkeypatch):
    monkeypatch.setattr(registry, "missing_packages", lambda packages: list(packages))
    with pytest.raises(MissingDependency, match=r"--sampler tpe needs optuna, .*pip install"):
        search.check_search("tpe", 3, False, RATES, True)


def test_a_journal_that_was_changed_is_refused(stub):
    drawn()
    (Path("run") / search.JOURNAL).unlink()
    with pytest.raises(UsageError, match=r"optuna.jsonl lacks trials of this run's config.json"):
        drawn(trials=5, resume=True)
    assert json.loads(Path("run/config.json").read_text())["search"]["numbers"] == [0, 1, 2, 3]


def test_a_damaged_config_is_refused(stub):
    drawn()
    file = Path("run/config.json")
    whole = json.loads(file.read_text())
    for damage in ({"agents": whole["agents"][1:]}, {"search": {"numbers": ["0"]}}, {"agents": 3}):
        file.write_text(json.dumps({**whole, **damage}))
        with pytest.raises(UsageError, match=r"cannot read '.*config.json': "):
            drawn(trials=5, resume=True)


def test_optuna_is_as_quiet_as_it_was(stub, capfd):
    import optuna

    before = optuna.logging.get_verbosity()
    drawn(trials=1)
    assert optuna.logging.get_verbosity() == before
    assert "study" not in capfd.readouterr().err
