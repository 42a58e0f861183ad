"""The answer of a run in plain words: who wins, by how much, how sure, how long training takes.

It is generated from the groups of one probe, training if the run has it. The terminal, the page
and `tiebreak show` print these sentences; none of them composes its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tiebreak.bench.suite import estimate
from tiebreak.bench.suite import suite as suites
from tiebreak.bench.suite.cells import SCALES
from tiebreak.core.errors import UsageError
from tiebreak.core.text import duration
from tiebreak.registry import ENGINES, FRAMEWORKS, RUNTIMES
from tiebreak.report import phrases
from tiebreak.report.cross_tables import agents_text
from tiebreak.report.formatting import (
    DASH,
    about_time,
    factor,
    interval,
    join,
    measured_time,
    percent,
    si,
)
from tiebreak.report.standing import Cluster, Confidence, Standing, family, standing
from tiebreak.stats import overall
from tiebreak.stats.agents_per_time import agent_races, is_baseline, is_population
from tiebreak.stats.summaries import CellSummary, GroupSummary

ANSWERING = (
    "train",
    "population",
    "solve",
    "iteration",
    "update",
    "interact",
    "rebuild",
    "forward",
    "env",
)
"""Probes that an answer can be about; of those that a run has, the first."""

MILLION = 1_000_000
"""Units of work for which times are given."""

MOST_CLAIMS = 3
"""Different answers that the title gives one by one; more of them are averaged,"""
LONGEST_TITLE = 300
"""and so are answers that take more characters."""

LEAST_SAVING = 0.05
"""Share of the leader's time by which another has to end earlier to be named."""


def work(unit: str) -> tuple[int, str]:
    """Return the units of work for which times are given, and what they are called.

    It is a million of them, or one solution: no agent is trained a million times.
    """
    return (1, "one solution") if unit == "solutions" else (MILLION, f"a million {unit}")


class TrainingTime(NamedTuple):
    """Seconds that one cell needs for so much work."""

    cell: CellSummary
    name: str
    steady_s: float
    """At the rate that was measured."""
    low_s: float | None
    """Low end of its 95 % interval, relative to the reference; None without one."""
    high_s: float | None
    start_s: float
    """Import, build and compilation of a process with an empty cache."""
    barred: tuple[str, ...]
    """Validity flags that keep the cell out of conclusions."""

    @property
    def total_s(self) -> float:
        """Start and work."""
        return self.start_s + self.steady_s


class Card(NamedTuple):
    """The answer for one group."""

    title: str
    """Its task, and what else tells it from other groups."""
    about: str
    """Where the environment runs."""
    confidence: Confidence
    sentence: str
    group: GroupSummary
    times: tuple[TrainingTime, ...]
    """Fastest first."""
    ceilings: tuple[TrainingTime, ...]
    """Cells of other engines, which are shown beside it and compared with nothing."""
    break_even: str
    """After how many units compiling has paid for itself, and who is first by starting sooner."""


class Answer(NamedTuple):
    """The answer of a run."""

    title: str
    """One sentence, or one for each of the few tasks."""
    cards: tuple[Card, ...]
    limits: str
    """What this run could not tell."""
    command: str
    """The command that could; empty if there is none."""
    command_about: str
    """How long it takes: `about 3 h`; empty if unknown."""
    controls: str
    """How identical programs came out; empty if none were raced."""
    proof: str
    """Whether the frameworks were proved to compute the same numbers."""
    differences: tuple[str, ...] = ()
    """In what contestants that were measured are known to differ from our algorithms."""


def answer(
    groups: Sequence[GroupSummary],
    suite: Mapping[str, Any],
    certificate: Mapping[str, Any] | None = None,
) -> Answer:
    """Return the answer of a run.

    Args:
      groups: all groups of the run.
      suite: content of suite.json.
      certificate: the run's certificate; None if it has none.
    """
    answering = _answering_groups(groups)
    titles = phrases.titles(answering)
    alone = len(answering) == 1
    cards = tuple(
        _card(group, _with_task(title, group, alone), _ceilings(group, groups))
        for group, title in zip(answering, titles, strict=True)
    )
    command, about = _larger_run(suite)
    return Answer(
        title=_many_agents(groups) or _title(cards),
        cards=cards,
        limits=_limits(answering),
        command=command,
        command_about=about,
        controls=_controls(answering),
        proof=_proof(certificate),
        differences=tuple(_differences(groups, suite)),
    )


def to_json(answer: Answer) -> dict[str, Any]:
    """Return an answer as JSON-ready values."""
    cards = [
        {
            "task": card.title,
            "about": card.about,
            "confidence": card.confidence,
            "sentence": card.sentence,
            "break_even": card.break_even,
            "group": card.group.group,
            "unit": card.group.unit,
            "seconds_per_million": [
                {
                    "cell_id": time.cell.cell_id,
                    "name": time.name,
                    "start_s": time.start_s,
                    "steady_s": time.steady_s,
                    "low_s": time.low_s,
                    "high_s": time.high_s,
                    "barred": list(time.barred),
                }
                for time in card.times
            ],
            "not_comparable": [
                {
                    "cell_id": time.cell.cell_id,
                    "name": time.name,
                    "start_s": time.start_s,
                    "steady_s": time.steady_s,
                }
                for time in card.ceilings
            ],
        }
        for card in answer.cards
    ]
    return {**answer._asdict(), "cards": cards}


def sentence(group: GroupSummary) -> str:
    """Return the conclusion of one group in a sentence, with what is left out of it."""
    stands = standing(group)
    if group.ceiling_of and stands.leader:
        return f"{_name(stands.leader, group)} on {_task(group)}, {phrases.NOT_COMPARABLE}."
    text = f"{_claim(group, stands, short=False)}{_left_out(group, stands)}."
    return text[0].upper() + text[1:]


def _answering_groups(groups: Sequence[GroupSummary]) -> list[GroupSummary]:
    """Return the groups of the first probe that any cell finished, without ceilings.

    Where populations were measured, a group of single torch agents is what they are compared with.
    """
    many = any(is_population(cell) for group in groups for cell in group.cells)
    by_probe: dict[str, list[GroupSummary]] = {}
    for group in groups:
        is_compared_with = group.ceiling_of or (many and all(map(is_baseline, group.cells)))
        if group.reference is not None and not is_compared_with:
            by_probe.setdefault(_probe(group), []).append(group)
    known = [probe for probe in ANSWERING if probe in by_probe]
    chosen = [*known, *by_probe][:1]
    return by_probe[chosen[0]] if chosen else []


def _many_agents(groups: Sequence[GroupSummary]) -> str:
    """Return how many agents one program trains in the time of one torch agent, by task."""
    best = [race.best for race in agent_races(groups)]
    if not best:
        return ""
    texts = []
    for one in best:
        cell = one.cell.cell
        task = str(cell["task"]).partition("/")[2]
        texts.append(f"{agents_text(one)} of {str(cell['algorithm']).upper()} on {task}")
    library = _library(best[0].cell)
    return f"While torch trains one agent, {library} trains {join(texts)}."


def _probe(group: GroupSummary) -> str:
    return str(group.cells[0].cell["probe"])


def _ceilings(group: GroupSummary, groups: Sequence[GroupSummary]) -> tuple[TrainingTime, ...]:
    """Return the times of cells of other engines that a group's chart shows, shortest first."""
    shown = [g for g in groups if group.group in g.ceiling_of]
    times = [
        time._replace(name=f"{time.name} on {_task(one)}")
        for one in shown
        for time in _training_times(one)
        if one.fingerprint == group.fingerprint and not time.barred
    ]
    return tuple(sorted(times, key=lambda time: time.total_s))


def _task(group: GroupSummary) -> str:
    return str(group.cells[0].cell["task"])


def _card(group: GroupSummary, title: str, ceilings: tuple[TrainingTime, ...]) -> Card:
    stands = standing(group)
    times = _training_times(group)
    return Card(
        title=title,
        about=_where(group),
        confidence=stands.confidence,
        sentence=sentence(group),
        group=group,
        times=times,
        ceilings=ceilings,
        break_even=" ".join(filter(None, (_break_even(group, times), _sooner(group, times)))),
    )


def _with_task(title: str, group: GroupSummary, alone: bool) -> str:
    """Return the name of a group's task, then what tells it from others: `Ant-v4 · num_envs 64`."""
    task = str(group.cells[0].cell["task"])
    others = [part for part in title.split(" · ") if part not in (task, _probe(group))]
    return " · ".join([task.partition("/")[2], *([] if alone else others)])


def _where(group: GroupSummary) -> str:
    """Return where the environment runs: `gymnax, simulated in JAX`."""
    name = str(group.cells[0].cell["task"]).partition("/")[0]
    engine = ENGINES.get(name)
    if engine is None:
        return name
    return f"{name}, simulated {'in JAX' if engine.kind == 'device' else 'on the CPU'}"


def _title(cards: Sequence[Card]) -> str:
    """Return a sentence for each kind of answer, those of equal groups as one."""
    if not cards:
        return "No run has finished: there is no answer yet."
    by_claim: dict[str, list[Card]] = {}
    for card in cards:
        claim = _claim(card.group, standing(card.group), short=True)
        by_claim.setdefault(claim, []).append(card)
    clashing = {title for title, n in Counter(card.title for card in cards).items() if n > 1}
    title = " ".join(f"{_on(same, clashing)}, {claim}." for claim, same in by_claim.items())
    if len(by_claim) > MOST_CLAIMS or len(title) > LONGEST_TITLE:
        return _over_all([card.group for card in cards])
    return title


def _on(cards: Sequence[Card], clashing: Collection[str]) -> str:
    """Return `On CartPole-v1 in JAX`, or `On A, B and C`; with the engine if titles clash."""
    names = []
    for card in cards:
        name = str(card.group.cells[0].cell["task"]).partition("/")[0]
        engine = ENGINES.get(name)
        in_jax = engine is not None and engine.kind == "device"
        where = " in JAX" if in_jax else f" ({name})" if card.title in clashing else ""
        names.append(card.title + where)
    return f"On {join(list(dict.fromkeys(names)))}"


def _over_all(groups: Sequence[GroupSummary]) -> str:
    """Return the geometric mean over groups of each cell's speed relative to their reference.

    Groups of several machines are not averaged.
    """
    machines = len({group.fingerprint for group in groups})
    if machines > 1:
        return f"{machines} machines raced {len(groups)} groups, each with an answer of its own."
    reference, compared = overall.comparable(groups)
    means = overall.means(compared)
    if not means:
        return f"{len(groups)} groups were raced, each with an answer of its own."
    texts = []
    for mean in means:
        ratio = f"{factor(mean.comparison.ratio)} {interval(mean.comparison)}"
        texts.append(f"{_name(mean.cell, mean.group)} {ratio}")
    count = f"{len(compared)} of {len(groups)}" if len(compared) < len(groups) else len(groups)
    return (
        f"Over {count} groups, by geometric mean, relative to {reference}: "
        f"{', '.join(texts)} as fast."
    )


def _claim(group: GroupSummary, stands: Standing, short: bool) -> str:
    """Describe how the cells of a group stand; `short` leaves out all but the leading ones."""
    if stands.leader is None:
        return _no_leader(group, stands)
    rivals = [*stands.slower, *(Cluster((c,), _lead(c)) for c in stands.unplaced)]
    if not rivals and len(stands.level) == 1:
        return f"{_name(stands.leader, group)} ran alone: there is nothing to compare it with"
    if any(cluster.lead.low is None for cluster in rivals):
        return _single_block(group, stands, rivals)

    if stands.confidence == "TIE" or not rivals:
        text = f"{_names(stands.level, group, short)} are level"
        text += f" (within {percent(stands.within)})" if stands.within is not None else ""
        slower = [_takes_longer(cluster, group, short) for cluster in stands.slower]
    else:
        text = _lead_text(group, stands, short)
        rest = [c for c in stands.slower if c != _main_rival(group, stands)]
        slower = [_takes_longer(cluster, group, short) for cluster in rest]
    if short and stands.confidence != "TIE":
        return text
    text += f"; {join(slower)}" if slower else ""
    return text if short else text + _unplaced(group, stands)


def _lead_text(group: GroupSummary, stands: Standing, short: bool) -> str:
    """Return the lead of cells of one library over the reference, or over the next cell."""
    names = _names(stands.level, group, short)
    are = "are" if " and " in names else "is"
    rival = _main_rival(group, stands)
    lead = f"{factor(rival.lead.ratio)} as fast as {_names(rival.cells, group, short)}"
    ends = "" if short else f" {interval(rival.lead)}"
    if stands.confidence == "SURE" or (stands.confidence == "LIKELY" and rival in stands.slower):
        return f"{names} {are} {lead}{ends}"
    if stands.confidence == "LIKELY":
        return f"{names} {are} probably fastest, {lead}{ends}"
    if short:
        return "it is not certain who is fastest"
    return f"{names} came out first, {lead}{ends}, but more runs have to show who is fastest"


def _main_rival(group: GroupSummary, stands: Standing) -> Cluster:
    """Return the cells that the leader is compared with first: the reference's, or the next.

    What is sure of another library is not said of a cell that is not told apart from the leader.
    """
    clusters = [*stands.slower, *(Cluster((c,), _lead(c)) for c in stands.unplaced)]
    if stands.confidence in ("SURE", "LIKELY") and stands.leader is not None:
        own = family(stands.leader)
        placed = [c for c in clusters if c in stands.slower or family(c.cells[0]) != own]
        clusters = placed or clusters
    for cluster in clusters:
        if any(cell.cell_id == group.reference for cell in cluster.cells):
            return cluster
    return clusters[0]


def _lead(cell: CellSummary) -> Any:
    assert cell.versus_leader
    return cell.versus_leader.inverted()


def _single_block(group: GroupSummary, stands: Standing, rivals: Sequence[Cluster]) -> str:
    """Return the ratio to the reference, or to the next cell, of one block."""
    assert stands.leader
    rival = next(
        (c for c in rivals if c.cells[0].cell_id == group.reference),
        rivals[0],
    )
    names = _names(rival.cells, group, short=False)
    lead = f"{factor(rival.lead.ratio)} as fast as {names}"
    return (
        f"{_name(stands.leader, group)} came out first, {lead}, in a single block: "
        "run again for an interval"
    )


def _takes_longer(cluster: Cluster, group: GroupSummary, short: bool) -> str:
    names = _names(cluster.cells, group, short)
    verb = "take" if " and " in names else "takes"
    return f"{names} {verb} {factor(cluster.lead.ratio)} as long"


def _unplaced(group: GroupSummary, stands: Standing) -> str:
    """Say which cells are not told apart from the leader yet, and between what they lie."""
    rival = None
    if stands.confidence != "TIE" and (stands.slower or stands.unplaced):
        rival = _main_rival(group, stands)
    texts = []
    for cell in stands.unplaced:
        if rival and cell in rival.cells:
            continue
        lead = _lead(cell)
        low, high = factor(max(lead.low, 0.01)), factor(min(lead.high, 1000.0))
        texts.append(f"{_name(cell, group)} ({low} to {high} as long)")
    if not texts or stands.leader is None:
        return ""
    return f"; not told apart yet from {_name(stands.leader, group)}: {join(texts)}"


def _no_leader(group: GroupSummary, stands: Standing) -> str:
    finished = [c for c in group.cells if c.seconds_per_unit]
    if not finished:
        return "no cell finished"
    valid = [c for c in finished if not c.barred]
    flags = sorted({flag for cell in stands.barred for flag in cell.barred})
    which = f"every cell but {_name(valid[0], group)}" if valid else "every cell that finished"
    return f"no conclusion: {which} is barred ({', '.join(flags)})"


def _left_out(group: GroupSummary, stands: Standing) -> str:
    """Say which cells take part in no conclusion, and that the reference is lost."""
    text = ""
    if stands.leader is not None and stands.barred:
        barred = [f"{_name(c, group)} ({', '.join(c.barred)})" for c in stands.barred]
        text += f"; left out: {join(barred)}"
    lost = stands.lost
    if stands.leader and lost is not None and not lost.visits and lost.failures:
        text += f"; {_name(lost, group)}, the reference, did not finish: {lost.failures[0].reason}"
    return text


def _names(cells: Sequence[CellSummary], group: GroupSummary, short: bool) -> str:
    """Return the names of cells; `short`: a library's, where none of its compiled cells is slower.

    That is, cells of it which are not placed yet are not told apart from the named ones.
    """
    libraries = {family(cell) for cell in group.cells if cell.visits}
    names: dict[str, None] = {}
    for cell in cells:
        ours = _compiled(family(cell), group)
        slower = {c.cell_id for cluster in standing(group).slower for c in cluster.cells}
        slower -= {c.cell_id for c in cells}
        whole = len({c.cell["framework"] for c in ours}) > 1 and len(libraries) > 1
        if short and whole and cell in ours and not slower & {c.cell_id for c in ours}:
            names[_library(cell)] = None
        else:
            names[_name(cell, group)] = None
    return join(list(names))


def _library(cell: CellSummary) -> str:
    """Return the title of the library under a cell, or the cell's label if it is none of ours."""
    name = family(cell)
    return RUNTIMES[name].title if name in RUNTIMES else name


def _compiled(library: str, group: GroupSummary) -> list[CellSummary]:
    """Return the finished, valid, compiled cells of a library."""
    cells = [c for c in group.cells if family(c) == library and c.visits and not c.barred]
    return [c for c in cells if c.cell["mode"] != "eager"]


def _name(cell: CellSummary, group: GroupSummary) -> str:
    """Return a cell's name in a sentence: `compiled torch`, `Linen`, or its own label."""
    framework, mode = str(cell.cell["framework"]), str(cell.cell["mode"])
    row = FRAMEWORKS.get(framework)
    default = f"{framework} {mode}"
    if row is None or not cell.label.startswith(default):
        return cell.label
    rest = cell.label.removeprefix(default).replace(", bridge", "").strip(", ")
    modes = {c.cell["mode"] for c in group.cells if c.cell["framework"] == framework}
    if mode == "compile":
        name = f"compiled {row.title}"
    elif mode == "eager":
        name = f"{row.title} eager"
    elif len(modes - {"eager"}) > 1:
        name = f"{row.title} {mode}"
    else:
        name = row.title
    return f"{name} ({rest})" if rest else name


def _training_times(group: GroupSummary) -> tuple[TrainingTime, ...]:
    """Return the time of so much work by cell, such that times have the ratios that are shown.

    A cell's time is the reference's, divided by the cell's speed relative to it. Where the start is
    part of what was timed, it is taken out again.
    """
    reference, (units, _) = group.find(group.reference), work(group.unit)
    times = []
    for cell in group.cells:
        if not cell.seconds_per_unit:
            continue
        timed_start_s = cell.start_s if units == 1 else 0.0
        steady_s, low_s, high_s = units * cell.seconds_per_unit, None, None
        if cell.comparison and reference and reference.seconds_per_unit:
            base_s = units * reference.seconds_per_unit
            steady_s = base_s / cell.comparison.ratio
            if cell.comparison.low and cell.comparison.high:
                low_s = base_s / cell.comparison.high - timed_start_s
                high_s = base_s / cell.comparison.low - timed_start_s
        times.append(
            TrainingTime(
                cell=cell,
                name=_name(cell, group),
                steady_s=max(0.0, steady_s - timed_start_s),
                low_s=low_s,
                high_s=high_s,
                start_s=cell.start_s,
                barred=cell.barred,
            )
        )
    return tuple(times)


def _break_even(group: GroupSummary, times: Sequence[TrainingTime]) -> str:
    """Say after how much work compiling has paid, for each framework raced both ways."""
    if work(group.unit)[0] == 1:
        return ""
    texts = []
    for eager in times:
        if eager.cell.cell["mode"] != "eager":
            continue
        for compiled in times:
            same = _program(compiled.cell) == _program(eager.cell)
            if not same or compiled is eager:
                continue
            saved_s = (eager.steady_s - compiled.steady_s) / MILLION
            extra_s = compiled.start_s - eager.start_s
            if saved_s <= 0:
                texts.append(f"{compiled.name} never pays: it is no faster than {eager.name}.")
            elif extra_s > 0:
                units = extra_s / saved_s
                spent = measured_time(units * eager.steady_s / MILLION)
                texts.append(
                    f"{compiled.name} pays after {si(units)} {group.unit} ({spent} of training)."
                )
    return " ".join(text[0].upper() + text[1:] for text in texts)


def _sooner(group: GroupSummary, times: Sequence[TrainingTime]) -> str:
    """Say who needs least time if start and compilation count, where it is not the leader."""
    leader = standing(group).leader
    amount, units = work(group.unit)
    valid = [time for time in times if not time.barred]
    leading = [time for time in valid if leader and time.cell.cell_id == leader.cell_id]
    if amount == 1 or not leading:
        return ""
    first = min(valid, key=lambda time: time.total_s)
    if first.total_s > (1.0 - LEAST_SAVING) * leading[0].total_s:
        return ""
    return (
        f"For {units}, start and compilation included, {first.name} needs the least time: "
        f"it starts {about_time(leading[0].start_s - first.start_s)} sooner than {leading[0].name}."
    )


def _program(cell: CellSummary) -> tuple[str, str]:
    """Return framework and precision, in which cells that are compared for their mode agree."""
    return str(cell.cell["framework"]), str(cell.cell.get("precision", "float32"))


def _limits(groups: Sequence[GroupSummary]) -> str:
    """Say which differences would have been missed."""
    if not groups:
        return ""
    if all(group.blocks < 2 for group in groups):
        return "One block tells medians and factors, but not how sure they are."
    detectable = [
        c.comparison.detectable
        for g in groups
        for c in g.cells
        if c.comparison and c.comparison.detectable is not None and not c.barred
    ]
    if not detectable:
        return ""
    middle = percent(float(np.median(detectable)))
    return (
        f"What this run could miss: a difference below about {middle} is seen in fewer than four "
        "runs of five (median over cells, all comparisons together)."
    )


def _larger_run(suite: Mapping[str, Any]) -> tuple[str, str]:
    """Return the command of the suite's next larger scale and its estimated time; empty without.

    The suite's file is read as it is now; a file that is gone, or broken, tells nothing.
    """
    words = str(suite.get("command", "")).split()
    scale = str(suite.get("scale"))
    if words[:2] != ["tiebreak", "run"] or len(words) < 3 or scale not in SCALES:
        return "", ""
    try:
        larger = [s for s in suites.scales(words[2]) if SCALES.index(s) > SCALES.index(scale)]
        if not larger:
            return "", ""
        forecast = estimate.forecast(suites.load(words[2], larger[0], seed=0))
    except (UsageError, OSError):
        return "", ""
    least, most = duration(forecast.least_s), duration(forecast.most_s)
    about = f"about {least}" if least == most else f"{least} to {most}"
    return f"tiebreak run {words[2]} --scale {larger[0]}", about


def _controls(groups: Sequence[GroupSummary]) -> str:
    """Return how pairs of identical programs came out: they should be equal."""
    ratios: dict[str, list[float]] = {}
    for group in groups:
        by_program = {
            _program(c): c
            for c in group.cells
            if c.cell.get("loop") == "fused"
            and c.seconds_per_unit
            and c.cell["framework"] in FRAMEWORKS
            and c.cell["mode"] == FRAMEWORKS[c.cell["framework"]].default_mode
        }
        for (name, precision), cell in by_program.items():
            twin = by_program.get((FRAMEWORKS[name].same_program_as, precision))
            if twin is not None:
                pair = f"{FRAMEWORKS[twin.cell['framework']].title} and {FRAMEWORKS[name].title}"
                ratios.setdefault(pair, []).append(_relative(cell, twin))
    texts = []
    for pair, values in ratios.items():
        low, high = f"{min(values):.2f}×", f"{max(values):.2f}×"
        span = low if len(values) == 1 else f"{low} to {high} in {len(values)} pairs"
        texts.append(f"{pair} run the same program and came out {span}, where 1 is right.")
    return f"Control: {' '.join(texts)}" if texts else ""


def _relative(cell: CellSummary, other: CellSummary) -> float:
    """Return the speed of a cell relative to another, from both ratios to the reference."""
    speeds = [c.comparison.ratio if c.comparison else 1.0 for c in (cell, other)]
    return speeds[0] / speeds[1]


def _proof(certificate: Mapping[str, Any] | None) -> str:
    if certificate is None:
        return "not yet proved equal"
    return "proved equal" if certificate.get("green") else "NOT equal: see `tiebreak verify`"


def _differences(groups: Sequence[GroupSummary], suite: Mapping[str, Any]) -> Iterator[str]:
    """Yield in what each contestant that was measured differs, by its label."""
    measured = {
        (cell.label, cell.cell["algorithm"]) for g in groups for cell in g.cells if cell.visits
    }
    several = len({algorithm for _, algorithm in measured}) > 1
    for known in suite.get("differences", []):
        if (known["label"], known["algorithm"]) in measured:
            algorithm = f", {known['algorithm'].upper()}" if several else ""
            yield f"{known['label']}{algorithm}: {known['text']}"


def table(answer: Answer) -> list[tuple[str, ...]]:
    """Return rows (task, framework, time of a million units, interval, start, note) as text.

    The note has the flags that bar a cell, or that it is another simulator's.
    """
    return [
        (
            card.title,
            time.name,
            measured_time(time.steady_s),
            DASH
            if time.low_s is None or time.high_s is None
            else f"{measured_time(time.low_s)} to {measured_time(time.high_s)}",
            measured_time(time.start_s),
            phrases.NOT_COMPARABLE if time in card.ceilings else ", ".join(time.barred),
        )
        for card in answer.cards
        for time in (*card.times, *card.ceilings)
    ]
