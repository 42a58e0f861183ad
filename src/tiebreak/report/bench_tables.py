"""Tables of documents that are made from benchmark records."""

from __future__ import annotations

import functools
import json
import re
import statistics
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak.bench.manager.store import RECORDS, read_records, read_suite
from tiebreak.bench.suite import suite as suite_files
from tiebreak.bench.suite.cells import CONTESTANT
from tiebreak.bench.suite.plan import Cell
from tiebreak.core.errors import UsageError
from tiebreak.core.text import plural
from tiebreak.report import cross_tables, phrases, published
from tiebreak.report.formatting import DASH, measured_time, ratio, share, si
from tiebreak.report.markdown import escape, table
from tiebreak.report.page_data import read_folders
from tiebreak.report.terminal import card_to_markdown
from tiebreak.stats.ratios import summarize
from tiebreak.stats.summaries import CellSummary, GroupSummary

STALE = "stale.toml"
"""File below results/ that lists the folders measured with other source than today's."""

BRIDGE = ", bridge"
"""End of the label of a row that reaches a device engine through the bridge."""

Options = Mapping[str, str]


class StaleFolder(NamedTuple):
    """A results folder that was measured with other source than today's, and why that is kept."""

    folder: str
    """Relative to results/; stands for all folders in it that have no entry of their own."""
    sources: tuple[str, ...]
    """Digests of source in its records; empty texts for records of schema 1."""
    reason: str


def stale_folders(results: Path) -> list[StaleFolder]:
    """Return the accepted stale folders, as results/stale.toml lists them."""
    path = results / STALE
    if not path.is_file():
        return []
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["folders"]
    return [StaleFolder(row["folder"], tuple(row["sources"]), row["reason"]) for row in rows]


def find_stale(entries: Sequence[StaleFolder], folder: str) -> StaleFolder | None:
    """Return the entry that a folder belongs to: its own, or that of the nearest one above."""
    above = [e for e in entries if folder == e.folder or folder.startswith(f"{e.folder}/")]
    return max(above, key=lambda entry: len(entry.folder), default=None)


def measured_folders(results: Path) -> list[str]:
    """Return the folders below `results` that hold records of benchmarks, relative to it."""
    return sorted(str(path.parent.relative_to(results)) for path in results.rglob(RECORDS))


def recorded_source(folder: Path) -> str:
    """Return the digest of the source that a folder was measured with; empty for schema 1."""
    machine = [r["machine"] for r in read_records(folder) if r["kind"] == "machine"][-1]
    return machine.get("source", "")


def race(results: Path, paths: Sequence[str], options: Options) -> Iterator[str]:
    """Yield a race: a row for each cell, a column for each group, fastest of the first group first.

    Options: `probe` and `group` (a pattern) select groups, `reference` names what ratios are
    relative to, `value` is time (default), rate, thousand (seconds per 1000 units) or none. Of a
    built-in suite that is not measured yet, it is a line that says how to measure it.
    """
    path = _only(paths)
    folder = results / path
    if not (folder / RECORDS).is_file():
        yield _not_measured(path)
        return
    groups = _groups(folder, options.get("reference"))
    chosen = [g for g in groups if _is_chosen(g, options) and any(c.visits for c in g.cells)]
    if not chosen:
        raise UsageError(f"no group of {folder} fits {dict(options)}")
    shown = options.get("value", "time")

    labels = list(dict.fromkeys(_label(cell) for group in chosen for cell in group.cells))
    rows = []
    for label in labels:
        cells = [next((c for c in group.cells if _label(c) == label), None) for group in chosen]
        pairs = zip(cells, chosen, strict=True)
        rows.append([escape(label), *(_entry(cell, group, shown) for cell, group in pairs)])
    yield from table(["", *map(escape, _headings(chosen))], rows)
    yield ""
    yield f"{_unit(chosen, shown)} {_about(folder)}"


def peers(results: Path, paths: Sequence[str], options: Options) -> Iterator[str]:
    """Yield a row for each library in each game: its rate, and how much faster ours is.

    Ours is the fastest of our frameworks in that game. Option: `details` adds the settings of the
    games, and in what the libraries are known to differ. A folder that is not there yet is a line
    that says how to measure it.
    """
    path = _only(paths)
    folder = results / path
    if not (folder / RECORDS).is_file():
        yield _not_measured(path)
        return
    games = [_with_fastest_of_ours(folder, group) for group in _groups(folder, None)]
    titles = phrases.titles([group for group, _ in games])
    rows = []
    for title, (group, ours) in zip(titles, games, strict=True):
        for cell in group.cells:
            if cell.cell["framework"] == CONTESTANT:
                rows.append(list(map(escape, (title, *_against(cell, ours)))))
    yield from table(
        ["game", "ours, the fastest", "steps/s", "library", "steps/s", "ours is faster by"], rows
    )
    yield ""
    yield (
        "Median environment steps per second, or what is written, and the ratio of speeds with its "
        f"95 % interval; below 1 the library is faster. {_about(folder)}"
    )
    if options.get("details"):
        yield ""
        yield from _details(folder, titles, [group for group, _ in games])


def _not_measured(path: str) -> str:
    """Return how to measure a built-in suite whose folder is not there yet."""
    name = Path(path).name
    if name not in suite_files.names():
        raise UsageError(f"there are no records in {path}, and no suite of that name")
    return f"Not measured yet: `tiebreak run {name} --out results/{path}`."


def _with_fastest_of_ours(
    folder: Path, group: GroupSummary
) -> tuple[GroupSummary, CellSummary | None]:
    """Return a group with comparisons with the fastest of our frameworks, and that one."""
    ours = [
        cell
        for cell in group.cells
        if cell.units_per_s and not cell.barred and cell.cell["framework"] != CONTESTANT
    ]
    if not ours:
        return group, None
    fastest = max(ours, key=lambda cell: cell.units_per_s or 0.0)
    again = next(g for g in _groups(folder, fastest.label) if g.group == group.group)
    return again, again.find(fastest.cell_id)


def _against(cell: CellSummary, ours: CellSummary | None) -> list[str]:
    """Return our label and rate, a library's label and rate, and by how much ours is faster."""
    own = [ours.label, _rate(ours)] if ours else [DASH, DASH]
    label = cell.label.removesuffix(" (not proved)")
    if not cell.seconds_per_unit:
        return [*own, label, cell.failures[0].reason if cell.failures else DASH, ""]
    faster = ratio(cell.comparison.inverted()) if cell.comparison and ours else ""
    flags = f" ⚑ {', '.join(cell.barred)}" if cell.barred else ""
    return [*own, label, _rate(cell), faster + flags]


def _rate(cell: CellSummary) -> str:
    """Return steps per second; a time where they do not say it: solving a task, many updates."""
    seconds = cell.seconds_per_unit or 0.0
    if cell.cell["unit"] != "env steps":
        return measured_time(seconds)
    config = cell.cell.get("config", {})
    round_steps = int(cell.cell["num_envs"]) * config.get("num_steps", 1)
    if (updates := config.get("num_updates", 1) / round_steps) <= 1:
        return si(cell.units_per_s or 0.0)
    return f"{si(1000 * seconds / updates)} s per 1000 updates"


def _details(folder: Path, titles: Sequence[str], groups: Sequence[GroupSummary]) -> Iterator[str]:
    """Yield the settings of games that differ from the reference, and known differences."""
    for title, group in zip(titles, groups, strict=True):
        config = group.cells[0].cell.get("config", {})
        settings = ", ".join(f"{name} {value}" for name, value in config.items())
        yield f"- {escape(title)}: {escape(settings) or 'the reference'}."
    yield ""
    for known in read_suite(folder).get("differences", []):
        label = known["label"].removesuffix(" (not proved)")
        yield f"- {escape(label)}, {known['algorithm'].upper()}: {escape(known['text'])}."


def _is_chosen(group: GroupSummary, options: Options) -> bool:
    probes = options.get("probe", "").split(",")
    fits = not options.get("probe") or group.cells[0].cell["probe"] in probes
    return fits and bool(re.search(options.get("group", ""), group.group))


def _label(cell: CellSummary) -> str:
    """Return a cell's label without its loop, so that one row has the cell of each group."""
    return cell.label.removesuffix(BRIDGE)


def _entry(cell: CellSummary | None, group: GroupSummary, shown: str) -> str:
    """Return a cell as `6.17 s, 1.31× [1.24, 1.39] (fused)`; barred ones name their flags."""
    if cell is None:
        return ""
    if not cell.seconds_per_unit:
        return escape(cell.failures[0].reason) if cell.failures else DASH
    values = {
        "time": measured_time(cell.seconds_per_unit),
        "rate": si(cell.units_per_s or 0.0),
        "thousand": si(1000 * cell.seconds_per_unit),
        "none": "",
    }
    if cell.cell_id == group.reference:
        speed = "reference"
    else:
        speed = ratio(cell.comparison) if cell.comparison else ""
    text = ", ".join(filter(None, (values[shown], speed)))
    loop = phrases.name(cell).removeprefix(_label(cell)).removeprefix(" · ").removeprefix(", ")
    text += f" ({loop})" if loop else ""
    return f"{text} ⚑ {', '.join(map(escape, cell.barred))}" if cell.barred else text


def _headings(groups: Sequence[GroupSummary]) -> list[str]:
    """Return the titles of groups, with their units where these differ."""
    titles = phrases.titles(groups)
    if len({group.unit for group in groups}) == 1:
        return titles
    pairs = zip(titles, groups, strict=True)
    return [f"{title}, per {group.unit.removesuffix('s')}" for title, group in pairs]


def _unit(groups: Sequence[GroupSummary], shown: str) -> str:
    """Return a sentence that says what the entries of a race are."""
    units = dict.fromkeys(group.unit for group in groups)
    unit = next(iter(units)) if len(units) == 1 else "units"
    values = {
        "time": f"Median time per {unit.removesuffix('s')}, and",
        "rate": f"{unit.capitalize()} per second, and".replace("Env ", "Environment "),
        "thousand": f"Median seconds per 1000 {unit}, and",
        "none": "",
    }
    start = f"{values[shown]} speed as a ratio to the reference with its 95 % interval.".strip()
    return start[0].upper() + start[1:]


def _about(folder: Path) -> str:
    """Return how a folder was measured: its command, number of blocks, day and commit."""
    suite, records = read_suite(folder), _records(folder)
    visits = [r for r in records if r["kind"] == "visit" and r["block"] >= 0]
    blocks = len({r["block"] for r in visits})
    day, commit = records[0]["at"][:10], suite.get("commit", "")
    parts = [f"`{_command(suite)}`", plural(blocks, "block"), day, f"commit {commit[:7]}"]
    return f"{', '.join(parts)}."


def _command(suite: Mapping[str, Any]) -> str:
    """Return the command that measured a folder, without its --out."""
    command = suite.get("command") or f"tiebreak run {suite['suite']} --scale {suite['scale']}"
    return re.sub(r" --out \S+", "", command)


def answers(results: Path, paths: Sequence[str], options: Options) -> Iterator[str]:
    """Yield the answer of a folder for each of its groups, as `tiebreak show --markdown` has it.

    Option: `group` (a pattern) selects groups.
    """
    folder = results / _only(paths)
    (data,) = read_folders([folder])
    cards = [c for c in data.answer.cards if re.search(options.get("group", ""), c.group.group)]
    if not cards:
        raise UsageError(f"no answer of {folder} fits {dict(options)}")
    for card in cards:
        yield from card_to_markdown(card)
        yield ""
    yield _about(folder)


def cross(results: Path, paths: Sequence[str], options: Options) -> Iterator[str]:
    """Yield the tables across groups whose titles fit the pattern `title`."""
    folder = results / _only(paths)
    tables = cross_tables.cross_tables(_groups(folder, options.get("reference")))
    for one in tables:
        if not re.search(options.get("title", ""), one.title):
            continue
        yield from _titled(one, "l" + "r" * (len(one.headings) - 1))
    yield _about(folder)


def _titled(one: cross_tables.CrossTable, align: str) -> Iterator[str]:
    """Yield a cross table below its title."""
    yield f"**{escape(one.title)}**"
    yield ""
    rows = [list(map(escape, row)) for row in one.rows]
    yield from table(list(map(escape, one.headings)), rows, align)
    yield ""


def others(results: Path, paths: Sequence[str], options: Options) -> Iterator[str]:
    """Yield what others published beside what was measured here, a table for each source.

    Option: `source` (a pattern) selects sources.
    """
    folder = results / _only(paths)
    tables = read_suite(folder).get("published", [])
    chosen = [one for one in tables if re.search(options.get("source", ""), one["source"])]
    for one in published.cross_tables(_groups(folder, None), chosen):
        yield from _titled(one, "lrrl")
        yield escape(one.note)
        yield ""
    yield _about(folder)


def suites(results: Path, paths: Sequence[str], options: Options) -> Iterator[str]:
    """Yield a row for each built-in suite: when it was measured on a machine, if it was."""
    machine = _only(paths)
    stale = stale_folders(results)
    rows = []
    for name, description in suite_files.descriptions().items():
        folder = f"{machine}/{name}"
        measured = ["not yet", "", ""]
        if (results / folder / RECORDS).is_file():
            entry = find_stale(stale, folder)
            since = entry.reason if entry else "nothing"
            day = _records(results / folder)[0]["at"][:10]
            measured = [day, read_suite(results / folder)["scale"], escape(since)]
        rows.append([f"`tiebreak run {name}`", escape(description), *measured])
    yield from table(["", "what it races", "measured", "scale", "changed since"], rows)


def folders(results: Path, paths: Sequence[str], options: Options) -> Iterator[str]:
    """Yield when and with what each folder below a machine's was measured.

    The canaries say how fast the machine was; the last column, what has changed since.
    """
    machine = _only(paths)
    stale = stale_folders(results)
    rows = []
    for name in measured_folders(results):
        records = _records(results / name)
        if not name.startswith(f"{machine}/") or not any(r["kind"] == "visit" for r in records):
            continue
        if "self-test" in name:
            continue
        loops = [r["values_s"] for r in records if r["kind"] == "canary"]
        canaries = [measured_time(statistics.median(x[key] for x in loops)) for key in loops[0]]
        commit = read_suite(results / name).get("commit", "")[:7]
        entry = find_stale(stale, name)
        since = entry.reason if entry else "nothing"
        day = records[0]["at"][:10]
        label = name.removeprefix(f"{machine}/")
        rows.append([f"{escape(label)}/", day, commit, *canaries, escape(since)])
    keys = [escape(key.replace("_", " ")) for key in loops[0]]
    heads = ["folder", "measured", "commit", *(f"canary: {key}" for key in keys), "changed since"]
    yield from table(heads, rows, "lllrrl")


def selftest(results: Path, paths: Sequence[str], options: Options) -> Iterator[str]:
    """Yield the latest result of every check of some self-test folders."""
    rows = []
    for path in paths:
        latest = {r["row"]: r for r in _records(results / path) if r["kind"] == "selftest"}
        for name, record in latest.items():
            passed = {True: "passed", False: "**failed**", None: "skipped"}[record["passed"]]
            day = record["at"][:10]
            rows.append([escape(name), passed, escape(record["detail"]), day])
    yield from table(["check", "", "result", "measured"], rows)


def certificates(results: Path, paths: Sequence[str], options: Options) -> Iterator[str]:
    """Yield what certificates cover, and how many of their checks failed."""
    rows = []
    for path in paths:
        content = json.loads((results / path).read_text(encoding="utf-8"))
        checks = content["rows"]
        modes = len({(row["framework"], row["mode"]) for row in checks})
        failed = sum(not row["ok"] for row in checks)
        rows.append(
            [
                escape(Path(path).name),
                escape(", ".join(content["algorithms"])),
                str(modes),
                escape(", ".join(dict.fromkeys(row["precision"] for row in checks))),
                str(len(checks)),
                str(failed),
                str(content["seed"]),
                content["created_at"][:10],
            ]
        )
    heads = ["file", "algorithms", "modes", "precisions", "checks", "failed", "seed", "made"]
    yield from table(heads, rows, "lllllrrr")


def turns(results: Path, paths: Sequence[str], options: Options) -> Iterator[str]:
    """Yield ratios of two variants that took turns: median and quartiles of the file's turns."""
    content = json.loads((results / _only(paths)).read_text(encoding="utf-8"))
    if isinstance(content, list):
        ratios = {
            f"{case['task']}, {case['num_envs']} environments": [
                turn["2"] / turn["1"] for turn in case["steps_per_s"]
            ]
            for case in content
        }
    else:
        seconds, base = content["seconds_per_call"], options["base"]
        ratios = {name: [turn[base] / turn[name] for turn in seconds] for name in seconds[0]}
    rows = []
    for name, values in ratios.items():
        low, middle, high = statistics.quantiles(values, n=4)
        rows.append([escape(name), f"{middle:.2f}× [{low:.2f}, {high:.2f}]", str(len(values))])
    yield from table(["", "speed: median and quartiles", "turns"], rows, "lrr")


def medians(results: Path, paths: Sequence[str], options: Options) -> Iterator[str]:
    """Yield the medians of files of JSON lines: a row for each file, a column for each `field`."""
    names = options["fields"].split(",")
    rows = []
    for path in sorted(results.glob(_only(paths))):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        values = [f"{statistics.median(line[name] for line in lines):.0f}" for name in names]
        alone = statistics.median(line["alone"] / line["together"] for line in lines)
        rows.append([escape(path.stem), *values, share(alone)])
    heads = ["µs a round", *names, "alone ÷ together"]
    yield from table(heads, rows, "l" + "r" * (len(heads) - 1))


def last_lines(results: Path, paths: Sequence[str], options: Options) -> Iterator[str]:
    """Yield the last lines of files of JSON lines: a row for each file, a column for each field."""
    names = options["fields"].split(",")
    rows = []
    for path in sorted(results.glob(_only(paths))):
        line = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        rows.append([escape(path.stem), *(f"{line[name]:.4g}".replace("-", "−") for name in names)])
    yield from table(["", *map(escape, names)], rows, "l" + "r" * len(names))


def samples(results: Path, paths: Sequence[str], options: Options) -> Iterator[str]:
    """Yield the medians of JSON files with lists of samples in ms, by name."""
    rows, heads = [], [""]
    for path in sorted(results.glob(_only(paths))):
        found = json.loads(path.read_text(encoding="utf-8"))["samples_ms"]
        heads = ["ms", *found]
        rows.append([escape(path.stem), *(f"{statistics.median(x):.3g}" for x in found.values())])
    yield from table(heads, rows, "l" + "r" * (len(heads) - 1))


def _only(paths: Sequence[str]) -> str:
    if len(paths) != 1:
        raise UsageError(f"this kind of table takes one folder or file, got {list(paths)}")
    return paths[0]


@functools.lru_cache(maxsize=64)
def _records(folder: Path) -> list[dict]:
    return read_records(folder)


@functools.lru_cache(maxsize=64)
def _groups(folder: Path, reference: str | None) -> list[GroupSummary]:
    """Return the summaries of a folder's groups, in the order of its suite."""
    order = [Cell.from_json(cell).group for cell in read_suite(folder).get("cells", [])]
    groups = summarize(_records(folder), reference)
    return sorted(groups, key=lambda g: order.index(g.group) if g.group in order else len(order))


KINDS = {
    "answer": answers,
    "race": race,
    "peers": peers,
    "cross": cross,
    "others": others,
    "suites": suites,
    "folders": folders,
    "selftest": selftest,
    "certificates": certificates,
    "turns": turns,
    "medians": medians,
    "last-line": last_lines,
    "samples": samples,
}
