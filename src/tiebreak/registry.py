"""What there is: literal tables, and the one place that imports an implementation by name.

Adding a framework or an algorithm means adding rows here and the files they name; a hygiene test
holds tables and files together in both directions.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tiebreak.core.errors import MissingDependency, UsageError, unknown
from tiebreak.core.types import Agent, EnvSpec


class Framework(NamedTuple):
    """One row of FRAMEWORKS."""

    runtime: str
    """The array library under it."""
    packages: tuple[str, ...]
    """Importable names that must be there."""
    extra: str
    """The extra of this package that installs them."""
    modes: tuple[str, ...]
    """How it can execute, slowest first."""
    default_mode: str
    """The mode meant when none is named: the best one on a CPU, see docs/decisions."""


FRAMEWORKS = {
    "torch": Framework("torch", ("torch",), "torch", ("eager", "compile", "cudagraph"), "compile"),
    "tensorflow": Framework(
        "tensorflow", ("tensorflow",), "tensorflow", ("eager", "function", "xla"), "xla"
    ),
    "linen": Framework("jax", ("jax", "flax", "optax"), "jax", ("eager", "jit"), "jit"),
    "nnx": Framework(
        "jax", ("jax", "flax", "optax"), "jax", ("eager", "jit", "cached", "split"), "split"
    ),
    "equinox": Framework(
        "jax", ("jax", "equinox", "optax"), "jax", ("eager", "jit", "flat"), "flat"
    ),
}

ALGORITHMS = {
    "ppo": "tiebreak.algorithms.ppo",
    "dqn": "tiebreak.algorithms.dqn",
    "td3": "tiebreak.algorithms.td3",
    "sac": "tiebreak.algorithms.sac",
    "mpo": "tiebreak.algorithms.mpo",
    "fasttd3": "tiebreak.algorithms.fasttd3",
}

OFF_POLICY = ("dqn", "td3", "sac", "mpo", "fasttd3")
"""Algorithms that learn from a replay; the others learn from what they have just collected."""

MIXED = ("fasttd3",)
"""Algorithms whose networks compute in bfloat16 if asked to; weights and losses stay float32."""

PRIVILEGED = ("fasttd3",)
"""Algorithms that see all of an observation; the others see its visible part (envs/visible.py)."""

IMPLEMENTATIONS = {
    (algorithm, framework): f"{package}.{algorithm}_{framework}"
    for algorithm, package in ALGORITHMS.items()
    for framework in FRAMEWORKS
}
"""Every algorithm in every framework: the file that holds it."""

RUNTIMES = {
    "torch": "tiebreak.frameworks.torch.runtime",
    "tensorflow": "tiebreak.frameworks.tensorflow.runtime",
    "jax": "tiebreak.frameworks.jax.runtime",
}

REPLAYS = {
    "torch": "tiebreak.frameworks.torch.replay",
    "tensorflow": "tiebreak.frameworks.tensorflow.replay",
    "jax": "tiebreak.frameworks.jax.replay",
}


class Engine(NamedTuple):
    """One row of ENGINES."""

    module: str
    kind: str
    """`host` (NumPy in, NumPy out) or `device` (pure JAX)."""
    packages: tuple[str, ...]
    extra: str


ENGINES = {
    "gymnasium": Engine("tiebreak.envs.gymnasium_engine", "host", ("gymnasium",), "gymnasium"),
    "gymnax": Engine("tiebreak.envs.gymnax_engine", "device", ("jax", "gymnax"), "gymnax"),
    "brax": Engine("tiebreak.envs.brax_engine", "device", ("jax", "brax"), "brax"),
    "playground": Engine(
        "tiebreak.envs.playground_engine", "device", ("jax", "mujoco_playground"), "playground"
    ),
    "dm_control": Engine("tiebreak.envs.dm_control_engine", "host", ("dm_control",), "dm-control"),
    "envpool": Engine("tiebreak.envs.envpool_engine", "host", ("envpool",), "envpool"),
}

SHAREABLE = ("gymnasium", "dm_control")
"""Engines whose environments processes can share (envs/processes.py)."""

PRECISIONS = ("float32", "tf32", "bfloat16", "float64")
"""float64 is for proofs."""


def algorithm(name: str) -> str:
    """Check an algorithm's name; returns its package."""
    if name not in ALGORITHMS:
        raise unknown("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]


def framework(name: str) -> Framework:
    """Check a framework's name; returns its row."""
    if name not in FRAMEWORKS:
        raise unknown("framework", name, FRAMEWORKS)
    return FRAMEWORKS[name]


def mode(framework_name: str, name: str | None) -> str:
    """Check a mode against its framework; None means the default."""
    row = framework(framework_name)
    if name is None:
        return row.default_mode
    if name not in row.modes:
        raise UsageError(
            f"framework {framework_name!r} has no mode {name!r} (valid: {', '.join(row.modes)})"
        )
    return name


def missing(packages: tuple[str, ...]) -> list[str]:
    """Those of `packages` that are not installed; nothing is imported."""
    return [p for p in packages if importlib.util.find_spec(p) is None]


def install_command(*extras: str) -> str:
    """What to type to get these extras: from the checkout that this runs in, if it is one."""
    checkout = Path(__file__).parents[2]
    editable = (checkout / "pyproject.toml").exists()
    what = f"{checkout if editable else 'tiebreak'}[{','.join(extras)}]"
    return f"pip install {'-e ' if editable else ''}'{what}'"


def require(what: str, packages: tuple[str, ...], extra: str) -> None:
    """Raise MissingDependency, with the command that helps, unless all packages are there."""
    if absent := missing(packages):
        raise MissingDependency(
            f"{what} needs {', '.join(absent)}, not installed here: {install_command(extra)}"
        )


def load(path: str) -> ModuleType:
    """The one importlib call."""
    return importlib.import_module(path)


def config_module(algorithm_name: str) -> ModuleType:
    """`config.py` of an algorithm: Config, reference, check. Imports no framework."""
    return load(f"{algorithm(algorithm_name)}.config")


def data_module(algorithm_name: str) -> ModuleType:
    """`data.py` of an algorithm: what travels, and sample_batch. Imports no framework."""
    return load(f"{algorithm(algorithm_name)}.data")


def task_settings(algorithm_name: str, task: str) -> dict[str, Any]:
    """In what the reference for a task differs from that for its kind of action space."""
    table = getattr(config_module(algorithm_name), "TASKS", {})
    found = [settings for start, settings in table.items() if task.startswith(start)]
    return {name: value for settings in found for name, value in settings.items()}


def reference_config(algorithm_name: str, spec: EnvSpec, task: str = "") -> Any:
    """The reference configuration for this kind of action space, or for one task that has it."""
    config = config_module(algorithm_name).reference(spec)
    return replace(config, **task_settings(algorithm_name, task))


def sample_batch(
    algorithm_name: str, spec: EnvSpec, config: Any = None, rng: np.random.Generator | None = None
) -> tuple[Any, Any]:
    """A random valid batch and its noise, NumPy: what the parity proofs feed to every framework.

    `config=None` is the reference configuration; `rng=None` is seeded with 0.
    """
    config = reference_config(algorithm_name, spec) if config is None else config
    rng = np.random.default_rng(0) if rng is None else rng
    return data_module(algorithm_name).sample_batch(spec, config, rng)


def make_runtime(
    framework_name: str,
    mode_name: str | None = None,
    precision: str = "float32",
    device: str = "cpu",
) -> Any:
    """The runtime under a framework, set to a mode, a precision and a device."""
    row = framework(framework_name)
    chosen = mode(framework_name, mode_name)
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    require(f"framework {framework_name!r}", row.packages, row.extra)
    return load(RUNTIMES[row.runtime]).Runtime(framework_name, chosen, precision, device)


def make_raw_agent(algorithm_name: str, spec: EnvSpec, config: Any, runtime: Any) -> Agent:
    """The agent's own functions, as written: not compiled, on the runtime's arrays."""
    algorithm(algorithm_name)
    config = reference_config(algorithm_name, spec) if config is None else config
    config = config_module(algorithm_name).check(config)
    module, build = load(IMPLEMENTATIONS[algorithm_name, runtime.framework]), runtime.build()
    if build.network_dtype and algorithm_name not in MIXED:
        raise UsageError(
            f"{algorithm_name} has no precision {build.network_dtype!r} (it is there for "
            f"{', '.join(MIXED)}; valid here: float32, tf32)"
        )
    return module.make_agent(spec, config, build)


def make_agent(
    algorithm_name: str,
    framework_name: str,
    spec: EnvSpec,
    config: Any = None,
    *,
    mode: str | None = None,
    precision: str = "float32",
    device: str = "cpu",
) -> Agent:
    """An agent as five functions: init, act, step, dump, load (see core.types.Agent).

    They run in `mode`, accept NumPy arrays or the runtime's own, and `dump` returns NumPy.
    Raises UsageError for unknown names and MissingDependency for a missing package.
    """
    algorithm(algorithm_name)
    runtime = make_runtime(framework_name, mode, precision, device)
    return runtime.agent(make_raw_agent(algorithm_name, spec, config, runtime))
