"""Ranks of one training: they take the same runs and end together, and rank 0 alone records."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest
from thread_ranks import in_ranks
from training.fakes import CONFIG, SPEC, FakeLoop

from tiebreak import registry
from tiebreak.core import ranks as core_ranks
from tiebreak.core.errors import UsageError
from tiebreak.core.ranks import ALONE, Ranks
from tiebreak.envs.task import Task
from tiebreak.training import distributed, request, session
from tiebreak.training.request import Intervals, TrainingRequest

EVERY = Intervals(eval_every=200, checkpoint_every=300)
RETURNS = {208: 1.0, 400: 9.0, 608: 3.0, 800: 4.0, 1008: 2.0}


@pytest.fixture
def loops(monkeypatch, tmp_path):
    """The loops that ranks will get, by rank; evaluations of rank 0 give RETURNS."""
    made: dict[int, FakeLoop] = {}

    def make_loop(*_, config=None, ranks=ALONE, **kwargs):
        loop = made[ranks.rank] = FakeLoop(config)
        loop.ranks, loop.dumps = ranks, 0
        loop.before_run = lambda number: None
        return loop

    class Evaluator:
        cut, limit = 0, 10

        def __init__(self, **_):
            pass

        def returns(self, state):
            return [RETURNS[made[0].steps]] * 2

        def close(self):
            pass

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "missing_packages", lambda packages: [])
    monkeypatch.setattr(session, "make_loop", make_loop)
    monkeypatch.setattr(session, "Evaluator", Evaluator)
    monkeypatch.setattr(request, "make_spec", lambda task: SPEC)
    found = SimpleNamespace(returns=[5.0] * 4, cut=0, max_steps=10)
    monkeypatch.setattr(session, "evaluate", lambda *_, **__: found)
    return made


def asked(**more) -> TrainingRequest:
    return TrainingRequest(
        algorithm="ppo",
        framework="linen",
        task=Task.parse("gymnax/CartPole-v1"),
        config=CONFIG,
        out="run",
        **{"intervals": EVERY, **more},
    )


def train(ranks: Ranks, resolved: TrainingRequest):
    if ranks.rank:
        return distributed._follow(resolved, ranks)
    return distributed._lead(resolved, ranks, progress=False)


def both(**more):
    resolved = asked(**more).resolve()
    return in_ranks(2, lambda ranks: train(ranks, resolved))


def test_all_ranks_take_the_same_runs_and_return_what_rank_0_has_found(loops, tmp_path):
    first, second = both()
    assert loops[0].runs == loops[1].runs
    assert loops[0].steps == loops[1].steps == 992
    assert (first.rank, second.rank) == (0, 1)
    assert dataclasses.replace(second, rank=0) == first
    assert first.returns == [5.0] * 4
    lines = (tmp_path / "run/eval.jsonl").read_text().splitlines()
    assert [json.loads(line)["steps"] for line in lines] == [208, 400, 608, 800, 992]
    assert json.loads((tmp_path / "run/config.json").read_text())["ranks"] == 2


def test_a_return_that_rank_0_has_found_ends_all(loops):
    first, second = both(intervals=EVERY._replace(stop_at=8.5))
    assert first.stopped_at == second.stopped_at == 400
    assert loops[0].steps == loops[1].steps == 400


def test_a_folder_in_use_ends_all_with_the_reason(loops, tmp_path):
    resolved = asked().resolve()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").write_text("mine")

    def refused(ranks: Ranks) -> str:
        with pytest.raises(UsageError) as error:
            train(ranks, resolved)
        return str(error.value)

    first, second = in_ranks(2, refused)
    assert "is not empty" in first
    assert second == f"rank 1 ends with rank 0: {first}"
    assert not loops


def test_an_interrupt_of_rank_0_ends_all_with_a_checkpoint(loops, monkeypatch, tmp_path):
    """Ctrl-C in rank 0 is an event that it hands on between two intervals."""

    def stop_in_rank_0(self, runs, stop):
        if self.loop.ranks.rank == 0 and self.loop.steps > 300:
            stop.set()
        return agree(self, runs, stop)

    agree = session.Session._agree
    monkeypatch.setattr(session.Session, "_agree", stop_in_rank_0)
    monkeypatch.setattr(session, "interrupt", _raise_interrupt)
    resolved = asked().resolve()

    def interrupted(ranks: Ranks) -> str:
        with pytest.raises(session.TrainingInterrupted) as error:
            train(ranks, resolved)
        return str(error.value)

    first, second = in_ranks(2, interrupted)
    assert "go on with: tiebreak train" in first
    assert second == f"interrupted after {loops[0].steps} steps; rank 0 says what is kept"
    assert loops[0].steps == loops[1].steps < 992
    assert list((tmp_path / "run/checkpoints").iterdir())


def _raise_interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"framework": "tensorflow"}, r"there for torch, linen, .* 'tensorflow' trains in one"),
        ({"seeds": 3, "jobs": 2}, r"trains one agent, or many in one program of a JAX framework"),
        ({"seeds": 3, "framework": "torch"}, r"are agents in processes of their own"),
        ({"framework": "torch", "algorithm": "mpo"}, r"there for ppo, sac, fasttd3; 'mpo' can be"),
        ({"framework": "torch", "mode": "compile"}, r"has the mode 'eager'.* is 'compile'"),
    ],
)
def test_what_no_ranks_can_do_is_refused_before_they_join(change, reason):
    with pytest.raises(UsageError, match=reason):
        distributed._require(dataclasses.replace(asked(distributed="auto"), **change))


class Two(Ranks):
    count = 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"loop": "host"}, r"loop 'fused', on a device engine .* here it is a host loop"),
        ({"loop": "fused", "device": "gpu:1"}, r"all devices of a kind; .* use --device gpu$"),
        ({"seeds": 2, "jobs": 2}, r"many agents only where they can be one program"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(change, reason):
    with pytest.raises(UsageError, match=reason):
        distributed._require_shares(dataclasses.replace(asked(), **change), Two())


def test_parts_of_batches_have_to_be_equal():
    torch = dataclasses.replace(asked(), framework="torch", loop="host")

    class Five(Ranks):
        count = 5

    with pytest.raises(UsageError, match=r"a minibatch's number of steps is 4, which 5 processes"):
        distributed._require_shares(torch, Five())


def test_another_process_that_has_ended_is_one_line():
    for kind in (RuntimeError, ValueError):  # torch's and JAX's
        with (
            pytest.raises(session.TrainingFailed, match=r"^rank 0 of 2 ends, as another process"),
            distributed._naming_lost_ranks(Two()),
        ):
            raise kind("Gloo all-reduce failed:\nConnection closed by peer [::1]:4242")
    with (
        pytest.raises(RuntimeError, match=r"^a mistake of ours$"),
        distributed._naming_lost_ranks(Two()),
    ):
        raise RuntimeError("a mistake of ours")


def test_a_process_whose_training_has_failed_does_not_wait_for_the_others(monkeypatch):
    ended = []
    monkeypatch.setattr(core_ranks, "_failed", False)
    monkeypatch.setattr(core_ranks.os, "_exit", ended.append)
    core_ranks.leave(0)
    assert not ended
    with pytest.raises(KeyError), core_ranks.leaving_after_errors():
        raise KeyError
    core_ranks.leave(2)
    assert ended == [2]
