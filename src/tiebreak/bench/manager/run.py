"""A results folder being filled: one visit at a time, block after block, stage after stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tiebreak import registry
from tiebreak.bench.machine import machine
from tiebreak.bench.manager import pending
from tiebreak.bench.manager.progress import Progress
from tiebreak.bench.manager.runner import CALIBRATION, Visitor
from tiebreak.bench.manager.store import read_records
from tiebreak.bench.suite import estimate
from tiebreak.bench.suite.plan import Plan, Visit
from tiebreak.bench.worker.clock import Timer
from tiebreak.core.text import duration, nan_to_null

LONGEST_BLOCK_S = 600.0
"""A machine changes: what is compared lies within so long, or the run says that it does not."""


class Run:
    """What is done, what comes next, and whether there is time for it."""

    def __init__(self, plan: Plan, folder: Path, subject: str, progress: bool, again: str = ""):
        self.plan, self.folder, self.timer = plan, folder, Timer()
        self.more = f"; for more blocks: {again}" if again else ""
        self.visitor = Visitor(plan, folder, subject)
        self.progress = Progress(0, progress)
        self.closed: set[str] = set()
        """Groups whose intervals are narrow enough."""
        self.todo: list[Visit] = []
        """What is left of this stage, as far as is known now."""
        self.first: int | None = None
        """The first block of this session, in which warm caches are still empty."""

    def close(self) -> None:
        """Release everything; what is stored is stored."""
        self.progress.close()
        self.visitor.close()

    def everything(self) -> None:
        """Certificate, calibration, blocks."""
        settings = self.plan.settings
        self.visitor.append("machine", machine=self.visitor.machine)
        if settings.certificate and not self.visitor.certified:
            self._certify()
        if settings.calibration:
            self._plan([CALIBRATION])
            self._block(CALIBRATION)
        for stage in pending.stages(settings):
            if not self._stage(stage):
                return

    def _stage(self, blocks: range) -> bool:
        """Run these blocks, of the groups that need them; whether there may be more."""
        if blocks.start:
            self.closed = pending.narrow(self.plan, read_records(self.folder), blocks.start)
            wide = len(self.plan.groups()) - len(self.closed)
            limit = f"±{100 * self.plan.settings.half_width:.3g} %"
            found = f"groups with intervals wider than {limit}: {wide}"
            found = found if wide else f"all intervals are within {limit}"
            self.progress.say(f"after {blocks.start} blocks, {found}")
            if not wide:
                return False
        self._plan(blocks)
        for block in blocks:
            if not self._in_time(block):
                reason = "the next would end too late"
                self.progress.say(f"stopped after block {block}: {reason}{self.more}")
                return False
            self._block(block)
        return True

    def _plan(self, blocks: range | list[int]) -> None:
        self.todo = [v for block in blocks for visits in self._pending(block) for v in visits]
        self.progress.add(len(self.todo))
        if self.first is None and self.todo:
            self.first = self.todo[0].block

    def _pending(self, block: int) -> list[list[Visit]]:
        return pending.pending(self.plan, block, self.visitor.done, self.closed)

    def _in_time(self, block: int) -> bool:
        """Whether a block may start: the first always, the others if they will end in time."""
        settings = self.plan.settings
        limit = settings.limit_s if block < settings.least_blocks else settings.budget_s
        if limit is None or block == 0:
            return True
        needed = sum(self._expected_s(v) for set_ in self._pending(block) for v in set_)
        return needed == 0 or self.timer.elapsed_s() + needed <= limit

    def _expected_s(self, visit: Visit) -> float:
        """Seconds that a visit will take: as its last one did, or as they do on another machine."""
        known = self.visitor.wall_s.get(self.visitor.key(visit))
        if known is not None:
            return known
        cold = True if visit.block == self.first else None
        return estimate.expected_s(self.plan.settings, visit.cells, cold)

    def _left_s(self) -> float:
        """Seconds to the end of this stage; a budget may end it earlier."""
        left = sum(map(self._expected_s, self.todo))
        budget = self.plan.settings.budget_s
        return left if budget is None else min(left, max(0.0, budget - self.timer.elapsed_s()))

    def _block(self, block: int) -> None:
        for visits in self._pending(block):
            about = {"block": block, "groups": sorted({c.group for v in visits for c in v.cells})}
            self.visitor.append("canary", **about, when="open", values_s=machine.canary())
            timer = Timer()
            for part in pending.parts(visits):
                for visit, results in self.visitor.visits(part, self._begin(len(part))):
                    self.progress.finish(visit, results)
                    self.todo.remove(visit)
            about["seconds"] = round(timer.elapsed_s(), 3)
            self.visitor.append("canary", **about, when="close", values_s=machine.canary())
            if about["seconds"] > LONGEST_BLOCK_S:
                self._warn(about["groups"][0], about["seconds"])

    def _begin(self, turns: int) -> Callable[[Visit], None]:
        """What says that a visit begins, one of so many that take turns."""
        left_s, since = self._left_s(), Timer()
        return lambda visit: self.progress.start(visit, max(0.0, left_s - since.elapsed_s()), turns)

    def _warn(self, group: str, seconds: float) -> None:
        self.progress.say(
            f"a block of {group} took {duration(seconds)}: in more than "
            f"{duration(LONGEST_BLOCK_S)} a machine changes under the comparison; measure fewer "
            "rows at once, or less in each visit"
        )

    def _certify(self) -> None:
        """Prove, before anything is timed, that the frameworks compute the same numbers."""
        from tiebreak.verify.certify import certify

        raced = {c.framework for c in self.plan.cells} & set(registry.FRAMEWORKS)
        self.progress.say("verifying that the frameworks compute the same numbers")
        algorithms = sorted({c.algorithm for c in self.plan.cells})
        frameworks = [name for name in registry.FRAMEWORKS if name in raced]
        certificate = certify(algorithms, frameworks, quick=self.plan.scale != "full")
        self.visitor.append("certificate", certificate=nan_to_null(certificate))
