"""Certificates: found on the disk, made after a race with a budget, or pending."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench import fakes

from tiebreak.bench.machine import fingerprint
from tiebreak.bench.manager import certificates, manager, store
from tiebreak.bench.suite import suite
from tiebreak.verify import certify as certify_module

CHECK = {
    "actions": "discrete", "case": "reference", "rung": "L2", "quantity": "loss",
    "precision": "float64", "ok": True, "worst": 1e-12, "bound": 1e-10,
}  # fmt: skip


def certificate(green=True, quick=True, algorithms=("ppo",), frameworks=("linen", "torch")):
    names = [("", name) for name in frameworks]
    if len(frameworks) > 1:
        names.append((f"{frameworks[0]} and {frameworks[1]}", "any two"))
    rows = [
        {**CHECK, "algorithm": algorithm, "framework": name, "mode": mode or "jit"}
        for algorithm in algorithms
        for mode, name in names
    ]
    return {
        "algorithms": list(algorithms),
        "created_at": "2026-01-01T00:00:00+00:00",
        "green": green,
        "quick": quick,
        "rows": rows,
        "skipped": [],
    }


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", fakes.python_path())
    return tmp_path / "cache" / "tiebreak" / "certificates"


def test_a_certificate_is_found_for_the_same_source_and_packages_only(monkeypatch):
    certificates.keep_certificate(certificate())
    assert certificates.find_certificate(["ppo"], ["linen"], quick=True)
    monkeypatch.setattr(fingerprint, "source", lambda skipped=(): "other")
    assert certificates.find_certificate(["ppo"], ["linen"], quick=True) is None
    monkeypatch.undo()


def test_other_packages_need_another_certificate(monkeypatch):
    certificates.keep_certificate(certificate())
    monkeypatch.setattr(fingerprint, "distributions", lambda: {"installed": 3})
    assert certificates.find_certificate(["ppo"], ["linen"], quick=True) is None


def test_a_certificate_of_more_serves_and_one_of_less_does_not():
    certificates.keep_certificate(certificate(quick=False, algorithms=("dqn", "ppo")))
    found = certificates.find_certificate(["ppo"], ["linen"], quick=True)
    assert found is not None
    assert found["algorithms"] == ["ppo"]
    assert [(row["algorithm"], row["framework"]) for row in found["rows"]] == [("ppo", "linen")]
    both = certificates.find_certificate(["ppo"], ["linen", "torch"], quick=False)
    assert both is not None
    assert "any two" in {row["framework"] for row in both["rows"]}
    assert certificates.find_certificate(["ppo"], ["nnx"], quick=True) is None
    assert certificates.find_certificate(["sac"], ["linen"], quick=True) is None


def test_a_short_certificate_is_no_full_one_and_a_red_one_is_not_kept():
    certificates.keep_certificate(certificate(green=False))
    assert certificates.find_certificate(["ppo"], ["linen"], quick=True) is None
    certificates.keep_certificate(certificate(quick=True))
    assert certificates.find_certificate(["ppo"], ["linen"], quick=False) is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"green": true}', "\x00", '{"green": 1}'])
def test_a_broken_file_is_ignored(cache, text):
    certificates.keep_certificate(certificate())
    (path,) = cache.glob("*.json")
    path.write_text(text)
    assert certificates.find_certificate(["ppo"], ["linen"], quick=True) is None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    certificates.keep_certificate(certificate())
    assert certificates.find_certificate(["ppo"], ["linen"], quick=True) is None


def race(tmp_path, budget_s):
    plan = suite.load(fakes.suite(tmp_path, "fine"), "smoke", 0)
    settings = replace(plan.settings, certificate=True, budget_s=budget_s)
    plan = replace(plan, settings=settings)
    return manager.run_plan(
        plan, tmp_path / f"out-{budget_s}", subject="bench.fakes:make_subject", progress=False
    )


def kinds(folder):
    kept = ("visit", "certificate", "pending")
    return list(dict.fromkeys(r["kind"] for r in store.read_records(folder) if r["kind"] in kept))


@pytest.mark.parametrize(
    ("budget_s", "order"),
    [(None, ["certificate", "visit"]), (1000.0, ["visit", "certificate"])],
)
def test_with_a_budget_blocks_come_before_the_certificate(tmp_path, monkeypatch, budget_s, order):
    monkeypatch.setattr(certify_module, "certify", lambda *args, **kwargs: certificate())
    folder = race(tmp_path, budget_s)
    assert kinds(folder) == order
    monkeypatch.setattr(certify_module, "certify", None)  # the next race takes it from the disk
    assert kinds(race(tmp_path, 999.0)) == ["certificate", "visit"]


def test_without_time_left_the_record_says_that_it_is_pending(tmp_path, monkeypatch):
    monkeypatch.setattr(certify_module, "certify", None)
    folder = race(tmp_path, 5.0)
    (pending,) = [r for r in store.read_records(folder) if r["kind"] == "pending"]
    assert pending["what"] == "certificate"
    assert pending["command"] == "tiebreak verify --quick --algorithm ppo --framework linen"
