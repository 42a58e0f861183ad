"""The probes that a race can measure: one row each.

Suite files, the estimate of a run's duration, reports and help texts take what they need to know
about a probe from here. A new probe is a row and the function that it names.
"""

from __future__ import annotations

from typing import NamedTuple


class ProbeRow(NamedTuple):
    """One row of PROBES."""

    measures: str
    """Work of a call, for help texts."""
    plain: str
    """What a call does, in the words of a reader who knows no probe: a row of the report."""
    unit: str
    """Unit of its results."""
    builder: str
    """`module:function` that builds it from a subject (probes/base.py)."""
    work: tuple[str, ...] = ()
    """Work that is counted and compared with what the calls should have done."""
    learns: bool = False
    """Calls have to change the weights."""
    once_per_engine: bool = False
    """Needs no agent: measured once for all rows of a race."""
    loops: tuple[str, ...] = ("host", "fused")
    """Kinds of loop that it can run in."""
    many_agents: bool = False
    """Trains several agents at once."""
    in_loop: bool = False
    """Steps an environment through the training loop."""
    compiles: bool = False
    """Compiling is part of the work."""
    contestants: bool = False
    """Can be measured of a contestant (probes/contestants.py)."""
    once: bool = False
    """Is one call, timed from the start of the process, which measures nothing else."""
    title: str = ""
    """Column of the breakdown table of a report; empty if it is not shown there."""


PROBES = {
    "forward": ProbeRow(
        measures="the policy alone, without learning",
        plain="choosing actions",
        unit="actions",
        builder="tiebreak.bench.probes.agent:forward",
        title="forward",
    ),
    "env": ProbeRow(
        measures="the environment alone, under random actions",
        plain="simulating",
        unit="env steps",
        builder="tiebreak.bench.probes.env:env",
        work=("env_steps",),
        once_per_engine=True,
    ),
    "interact": ProbeRow(
        measures="acting and stepping the environment, without learning",
        plain="acting + simulating",
        unit="env steps",
        builder="tiebreak.bench.probes.agent:interact",
        work=("env_steps",),
        in_loop=True,
        title="collect",
    ),
    "update": ProbeRow(
        measures="gradient steps on one batch that is on the device already",
        plain="learning",
        unit="gradient steps",
        builder="tiebreak.bench.probes.agent:update",
        work=("updates",),
        learns=True,
        title="update",
    ),
    "train": ProbeRow(
        measures="the training loop, as `tiebreak train` runs it",
        plain="training, all in all",
        unit="env steps",
        builder="tiebreak.bench.probes.agent:train",
        work=("env_steps", "updates", "optimizer_steps"),
        learns=True,
        in_loop=True,
        contestants=True,
    ),
    "iteration": ProbeRow(
        measures="one iteration of the training loop in a call",
        plain="one full step",
        unit="env steps",
        builder="tiebreak.bench.probes.agent:iteration",
        work=("env_steps", "updates", "optimizer_steps"),
        learns=True,
        in_loop=True,
        title="full step",
    ),
    "population": ProbeRow(
        measures="the training loop of many agents in one program",
        plain="training many agents",
        unit="env steps",
        builder="tiebreak.bench.probes.agent:population",
        work=("env_steps", "updates", "optimizer_steps"),
        learns=True,
        loops=("fused",),
        many_agents=True,
        in_loop=True,
        contestants=True,
    ),
    "solve": ProbeRow(
        measures="from the start of a process to a policy that solves the task",
        plain="solving the task, from the start of the process",
        unit="solutions",
        builder="tiebreak.bench.probes.solve:solve",
        learns=True,
        in_loop=True,
        compiles=True,
        contestants=True,
        once=True,
    ),
    "rebuild": ProbeRow(
        measures="making an agent anew, with one gradient step",
        plain="building an agent anew",
        unit="agents",
        builder="tiebreak.bench.probes.rebuild:rebuild",
        work=("agents",),
        compiles=True,
    ),
}

ALIASES = {"breakdown": ("iteration", "forward", "interact", "update")}
"""Names in a suite file that stand for several probes: the full step and what it consists of."""
