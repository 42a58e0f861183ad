"""The answer in words: no more than the verdicts allow, and never about a barred cell."""

from __future__ import annotations

import re

import pytest
from stats import synthetic

from tiebreak.report import answer, bars
from tiebreak.stats.ratios import summarize

HOST = "ppo · gymnasium/HalfCheetah-v4 · train · num_envs 4"
FUSED = "ppo · gymnax/CartPole-v1 · train · num_envs 4"
SUITE = {"suite": "quick", "scale": "quick", "command": "tiebreak run quick --scale quick --out x"}
FIVE = {
    "torch compile": 1.0, "tensorflow xla": 0.55, "linen jit": 1.0, "nnx split": 1.01,
    "equinox flat": 1.005,
}  # fmt: skip


def answered(records, suite=SUITE, **named):
    return answer.answer(summarize(records, **named), suite)


def only_card(speeds, blocks=10, noise=0.005, group=HOST, flags=None, seed=3):
    records = synthetic.race(speeds, blocks=blocks, noise=noise, seed=seed, group=group)
    for record in records:
        record["flags"] = (flags or {}).get(record["cell"]["label"], {})
    (card,) = answered(records).cards
    return card


@pytest.mark.parametrize(
    ("speeds", "blocks", "noise", "confidence", "expected"),
    [
        ({"torch a": 1.0, "nnx b": 2.0, "linen c": 1.5}, 10, 0.005, "SURE",
         r"^NNX is 2\.0× as fast as torch \[.*\]; Linen takes 1\.3× as long\.$"),
        ({"torch a": 2.0, "nnx b": 1.0}, 10, 0.005, "SURE",
         r"^Torch is 2\.0× as fast as NNX \[.*\]\.$"),
        (FIVE, 10, 0.005, "TIE",
         r"^.*compiled torch.* are level \(within \d %\); TensorFlow takes"),
        ({"torch a": 1.0, "nnx b": 2.0, "linen c": 1.99}, 4, 0.05, "SURE",
         r"as fast as torch .*; not told apart yet from \w+: (Linen|NNX) \(0\.\d+× to \d"),
        ({"torch a": 1.0, "nnx b": 1.001}, 3, 0.1, "UNKNOWN",
         r"came out first, .* but more runs have to show who is fastest\.$"),
        ({"torch a": 1.0, "nnx b": 2.0}, 1, 0.01, "UNKNOWN",
         r"^NNX came out first, [12]\.\d× as fast as torch, in a single block: run again for"),
        ({"torch a": 1.0}, 5, 0.01, "UNKNOWN", r"^Torch ran alone"),
    ],
)  # fmt: skip
def test_a_sentence_says_no_more_than_is_known(speeds, blocks, noise, confidence, expected):
    card = only_card(speeds, blocks, noise)
    assert (card.confidence, bool(re.search(expected, card.sentence))) == (confidence, True), card


def test_what_is_sure_of_another_library_is_not_said_of_a_cell_that_is_not_told_apart():
    speeds = {"torch a": 1.0, "torch b": 1.02, "tensorflow c": 0.5}
    cards = [only_card(speeds, blocks=4, noise=0.05, seed=seed) for seed in range(20)]
    sure = [card for card in cards if "not told apart yet from torch" in card.sentence]
    assert sure
    for card in sure:
        assert card.confidence == "SURE"
        assert "as fast as TensorFlow" in card.sentence
        assert "as fast as torch" not in card.sentence


def test_probably_is_what_its_own_interval_says_and_the_family_does_not():
    speeds = {"torch a": 1.0, "nnx b": 1.1, "tensorflow c": 1.02}
    cards = [only_card(speeds, blocks=4, noise=0.03, seed=seed) for seed in range(20)]
    likely = [card for card in cards if card.confidence == "LIKELY"]
    assert likely
    assert all("NNX is probably fastest, 1." in card.sentence for card in likely)


def test_the_named_cell_is_the_one_that_ranks_first():
    for seed in range(30):
        card = only_card({"torch a": 1.0, "nnx b": 1.02, "linen c": 1.01}, 3, 0.03, seed=seed)
        first = card.group.cells[0]
        assert card.times[0].cell is first
        if card.confidence != "TIE":
            name = answer._name(first, card.group)
            assert card.sentence.lower().startswith(name.lower())


def test_barred_cells_are_left_out_and_named_with_the_reason():
    card = only_card(FIVE, flags={"tensorflow xla": {"recompiled": 2}, "linen jit": {"noisy": 0.3}})
    assert "left out: TensorFlow (recompiled)" in card.sentence
    assert "Linen" in card.sentence.split(" are level")[0]
    assert next(t for t in card.times if t.name == "TensorFlow").barred == ("recompiled",)


def test_nobody_wins_where_one_valid_cell_is_left():
    flags = {"torch a": {"recompiled": 1}, "nnx b": {"nan": True}}
    card = only_card({"torch a": 3.0, "nnx b": 2.0, "linen c": 1.5}, flags=flags)
    expected = "No conclusion: every cell but Linen is barred (nan, recompiled)."
    assert card.sentence == expected
    assert card.confidence == "UNKNOWN"


def test_frameworks_of_another_version_are_named_as_they_are():
    records = synthetic.race(FIVE, blocks=4, group=FUSED)
    for record in records:
        record["cell"] |= {"loop": "fused"}
        if record["cell"]["label"] == "nnx split":
            record["cell"] |= {"framework": "haiku", "label": "haiku jit"}
    assert "Haiku jit" in answered(records).cards[0].sentence


def test_a_task_is_solved_once_and_not_a_million_times():
    group = "ppo · gymnasium/CartPole-v1 · solve · num_envs 4"
    starts = {"import": 1.2, "build": 0.3}
    records = synthetic.race(
        FIVE, blocks=4, unit_s=20.0, group=group, unit="solutions", phases_s=starts
    )
    (card,) = answered(records).cards
    for time in card.times:  # starting is part of what was timed
        assert time.start_s == 1.5
        assert time.total_s == pytest.approx(time.cell.seconds_per_unit, rel=0.1)
    assert card.break_even == ""
    assert "how long does one solution take?" in bars.time_chart("CartPole-v1", card).title


def test_a_lost_reference_is_said():
    records = [
        r for r in synthetic.race(FIVE, blocks=4, group=HOST) if r["cell"]["mode"] != "compile"
    ]
    records += [synthetic.failed("torch compile", b, group=HOST) for b in range(4)]
    (card,) = answered(records).cards
    assert "compiled torch, the reference, did not finish: crash: worker ended" in card.sentence


def test_the_title_names_libraries_and_has_a_sentence_for_each_kind_of_answer():
    fused = {k: 11 if k[0] in "lne" else v for k, v in FIVE.items()}
    records = synthetic.race(FIVE, seed=1, group=HOST) + synthetic.race(fused, seed=2, group=FUSED)
    title = answered(records).title
    assert re.fullmatch(
        r"On HalfCheetah-v4, JAX and compiled torch are level \(within \d %\); TensorFlow takes "
        r"1\.8× as long\. On CartPole-v1 in JAX, JAX is 11× as fast as compiled torch\.",
        title.replace("compiled torch and JAX", "JAX and compiled torch"),
    ), title


def test_many_answers_are_averaged_with_an_interval():
    tasks = [f"ppo · gymnax/Task{i}-v1 · train · num_envs 4" for i in range(4)]
    speeds = [{**FIVE, "linen jit": 2.0 + i, "nnx split": 3.0} for i in range(4)]
    records = [r for s, t in zip(speeds, tasks, strict=True) for r in synthetic.race(s, group=t)]
    title = answered(records).title
    assert title.startswith("Over 4 groups, by geometric mean, relative to torch compile: ")
    mean = (2 * 3 * 4 * 5) ** 0.25
    found = re.search(r"Linen (\d\.\d)× \[(\d\.\d), (\d\.\d)\]", title)
    assert float(found[1]) == pytest.approx(mean, abs=0.1)
    assert float(found[2]) - 0.05 <= mean <= float(found[3]) + 0.05  # as printed


def test_times_of_a_million_steps_have_the_ratios_that_are_shown():
    card = only_card(FIVE)
    reference = next(t for t in card.times if t.name == "compiled torch")
    assert reference.low_s is None
    for time in card.times:
        if comparison := time.cell.comparison:
            assert reference.steady_s / time.steady_s == pytest.approx(comparison.ratio)
            assert time.low_s < time.steady_s < time.high_s
    assert reference.start_s == pytest.approx(1.2 + 0.3 + 4.1)


def test_compiling_pays_where_it_saves_what_it_costs():
    speeds = {"torch compile": 2.0, "torch eager": 1.0}
    records = synthetic.race(speeds, group=HOST, unit_s=1e-4)
    for record in records:
        if record["cell"]["mode"] == "eager":
            record["phases_s"] = {"import": 1.2, "build": 0.3, "first_call": 0.1}
    (card,) = answered(records).cards
    # 4 s more to start, saved at 50 µs a step: after 80k steps, 8 s of eager training
    found = re.fullmatch(
        r"Compiled torch pays after (\d\d\.\d)k env steps \((\d\.\d\d) s of training\)\.",
        card.break_even,
    )
    assert float(found[1]) == pytest.approx(80, rel=0.1)
    assert float(found[2]) == pytest.approx(8, rel=0.1)


@pytest.mark.parametrize(("compile_s", "is_named"), [(4.0, False), (60.0, True)])
def test_who_is_first_because_it_starts_sooner_is_named(compile_s, is_named):
    # a million steps: 50 s in compiled torch, 60 s in TensorFlow
    records = synthetic.race({"torch compile": 1.2, "tensorflow xla": 1.0}, group=HOST, unit_s=6e-5)
    for record in records:
        first_call = compile_s if record["cell"]["framework"] == "torch" else 3.5
        record["phases_s"] = {"import": 1.2, "build": 0.3, "first_call": first_call}
    (card,) = answered(records).cards
    assert card.sentence.startswith("Compiled torch is")
    named = (
        "For a million env steps, start and compilation included, TensorFlow needs the least time: "
        "it starts 56 s sooner than compiled torch."
    )
    assert card.break_even == (named if is_named else "")


def test_identical_programs_are_a_control():
    records = synthetic.race(FIVE, group=FUSED)
    assert re.search(r"Linen and Equinox .* came out 1\.0\d×", answered(records).controls)
    assert answered(synthetic.race(FIVE, group=HOST)).controls == ""


def test_the_answer_is_about_training_if_anything_trained():
    update = HOST.replace("train", "update")
    records = synthetic.race(FIVE, group=update) + synthetic.race(FIVE, group=HOST)
    (card,) = answered(records).cards
    assert card.group.group == HOST


def test_what_could_tell_more_is_a_command_with_its_time():
    found = answered(synthetic.race(FIVE, group=HOST))
    assert found.command == "tiebreak run quick --scale full"
    assert "h" in found.command_about
    own = {**SUITE, "command": "tiebreak run mine.toml --scale quick"}
    assert answered(synthetic.race(FIVE, group=HOST), own).command == ""
    survey = {**SUITE, "command": "tiebreak run gymnax-ppo --scale quick"}
    assert answered(synthetic.race(FIVE, group=HOST), survey).command.endswith("--scale survey")


def test_nothing_finished_is_said():
    found = answered([synthetic.failed("torch compile", 0)])
    assert found.title == "No run has finished: there is no answer yet."
    assert found.cards == ()
