"""The estimate of a run's time, against the wall time of every published run of a suite."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from hygiene import tree

from tiebreak.bench.manager import learn, store
from tiebreak.bench.suite import durations, estimate, suite
from tiebreak.bench.suite.durations import Duration, Durations
from tiebreak.bench.suite.estimate import expected_s, forecast
from tiebreak.bench.suite.plan import Cell, Effort, Plan, Scale

STORED = tree.ROOT / "results" / "amd-epyc-2-cores"
PUBLISHED = (
    "quick", "speed", "dqn-breakdown", "fasttd3", "mujoco-throughput", "mujoco-throughput/before",
    "population", "update-steps",
)  # fmt: skip
needs_results = pytest.mark.skipif(not STORED.is_dir(), reason="a package without results/")


def seconds(record):
    return datetime.fromisoformat(record["at"]).timestamp()


def stored_plan(folder, **changes):
    """The plan of a published run, with the amount of measuring that it had."""
    stored = store.read_suite(folder)
    settings = dict(stored["settings"])
    effort = Effort(**{"memory_calls": 0, **settings.pop("effort")})
    settings["stages"] = tuple(settings.get("stages", ()))
    scale = Scale(**{**settings, **changes}, effort=effort)
    cells = tuple(map(Cell.from_json, stored["cells"]))
    return Plan(stored["suite"], stored["scale"], stored["seed"], scale, cells)


@needs_results
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_run_is_foretold(name):
    records = store.read_records(STORED / name)
    missing = {r["cell_id"] for r in records if r.get("status") == "missing"}
    told = forecast(stored_plan(STORED / name), missing)
    taken_s = seconds(records[-1]) - seconds(records[0])
    assert 0.6 <= told.most_s / taken_s <= 1.7, f"{told.most_s:.0f} s for {taken_s:.0f} s"


@needs_results
@pytest.mark.parametrize("name", ["fasttd3", "update-steps"])  # that of quick is from the disk
def test_the_stored_certificates_are_foretold(name):
    records = store.read_records(STORED / name)
    taken_s = seconds(records[1]) - seconds(records[0])
    assert records[1]["kind"] == "certificate"
    assert forecast(stored_plan(STORED / name)).certificate_s == pytest.approx(taken_s, rel=0.3)


@needs_results
def test_the_next_run_is_foretold_by_what_this_one_took(tmp_path, monkeypatch):
    """On a machine that takes four times as long, one run teaches it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    slow = []
    for r in store.read_records(STORED / "speed"):
        if r["kind"] == "visit":
            phases_s = {name: 4 * value for name, value in r["phases_s"].items()}
            r = {**r, "phases_s": phases_s, "samples_s": [4 * x for x in r["samples_s"]]}
        slow.append(r)
    plan = stored_plan(STORED / "speed")
    before = forecast(plan, (), learn.known_durations())
    assert before == forecast(plan)
    learn.keep_durations(slow)
    after = forecast(plan, (), learn.known_durations())
    assert after.most_s / before.most_s == pytest.approx(4.0, rel=0.3)
    learn.keep_durations(store.read_records(STORED / "speed"))  # the last run counts
    assert forecast(plan, (), learn.known_durations()).most_s < 1.2 * before.most_s


def test_a_broken_table_is_ignored(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = learn._file()
    file.parent.mkdir(parents=True)
    row = ["ppo", "torch", "eager"]
    tables = ["{", "[]", "{}", '{"columns": 3, "rows": 4}', f'{{"columns": {row}, "rows": [1]}}']
    for text in tables:
        file.write_text(text.replace("'", '"'))
        assert learn.known_durations().known.keys() == durations.shipped().known.keys()
    table = durations.read_shipped()
    rows = [[*table["rows"][0][:-1], "fast"], [None] * len(table["columns"]), table["rows"][1]]
    assert len(Durations([{**table, "rows": rows}]).known) == 1


def test_the_shipped_table_is_made_of_published_records(tmp_path, monkeypatch):
    monkeypatch.setattr(durations, "FILE", tmp_path / "durations.json")
    learn.main([str(STORED / "speed")] if STORED.is_dir() else [])
    assert durations.read_shipped()["columns"] == [*durations.FEATURES, *Duration._fields]


def cell(**changes):
    task = "gymnasium/CartPole-v1"
    return Cell(**{
        "algorithm": "ppo", "framework": "linen", "mode": "jit", "task": task, "loop": "host",
        "probe": "train", "num_envs": 4, **changes,
    })  # fmt: skip


def test_the_most_similar_cell_counts_and_its_call_is_scaled_by_the_work():
    features = [getattr(cell(), name) for name in durations.FEATURES]
    other = [getattr(cell(framework="torch", mode="eager"), n) for n in durations.FEATURES]
    columns = [*durations.FEATURES, *Duration._fields]
    table = {"columns": columns, "rows": [[*features, 1, 2, 3, 0, 0.1], [*other, 9, 9, 9, 9, 9]]}
    known = Durations([table])
    assert known.of(cell()) == Duration(1, 2, 3, 0, 0.1)
    assert known.of(cell(framework="equinox", mode="flat")) == Duration(1, 2, 3, 0, 0.1)
    assert known.of(cell(framework="torch", mode="eager")).load_s == 9
    more = [{"num_envs": 64}, {"size": "m"}, {"agents": 16, "probe": "population"}]
    for changes in more:
        assert known.of(cell(**changes)).call_s > 0.11, changes
    assert known.of(cell(probe="rebuild")).call_s == pytest.approx(3.1)  # compiles in every call
    assert Durations([]).of(cell()).load_s > 0


def test_contestants_of_a_race_are_told_apart():
    def row(name, seconds):
        one = cell(framework="contestant", mode="", contestant=f"peers.{name}:make")
        return [*(getattr(one, feature) for feature in durations.FEATURES), *[seconds] * 5], one

    (slow, first), (fast, second) = row("slow", 9), row("fast", 1)
    columns = [*durations.FEATURES, *Duration._fields]
    known = Durations([{"columns": columns, "rows": [slow, fast]}])
    assert (known.of(first).call_s, known.of(second).call_s) == (9, 1)
    assert known.of(replace(second, num_envs=8)).load_s == 1


def test_a_probe_that_is_one_call_takes_one():
    settings = suite.load("peers", "survey", 0).settings
    one = [cell(probe="solve")]
    call_s = durations.shipped().of(one[0]).call_s
    assert call_s > 10 * durations.shipped().of(cell()).call_s
    assert expected_s(settings, one) < 1.2 * call_s + 20
    assert estimate.once_s(settings.effort, one[0]) == 0


def test_a_shared_process_compiles_once_whichever_probe_comes_first():
    def record(probe, block, first_s):
        return {
            "kind": "visit", "status": "ok", "block": block, "shared_process": True,
            "cell": cell(probe=probe).to_json(), "cell_id": probe, "samples_s": [0.2],
            "calls_per_sample": 2, "phases_s": {"import": 1.0, "build": 0.5, "first_call": first_s},
        }  # fmt: skip

    records = [
        record("train", 0, 30.0), record("update", 0, 0.0),
        record("train", 1, 0.0), record("update", 1, 10.0),
        record("train", 2, 10.0), record("update", 2, 0.0),
    ]  # fmt: skip
    known = Durations([durations.learn(records)])
    train, update = known.of(cell()), known.of(cell(probe="update"))
    assert train.cold_s + update.cold_s == pytest.approx(30.0)
    assert train.warm_s + update.warm_s == pytest.approx(10.0)
    assert train.cold_s > update.cold_s > 0
    assert train.load_s == 1.5
    assert train.call_s == 0.1


def test_more_work_takes_longer():
    settings = suite.load("quick", "quick", 0).settings
    one = [cell()]
    least = expected_s(settings, one)
    for key, value in {"samples": 100, "steady_s": 20.0, "silent_calls": 30}.items():
        more = replace(settings, effort=replace(settings.effort, **{key: value}))
        assert expected_s(more, one) > least, key
    remembers = replace(settings.effort, memory_calls=50)
    assert estimate.once_s(remembers, cell()) > estimate.once_s(settings.effort, cell())
    assert expected_s(settings, [cell(framework="torch", mode="compile")]) > least
    assert expected_s(settings, one * 2) < 2 * least


def test_a_cold_cache_costs_what_fills_it():
    settings = suite.load("quick", "quick", 0).settings
    warm = [cell(framework="torch", mode="compile")]
    cold = [replace(warm[0], cache="cold")]
    assert expected_s(settings, cold) == expected_s(settings, warm, cold=True)
    assert expected_s(settings, cold) > expected_s(settings, warm) + 10


def quick(**changes):
    plan = suite.load("quick", "quick", 0)
    return replace(plan, settings=replace(plan.settings, **changes))


def test_blocks_stop_where_the_manager_would_stop_them():
    free = forecast(quick(budget_s=None, limit_s=None, certificate=False))
    assert (free.least_blocks, free.most_blocks, free.certificate_s) == (6, 6, 0)
    assert free.most_s == pytest.approx(free.first_block_s + 5 * free.block_s)
    enough = free.first_block_s + 1.5 * free.block_s
    limited = {"certificate": False, "least_blocks": 1, "limit_s": None}
    assert forecast(quick(budget_s=enough, **limited)).most_blocks == 2
    limited = {"certificate": False, "least_blocks": 3, "budget_s": 1.0}
    assert forecast(quick(limit_s=2 * enough, **limited)).most_blocks == 3


def test_rounds_give_way_before_the_first_blocks_do():
    free = forecast(quick(budget_s=None, limit_s=None, certificate=False))
    limit_s = free.first_block_s + 2 * free.block_s - 30
    tight = forecast(quick(limit_s=limit_s, budget_s=limit_s, certificate=False))
    assert tight.most_blocks == 3
    assert tight.most_s == pytest.approx(limit_s)


def test_stages_are_a_span():
    told = forecast(quick(stages=(2, 4, 8), blocks=8, first=(), budget_s=None, limit_s=None))
    assert (told.least_blocks, told.most_blocks) == (2, 8)
    assert told.most_s - told.least_s == pytest.approx(6 * told.block_s)


def test_a_calibration_fills_the_cache_before_the_first_block():
    told = forecast(suite.load("quick", "full", 0))
    assert told.calibration_s > told.first_block_s == told.block_s
    assert told.certificate_s is None  # the full one was never timed


def test_what_is_absent_takes_no_time():
    whole = quick()
    torch = {c.id for c in whole.cells if c.framework == "torch"}
    assert forecast(whole, torch).visits_per_block == forecast(whole).visits_per_block - 3
    assert forecast(whole, {c.id for c in whole.cells}).block_s == 0
