"""The result of a training run, and what can be done with it."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

from tiebreak.core.files import write_atomic
from tiebreak.envs.task import Task
from tiebreak.training import policy_files
from tiebreak.training.curves import Curves, read_curves
from tiebreak.training.evaluate import EvalResult, evaluate
from tiebreak.training.policy import LoadedPolicy, load_policy
from tiebreak.training.run_logs import CONFIG, read_object


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """A finished run."""

    out: Path
    """The run's folder."""
    returns: list[Any]
    """Greedy returns, one per evaluation episode; of a population, a list of them per agent."""
    steps: int
    """Environment steps, over all environments; of a population, of each agent."""
    updates: int
    """Gradient steps."""
    wall_s: float
    """Seconds of all training, compilation included, evaluations and checkpoints excluded."""
    first_s: float
    """Seconds of `wall_s` that `steps_per_s` leaves out: filling the replay, each process's first
    iteration of that and of learning, and every interval in which something compiled."""
    steps_per_s: float
    """Environment steps per second outside `first_s`; of everything if nothing else was left.
    Of a population, of all agents together."""
    summary: dict[str, Any]
    """Statistics of the final evaluation: return_mean and return_std; of a population return_iqm,
    …_min and …_max, too, and these by_settings where settings differ. Empty without evaluation."""
    agents: int = 1
    """Agents trained at once."""
    stopped_at: int | None = None
    """Steps at which training ended before `total_steps`, as `stop_at` was reached; else None."""
    best: dict[str, Any] | None = None
    """With `keep_best`: `policy` (a file in `out`), its `return_mean`, and the `steps` it had."""
    cut: int = 0
    """Episodes of the final evaluation that did not end by themselves, and were cut."""
    rank: int = 0
    """Which of several processes returns it; rank 0 has stored it."""

    task: Task | None = dataclasses.field(default=None, repr=False)
    """The task, with the function of its environment if it has one."""

    @property
    def curves(self) -> Curves:
        """Returns over steps, as arrays: `curves.greedy.steps`, `curves.greedy.returns`, …"""
        return read_curves(self.out)

    @functools.cached_property
    def policy(self) -> LoadedPolicy:
        """The trained policy, ready to `act` in the framework that trained it."""
        return load_policy(self.out)

    def evaluate(self, episodes: int = 16, **options: Any) -> EvalResult:
        """Run the trained policy greedily; `options` are those of `tiebreak.evaluate`.

        It runs as it was trained: in the same framework, mode, precision, and on the same device.
        """
        if not {"task", "env"} & options.keys():
            options["task"] = self.task
        if "framework" not in options:
            config = read_object(self.out / CONFIG)
            trained = {name: config[name] for name in ("mode", "precision", "device")}
            options = {**trained, **options}
        return evaluate(self.out, episodes=episodes, **options)

    def save(self, path: str | Path) -> Path:
        """Copy the policy to FILE.safetensors, or into a folder; return the file.

        `tiebreak.load_policy` and `tiebreak.evaluate` read it.
        """
        target = Path(path)
        if target.suffix != ".safetensors":
            target /= policy_files.POLICY
        write_atomic(target, policy_files.find_policy(self.out).read_bytes())
        return target

    def to_json(self) -> dict[str, Any]:
        """Return what result.json says of a run that came to its end, besides its status."""
        named = ("returns", "steps", "updates", "wall_s", "first_s", "steps_per_s")
        ends = {"stopped_at": self.stopped_at, "best": self.best, "cut": self.cut or None}
        return {
            **{name: getattr(self, name) for name in named},
            **self.summary,
            **{name: value for name, value in ends.items() if value is not None},
        }
