"""`verify --against`: planted bugs are named by the term that differs first, and explained."""

from __future__ import annotations

import json
import os
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tiebreak import registry
from tiebreak.cli import main
from tiebreak.core.errors import UsageError
from tiebreak.verify.against.comparison import Comparison, compare_traces, make_bounds
from tiebreak.verify.against.explanation import candidates_for, explain
from tiebreak.verify.against.problem import Problem, make_problem
from tiebreak.verify.against.rules import rules_of
from tiebreak.verify.against.sac import in_order, with_parts
from tiebreak.verify.against.trace import trace_oracle
from tiebreak.verify.against.user_arrays import ArrayMap
from tiebreak.verify.against.worker import Request, run, run_agent

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "against"
SAC = (EXAMPLES / "sac_torch.py").read_text(encoding="utf-8")
OFFERED = [name for name, row in registry.ALGORITHMS.items() if row.against]


@pytest.fixture
def float64() -> Iterator[None]:
    """Let torch make float64 arrays, as the worker does in its own process."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def compared(source: str) -> tuple[Comparison, Callable[[], list[str]]]:
    """Compare an agent, given as source, with SAC's oracle.

    Returns that, and a function that returns the decisions that explain the differences.
    """
    module = types.ModuleType("agent")
    exec(compile(source, "agent.py", "exec"), vars(module))
    answer = run_agent("agent:Agent", module.Agent, "sac", "float64")
    problem = make_problem("sac", answer.actions, answer.settings)
    want = trace_oracle(problem)
    bounds = make_bounds(problem, want, "float64")

    def decisions() -> list[str]:
        found = explain(problem, answer.updates, bounds)
        assert found.remaining.first is None
        return [deviation.decision for deviation in found.deviations]

    return compare_traces("sac", answer.updates, want, bounds), decisions


def test_sac_without_tiebreak_is_green(float64):
    assert len([line for line in SAC.splitlines() if line.strip()]) <= 80
    assert "tiebreak" not in SAC.split('"""')[2]
    comparison, _ = compared(SAC)
    assert comparison.first is None, comparison.updates[comparison.first[0]]
    rows = set(comparison.updates[-1])
    assert {"target", "gradient of critic", "Adam of actor", "target networks"} <= rows


PLANTS = {
    "the first critic alone in the target": (
        "self.values(self.targets, b[\"next_obs\"], action).min(0).values",
        "self.values(self.targets, b[\"next_obs\"], action)[0]", "target", "",
    ),
    "terminal states bootstrap": (
        'b["discount"] *', "self.config.gamma *", "target", "",
    ),
    "log σ clipped": (
        "low + 0.5 * (high - low) * (torch.tanh(raw) + 1)", "raw.clamp(-20, 2)", "target", "D3",
    ),
    "density without the slope of tanh": (
        "normal - 2 * (math.log(2) - x - F.softplus(-2 * x))", "normal", "target", "",
    ),
    "critics' loss halved": (
        "error.square().mean(1).sum()", "0.5 * error.square().mean(1).sum()", "critic_loss", "D4",
    ),
    "gradients clipped": (
        "optimizer.step()",
        "nn.utils.clip_grad_norm_([*module.parameters(), nn.Parameter(torch.zeros(1))], 0.1)\n"
        "        optimizer.step()", "gradient of critic", "",
    ),
    "another β₂": (
        "config.critic_lr)", "config.critic_lr, betas=(0.9, 0.99))", "Adam of critic", "",
    ),
    "another ε": (
        "_lr)", "_lr, eps=1e-5)", "weights of critic", "D8",
    ),
    "the actor climbs the first critic": (
        'self.values(self.critics, b["obs"], action).min(0).values',
        'self.values(self.critics, b["obs"], action)[0]', "actor_loss", "D5",
    ),
    "no entropy for the actor": (
        "(alpha * log_prob - value)", "(log_prob - value)", "actor_loss", "",
    ),
    "the temperature is judged before the actor's step": (
        'self.sample(b["obs"], noise["action"])[1].mean().detach()', "log_prob.mean().detach()",
        "alpha_loss", "D7",
    ),
    "the paper's loss of the temperature": (
        "self.log_alpha * (entropy", "self.log_alpha.exp() * (entropy", "alpha_loss", "D6",
    ),
    "τ is the default": (
        "self.config.tau", "0.005", "target networks", "setting",
    ),
}  # fmt: skip
"""Bug -> what is replaced in the example, by what, the row that has to differ first, and the
decision that has to explain it, if one does."""


@pytest.mark.parametrize("bug", PLANTS)
def test_a_planted_bug_is_named_by_its_term(bug, float64):
    old, new, label, decision = PLANTS[bug]
    assert old in SAC, "the example has changed"
    comparison, decisions = compared(SAC.replace(old, new))
    assert comparison.first is not None
    assert comparison.first[1] == label
    if decision:
        assert decisions() == [decision]


def test_the_parts_of_deviations_are_the_oracle():
    problem = make_problem("sac")
    plain = trace_oracle(problem)
    for change in (with_parts(), in_order()):
        module_trace = trace_oracle(
            problem, [rules_of("sac").deviations[0]._replace(change=change)]
        )
        assert agree(problem, module_trace, plain).first is None


def agree(problem: Problem, got: list, want: list) -> Comparison:
    """Compare two traces in float64."""
    return compare_traces(problem.algorithm, got, want, make_bounds(problem, want, "float64"))


@pytest.mark.slow(share=0.2)
@pytest.mark.parametrize("algorithm", OFFERED)
def test_every_deviation_explains_itself(algorithm):
    problem = make_problem(algorithm)
    want = trace_oracle(problem)
    bounds = make_bounds(problem, want, "float64")
    listed = [d for d in rules_of(algorithm).deviations if d in candidates_for(problem)]
    assert len(listed) > 1
    without_effect = 0
    for deviation in listed:
        got = trace_oracle(problem, [deviation])
        found = explain(problem, got, bounds)
        if compare_traces(algorithm, got, want, bounds).first is None:
            without_effect += 1
            continue
        assert [d.text for d in found.deviations] == [deviation.text]
        assert found.remaining.first is None
    assert without_effect <= 1


def test_several_deviations_are_found_together():
    problem = make_problem("sac")
    told = {"log π by log(1 − a² + 1e-6)", "the temperature is judged with fresh noise"}
    told |= {"actor and temperature every second update, twice"}
    told |= {"the temperature's loss is −α·(log π + H), not −log α·(…)"}
    deviations = [d for d in rules_of("sac").deviations if d.text in told]
    assert len(deviations) == len(told)
    got = trace_oracle(problem, deviations)
    found = explain(problem, got, make_bounds(problem, got, "float64"))
    assert found.remaining.first is None
    assert {d.text for d in found.deviations} == told


def test_deviations_are_of_decisions_that_exist():
    for algorithm in OFFERED:
        package = Path(registry.load(registry.algorithm(algorithm).package).__file__).parent
        text = (package / "README.md").read_text(encoding="utf-8")
        decisions = {d.decision for d in candidates_for(make_problem(algorithm))} - {"setting"}
        assert decisions <= set(re.findall(r"^\| (D\d+) \|", text, re.MULTILINE)), algorithm


@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "pqn", "sac", "mpo"])
def test_what_an_agent_is_given_is_enough(algorithm):
    problem = make_problem(algorithm)
    oracle = registry.oracle_module(algorithm)
    first = problem.calls[0]

    class Agent:
        def __init__(self, spec):
            self.config = spec.config
            self.state = {name: 0 * value for name, value in problem.weights.items()}

        def weights(self):
            return self.state

        def load(self, weights):
            self.state = dict(weights)

        def update(self, batch, noise):
            rows = type(first.batch)(*(batch[name] for name in first.batch._fields))
            draws = type(first.noise)(*(noise[name] for name in first.noise._fields))
            run = oracle.step if rules_of(algorithm).iteration else oracle.update
            self.state, metrics = run(problem.case.spec, self.config, self.state, rows, draws)
            return {"target": metrics.target} if hasattr(metrics, "target") else {}

    answer = run_agent("Agent", Agent, algorithm, "float64")
    comparison = agree(problem, answer.updates, trace_oracle(problem))
    assert comparison.first is None
    assert "update counts" in comparison.updates[-1]


OURS = {
    "actor/0/kernel": np.arange(6.0).reshape(3, 2),
    "actor/0/bias": np.arange(2.0),
    "actor/1/kernel": np.arange(8.0).reshape(2, 4),
    "critic1/0/kernel": np.ones((2, 2)),
    "critic2/0/kernel": np.array([[1.0, 2.0], [3.0, 4.0]]),
    "log_alpha": np.array(0.5),
}


def test_arrays_are_transposed_split_and_stacked():
    tree = {
        "net": {"0.weight": np.zeros((2, 3)), "0.bias": np.zeros(2)},
        "mean": [np.zeros((1, 2))],
        "rest": [np.zeros((3, 2))],
        "critics": np.zeros((2, 2, 2)),
        "alpha": np.zeros(1),
        "buffer": np.zeros(7),
    }
    names = {"net/0": "actor/0", "mean/0": "actor/1/kernel", "rest/0": "actor/1/kernel"}
    names |= {"critics": ["critic1/0/kernel", "critic2/0/kernel"], "alpha": "log_alpha"}
    arrays = ArrayMap(tree, names, OURS)
    assert arrays.transposed
    assert arrays.ignored == ["buffer"]
    theirs = arrays.load()
    assert np.array_equal(theirs["net"]["0.weight"], OURS["actor/0/kernel"].T)
    assert np.array_equal(theirs["rest"][0], OURS["actor/1/kernel"].T[1:])
    assert np.array_equal(theirs["critics"][1], OURS["critic2/0/kernel"].T)
    back = arrays.canonical({**theirs, "grad": {"net": {"0.weight": np.ones((2, 3))}}})
    assert back.pop("grad/actor/0/kernel").shape == (3, 2)
    assert {name: value.tolist() for name, value in back.items()} == {
        name: value.tolist() for name, value in OURS.items()
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "unknown array 'a'.*Give the agent a mapping"),
        ({"a": "actr/0/kernel"}, "unknown array 'actr/0/kernel'; did you mean 'actor/0/kernel'"),
        ({"b": "actor/0/kernel"}, "unknown array of the agent in `names` 'b'"),
        ({"a": "actor/0/kernel"}, r"has nothing for actor/0/bias, actor/1/kernel.* and 2 more"),
        ({"a": "actor/1/kernel"}, "nothing for"),
    ],
)
def test_wrong_names_are_one_line(names, message):
    with pytest.raises(UsageError, match=message) as caught:
        ArrayMap({"a": np.zeros((3, 2))}, names, OURS)
    assert "\n" not in str(caught.value)


AGENT = '''
import numpy as np
from tiebreak.algorithms.dqn import dqn_numpy as dqn
from tiebreak.algorithms.dqn.data import Batch, Noise
from tiebreak.core.types import EnvSpec


class Agent:
    """DQN in plain arrays."""

    factor = 1.0

    def __init__(self, spec):
        self.config = spec.config
        self.spec = EnvSpec.make(observation_shape=(spec.observation_size,), num_actions=3)
        shapes = {"0": (5, 9), "1": (9, 7), "2": (7, 3)}
        nets = {f"q/{i}/kernel": np.zeros(shape, spec.precision) for i, shape in shapes.items()}
        nets |= {f"q/{i}/bias": np.zeros(shape[1], spec.precision) for i, shape in shapes.items()}
        moments = {f"adam/{m}/{k}": 0 * v for m in ("mu", "nu") for k, v in nets.items()}
        self.state = nets | {f"target/{k}": v for k, v in nets.items()} | moments
        self.state["adam/count"] = np.int32(0)

    def weights(self):
        return self.state

    def load(self, weights):
        self.state = dict(weights)

    def update(self, batch, noise):
        rows = Batch(*(batch[name] for name in Batch._fields))
        rows = rows._replace(reward=self.factor * rows.reward)
        self.state, metrics = dqn.update(self.spec, self.config, self.state, rows, Noise())
        return {"loss": metrics.loss, "target": metrics.target}


class Wrong(Agent):
    factor = 2.0


class Narrow(Agent):
    def load(self, weights):
        self.state = {k: v.astype("f") if v.dtype.kind == "f" else v for k, v in weights.items()}


class Raises(Agent):
    def update(self, batch, noise):
        return {}["no such key"]


class Unknown(Agent):
    def update(self, batch, noise):
        return {"targt": 0.0}


class Forgets(Agent):
    def load(self, weights):
        pass


class Nothing:
    def __init__(self, spec):
        pass


class Exits(Agent):
    def __init__(self, spec):
        raise SystemExit(3)


class Dies(Agent):
    def __init__(self, spec):
        import os

        os._exit(5)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a module of a user's, where commands are started."""
    (tmp_path / "my_dqn.py").write_text(AGENT, encoding="utf-8")
    (tmp_path / "broken.py").write_text("import numpy\n\nx = (1,\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_agent_of_plain_arrays(folder, capsys):
    assert main(["verify", "--against", "dqn", "my_dqn:Agent", "-o", "out.json"]) == 0
    printed = capsys.readouterr().out
    assert "green" in printed
    assert "not given, not compared: q, gradients" in printed
    assert (folder / "out.json").is_file()


def test_an_agent_in_float32_alone(folder, capsys):
    assert main(["verify", "--against", "dqn", "my_dqn:Narrow"]) == 0
    printed = capsys.readouterr().out
    assert "keeps float32 weights when it is given float64: compared in float32 only" in printed
    assert "my_dqn:Narrow and oracle, float32: the same" in printed


def test_two_agents_are_held_against_each_other(folder, capsys):
    assert main(["verify", "--against", "dqn", "my_dqn:Agent", "my_dqn.py:Wrong"]) == 1
    printed = capsys.readouterr()
    assert "my_dqn:Agent and my_dqn.py:Wrong, float64: target differs first" in printed.out
    assert "my_dqn:Agent and oracle, float64: the same" in printed.out
    assert "not the same numbers: my_dqn:Agent and my_dqn.py:Wrong" in printed.err


ERRORS = {
    "nowhere:Agent": "there is no module 'nowhere'",
    "none.py:Agent": "there is no Python file at 'none.py'",
    "broken.py:Agent": "broken.py:Agent failed in import: broken.py, line 3: SyntaxError",
    "my_dqn.py:Agnt": "unknown class in my_dqn.py 'Agnt'; did you mean 'Agent'",
    "my_dqn.py:Raises": "failed in update: my_dqn.py, line 47: KeyError: 'no such key'",
    "my_dqn.py:Unknown": "unknown term of dqn 'targt'; did you mean 'target'",
    "my_dqn.py:Forgets": "after load(), weights() returns other numbers for q/0/kernel",
    "my_dqn.py:Nothing": "my_dqn.py:Nothing has no method update",
    "my_dqn.py:Exits": "failed in __init__: my_dqn.py, line 67: SystemExit: 3",
}
"""Agent -> what the error says."""


@pytest.mark.parametrize("agent", ERRORS)
def test_an_error_in_a_users_code_is_one_line(agent, folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    arrays, facts = run(Request("dqn", agent, "float64"))
    assert not arrays
    assert ERRORS[agent] in facts["error"]
    assert "\n" not in facts["error"]


@pytest.mark.parametrize("agent", ["my_dqn:Raises", "my_dqn:Dies"])
def test_an_agent_that_fails_ends_in_one_line(agent, folder, capsys):
    assert main(["verify", "--against", "dqn", agent]) == 2
    printed = capsys.readouterr()
    assert agent in printed.err
    assert "Traceback" not in printed.err + printed.out
    assert len(printed.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ppo",), "'ppo' is no option: --against ALGORITHM"),
        (("--against", "sac"), "name your class"),
        (("--against", "sack", "a:B"), "unknown algorithm for --against 'sack'"),
        (("--against", "sac", "a:B", "--quick"), "--quick is for certificates"),
        (("--against", "sac", "a:B", "b:C", "d:E"), "one agent, or two"),
    ],
)
def test_wrong_use_is_one_line(arguments, message, capsys):
    assert main(["verify", *arguments]) == 2
    assert message in capsys.readouterr().err


CHECKOUTS = {
    "cleanrl_sac": ("CLEANRL", "sac", ["D2", "D6", "D7", "D7"]),
    "fasttd3_official": ("FASTTD3", "fasttd3", []),
}
"""Example -> the variable that names a checkout, the algorithm, and decisions that explain it."""


@pytest.mark.parametrize("example", CHECKOUTS)
def test_the_lines_of_others_deviate_as_known(example, capsys):
    variable, algorithm, decisions = CHECKOUTS[example]
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no checkout")
    agent = f"{EXAMPLES / example}.py:Agent"
    assert main(["verify", "--against", algorithm, agent, "--json"]) == (1 if decisions else 0)
    first, *_ = json.loads(capsys.readouterr().out)["comparisons"]
    assert sorted(d["decision"] for d in first["deviations"]) == decisions
    assert first["explained"] or not decisions


@pytest.mark.parametrize("example", CHECKOUTS)
def test_the_examples_are_short(example):
    source = (EXAMPLES / f"{example}.py").read_text(encoding="utf-8")
    lines = [line for line in source.splitlines() if line.strip()]
    code = [line for line in lines if not line.startswith(("import", "from", '"""'))]
    assert len(code) <= 40
