"""Describe the files of a results folder, field by field, as far as anything here reads them.

`read_log` and `read_suite` hold every record and suite.json against these types
(core/schema.py), so that a file of somebody else's cannot have a value of another kind. Fields that
older versions did not write are NotRequired.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

from tiebreak.core.schema import Count, Positive, check

Table = dict[str, Any]


class CellFields(TypedDict):
    """A cell, as `Cell.to_json` writes it."""

    algorithm: str
    framework: str
    mode: str
    task: str
    loop: str
    probe: str
    precision: NotRequired[str]
    size: NotRequired[str]
    num_envs: Count
    device: NotRequired[str]
    cache: NotRequired[str]
    label: NotRequired[str]
    config: NotRequired[Table]
    race: NotRequired[str]
    agents: NotRequired[Count]
    contestant: NotRequired[str]
    packages: NotRequired[list[str]]
    peer: NotRequired[str]
    python: NotRequired[str]
    threads: NotRequired[Count]
    precision_varies: NotRequired[bool]
    ceiling_of: NotRequired[list[str]]
    cell_id: NotRequired[str]
    id: NotRequired[str]


class Origin(TypedDict):
    """Fields of records of every kind."""

    schema: int
    kind: str
    run_id: NotRequired[str]
    suite: NotRequired[str]
    scale: NotRequired[str]
    fingerprint: NotRequired[str]
    at: NotRequired[str]


class Memory(TypedDict):
    """Readings of a run's memory."""

    rss_peak_bytes: NotRequired[Count]
    live_bytes: NotRequired[Count | None]
    peak_bytes: NotRequired[Count | None]
    slope_bytes_per_call: NotRequired[float | None]
    growth_low_bytes_per_call: NotRequired[float | None]
    series_bytes: NotRequired[list[Count]]
    source: NotRequired[str]


class Work(TypedDict):
    """Work of a run, counted, and numbers that have to be finite."""

    calls: NotRequired[Count]
    env_steps: NotRequired[float]
    updates: NotRequired[float]


class Outcome(TypedDict):
    """Fields of a result that a worker sends, see record.Result."""

    status: str
    error: NotRequired[str]
    unit: str
    units_per_sample: Count
    calls_per_sample: NotRequired[Count]
    samples_s: list[float]
    value_s: NotRequired[float | None]
    warmup_calls: NotRequired[Count]
    first_calls_s: NotRequired[list[float]]
    phases_s: dict[str, float]
    parent_steady_s: NotRequired[float]
    contention: NotRequired[dict[str, float]]
    memory: Memory
    work: NotRequired[Work]
    flags: Table
    settings: Table
    fault: NotRequired[str]


class Visit(Origin, Outcome):
    """A record of a run of a cell."""

    fingerprint: str
    run_id: str
    block: int
    group: str
    cell_id: str
    cell: CellFields
    position: NotRequired[int]
    shared_process: NotRequired[bool]
    order: NotRequired[list[str]]
    attempt: NotRequired[Count]
    turns: NotRequired[str]
    phases_overlapped: NotRequired[bool]
    environment: NotRequired[Table]
    started_at: str
    hash_seed: NotRequired[int]
    cache_files: NotRequired[Count]


class Machine(TypedDict):
    """Facts of a machine that are used one by one; all are shown."""

    cpu: NotRequired[str]
    cores: NotRequired[Count | None]
    gpus: NotRequired[list[str]]
    packages: NotRequired[dict[str, str]]
    environments: NotRequired[dict[str, Table]]


class MachineRecord(Origin):
    """A record of the machine."""

    fingerprint: str
    machine: Machine


class Canary(Origin):
    """A record of a fixed piece of work, timed before or after an interleaving."""

    block: int
    when: str
    values_s: dict[str, float]
    groups: NotRequired[list[str]]
    seconds: NotRequired[float]
    """All between the two records of an interleaving; this and what follows, in the closing one."""
    rounds: NotRequired[int]
    """Rounds of paced probes, and their seconds."""
    rounds_s: NotRequired[float]
    measured: NotRequired[list[str]]
    """Ids of the cells that were measured."""


class Check(TypedDict):
    """A check of a certificate."""

    framework: str
    mode: str
    actions: str
    case: str
    algorithm: NotRequired[str]
    rung: str
    quantity: str
    precision: str
    ok: bool
    worst: float
    bound: Positive


class Skipped(TypedDict):
    """A framework that a certificate says nothing of."""

    framework: str
    reason: str


class Certificate(TypedDict):
    """The result of `tiebreak verify`."""

    green: bool
    rows: list[Check]
    skipped: NotRequired[list[Skipped]]
    algorithms: NotRequired[list[str]]
    created_at: NotRequired[str]
    version: NotRequired[str]


class CertificateRecord(Origin):
    """A record of a certificate."""

    certificate: Certificate


class SelfTest(Origin):
    """A record of a check of the self-test."""

    fingerprint: str
    row: str
    title: str
    rule: str
    passed: bool | None
    detail: str
    measured: Table
    seconds: NotRequired[float | None]


RECORDS: dict[str, Any] = {
    "visit": Visit,
    "calibration": Visit,
    "machine": MachineRecord,
    "canary": Canary,
    "certificate": CertificateRecord,
    "selftest": SelfTest,
}
"""Kind of a record -> its type; other kinds are Origin."""


def problem_of(record: Mapping[str, Any]) -> str:
    """Return what is wrong with a record of this schema or an earlier one; empty if nothing is."""
    kind = record.get("kind")
    fields = RECORDS.get(kind, Origin) if isinstance(kind, str) else Origin
    found = check(record, fields)
    return f"{kind if isinstance(kind, str) else 'record'}: {found}" if found else ""


class PublishedValue(TypedDict):
    """A number that others have published."""

    what: str
    value: Positive
    plus_minus: NotRequired[Positive | None]
    over: str
    where: dict[str, list[Any]]


class Published(TypedDict):
    """A table that others have published."""

    source: str
    machine: str
    unit: Literal["s per 1000 updates", "ms per call", "calls per s", "times as fast"]
    note: str
    values: list[PublishedValue]


class Difference(TypedDict):
    """In what a contestant is known to differ from our algorithm."""

    label: str
    algorithm: str
    text: str


class ScaleFields(TypedDict):
    """Settings of a scale that a report shows."""

    stages: NotRequired[list[Count]]
    half_width: NotRequired[float | None]


class MergedFolder(TypedDict):
    """A results folder whose records were put into another one."""

    name: str
    run_id: NotRequired[str]
    command: NotRequired[str]
    seed: NotRequired[int]
    version: NotRequired[str]
    commit: NotRequired[str | None]
    created_at: NotRequired[str]
    blocks_planned: NotRequired[Count]


class Suite(TypedDict):
    """suite.json."""

    suite: str
    scale: str
    seed: int
    command: str
    version: str
    commit: str | None
    cells: list[CellFields]
    groups: NotRequired[dict[str, list[str]]]
    settings: NotRequired[ScaleFields | None]
    blocks_planned: NotRequired[Count]
    published: NotRequired[list[Published]]
    differences: NotRequired[list[Difference]]
    device: NotRequired[str | None]
    share: NotRequired[str | None]
    hosts: NotRequired[list[str]]
    """Names of the hosts that the suite is run on."""
    merged: NotRequired[list[MergedFolder]]
    """The folders whose records these are; empty before there are any."""
    run_id: NotRequired[Any]
    """Stricter: `store.read_run_id` checks it."""
    created_at: NotRequired[str]
