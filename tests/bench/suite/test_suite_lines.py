"""What is wrong in a suite file is said in one line that begins with where it is."""

from __future__ import annotations

import pytest
from bench.suite.test_suite import MINIMAL, RACE, load

from tiebreak.core.errors import UsageError


def scaled(line):
    """The minimal suite with another line in its scale, which is line 3."""
    return MINIMAL.replace("blocks = 4", line)


CEILING = MINIMAL + 'ceilings = [{ task = "brax/halfcheetah", framework = "nnx" }]'
ALIKE = '{{ task = "brax/halfcheetah", framework = "{}", label = "a" }}'

LOCATED = {
    "unknown suite key 'sede'": ("sede = 1\n" + MINIMAL, 1),
    "unknown scale key 'block'; did you mean 'blocks'": (MINIMAL.replace("blocks", "block"), 3),
    "unknown scale 'quik'; did you mean 'quick'": (MINIMAL.replace("quick", "quik"), 2),
    "unknown race key 'tasks'; did you mean 'task'": (MINIMAL.replace("task =", "tasks ="), 5),
    "unknown row key 'frame_work'; did you mean 'framework'": (
        MINIMAL.replace("framework = \"nnx\"", "frame_work = \"nnx\""), 7,
    ),
    "unknown framework 'torhc'; did you mean 'torch'": (MINIMAL.replace("torch", "torhc"), 7),
    "unknown framework ''": (MINIMAL.replace('framework = "torch"', ""), 7),
    "unknown probe 'trian'; did you mean 'train'": (MINIMAL.replace("train", "trian"), 6),
    "unknown engine 'gymnasim'; did you mean": (MINIMAL.replace("nasium", "nasim"), 5),
    "a task is written engine/name": (MINIMAL.replace("gymnasium/", ""), 5),
    "has no mode 'jit'": (MINIMAL.replace('"torch"', '"torch", mode = "jit"'), 7),
    "mode takes a string, got 3": (MINIMAL.replace('"torch"', '"torch", mode = 3'), 7),
    "loop 'fused' needs": (MINIMAL.replace('"torch"', '"torch", loop = "fused"'), 7),
    "unknown loop 'fast'": (MINIMAL.replace('"torch"', '"torch", loop = "fast"'), 7),
    "threads takes a whole number above 0, got 0": (
        MINIMAL.replace('"torch"', '"torch", threads = 0'), 7,
    ),
    "threads takes a whole number above 0, got True": (
        MINIMAL.replace('"torch"', '"torch", threads = true'), 7,
    ),
    "label takes a string": (MINIMAL.replace('"torch"', '"torch", label = ["a"]'), 7),
    "size is set for a race": (MINIMAL.replace('"torch"', '"torch", size = "m"'), 7),
    "unknown precision 'bf16'; did you mean 'bfloat16'": (
        MINIMAL.replace('"nnx"', '"nnx", precision = "bf16"'), 7,
    ),
    "precision takes a string, got 16": (MINIMAL.replace('"nnx"', '"nnx", precision = 16'), 7),
    "ppo has no precision 'bfloat16' (it is there for fasttd3": (
        MINIMAL.replace('"nnx"', '"nnx", precision = "bfloat16"'), 7,
    ),
    "dqn has no precision 'bfloat16'": (
        MINIMAL + 'algorithm = ["fasttd3", "dqn"]\nprecision = "bfloat16"', 9,
    ),
    "precision is a list of the race's": (
        MINIMAL.replace('"nnx"', '"nnx", precision = "tf32"')
        + 'precision = ["float32", "float64"]', 7,
    ),
    "a ceiling needs task": (CEILING.replace('task = "brax/halfcheetah", ', ""), 8),
    "unknown engine 'brx'; did you mean 'brax'": (CEILING.replace("brax", "brx"), 8),
    "unknown ceiling key 'tsk'; did you mean 'task'": (CEILING.replace("[{ task", "[{ tsk"), 8),
    "a ceiling is of another engine than the race's gymnasium/CartPole-v1": (
        CEILING.replace("brax", "gymnasium"), 8,
    ),
    "unknown ceiling key 'size'": (CEILING.replace("{ task", '{ size = "m", task'), 8),
    "its race does not measure the probe env": (
        CEILING.replace("{ task", '{ probes = ["env"], task'), 8,
    ),
    "ceilings takes a list of tables": (MINIMAL + "ceilings = 3", 8),
    "an earlier race is 'ppo · brax/halfcheetah · update · num_envs 1 · ceiling: a' too": (
        MINIMAL + f"ceilings = [{ALIKE.format('nnx')}, {ALIKE.format('linen')}]", 8,
    ),
    "unknown size 'xl'": ('\nsize = "xl"\n' + MINIMAL, 2),
    "unknown cache 'hot'": (MINIMAL + 'cache = ["warm",\n"hot"]', 9),
    "device takes a string, got 0": (MINIMAL + "device = 0", 8),
    "description takes a string": ("description = 1\n" + MINIMAL, 1),
    "num_envs takes a whole number above 0, got 0": (MINIMAL + "num_envs = [4, 0]", 8),
    "num_envs takes a whole number above 0, got True": (MINIMAL + "num_envs = true", 8),
    "num_envs has no value": (MINIMAL + "num_envs = []", 8),
    "num_envs names a value twice": (MINIMAL + "num_envs = [4, 4]", 8),
    "unknown setting 'gama'; did you mean 'gamma'": (MINIMAL + "config = { gama = 0.9 }", 8),
    "gamma takes float, got 'a'": (MINIMAL + "[races.quick]\ngamma = 'a'", 9),
    "unknown scale 'ful'; did you mean 'full'": (MINIMAL + 'scales = ["quick",\n"ful"]', 9),
    "none of the suite's races belongs to the scale 'quick'": (MINIMAL + 'scales = "full"', 4),
    "gamma takes float, got 'b'": (
        MINIMAL.replace('"nnx"', '"nnx", config = { gamma = "b" }'), 7,
    ),
    "num_minibatches (9) must divide": (
        MINIMAL.replace('"nnx"', '"nnx", config = { num_minibatches = 9 }'), 7,
    ),
    "name takes a string, got 3": (MINIMAL + "name = 3", 8),
    "hidden_sizes is set by size": (MINIMAL + "config = { hidden_sizes = [3] }", 8),
    "num_envs is set by": (MINIMAL + "config = { num_envs = 3 }", 8),
    "num_minibatches (7) must divide": (MINIMAL + "config = { num_minibatches = 7 }", 8),
    "config takes a table": (MINIMAL + "config = 3", 8),
    "rows takes a list of tables": (MINIMAL.replace(MINIMAL.partition("rows")[2], " = 3"), 7),
    "blocks takes a whole number, 1 or more, got 0": (scaled("blocks = 0"), 3),
    "blocks takes a whole number, 1 or more, got 2.5": (scaled("blocks = 2.5"), 3),
    "memory_calls takes a whole number, 0 or more": (scaled("memory_calls = -1"), 3),
    "sample_s takes a number above 0": (scaled("sample_s = 0"), 3),
    "budget_s takes a number above 0": (scaled("budget_s = true"), 3),
    "share_process takes true or false": (scaled("share_process = 1"), 3),
    "stages takes numbers of blocks that rise": (scaled("stages = [10, 6]"), 3),
    "stages takes numbers of blocks that rise ": (scaled("stages = [5, 10]"), 3),
    "first takes a list of probes": (scaled('first = "train"'), 3),
    "unknown probe 'forwart'; did you mean 'forward'": (scaled('first = ["forwart"]'), 3),
    "first goes with blocks, not with stages": (scaled('stages = [2]\nfirst = ["train"]'), 4),
    "rounds takes an even number, got 7": (scaled("rounds = 7"), 3),
    "rounds takes a whole number, 0 or more": (scaled("rounds = 2.5"), 3),
    "blocks is the last of the stages": (scaled("stages = [2]\nblocks = 2"), 4),
    "scales takes a table": ("scales = 3\n" + MINIMAL.partition("4")[2], 1),
    "names a cell twice": (MINIMAL.replace("linen", "nnx"), 7),
    "a race needs rows": (MINIMAL.partition("rows")[0], 4),
    "not TOML": (MINIMAL + "]", 8),
    "not TOML: Unterminated": (MINIMAL + 'a = """\n', 9),
    "names no race": (MINIMAL.partition("[[races]]")[0], None),
    "with other settings": (
        MINIMAL + "[[races]]\nconfig = { gamma = 0.9 }\n" + RACE.replace("torch", "equinox"), 12,
    ),
}  # fmt: skip
"""Message -> a text that is wrong, and the line that is named."""


@pytest.mark.parametrize("message", LOCATED)
def test_what_is_wrong_in_a_suite_is_said_with_its_line(tmp_path, message):
    load(tmp_path, MINIMAL)
    text, line = LOCATED[message]
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    said = str(caught.value)
    assert message.strip() in said
    assert "\n" not in said
    assert said.startswith(f"{tmp_path / 'mine.toml'}{f':{line}' if line else ''}: "), said
