"""Print what `tiebreak verify --against` has found."""

from __future__ import annotations

from typing import Any

from tiebreak.verify.against.check import ORACLE
from tiebreak.verify.compare import NOT_COMPARABLE


def print_result(result: dict[str, Any], console: Any) -> None:
    """Print the table of terms, the first difference of each comparison and what explains it."""
    from rich.markup import escape

    comparisons = result["comparisons"]
    for group in _tables(comparisons):
        console.print(_table(result["against"], group))
        console.print()
    for comparison in comparisons:
        if not _is_repeated(comparison, comparisons):
            for line in lines_of(comparison):
                console.print(escape(line), soft_wrap=True)
    for note in result["notes"]:
        console.print(f"[dim]{escape(note)}[/]", soft_wrap=True)
    word = "[green]green[/]" if result["green"] else "[red]not green[/]"
    text = f"{result['updates']} updates; {result['problem']}"
    console.print(f"{word}: {escape(text)}", soft_wrap=True)


def _tables(comparisons: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the comparisons of each table: all of one agent, or those of one precision."""
    if all(c["other"] == ORACLE and c["one"] == comparisons[0]["one"] for c in comparisons):
        return [comparisons]
    precisions = dict.fromkeys(c["precision"] for c in comparisons)
    return [[c for c in comparisons if c["precision"] == p] for p in precisions]


def _is_repeated(comparison: dict[str, Any], comparisons: list[dict[str, Any]]) -> bool:
    """Return True if an earlier precision has the same first difference."""
    for other in comparisons:
        if other is comparison:
            return False
        same = all(other[key] == comparison[key] for key in ("one", "other"))
        if same and other["first"] and comparison["first"]:
            return all(other["first"][k] == comparison["first"][k] for k in ("term", "update"))
    return False


def lines_of(comparison: dict[str, Any]) -> list[str]:
    """Return the sentences about one comparison."""
    title = f"{comparison['one']} and {comparison['other']}, {comparison['precision']}"
    if comparison["first"] is None:
        return [f"{title}: the same, to {comparison['worst']:.1e}"]
    out = [f"{title}: {difference(comparison['first'])}"]
    for deviation in comparison["deviations"]:
        seen = f" ({deviation['seen_in']})" if deviation["seen_in"] else ""
        out.append(f"  explained by {deviation['decision']}: {deviation['text']}{seen}")
    if comparison["explained"]:
        worst = comparison["explained_worst"]
        out.append(f"  with this in the oracle everything is the same, to {worst:.1e}")
    elif comparison["remaining"]:
        out.append(f"  not explained: then {difference(comparison['remaining'])}")
    return out


def difference(first: dict[str, Any]) -> str:
    """Return the first difference in words."""
    text = f"{first['term']} differs first, in update {first['update']}"
    if first["error"] == NOT_COMPARABLE:
        return f"{text}: {first['reason']}"
    array = "" if first["array"] == first["term"] else f" ({first['array']})"
    text += f"{array}: {first['got']:.6g}, not {first['want']:.6g}"
    if first["factor"] is not None:
        text += f", {first['factor']:.6g} times as much"
    return text


def _table(title: str, comparisons: list[dict[str, Any]]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=f"{title}: largest differences", box=SIMPLE_HEAD, show_edge=False)
    table.add_column("term")
    for comparison in comparisons:
        pair = [n for n in (comparison["one"], comparison["other"]) if n != ORACLE]
        table.add_column("\n".join([*pair, comparison["precision"]]), justify="right")
    for term in dict.fromkeys(row["term"] for c in comparisons for row in c["rows"]):
        table.add_row(term, *(_cell(comparison, term) for comparison in comparisons))
    return table


def _cell(comparison: dict[str, Any], term: str) -> str:
    """Return an error; where it is too large, with the update, and marked if it is the first."""
    row = next((row for row in comparison["rows"] if row["term"] == term), None)
    if row is None:
        return "–"
    text = "shape" if row["error"] == NOT_COMPARABLE else f"{row['error']:.1e}"
    if row["ok"]:
        return text
    first = comparison["first"]
    if first["term"] == term and first["update"] == row["update"]:
        return f"[bold red]first ▸ {text} in {row['update']}[/]"
    return f"[yellow]{text} in {row['update']}[/]"
