"""The documentation site: what is drawn from the source is whole, and dead links are found."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hygiene import tree
from website import assemble, check, directives, picture, siblings

from tiebreak import registry

CODE = re.compile(r"<pre><code>(.*?)</code></pre>", re.DOTALL)


def test_every_document_is_a_page():
    pages = assemble.documents()
    ours = [tree.name(p) for p in tree.published() if p.suffix == ".md"]
    missing = sorted(name for name in ours if name not in pages)
    assert not missing, f"add to SECTIONS of docs/website/assemble.py: {missing}"
    assert len(pages) == len(set(pages))


def test_every_directive_is_known():
    used = {
        match["words"].split()[0]
        for name in assemble.documents()
        for match in directives.DIRECTIVE.finditer((tree.ROOT / name).read_text("utf-8"))
    }
    assert used == set(directives.KINDS)


def test_no_line_of_an_implementation_is_left_out():
    wrong: list[str] = []
    for algorithm in registry.ALGORITHMS:
        folder = tree.SRC / "algorithms" / algorithm
        frameworks = registry.frameworks_of(algorithm)
        files = [folder / f"{algorithm}_{framework}.py" for framework in frameworks]
        for path in [*files, folder / "losses_jax.py"]:
            drawn = [line for part in siblings.parts(path).values() for line in part.lines]
            source = path.read_text("utf-8").splitlines()
            if list(filter(None, drawn)) != list(filter(None, source)):
                wrong.append(tree.name(path))
    assert not wrong, f"statements outside of functions, behind the first: {wrong}"


def test_a_page_has_each_function_in_each_framework_in_the_order_of_the_siblings():
    implementations = {name: siblings.implementation("sac", name) for name in registry.FRAMEWORKS}
    text = "\n".join(siblings.page("sac"))
    headings = re.findall(r"^## `(\w+)`", text, re.MULTILINE)
    public = [
        n for n in tree.top_level_names(tree.SRC / "algorithms/sac/sac_torch.py") if n[0] != "_"
    ]
    assert [name for name in headings if name in public] == public
    columns = sum(len(parts) for parts in implementations.values())
    assert len(CODE.findall(text)) == columns
    assert '<a href="index.html#d7" title="critics → actor → α → targets' in text


def test_decisions_stand_level():
    texts = [
        ["def f():", "    a  # D1", "    b  # D2 D3"],
        ["def f():", "    x", "    y", "    a  # D1", "    b  # D9", "    b  # D2 D3", "    z"],
    ]
    first, second = siblings.align(texts)
    assert [line for line in first if line] == texts[0]
    assert second == texts[1]
    assert first.index("    a  # D1") == second.index("    a  # D1")
    assert first.index("    b  # D2 D3") == second.index("    b  # D2 D3")


def test_every_decision_has_a_text_and_an_anchor():
    for algorithm in registry.ALGORITHMS:
        text = (tree.ROOT / assemble.specification(algorithm)).read_text("utf-8")
        decisions = siblings.read_decisions(algorithm)
        assert set(decisions) == set(re.findall(r"^\| (D\d+) \|", text, re.MULTILINE))
        assert all(len(decision) > 10 for decision in decisions.values())
        anchored = assemble.add_anchors(text)
        assert all(f'<a id="{tag.lower()}"></a>{tag} |' in anchored for tag in decisions)


def test_every_setting_has_a_text(tmp_path):
    text = directives.expand("<!-- site: settings -->", tmp_path)
    assert "| `target_entropy_scale` | `1.0` | Target entropy per action dimension" in text
    assert "| `hidden_sizes` | `256,256` |" in text
    assert text.count("### ") == len(registry.ALGORITHMS)
    empty = re.findall(r"^\|.*\|\s*\|$", text, re.MULTILINE)
    assert not empty


def test_numbered_items_keep_their_paragraphs():
    text = "1. one\n\n   y = 1\n   more\n2. two\n\nz\n\n   w = 2"
    expected = "1. one\n\n    y = 1\n    more\n2. two\n\nz\n\n   w = 2"
    assert assemble.indent_lists(text) == expected


def test_the_picture_is_small_and_of_the_records():
    data = picture.PICTURE.read_bytes()
    assert len(data) <= 200_000
    assert picture.records_digest().encode() in data, "run `make picture`"


def test_dead_links_missing_anchors_and_foreign_addresses_are_found(tmp_path):
    (tmp_path / "other.html").write_text('<h2 id="there">x</h2>')
    (tmp_path / "index.html").write_text(
        '<a href="other.html#there">1</a> <a href="other.html#gone">2</a> <a href="no.html">3</a>'
        '<a href="https://example.org">4</a> <img src="https://example.org/x.png">'
        '<link rel="stylesheet" href="//example.org/x.css">'
    )
    (tmp_path / "style.css").write_text("@import url(https://example.org/font.css);")
    assert sorted(check.problems(tmp_path)) == [
        "index.html loads //example.org/x.css",
        "index.html loads https://example.org/x.png",
        "index.html: no.html leads nowhere",
        "index.html: other.html#gone: there is no such anchor",
        "style.css loads https://example.org/font.css",
    ]


@pytest.mark.slow(share=0.02)
def test_the_site_builds_without_a_dead_link():
    """Is on command, in effect: `make docs` is the same, with more to read when it fails."""
    pytest.importorskip("zensical")
    command = [sys.executable, "-m", "website"]
    built = subprocess.run(
        command, cwd=tree.ROOT / "docs", capture_output=True, text=True, timeout=300, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
