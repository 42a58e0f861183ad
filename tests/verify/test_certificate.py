"""The certificate as a whole: workers, failures, the spread between frameworks, the table."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from verify.runtimes import packages_of

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.verify import certify as certify_module
from tiebreak.verify import process
from tiebreak.verify.case import MULTI_DISCRETE, draws, well_conditioned
from tiebreak.verify.compare import NOT_COMPARABLE, ErrorTable, error, tree_error
from tiebreak.verify.ppo_cases import ACTIONS, draw, fixed
from tiebreak.verify.worker import Request, plan

REQUEST = Request("ppo", "torch", "float64", 3, False)


def answer(weight: float = 1.0, worst: float = 0.0) -> dict:
    """Return a made-up result of a worker."""
    errors = ErrorTable("ppo", "torch", "float64")
    errors.enter("eager", fixed("discrete"), "L1", "gradients", worst, 1e-10)
    weights = {"discrete": {"actor/0/bias": [weight], "adam/count": 3, "running_return": [0.0]}}
    checks = list(errors.entries.values())
    return {"checks": checks, "skipped": [], "weights": weights, "packages": {"numpy": "2"}}


def shown(certificate: dict) -> str:
    """Return the printed certificate."""
    out = io.StringIO()
    certify_module.print_certificate(certificate, Console(file=out, width=160))
    return out.getvalue()


@pytest.fixture
def installed(monkeypatch):
    """Pretend that all frameworks are installed; return the workers' results by framework."""
    answers: dict[str, dict] = {}
    monkeypatch.setattr(registry, "missing_packages", lambda packages: [])
    monkeypatch.setattr(
        certify_module.Workers, "start", lambda self, request: answers[request.framework]
    )
    return answers


def test_green_needs_every_check(installed, tmp_path):
    installed.update(torch=answer(), nnx=answer())
    certificate = certify_module.certify(["ppo"], ["torch", "nnx"], out=tmp_path / "a" / "c.json")
    assert certificate["green"]
    assert json.loads((tmp_path / "a" / "c.json").read_text()) == certificate
    assert "green" in shown(certificate)
    installed["nnx"] = answer(worst=1e-9)
    certificate = certify_module.certify(["ppo"], ["torch", "nnx"])
    assert not certificate["green"]
    assert "seed 0, discrete: obs 5" in shown(certificate)


def test_frameworks_that_part_from_one_another_are_not_green(installed):
    installed.update(torch=answer(1.0), nnx=answer(1.0 + 1e-9))
    certificate = certify_module.certify(["ppo"], ["torch", "nnx"])
    failed = [check for check in certificate["rows"] if not check["ok"]]
    assert {(check["framework"], check["mode"], check["quantity"]) for check in failed} == {
        ("any two", "torch and nnx", "step: weights")
    }
    assert not certificate["green"]


def test_a_missing_framework_is_skipped_with_its_remedy_and_nothing_is_not_green(monkeypatch):
    monkeypatch.setattr(registry, "missing_packages", lambda packages: ["torch"])
    certificate = certify_module.certify(["ppo"], ["torch"])
    assert registry.how_to_install("torch") in certificate["skipped"][0]["reason"]
    assert not certificate["green"]
    assert "pip install" in shown(certificate)


def test_a_worker_that_fails_is_a_failed_check():
    result = process.Workers().start(REQUEST._replace(seed=-1))
    (check,) = result["checks"]
    assert not check["ok"]
    assert check["quantity"] == "worker"
    assert "status 1" in check["reason"]


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="did you mean 'torch'"):
        certify_module.certify(["ppo"], ["torhc"])
    with pytest.raises(UsageError, match="unknown algorithm"):
        certify_module.certify(["pp0"], ["torch"])


WORKERS = [
    (name, mode) for name, row in registry.FRAMEWORKS.items()
    for mode in (("",) if row.runtime else row.modes)
]  # fmt: skip
"""Frameworks, and the mode of their workers where each mode needs a process of its own."""


@pytest.mark.parametrize(("framework", "only_mode"), WORKERS)
def test_the_full_plan_covers_every_mode_and_kind_of_actions(framework, only_mode):
    request = REQUEST._replace(framework=framework, mode=only_mode)
    jobs = list(plan(request))
    public = {
        (only_mode or j.mode, j.case.actions) for j in jobs if j.check.__name__ == "check_public"
    }
    modes = (only_mode,) if only_mode else registry.FRAMEWORKS[framework].modes
    assert {pair for pair in public if pair[1] in ACTIONS} == {
        (m, a) for m in modes for a in ACTIONS
    }
    # Of several choices at once a certificate has one small case, in one mode.
    assert [a for _, a in public if a not in ACTIONS] == [MULTI_DISCRETE]
    checks = {j.check.__name__ for j in jobs}
    assert checks == {
        "check_knobs", "check_losses", "check_updates", "check_public", "check_lockstep",
    }  # fmt: skip
    assert {j.case.seed for j in jobs} > {0, 3}
    quick = list(plan(request._replace(quick=True)))
    assert {j.case.seed for j in quick} == {0}


def test_cases_are_the_same_again_from_the_same_seed():
    assert draw(5, "continuous") == draw(5, "continuous")
    assert draw(5, "continuous").spec != draw(6, "continuous").spec
    chosen = draws("ppo", 0, "discrete", "float32", 5)
    assert all(well_conditioned(case) for case in chosen)


def test_error_is_absolute_below_one_and_relative_above():
    assert error([0.0, 0.5], [0.0, 0.25]) == 0.25
    assert error([300.0], [200.0]) == 0.5
    for bad in ([1.0, 2.0], [float("nan")]):
        with pytest.raises(ValueError, match=r"shape|finite"):
            error(bad, [1.0])
    with pytest.raises(ValueError, match="names differ: b"):
        tree_error({"a": 1.0, "b": 2.0}, {"a": 1.0})


def test_what_cannot_be_compared_is_the_worst():
    errors = ErrorTable("ppo", "torch", "float64")
    for got in ([0.0, 0.0], [float("nan")], [0.0]):
        errors.compare("eager", fixed("discrete"), "L1", "x", got, [0.0], "forward")
    (entry,) = errors.entries.values()
    assert (entry["ok"], entry["worst"]) == (False, NOT_COMPARABLE)
    assert entry["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("framework", registry.FRAMEWORKS)
def test_quick_certificate_is_green(framework):
    if registry.missing_packages(packages_of(framework)):
        pytest.skip(f"{framework} is not installed")
    certificate = certify_module.certify(["ppo"], [framework], quick=True)
    assert [check for check in certificate["rows"] if not check["ok"]] == []
    assert certificate["green"]
