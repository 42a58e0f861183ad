"""`tiebreak.export_policy`: write a policy as one file, and prove that it is the same policy."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tiebreak import registry
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.files import write_atomic
from tiebreak.export.layers import ArgmaxEach, GreedyPolicy, greedy_policy, to_arrays
from tiebreak.export.numpy_file import Outputs, apply
from tiebreak.training import policy_files
from tiebreak.training.policy import load_policy

TOLERANCE = 1e-5
"""Largest difference that is written; see `compare` for its unit."""

OBSERVATIONS = 1000
"""Number of random observations on which a file is compared with the policy."""


class Format(NamedTuple):
    """One kind of file."""

    module: str
    """Has `write(policy, path)` and `run(path, obs) -> Outputs`."""
    suffix: str
    packages: tuple[str, ...] = ()
    """Importable names that writing and comparing need."""
    extra: str = ""
    """The extra of this package that installs them."""


FORMATS = {
    "onnx": Format("tiebreak.export.onnx_file", ".onnx", ("onnx", "onnxruntime"), "export"),
    "torch": Format("tiebreak.export.torch_file", ".pt2", ("torch",), "torch"),
    "numpy": Format("tiebreak.export.numpy_file", ".npz"),
    "keras": Format("tiebreak.export.keras_file", ".keras", ("keras",), "tensorflow"),
    "safetensors": Format("tiebreak.export.safetensors_file", ".safetensors"),
}


class Exported(NamedTuple):
    """A file that was written."""

    path: Path
    difference: float
    """Largest difference from the policy, as `compare` returns it."""


def export_policy(
    directory: str | Path, to: str, out: str | Path | None = None, framework: str | None = None
) -> Exported:
    """Write the policy of a training run as one file that needs no Tiebreak.

    It holds what `load_policy(directory).act(obs)` does: normalization, network, the best action,
    in the environment's units. It takes observations [N, …] in float32, for any N.

    Args:
      directory: The run's folder, or a `.safetensors` file in it.
      to: A row of FORMATS.
      out: The file; default: `policy` in the run's folder, with the format's suffix.
      framework: The framework in which the policy acts for comparison; default: the training's.

    Raises UsageError for unknown names and missing packages, and if the file's actions differ from
    the policy's by more than TOLERANCE; then nothing is written.
    """
    row = _format(to)
    stored = policy_files.load_policy(directory)
    path = _choose_path(Path(directory), to, out)
    obs = random_observations(stored, OBSERVATIONS)
    expected = load_policy(directory, framework).act(obs)

    greedy = greedy_policy(stored)
    seen = obs.reshape(len(obs), -1)[:, : stored.spec.visible_size]
    seen = seen.reshape(len(obs), *greedy.observation_shape)
    with tempfile.TemporaryDirectory(prefix="tiebreak-export-") as folder:
        draft = Path(folder) / f"policy{row.suffix}"
        registry.load(row.module).write(greedy, draft)
        difference = _require_equal(to, draft, greedy, seen, expected)
        try:
            write_atomic(path, draft.read_bytes())
        except OSError as error:
            raise UsageError(f"cannot write {str(path)!r}: {error.strerror}") from error
    return Exported(path, difference)


def _format(to: str) -> Format:
    """Return a format's row. Raises UsageError for an unknown one, and for missing packages."""
    if to not in FORMATS:
        raise unknown("format", to, FORMATS)
    row = FORMATS[to]
    registry.require_packages(f"--to {to}", row.packages, row.extra)
    return row


def _choose_path(directory: Path, to: str, out: str | Path | None) -> Path:
    """Return the file to write; refuse another suffix, and to replace the policy itself."""
    suffix = FORMATS[to].suffix
    stored = directory if directory.suffix == ".safetensors" else directory / policy_files.POLICY
    if out is None:
        name = f"exported-{stored.stem}" if suffix == stored.suffix else stored.stem
        return stored.with_name(name + suffix)
    path = Path(out)
    if path.suffix != suffix:
        raise UsageError(f"--to {to} writes a file that ends in {suffix}, got {str(path)!r}")
    if path.exists() and path.samefile(stored):
        raise UsageError(f"{str(path)!r} is the policy itself, and would be replaced")
    return path


def _require_equal(
    to: str, draft: Path, greedy: GreedyPolicy, obs: np.ndarray, expected: np.ndarray
) -> float:
    """Return the largest difference between a file and the policy; refuse more than TOLERANCE.

    obs: [N, …], what the policy sees. expected: its actions. The file runs on all and on one.
    """
    run = registry.load(FORMATS[to].module).run
    batches = slice(None), slice(1)
    differences = [
        compare(greedy, obs[rows], run(draft, obs[rows]), expected[rows]) for rows in batches
    ]
    difference = float(np.max(differences))
    if not difference <= TOLERANCE:  # NaN is no number below it
        raise UsageError(
            f"the actions of the {to} file differ from the policy's by {difference:.2g} on "
            f"{len(obs)} random observations, more than {TOLERANCE:g}: nothing was written"
        )
    return difference


def random_observations(stored: policy_files.Policy, count: int) -> np.ndarray:
    """Return observations [count, …] from a normal distribution with the statistics' mean and
    variance; where training kept none, with mean 0 and variance 1. Pixels are uniform.
    """
    shape = stored.spec.observation_shape
    rng = np.random.default_rng(0)
    if stored.spec.pixels:
        return rng.integers(256, size=(count, *shape)).astype(np.float32)
    obs = rng.standard_normal((count, *shape))
    if stored.config.normalize_obs:
        mean, variance = (stored.weights[f"obs_moments/{name}"] for name in ("mean", "var"))
        obs = obs * np.sqrt(variance).reshape(shape) + mean.reshape(shape)
    return obs.astype(np.float32)


def compare(greedy: GreedyPolicy, obs: np.ndarray, found: Outputs, expected: np.ndarray) -> float:
    """Return the largest difference between a file's outputs and the policy.

    Box actions [N, A] differ in units of half their range, or of 1 where that is more. Of discrete
    actions, the scores [N, A] of the file are compared with those of the layers in float64, in
    units of the largest, or of 1 where that is more; an action other than `expected` counts by how
    much worse its score is, since scores that are equal up to rounding have no order.
    """
    if not greedy.discrete:
        last = greedy.layers[-1]
        unit = np.maximum(1.0, (last.high - last.low) / 2)
        return float(np.abs((found["action"] - expected) / unit).max())

    kinds, arrays = to_arrays(greedy)
    double = {name: array.astype(np.float64) for name, array in arrays.items()}
    scores = apply(kinds, double, obs.astype(np.float64))["scores"]
    last = greedy.layers[-1]
    sizes = last.sizes if isinstance(last, ArgmaxEach) else (greedy.action_size,)
    starts = np.cumsum((0, *sizes[:-1]))
    best, chosen = (
        np.take_along_axis(scores, action.reshape(len(scores), -1) + starts, axis=-1)
        for action in (expected, found["action"])
    )
    lost = best - chosen
    difference = np.max([np.abs(found["scores"] - scores).max(), np.abs(lost).max()])
    return float(difference / max(1.0, np.abs(scores).max()))
