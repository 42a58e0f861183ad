"""Set the implementations of an algorithm beside each other, function by function, as HTML."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import reduce
from html import escape
from pathlib import Path
from typing import NamedTuple

from tiebreak import registry

SRC = Path(__file__).resolve().parents[2] / "src" / "tiebreak"
HEAD = "imports"
"""Name of the part with a file's docstring, imports and constants."""
TAG = re.compile(r"\bD\d+\b")


class Specification(NamedTuple):
    """Where an algorithm's decisions are explained, and what they are."""

    href: str
    """The specification's page, relative to the page with the columns."""
    decisions: dict[str, str]
    """Tag -> decision, as plain text."""


class Part(NamedTuple):
    """A top-level function or class of a file, or its head."""

    file: str
    """Name of the file, in the algorithm's folder."""
    line: int
    """Number of the first line."""
    lines: list[str]


def page(algorithm: str) -> Iterator[str]:
    """Yield the Markdown of an algorithm's page: a section for each function, in all frameworks."""
    frameworks = registry.frameworks_of(algorithm)
    implementations = {name: implementation(algorithm, name) for name in frameworks}
    specification = Specification("index.html", read_decisions(algorithm))
    functions = names(list(implementations.values()))
    yield f"# {algorithm.upper()} in all frameworks"
    yield ""
    yield "The same function of each framework, drawn from the source. Show:"
    yield from choice(frameworks, shown=("torch", "nnx"))
    yield (
        "Lines with the same decision (D1, D2, …) stand level; [the specification](README.md) has "
        "the equations and the decisions, and a tag's tooltip its text. The frameworks on JAX "
        "share their losses."
    )
    yield ""
    yield "Go to " + " · ".join(f"[`{name}`](#{name})" for name in functions) + "."
    yield ""
    for name in functions:
        yield f"## `{name}` {{ #{name} }}"
        yield ""
        yield columns(name, implementations, specification)
        yield ""


def implementation(algorithm: str, framework: str) -> dict[str, Part]:
    """Return the parts of a framework's implementation by name; JAX's losses are shared."""
    folder = SRC / "algorithms" / algorithm
    own = parts(folder / f"{algorithm}_{framework}.py")
    if registry.FRAMEWORKS[framework].runtime != "jax":
        return own
    losses = parts(folder / "losses_jax.py")
    del losses[HEAD]
    return {**losses, **own}


def plumbing(framework: str) -> dict[str, Part]:
    """Return the parts of the module that a framework's agents share."""
    module = registry.FRAMEWORKS[framework].plumbing
    return parts(SRC.parent.joinpath(*module.split(".")).with_suffix(".py"))


def parts(path: Path) -> dict[str, Part]:
    """Return the functions and classes of a file by name, and what stands before them."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    found: dict[str, Part] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if not found:
                head = "\n".join(lines[: first - 1]).rstrip().split("\n")
                found[HEAD] = Part(path.name, 1, head)
            found[node.name] = Part(path.name, first, lines[first - 1 : node.end_lineno])
    return found


def names(implementations: Sequence[dict[str, Part]]) -> list[str]:
    """Return the names of all parts: public ones, then private ones, then the files' heads."""
    every = dict.fromkeys(name for parts in implementations for name in parts if name != HEAD)
    return [*sorted(every, key=lambda name: name.startswith("_")), HEAD]


def choice(frameworks: Sequence[str], shown: Sequence[str]) -> Iterator[str]:
    """Yield check boxes that show and hide columns, and the style by which they do it."""
    hidden = "\n".join(
        f".md-content:has(#show-{name}:not(:checked)) .siblings > .{name} {{ display: none; }}"
        for name in frameworks
    )
    boxes = " ".join(
        f'<label><input type="checkbox" id="show-{name}"{" checked" * (name in shown)}> '
        f"{escape(registry.FRAMEWORKS[name].title)}</label>"
        for name in frameworks
    )
    yield ""
    yield f"<style>\n{hidden}\n</style>"
    yield ""
    yield f'<div class="siblings-choice">{boxes}</div>'
    yield ""


def columns(
    name: str, implementations: dict[str, dict[str, Part]], specification: Specification
) -> str:
    """Return one function of several frameworks as HTML, with their decisions level."""
    having = {key: parts[name] for key, parts in implementations.items() if name in parts}
    aligned = align([part.lines for part in having.values()])
    bodies = dict(zip(having, aligned, strict=True))
    cells = [
        column(key, having.get(key), bodies.get(key, []), specification) for key in implementations
    ]
    return f'<div class="siblings">{"".join(cells)}</div>'


def column(
    framework: str, part: Part | None, lines: Sequence[str], specification: Specification
) -> str:
    """Return one framework's column; without a part it says that there is none."""
    title = escape(registry.FRAMEWORKS[framework].title)
    if part is None:
        return f'<div class="{framework}"><p>{title}<span>not needed here</span></p></div>'
    where = f"{part.file}, line {part.line}"
    code = link_decisions(highlight("\n".join(lines)), specification)
    return (
        f'<div class="{framework}"><p>{title}<span>{where}</span></p>'
        f'<div class="highlight"><pre><code>{code}</code></pre></div></div>'
    )


def highlight(code: str) -> str:
    """Return Python as HTML with Pygments' classes, which the theme has colors for."""
    from pygments import highlight as render
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return render(code, PythonLexer(stripnl=False), HtmlFormatter(nowrap=True))


def link_decisions(code: str, specification: Specification) -> str:
    """Link the decision tags in comments to the specification; a tooltip has the decision."""

    def link(match: re.Match[str]) -> str:
        tag = match[0]
        title = escape(specification.decisions[tag])
        return f'<a href="{specification.href}#{tag.lower()}" title="{title}">{tag}</a>'

    comment = re.compile(r'(<span class="c1">)([^<]*)(</span>)')
    return comment.sub(lambda m: m[1] + TAG.sub(link, m[2]) + m[3], code)


def read_decisions(algorithm: str) -> dict[str, str]:
    """Return the decisions of a specification by tag, as plain text."""
    text = (SRC / "algorithms" / algorithm / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|\s*(D\d+)\s*\|\s*((?:[^|\\]|\\.)*?)\s*\|", text, re.MULTILINE)
    return {tag: re.sub(r"\\(.)|[`*]", r"\1", decision) for tag, decision in rows}


def align(texts: Sequence[list[str]]) -> list[list[str]]:
    """Pad several texts with blank lines so that the decisions common to all stand level."""
    marks = [tagged_lines(lines) for lines in texts]
    common = reduce(longest_common, ([tag for tag, _ in row] for row in marks))
    positions = [places(row, common) for row in marks]
    padded: list[list[str]] = [[] for _ in texts]
    starts = [0] * len(texts)
    for stops in zip(*positions, strict=True):
        level = max(
            len(text) + stop - start
            for text, stop, start in zip(padded, stops, starts, strict=True)
        )
        for text, lines, start, stop in zip(padded, texts, starts, stops, strict=True):
            text += lines[start:stop]
            text += [""] * (level - len(text))
        starts = list(stops)
    for text, lines, start in zip(padded, texts, starts, strict=True):
        text += lines[start:]
    return padded


def tagged_lines(lines: Sequence[str]) -> list[tuple[str, int]]:
    """Return the decisions that lines are tagged with, and the index of the line."""
    comments = ((line.partition("# ")[2], index) for index, line in enumerate(lines))
    tags = ((" ".join(TAG.findall(comment)), index) for comment, index in comments)
    return [(tag, index) for tag, index in tags if tag]


def longest_common(first: list[str], second: list[str]) -> list[str]:
    """Return the longest sequence of texts that two lists have in the same order."""
    best: list[list[list[str]]] = [[[] for _ in range(len(second) + 1)]]
    for item in first:
        row: list[list[str]] = [[]]
        for index, other in enumerate(second):
            match = [*best[-1][index], item] if item == other else []
            row.append(max(match, row[index], best[-1][index + 1], key=len))
        best.append(row)
    return best[-1][-1]


def places(marks: Sequence[tuple[str, int]], common: Sequence[str]) -> list[int]:
    """Return the indices of lines at which a common sequence of tags stands in one text."""
    found: list[int] = []
    rest = iter(marks)
    for tag in common:
        found.append(next(index for mark, index in rest if mark == tag))
    return found
