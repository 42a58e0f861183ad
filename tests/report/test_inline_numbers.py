"""Numbers within sentences are those of the tables that their definitions name."""

from __future__ import annotations

import pytest

from tiebreak.core.errors import UsageError
from tiebreak.report import inline_numbers
from tiebreak.report.markdown import escape, table

ROWS = [
    ["linen jit", "153k, 13.1× [12.7, 13.5] (fused)", "9.11k, 1.08× [0.99, 1.17]"],
    ["torch compile", "11.6k, reference (bridge)", "8.81k, reference"],
    ["num_envs 4", "A_1", ""],
    ["num_envs 4", "B", "2.0 ms"],
]
NAMES = {
    "lead": "race m | linen jit | CartPole-v1 | ratio",
    "factor": "race m | linen jit | CartPole-v1 | factor",
    "linen": "race m | linen jit | CartPole-v1 | value",
    "torch": "race m | torch compile | CartPole-v1 | value",
    "whole": "race m | torch compile | HalfCheetah-v4",
    "low": r"race m | linen jit | CartPole-v1 | /\[([\d.]+),/",
    "two": "race m | num_envs 4 & B | HalfCheetah-v4",
    "speedup": "quotient linen torch",
    "part": "share torch linen",
}


def lines(words: str) -> list[str]:
    assert words == "race m"
    heads = ["", "CartPole-v1", "HalfCheetah-v4"]
    return ["", *table(heads, [list(map(escape, row)) for row in ROWS]), "", "a sentence"]


def document(name: str, spec: str | None = None, text: str = "?") -> str:
    """Return a sentence with a number, and one with each number that it is computed from."""
    names = {**NAMES, name: spec or NAMES[name]}
    kind, *operands = names[name].split()
    used = [name]
    if kind in inline_numbers.COMPUTED:
        used += [operand for operand in operands if operand in names]
    sentences = [f"[{text}][{key}] and [a link](r.md) [like this][none]." for key in used]
    defined = [f'[{key}]: r.md#x\n  "number: {names[key]}"' for key in used]
    return "\n".join([*sentences, "", *defined, ""])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("lead", "13.1× [12.7, 13.5]"),
        ("factor", "13.1×"),
        ("linen", "153k"),
        ("whole", "8.81k, reference"),
        ("low", "12.7"),
        ("two", "2.0 ms"),
        ("speedup", "13×"),
        ("part", "8 %"),
    ],
)
def test_a_number_is_that_of_its_table(name, shown):
    made = inline_numbers.render(document(name, text="1.0× [0.9, 1.1]"), lines)
    assert f"[{shown}][{name}] and [a link](r.md) [like this][none]." in made
    assert inline_numbers.render(made, lines) == made


def test_a_number_over_two_lines_is_made_anew():
    made = inline_numbers.render(document("lead", text="13.1×\n[12.7, 13.5]"), lines)
    assert made.startswith("[13.1× [12.7, 13.5]][lead]")


def test_what_is_written_by_hand_is_without_numbers():
    kept = inline_numbers.without_numbers(document("linen", text="153k"))
    assert kept.strip() == "and [a link](r.md) [like this][none]."


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("race m | linen jit", "write TABLE"),
        ("race m | linen | CartPole-v1", "0 entries of 'race m'"),
        ("race m | linen jit | CartPole", "0 entries of 'race m'"),
        ("race m | num_envs 4 | CartPole-v1", "2 entries of 'race m'"),
        ("race m | torch compile | CartPole-v1 | ratio", "has no ratio"),
        ("race m | linen jit | CartPole-v1 | ratios", "unknown part of a number"),
        ("quotient linen", "takes two names"),
        ("quotient linen torhc", "unknown number 'torhc'"),
        ("quotient linen two | CartPole-v1", "takes two names"),
        ("share linen whole2", "unknown number"),
    ],
)
def test_what_is_no_number_is_refused(spec, message):
    with pytest.raises(UsageError, match=message):
        inline_numbers.render(document("x", spec), lines)


def test_a_definition_that_no_sentence_uses_is_refused():
    text = document("linen").partition("\n")[2]
    with pytest.raises(UsageError, match="no sentence has the number linen"):
        inline_numbers.render(text, lines)


def test_a_text_that_is_no_amount_is_not_computed_with():
    spec = "race m | num_envs 4 & A_1 | CartPole-v1"
    text = f'[?][x] [?][y]\n\n[x]: r "number: {spec}"\n[y]: r "number: quotient x x"\n'
    with pytest.raises(UsageError, match="cannot compute with 'A_1'"):
        inline_numbers.render(text, lines)
