"""Collect the site's pages: the repository's own Markdown, in its own folders, and drawn pages.

Pages keep the places that they have in the repository, so that links between them stay as they are.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tiebreak import registry
from website import siblings
from website.directives import ROOT, expand

WEBSITE = Path(__file__).resolve().parent
ALGORITHMS = "src/tiebreak/algorithms"
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
SECTIONS = {
    "Start": (
        "README.md",
        "docs/findings.md",
        "docs/first-agent.md",
        "docs/choosing.md",
        "docs/goals.md",
    ),
    "Training": (
        "docs/training.md",
        "docs/devices.md",
        "docs/export.md",
        "docs/settings.md",
        "docs/metrics.md",
        "docs/coming-from.md",
    ),
    "Algorithms": ("docs/reading.md", "docs/linen-nnx-torch.md", "docs/verify-yours.md"),
    "Benchmarks": ("docs/benchmarks.md", "docs/measuring.md"),
    "Results": ("results/README.md", "results/*/README.md"),
    "Development": (
        "docs/architecture.md",
        "docs/adding.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/decisions/*.md",
    ),
}
"""Tab of the site -> its pages, as patterns of paths in the repository."""


def assemble(target: Path) -> None:
    """Write all pages and the configuration of the site into `target`, which is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    pages = target / "pages"
    for path in [ROOT / name for name in documents()]:
        copy_page(path, pages)
    for algorithm in registry.ALGORITHMS:
        file = pages / ALGORITHMS / algorithm / "side-by-side.md"
        write_page(file, "\n".join(siblings.page(algorithm)))
    for asset in ("style.css", "iframe-worker.js"):
        shutil.copy(WEBSITE / asset, pages)
    config = (WEBSITE / "mkdocs.yml").read_text(encoding="utf-8")
    (target / "mkdocs.yml").write_text(f"{config}nav: {json.dumps(navigation())}\n", "utf-8")


def documents() -> list[str]:
    """Return the repository's documents that are pages of the site."""
    listed = [name for patterns in SECTIONS.values() for name in files(patterns)]
    return listed + [specification(algorithm) for algorithm in registry.ALGORITHMS]


def files(patterns: tuple[str, ...]) -> Iterator[str]:
    """Yield the paths that patterns stand for; README.md comes first in its folder."""
    for pattern in patterns:
        found = sorted(ROOT.glob(pattern), key=lambda path: (path.name != "README.md", path))
        yield from (path.relative_to(ROOT).as_posix() for path in found)


def specification(algorithm: str) -> str:
    """Return the path of an algorithm's specification."""
    return f"{ALGORITHMS}/{algorithm}/README.md"


def navigation() -> list[dict[str, Any]]:
    """Return the site's tabs and pages; a page without a title has that of its first heading."""
    tabs: list[dict[str, Any]] = []
    for title, patterns in SECTIONS.items():
        entries: list[Any] = list(files(patterns))
        if title == "Algorithms":
            entries[1:1] = [
                {name.upper(): [specification(name), f"{ALGORITHMS}/{name}/side-by-side.md"]}
                for name in registry.ALGORITHMS
            ]
        tabs.append({title: entries})
    return tabs


def copy_page(path: Path, pages: Path) -> None:
    """Copy a document, with its directives expanded, and the files that it links to."""
    file = pages / path.relative_to(ROOT)
    file.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        linked = (path.parent / target).resolve()
        if linked.is_file() and linked.suffix != ".md":
            copy = pages / linked.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(linked, copy)
    if path.is_relative_to(ROOT / ALGORITHMS):
        text = add_anchors(text)
    write_page(file, expand(indent_lists(text), file.parent))


def write_page(file: Path, text: str) -> None:
    """Write a page; one with columns of code has the whole width."""
    is_wide = '<div class="siblings">' in text
    hidden = "---\nhide: [navigation, toc]\n---\n" if is_wide else ""
    file.write_text(hidden + text, encoding="utf-8")


def indent_lists(text: str) -> str:
    """Indent what continues a numbered item by four columns, as Python-Markdown wants it.

    GitHub, and so our documents, are content with the width of `1. `.
    """
    lines: list[str] = []
    is_item = False
    for line in text.split("\n"):
        if line and not line.startswith(" "):
            is_item = bool(re.match(r"\d+\. ", line))
        lines.append(f" {line}" if is_item and line.startswith("   ") else line)
    return "\n".join(lines)


def add_anchors(specification: str) -> str:
    """Give each decision of a specification an anchor, and link the page with the code."""
    anchored = re.sub(
        r"^\| (D(\d+)) \|", r'| <a id="d\2"></a>\1 |', specification, flags=re.MULTILINE
    )
    link = "\n\n[All implementations side by side](side-by-side.md)\n"
    return re.sub(r"^(# .*)\n", rf"\1{link}", anchored, count=1)
