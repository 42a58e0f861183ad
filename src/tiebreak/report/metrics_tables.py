"""Tables of documents that are made from the source: what each metric of an algorithm is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tiebreak import registry
from tiebreak.core.config import field_texts
from tiebreak.core.errors import UsageError
from tiebreak.report.markdown import escape, table


def metrics(results: Path, paths: Sequence[str], options: Mapping[str, str]) -> Iterator[str]:
    """Yield a section for each algorithm, with its metrics and the texts below their fields."""
    if paths or options:
        raise UsageError("the table metrics takes no words: it is of all algorithms")
    for algorithm in registry.ALGORITHMS:
        kind = registry.data_module(algorithm).Metrics
        texts = field_texts(kind)
        yield f"### {algorithm.upper()}"
        yield ""
        specification = f"../src/tiebreak/algorithms/{algorithm}/README.md"  # from docs/
        yield f"The symbols are those of [the specification]({specification})."
        yield ""
        rows = [[f"`{name}`", escape(texts[name])] for name in kind._fields]
        yield from table(["metric", "what it is"], rows)
        yield ""


KINDS = {"metrics": metrics}
