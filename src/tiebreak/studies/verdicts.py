"""Draw conclusions of studies: same, different, or not shown; within what others published, or not.

A verdict takes all seeds that were declared, and trainings that began after the study was written
down. Whatever lacks one of them is not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from tiebreak.core.seeding import derive
from tiebreak.stats.curves import Estimate, estimate, estimate_strata, probability_of_improvement
from tiebreak.stats.equivalence import Equivalence, compare_means, decide, power_of_same
from tiebreak.stats.intervals import holm
from tiebreak.studies.registration import is_older
from tiebreak.studies.seeds import SeedRecord
from tiebreak.studies.study import Comparison, Program, Study

Judged = Literal["same", "different", "not shown", "incomplete", "not registered"]
PUBLISHED_SDS = 2.0
"""Standard deviations around a published mean within which our mean is to lie."""


class Finding(NamedTuple):
    """What came out of one comparison."""

    study: Study
    comparison: Comparison
    first: tuple[float, ...]
    """The number of each seed of the first program."""
    second: tuple[float, ...]
    power: float
    """Probability that two equal programs are shown to be the same."""
    result: Equivalence | None
    """None where a side has fewer than two seeds."""
    better: Estimate | None
    """Probability that a training of the second program comes to more than one of the first."""
    verdict: Judged

    @property
    def is_as_expected(self) -> bool | None:
        """Whether a control came out; None for other comparisons, and before it is judged."""
        if self.comparison.expected is None or self.verdict in ("incomplete", "not registered"):
            return None
        return self.verdict == self.comparison.expected


class PublishedFinding(NamedTuple):
    """What we came to, beside what others published."""

    study: Study
    program: Program
    values: tuple[float, ...]
    mean: float | None
    verdict: Literal["within", "outside", "incomplete", "not registered"]


class Overall(NamedTuple):
    """One framework over all studies that compare the same frameworks."""

    framework: str
    studies: int
    estimate: Estimate
    """Of values in standard deviations from the mean of their study."""


class Values(NamedTuple):
    """The numbers of one program."""

    all: tuple[float, ...]
    missing: int
    """Seeds that were declared and are not there."""
    unregistered: int
    """Trainings that are not of the study as it is, or began before it was written down."""


def judge(study: Study, records: Sequence[SeedRecord]) -> list[Finding]:
    """Return the findings of a study, in the order of its comparisons.

    p-values of differences between frameworks are adjusted for one another by Holm's procedure.
    """
    of = {program.label: values_of(study, program, records) for program in study.programs}
    results = [_compare(study, one, of) for one in study.comparisons]
    adjusted = _adjusted(study, results)
    return [
        _finding(study, comparison, of, result, p)
        for comparison, result, p in zip(study.comparisons, results, adjusted, strict=True)
    ]


def values_of(study: Study, program: Program, records: Sequence[SeedRecord]) -> Values:
    """Return the numbers of a program's seeds, in the order of the seeds."""
    seeds = range(program.first_seed, program.first_seed + program.seeds)
    by_seed = {
        record["seed"]: record
        for record in records
        if record["study"] == study.name and record["program"] == program.label
    }
    found = [by_seed[seed] for seed in seeds if seed in by_seed]
    return Values(
        all=tuple(record["value"] for record in found),
        missing=program.seeds - len(found),
        unregistered=sum(not is_registered(study, record) for record in found),
    )


def is_registered(study: Study, record: SeedRecord) -> bool:
    """Return whether a training began after its study had been written down as it is."""
    if record["digest"] != study.digest or not record["registered"]:
        return False
    return is_older(record["registered_at"], record["started_at"])


def _compare(study: Study, comparison: Comparison, of: Mapping[str, Values]) -> Equivalence | None:
    first, second = (of[p.label].all for p in (comparison.first, comparison.second))
    if min(len(first), len(second)) < 2:
        return None
    return compare_means(first, second, study.margin_sd, study.level)


def _adjusted(study: Study, results: Sequence[Equivalence | None]) -> list[float]:
    """Return p-values of differences: adjusted between frameworks, a control's as it is."""
    p = [result.p_different if result else 1.0 for result in results]
    pairs = [i for i, one in enumerate(study.comparisons) if not one.control]
    for i, value in zip(pairs, holm([p[i] for i in pairs], len(pairs)), strict=True):
        p[i] = value
    return p


def _finding(
    study: Study,
    comparison: Comparison,
    of: Mapping[str, Values],
    result: Equivalence | None,
    p_different: float,
) -> Finding:
    first, second = of[comparison.first.label], of[comparison.second.label]
    verdict: Judged
    if result is None or first.missing or second.missing:
        verdict = "incomplete"
    elif first.unregistered or second.unregistered:
        verdict = "not registered"
    else:
        verdict = decide(result, study.level, p_different)
    seed = derive(0, study.name, comparison.first.label, comparison.second.label)
    seeds = comparison.first.seeds, comparison.second.seeds
    return Finding(
        study=study,
        comparison=comparison,
        first=first.all,
        second=second.all,
        power=power_of_same(*seeds, study.margin_sd, study.level),
        result=result,
        better=probability_of_improvement(second.all, first.all, seed) if result else None,
        verdict=verdict,
    )


def judge_published(study: Study, records: Sequence[SeedRecord]) -> list[PublishedFinding]:
    """Return our mean beside the published one, for each program; [] if nothing is published."""
    if study.published is None:
        return []
    found = []
    for program in study.programs:
        values = values_of(study, program, records)
        mean = float(np.mean(values.all)) if values.all else None
        if mean is None or values.missing:
            verdict = "incomplete"
        elif values.unregistered:
            verdict = "not registered"
        else:
            distance = abs(mean - study.published.mean)
            verdict = "within" if distance <= PUBLISHED_SDS * study.published.sd else "outside"
        found.append(PublishedFinding(study, program, values.all, mean, verdict))
    return found


def is_complete(study: Study, records: Sequence[SeedRecord]) -> bool:
    """Return whether all trainings of a study are there, and count."""
    values = [values_of(study, program, records) for program in study.programs]
    return not any(one.missing or one.unregistered for one in values)


def of_seeds(program: Program, values: Sequence[float], study: Study) -> Estimate | None:
    """Return the interquartile mean over a program's seeds; None for fewer than two."""
    if len(values) < 2:
        return None
    return estimate(values, derive(0, study.name, program.label))


def overall(studies: Sequence[Study], records: Sequence[SeedRecord]) -> list[Overall]:
    """Compare frameworks over all complete studies that train the same three or more of them.

    Values are taken in standard deviations from the mean of their study, over all its frameworks.
    """
    strata: dict[str, list[np.ndarray]] = {}
    for study in studies:
        frameworks = [p for p in study.programs if p.label == p.framework]
        if len(frameworks) < 3 or not is_complete(study, records):
            continue
        values = [np.array(values_of(study, p, records).all) for p in frameworks]
        pooled = np.concatenate(values)
        sd = float(pooled.std(ddof=1)) or 1.0
        for program, own in zip(frameworks, values, strict=True):
            strata.setdefault(program.framework, []).append((own - pooled.mean()) / sd)
    most = max(map(len, strata.values()), default=0)
    return [
        Overall(name, len(values), estimate_strata(values, derive(0, "overall", name)))
        for name, values in strata.items()
        if len(values) == most
    ]
