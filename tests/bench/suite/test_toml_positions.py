"""Every key of a TOML text is found in its line, whatever stands around it; or none is."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiebreak.bench.suite import suite, toml_positions
from tiebreak.bench.suite.toml_positions import locate

TRAPS = '''\
# comment = "not a key" [not.a.header]
title = "a # no comment, an = and a [bracket]"   # text = 1
literal = 'C:\\path' # it's
"quoted key" = 1
a.b."c.d" = 2

[scales.quick]   # [[races]]
blocks = 4
long = """
[scales.full]
inside = 1
\\""" and ""still"" inside""""
raw = \'\'\'
inside = 2
\'\'\'\'
when = 1979-05-27 07:32:00.5
[[races]]
probes = [
    "train",  # "update",
    "a ] b",
]
rows = [{ framework = "torch" }, { framework = "nnx",
    mode = "split" },
    # { framework = "linen" },
    { "frame" = { inner = [1, 2] } }]
[races.config]
gamma = 0.9
[[races]]
task = "x"
[races.config]
gamma = 0.8
deep.est = 1
'''
TRAPS = TRAPS.replace('"nnx",\n    mode', '"nnx", mode')  # inline tables keep to one line in 1.0
EXPECTED = {
    ("title",): 2,
    ("literal",): 3,
    ("quoted key",): 4,
    ("a", "b", "c.d"): 5,
    ("scales",): 7,
    ("scales", "quick"): 7,
    ("scales", "quick", "blocks"): 8,
    ("scales", "quick", "long"): 9,
    ("scales", "quick", "raw"): 13,
    ("scales", "quick", "when"): 16,
    ("races", 0): 17,
    ("races", 0, "probes"): 18,
    ("races", 0, "probes", 1): 20,
    ("races", 0, "rows", 1, "mode"): 22,
    ("races", 0, "rows", 2, "frame", "inner", 1): 24,
    ("races", 0, "config", "gamma"): 26,
    ("races", 1): 27,
    ("races", 1, "config", "gamma"): 30,
    ("races", 1, "config", "deep", "est"): 31,
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_keys_are_found_past_strings_comments_and_brackets(newline):
    found = locate(TRAPS.replace("\n", newline))
    assert {path: found.get(path) for path in EXPECTED} == EXPECTED
    assert not any("inside" in path for path in found)


KEYS = st.text(st.sampled_from("ab=[]{}#.\"' \\"), min_size=1, max_size=4)
STRINGS = st.text(st.sampled_from("ab=[]{}#,.\"' \\\n"), max_size=8)
VALUES = st.recursive(
    st.integers(0, 9) | st.booleans() | st.floats(0, 9) | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def quoted(text):
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
    return '"' + "".join(escapes.get(c, c) for c in text) + '"'


class Writer:
    """Writes TOML and keeps the line of each key that it writes: the oracle."""

    def __init__(self, draw):
        self.draw, self.text, self.lines = draw, "", {}

    def put(self, text):
        self.text += text

    def mark(self, path):
        self.lines.setdefault(path, self.text.count("\n") + 1)

    def gap(self, around=True):
        gaps = [" ", "", "\t"] + (["\n", " # = [ ' \" }\n", "\n\n"] if around else [])
        self.put(self.draw(st.sampled_from(gaps)))

    def value(self, value, path, inline=False):
        if isinstance(value, dict):
            self.table(value, path)
        elif isinstance(value, list):
            self.array(value, path, inline)
        elif isinstance(value, str):
            multiline = not inline and self.draw(st.booleans())
            body = quoted(value)[1:-1].replace("\\n", "\n" if multiline else "\\n")
            self.put(f'"""\n{body}"""' if multiline else quoted(value))
        else:
            self.put(str(value).lower())

    def table(self, value, path):
        self.put("{")
        for number, (key, inner) in enumerate(value.items()):
            self.put(", " if number else " ")
            self.pair(key, inner, path, inline=True)
        self.put(" }")

    def array(self, value, path, inline):
        self.put("[")
        for number, inner in enumerate(value):
            self.gap(around=not inline)
            self.mark((*path, number))
            self.value(inner, (*path, number), inline)
            self.gap(around=not inline)
            self.put(",")
        self.gap(around=not inline)
        self.put("]")

    def pair(self, key, value, path, inline=False):
        self.mark((*path, key))
        self.put(f"{quoted(key)} = ")
        self.value(value, (*path, key), inline)


@given(
    st.dictionaries(KEYS, VALUES, max_size=3), st.lists(st.dictionaries(KEYS, VALUES)), st.data()
)
@settings(max_examples=150, deadline=None)
def test_whatever_is_written_is_found_where_it_was_written(top, races, data):
    writer = Writer(data.draw)
    for key, value in top.items():
        writer.pair(key, value, ())
        writer.put("\n")
    for index, race in enumerate(races):
        writer.mark(("races",))
        writer.mark(("races", index))
        writer.put("[[ races ]] # [[races]]\n")
        for key, value in race.items():
            writer.gap()
            writer.pair(key, value, ("races", index))
            writer.put("\n")
    assert tomllib.loads(writer.text) == {**top, **({"races": races} if races else {})}
    assert locate(writer.text) == writer.lines


def test_no_line_is_given_where_the_scanner_lost_its_way(monkeypatch):
    assert locate("a = [1") == {}
    assert locate('a = "\\q"') == {}
    monkeypatch.setattr(toml_positions._Scanner, "_array", lambda self, path: None)
    assert locate("a = 1\nb = [1]\n") == {}


@pytest.mark.parametrize("name", suite.names())
def test_built_in_suites_are_located(name):
    assert locate((suite.SUITES / f"{name}.toml").read_text(encoding="utf-8"))
