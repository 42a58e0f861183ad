"""Read one results folder into what its page shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from tiebreak.bench.manager.store import RECORDS, Log, read_log, read_suite
from tiebreak.core.errors import UsageError
from tiebreak.core.text import plural, printable
from tiebreak.report import phrases, selftests
from tiebreak.report.answer import Answer, answer
from tiebreak.report.certificate_table import CertificateTable, certificate_table
from tiebreak.report.flags import describe_flags
from tiebreak.report.formatting import DASH, measured_time, share, size
from tiebreak.report.memory import Key, Series, memory_series
from tiebreak.report.selftests import CheckResult, MachineTest
from tiebreak.stats.ratios import summarize
from tiebreak.stats.summaries import CellSummary, GroupSummary


class CallTimes(NamedTuple):
    """Seconds of the first calls of a cell, which warm it up."""

    first_s: float
    next_s: float
    """Mean of those between the first and the last."""
    last_s: float
    """The last that was kept, the eighth."""


Facts = list[tuple[str, str]]
"""(name, value) as text."""


@dataclass(frozen=True)
class PageData:
    """Everything that the page shows of one folder."""

    name: str
    suite: dict[str, Any]
    """Content of suite.json."""
    groups: list[GroupSummary]
    answer: Answer
    machines: list[tuple[str, Facts]]
    """(fingerprint, facts) of each machine."""
    machine_title: str
    machine_titles: dict[str, str]
    """{fingerprint: title} of each machine."""
    certificate: CertificateTable | None
    failures: list[tuple[str, str]]
    """(reason, cells that it ended); includes planned cells that were never visited."""
    flags: list[tuple[str, str, str]]
    """(cell, group, flags) of flagged cells."""
    visits: int
    """Number of visits for which everything was installed."""
    finished: int
    """Number of finished visits."""
    first_at: str
    last_at: str
    schedule: Facts
    """Blocks, stages and canaries."""
    memory: dict[Key, Series]
    calls: dict[Key, CallTimes]
    checks: list[CheckResult]
    """Results of the self-test, if the folder is one."""
    hardware: set[str]
    """Digests of the machines' hardware, whatever is installed on them."""
    machine_test: MachineTest | None
    """Outcome of self-tests on this hardware; see `read_folders`."""
    damaged: int
    """Number of damaged or newer lines that were left out."""
    loss: str
    """Records that were left out and the reason, in one line; empty if none were."""
    sha256: str
    """Digest of records.jsonl."""
    records_name: str = RECORDS

    def name_machines(self, text: str) -> str:
        """Return a text that names machines by their titles, if these tell them apart."""
        return name_machines(text, self.machine_titles)


def name_machines(text: str, titles: Mapping[str, str]) -> str:
    """Return a text with titles of machines instead of their marks, if these tell them apart.

    titles: {fingerprint: title}.
    """
    if len(set(titles.values())) < max(2, len(titles)):
        return text
    for fingerprint, title in titles.items():
        text = text.replace(phrases.machine(fingerprint), title)
    return text


def read_folders(folders: Sequence[Path], reference: str | None = None) -> list[PageData]:
    """Read folders; self-tests among them or next to them count for all with the same hardware.

    reference: label or framework of the cell that others are compared with, where it is present.
    Raises UsageError for a folder that has nothing to report.
    """
    pages = [_read(folder, reference) for folder in folders]
    results = [result for folder in folders for result in selftests.results_next_to(folder)]
    results += [result for page in pages for result in page.checks]
    return [
        replace(page, machine_test=selftests.machine_test(page.hardware, results)) for page in pages
    ]


def _read(folder: Path, reference: str | None) -> PageData:
    log = _log(folder)
    suite = read_suite(folder)
    groups = summarize(log.records, reference)
    visits = [r for r in log.records if r["kind"] == "visit"]
    checks = selftests.check_results(log.records, printable(folder.resolve().name))
    times = sorted([*(r["started_at"] for r in visits), *(check.at for check in checks)])
    machines = {r["fingerprint"]: r["machine"] for r in log.records if r["kind"] == "machine"}
    titles = _machine_titles(machines, log.records, suite)
    cells = _cells(groups, titles)
    certificates = [r["certificate"] for r in log.records if r["kind"] == "certificate"]
    found = answer(groups, suite, certificates[-1] if certificates else None)
    return PageData(
        name=printable(folder.resolve().name),
        suite=suite,
        groups=groups,
        answer=_name_machines(found, titles),
        machines=[(mark, _machine_facts(machine)) for mark, machine in machines.items()],
        machine_title=machine_title(list(machines.values())),
        machine_titles=titles,
        certificate=certificate_table(certificates[-1]) if certificates else None,
        failures=_by_reason([*_failures(cells), *_never_visited(suite, cells)]),
        flags=[(_marked(c), group, describe_flags(c)) for group, c in cells if c.flags],
        visits=sum(r["status"] != "missing" for r in visits),
        finished=sum(cell.visits for _, cell in cells),
        first_at=times[0],
        last_at=times[-1],
        schedule=schedule(suite, groups, log.records),
        memory=memory_series(log.records),
        calls=call_times(log.records),
        checks=checks,
        hardware=set(selftests.hardware_by_fingerprint(log.records).values()),
        machine_test=None,
        damaged=log.left_out,
        loss=log.loss(),
        sha256=_sha256(folder / RECORDS),
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def call_times(records: Sequence[Mapping[str, Any]]) -> dict[Key, CallTimes]:
    """Return how long the first calls of each cell took, median over its finished runs."""
    calls: dict[Key, list[Sequence[float]]] = {}
    for r in records:
        if r["kind"] == "visit" and r["status"] == "ok" and len(r.get("first_calls_s", ())) > 2:
            key = (r["group"], r["fingerprint"], r["cell_id"])
            calls.setdefault(key, []).append(r["first_calls_s"])
    return {
        key: CallTimes(
            first_s=median(times[0] for times in runs),
            next_s=median(mean(times[1:-1]) for times in runs),
            last_s=median(times[-1] for times in runs),
        )
        for key, runs in calls.items()
    }


def _log(folder: Path) -> Log:
    """Read the records of a folder that has something to report."""
    if not (folder / RECORDS).exists() and (folder / "metrics.jsonl").exists():
        raise UsageError(
            f"{str(folder)!r} is a training run; a report is made from a results folder "
            "(tiebreak run SUITE --out DIR makes one)"
        )
    log = read_log(folder, for_tables=True)
    if not any(r["kind"] in ("visit", "selftest") for r in log.records):
        reason = log.loss() or "tiebreak run SUITE --out DIR --resume continues it"
        raise UsageError(f"{str(folder)!r} holds no visit yet: nothing to report ({reason})")
    return log


def _failures(cells: Sequence[tuple[str, CellSummary]]) -> list[tuple[str, str, str]]:
    return [
        (group, phrases.name(cell), phrases.failure(failure))
        for group, cell in cells
        for failure in cell.failures
    ]


def _cells(
    groups: Sequence[GroupSummary], titles: Mapping[str, str]
) -> list[tuple[str, CellSummary]]:
    """Return (name of its group, cell); names have the machine if there are several.

    titles: {fingerprint: title}.
    """
    several = len({group.fingerprint for group in groups}) > 1
    cells = []
    for group in groups:
        machine = name_machines(phrases.machine(group.fingerprint), titles)
        name = f"{group.group} · {machine}" if several else group.group
        cells += [(name, cell) for cell in group.cells]
    return cells


def _marked(cell: CellSummary) -> str:
    """Return a cell's name, with a mark if it is kept out of conclusions."""
    return phrases.name(cell) + (" ⚑" if cell.barred else "")


def _by_reason(failures: Sequence[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """Return each reason once, with the groups and cells that it ended."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for group, cell, reason in failures:
        reasons.setdefault(reason, {}).setdefault(group, []).append(cell)
    return [
        (reason, "; ".join(f"{group}: {', '.join(cells)}" for group, cells in groups.items()))
        for reason, groups in reasons.items()
    ]


def _never_visited(
    suite: Mapping[str, Any], cells: Sequence[tuple[str, CellSummary]]
) -> list[tuple[str, str, str]]:
    visited = {cell.cell_id for _, cell in cells}
    labels = {c.get("cell_id", c.get("id")): c.get("label") for c in suite["cells"]}
    return [
        (group, str(labels.get(cell_id) or cell_id), "missing: planned, but never visited")
        for group, cell_ids in suite.get("groups", {}).items()
        for cell_id in cell_ids
        if cell_id not in visited
    ]


def _machine_titles(
    machines: Mapping[str, Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    suite: Mapping[str, Any],
) -> dict[str, str]:
    """Return {fingerprint: title}; machines of one kind also have the names of their folders.

    These are known of a folder whose records were put together, by their run_ids.
    """
    titles = {mark: machine_title([machine]) for mark, machine in machines.items()}
    if len(set(titles.values())) == len(titles):
        return titles
    names = {part.get("run_id"): part["name"] for part in suite.get("merged", [])}
    folders: dict[str, dict[str, None]] = {mark: {} for mark in titles}
    for r in records:
        if r["kind"] == "machine" and r.get("run_id") in names:
            folders[r["fingerprint"]][names[r["run_id"]]] = None
    return {
        mark: " · ".join([title, *([", ".join(folders[mark])] if folders[mark] else [])])
        for mark, title in titles.items()
    }


def _name_machines(found: Answer, titles: Mapping[str, str]) -> Answer:
    """Return an answer about several machines that names them."""
    cards = tuple(card._replace(title=name_machines(card.title, titles)) for card in found.cards)
    return found._replace(title=name_machines(found.title, titles), cards=cards)


def machine_title(machines: Sequence[Mapping[str, Any]]) -> str:
    """Return the processors of machines, with their cores, each once."""
    titles = []
    for machine in machines:
        cpu = str(machine.get("cpu", "unknown CPU"))
        cores = machine.get("cores")
        titles.append(f"{cpu} · {plural(cores, 'core')}" if isinstance(cores, int) else cpu)
    return " / ".join(dict.fromkeys(titles)) or "unknown machine"


def _machine_facts(machine: Mapping[str, Any]) -> Facts:
    facts = []
    for key, value in machine.items():
        if key.endswith("_bytes") and isinstance(value, int):
            name, text = key.removesuffix("_bytes"), size(value)
        else:
            name, text = key, _as_text(value)
        facts.append((name.replace("_", " "), text))
    return facts


def _as_text(value: Any) -> str:
    """Return a flat mapping as a list, other nested values as JSON."""
    if isinstance(value, dict) and not any(isinstance(v, (dict, list)) for v in value.values()):
        return ", ".join(f"{k} {v}" for k, v in value.items()) or DASH
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text or DASH


def schedule(
    suite: Mapping[str, Any], groups: Sequence[GroupSummary], records: Sequence[Mapping[str, Any]]
) -> Facts:
    """Return how a run was laid out in time: blocks, stages, canaries; empty without visits."""
    blocks = {(r["run_id"], r["block"]) for r in records if r["kind"] == "visit"}
    if not blocks:
        return []
    merged = suite.get("merged")
    if merged:
        planned: Any = sum(part.get("blocks_planned", 0) for part in merged)
    else:
        planned = suite.get("blocks_planned", "unknown")
    seed = suite.get("seed", "unknown")
    order = "in orders of their own" if merged else f"order drawn from seed {seed}"
    facts = [("schedule", f"{len(blocks)} of {planned} planned blocks, {order}")]
    if merged:
        facts.append(("folders", ", ".join(part["name"] for part in merged)))
    settings = suite.get("settings") or {}
    if stages := settings.get("stages"):
        facts.append(("stages", _stages(stages, settings.get("half_width"))))
    if len({group.blocks for group in groups}) > 1:
        titles = phrases.titles(groups)
        counts = [f"{t}: {group.blocks}" for t, group in zip(titles, groups, strict=True)]
        facts.append(("blocks", "; ".join(counts)))
    return facts + _canary_ranges(records)


def _stages(stages: Sequence[int], half_width: float | None) -> str:
    steps = ", ".join(map(str, stages))
    width = f"±{share(half_width)}" if half_width else "requested"
    return f"{steps} blocks: the next stage runs while an interval is wider than {width}"


def _canary_ranges(records: Sequence[Mapping[str, Any]]) -> Facts:
    """Return the range of each canary over the run: how much the machine itself changed."""
    values: dict[str, list[float]] = {}
    for r in records:
        if r["kind"] == "canary":
            for name, seconds in r["values_s"].items():
                values.setdefault(name, []).append(seconds)
    note = "(a fixed piece of work before and after each block; nothing is rescaled by it)"
    return [
        (
            f"canary, {name.replace('_', ' ')}",
            f"{measured_time(min(seconds))} to {measured_time(max(seconds))} {note}",
        )
        for name, seconds in values.items()
    ]
