"""The folder and the policy of a training run; a crash never leaves half a file.

A run is a folder: `config.json` (run_config.py), `metrics.jsonl` (metrics_log.py),
`policy.safetensors` (weights, with all that is needed to load them) and `result.json`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

from tiebreak import registry
from tiebreak.core import config as configs
from tiebreak.core import user_modules
from tiebreak.core.errors import UsageError
from tiebreak.core.files import hold, is_leftover, remove_leftovers
from tiebreak.core.networks import is_own
from tiebreak.core.schema import check
from tiebreak.core.text import quoted
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks import weights
from tiebreak.training import checkpoints

CONFIG, RESULT = "config.json", "result.json"
POLICY = "policy.safetensors"
BEST_POLICY = "policy-best.safetensors"
"""File name of the policy of a run's best evaluation."""
AGENT_POLICY = "policy-{:03d}.safetensors"
"""File name of the policy of one agent of a population."""
AGENT_POLICIES = "policy-[0-9]*.safetensors"
"""Pattern of these names."""


SMALL_LAYER, LARGER = 10**6, 100
"""A described layer has at most so many weights more and so many times more than the whole file."""


class Metadata(TypedDict):
    """Description of a policy, as JSON in its file."""

    algorithm: str
    spec: EnvSpec
    config: dict[str, Any]
    """Settings, which `core.config.from_dict` checks."""
    task: NotRequired[str]
    framework: NotRequired[str]
    mode: NotRequired[str]
    seed: NotRequired[int]
    steps: NotRequired[int]
    return_mean: NotRequired[float]
    """Mean greedy return of BEST_POLICY."""


class Policy(NamedTuple):
    """A stored policy, ready for `make_raw_agent` and `load` in any framework."""

    weights: weights.Weights
    algorithm: str
    spec: EnvSpec
    config: Any
    metadata: dict
    """As stored: also task, framework, mode, seed, steps."""


def choose_folder(out: str | Path | None, name: str) -> Path:
    """Return `out`, or `runs/<name>`; create nothing. UsageError if `out` is in use."""
    if out is None:
        return Path("runs") / re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:80]
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or _is_used(folder)):
        what = "is not empty" if folder.is_dir() else "is a file"
        run = checkpoints.describe_run(folder)
        advice = f": {run}; or" if run else ";"
        raise UsageError(f"--out {str(folder)!r} {what}{advice} name a new or an empty folder")
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write to {str(existing)!r}; name another folder with --out")
    return folder


def _is_used(folder: Path) -> bool:
    """Return whether a folder has files, other than what was killed before it had written any."""
    return not all(is_leftover(path.name, CONFIG) for path in folder.iterdir())


@contextlib.contextmanager
def hold_folder(folder: Path, is_default: bool, resume: bool) -> Iterator[Path]:
    """Make a run's folder and lock it until the block ends; yield its path.

    Of trainings that start together each gets a default folder of its own: where it is taken, the
    next number is. A new folder that is empty in the end is removed. So are files that a killed
    process has half written.

    Raises UsageError if another process holds or has filled the folder, or if it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder, is_new = _make(folder, is_default)
            if is_new:
                stack.callback(_remove_empty, folder)
            stack.enter_context(hold(folder, "training"))
        except OSError as error:
            advice = "" if resume else "; name another folder with --out"
            raise UsageError(
                f"cannot write to {str(folder)!r}: {error.strerror}{advice}"
            ) from error
        if not resume:
            choose_folder(folder, "")  # again, now that nobody else trains into it
        remove_leftovers(folder, CONFIG, RESULT, POLICY, BEST_POLICY)
        yield folder


def _make(folder: Path, is_default: bool) -> tuple[Path, bool]:
    """Make a folder; return it, or one with a number, and whether it is new."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    number, candidate = 1, folder
    while True:
        try:
            candidate.mkdir()
            return candidate, True
        except FileExistsError:
            if not is_default:
                return candidate, False
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is not empty
        folder.rmdir()


def save_policy(
    folder: Path, arrays: weights.Weights, algorithm: str, spec: EnvSpec, config: Any,
    name: str = POLICY, **more: Any,
) -> Path:  # fmt: skip
    """Write a policy; `more` (task, framework, seed, …) goes into its metadata."""
    metadata = {"schema": 1, "algorithm": algorithm, "spec": dataclasses.asdict(spec), **more}
    metadata["config"] = configs.to_dict(config)
    weights.save(folder / name, arrays, metadata)
    return folder / name


def best_evaluation(folder: Path) -> dict[str, Any] | None:
    """Return file, mean return and steps of the best policy in a run's folder; None: there is none.

    What cannot be read counts as none: the next evaluation replaces it.
    """
    path = folder / BEST_POLICY
    if not path.is_file():
        return None
    try:
        metadata = load_policy(path).metadata
        return {
            "policy": BEST_POLICY,
            "return_mean": metadata["return_mean"],
            "steps": metadata["steps"],
        }
    except (UsageError, KeyError):
        return None


def load_policy(where: str | Path) -> Policy:
    """Read and check the policy of a run's folder, or of one file out of a population's.

    UsageError for what holds no policy, and for a folder that holds many.
    """
    path = find_policy(where)
    arrays, metadata = weights.load(path)
    if problem := check(metadata, Metadata):
        raise UsageError(f"{str(path)!r} describes no policy: {problem}")
    algorithm = metadata["algorithm"]
    if algorithm not in registry.ALGORITHMS:
        raise UsageError(
            f"{str(path)!r} holds no policy of an algorithm known here: {quoted(algorithm)}"
        )
    try:
        spec = EnvSpec.make(**metadata["spec"])
        module = registry.config_module(algorithm)
        config = module.check(configs.from_dict(module.Config, metadata["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the description in {str(path)!r} cannot be read: {error}") from error
    _check_sizes(path, arrays, spec, config)
    _check_arrays(path, arrays, registry.data_module(algorithm).initial_weights(spec, config, 0))
    return Policy(arrays, algorithm, spec, config, metadata)


def find_policy(where: str | Path) -> Path:
    """Return the file of the policy in a run's folder; a policy's file is returned as it is.

    UsageError if there is none, or if there are many.
    """
    path = Path(where)
    if path.suffix != ".safetensors":
        path /= POLICY
    if not path.is_file():
        raise _no_policy(Path(where))
    return path


def load_runnable(where: str | Path, allow_import: bool) -> Policy:
    """Read and check a policy that is going to act, as `load_policy` does.

    UsageError for a network that only the policy's file names, without `allow_import` (decision
    0044). That its module is imported is not enough: a file could name any function of Python's.
    """
    policy = load_policy(where)
    network = policy.config.network
    if is_own(network) and network not in user_modules.RUN and not allow_import:
        raise UsageError(
            f"the policy in {str(where)!r} names a network of someone's own, {quoted(network)}, "
            "whose code would run: add --allow-import (in Python: allow_import=True)"
        )
    return policy


def _no_policy(where: Path) -> UsageError:
    if of_agents := sorted(where.glob(AGENT_POLICIES)):
        return UsageError(
            f"{str(where)!r} holds the policies of {len(of_agents)} agents, whose evaluation is in "
            f"its result.json; name one of them, e.g. {of_agents[0]}"
        )
    what = f"has no {POLICY}" if where.is_dir() else "is not a folder"
    return UsageError(
        f"{str(where)!r} is not a training run: it {what}; give the folder that `tiebreak train` "
        "wrote"
    )


def _check_sizes(path: Path, arrays: weights.Weights, spec: EnvSpec, config: Any) -> None:
    """Raise UsageError for layers far larger than the file, before `_check_arrays` makes any.

    A layer between two widths has about as many weights as their product.
    """
    most = SMALL_LAYER + LARGER * sum(array.size for array in arrays.values())
    if config.num_envs > most:  # PPO keeps a number for each environment
        raise UsageError(
            f"the description in {str(path)!r} has more environments than the file has numbers: "
            f"num_envs is {config.num_envs}"
        )
    atoms = getattr(config, "num_atoms", 1)
    for name, sizes in dataclasses.asdict(config).items():
        if not isinstance(sizes, tuple):
            continue
        outputs = spec.action_size * atoms if spec.discrete else max(spec.action_size, atoms)
        widths = (spec.observation_size, *sizes, outputs)
        layers = [a * b for a, b in itertools.pairwise(widths)]
        if len(sizes) > len(arrays) or max(layers) > most:
            raise UsageError(
                f"the description in {str(path)!r} has larger layers than the file: {name} is "
                f"{quoted(sizes)}, observations {quoted(spec.observation_shape)}, actions "
                f"{spec.action_size}"
            )


def _check_arrays(path: Path, arrays: weights.Weights, expected: weights.Weights) -> None:
    for name, array in expected.items():
        if name not in arrays:
            raise UsageError(f"{str(path)!r} lacks the array {name!r} that its description implies")
        if arrays[name].dtype.kind != array.dtype.kind:
            raise UsageError(
                f"{name!r} in {str(path)!r} holds {arrays[name].dtype}, not {array.dtype}"
            )
        if arrays[name].shape != array.shape:
            raise UsageError(
                f"{name!r} in {str(path)!r} has shape {arrays[name].shape}, not {array.shape} as "
                "its description implies"
            )
