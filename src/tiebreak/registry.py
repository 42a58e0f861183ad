"""List what exists: frameworks, runtimes, algorithms and engines, one row of facts for each.

Everything that is true of one of them stands in its row here and nowhere else. Implementations are
imported by the names in these rows, in `load`, when they are first used. A hygiene test holds rows
and files together in both directions; docs/adding.md says how to add a row.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import replace
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tiebreak.core import cxx_compiler, networks
from tiebreak.core.errors import MissingDependency, UsageError, unknown
from tiebreak.core.installation import how_to_install, missing_packages
from tiebreak.core.text import quoted
from tiebreak.core.types import Agent, EnvSpec


class Framework(NamedTuple):
    """Facts about a framework: how agents are written."""

    title: str
    """Its name in sentences."""
    runtime: str
    """The array library under it, a row of RUNTIMES; empty if its modes are array libraries, of
    which a process has the one that its mode names."""
    plumbing: str
    """Module that holds what its agents share: AgentDef, AgentState, prepare, dump, load, …"""
    packages: tuple[str, ...]
    """Importable names that must be installed."""
    extra: str
    """The extra of this package that installs them."""
    modes: tuple[str, ...]
    """Ways to execute the same code, slowest first."""
    default_mode: str
    """The mode meant when none is named: the fastest on a CPU."""
    color: str
    """Color in every chart; told apart in the common kinds of color blindness."""
    color_dark: str
    """The same on a dark page: at least three times as bright as its background."""
    modes_with_cxx: tuple[str, ...] = ()
    """Modes that need a C++ compiler on a CPU."""
    begins_eager: bool = False
    """Whether a training that names no mode has mode AUTO: compiling takes so long here that code
    as it is written has trained for thousands of updates meanwhile."""
    same_program_as: str = ""
    """A framework whose fused loops compile to the same operations in the same order, which
    tests/loops/test_same_programs.py proves: timing both is a control of the stopwatch."""
    algorithms: tuple[str, ...] = ()
    """The algorithms that it has; empty: all."""
    backends: str = ""
    """Module that chooses the array library of this process, for a framework whose modes are array
    libraries: `load(library)` returns the module with that library's `Runtime`, and
    `library_here()` the library that the process has already, or an empty text."""

    def library(self, mode: str) -> str:
        """Return the array library under the framework in a mode, a row of RUNTIMES."""
        return self.runtime or mode

    def packages_in(self, mode: str) -> tuple[str, ...]:
        """Return the importable names that must be installed for a mode."""
        if self.runtime:
            return self.packages
        # Fused loops share JAX's arithmetic, whose module imports optax.
        library = ("jax", "optax") if mode == "jax" else (mode,)
        return (*library, *self.packages)


FRAMEWORKS = {
    "torch": Framework(
        title="torch",
        runtime="torch",
        plumbing="tiebreak.frameworks.torch.agent",
        packages=("torch",),
        extra="torch",
        modes=("eager", "compile", "cudagraph"),
        default_mode="compile",
        color="#c8401d",
        color_dark="#ec7552",
        modes_with_cxx=("compile",),
        begins_eager=True,
    ),
    "tensorflow": Framework(
        title="TensorFlow",
        runtime="tensorflow",
        plumbing="tiebreak.frameworks.tensorflow.agent",
        packages=("tensorflow",),
        extra="tensorflow",
        modes=("eager", "function", "xla"),
        default_mode="xla",
        color="#b97a00",
        color_dark="#dfa63c",
    ),
    "linen": Framework(
        title="Linen",
        runtime="jax",
        plumbing="tiebreak.frameworks.jax.linen",
        packages=("jax", "flax", "optax"),
        extra="jax",
        modes=("eager", "jit"),
        default_mode="jit",
        color="#3a94d6",
        color_dark="#84c6f7",
    ),
    "nnx": Framework(
        title="NNX",
        runtime="jax",
        plumbing="tiebreak.frameworks.jax.nnx",
        packages=("jax", "flax", "optax"),
        extra="jax",
        modes=("eager", "jit", "cached", "split"),
        default_mode="split",
        color="#0b4f8a",
        color_dark="#4a86d8",
    ),
    "equinox": Framework(
        title="Equinox",
        runtime="jax",
        plumbing="tiebreak.frameworks.jax.equinox",
        packages=("jax", "equinox", "optax"),
        extra="jax",
        modes=("eager", "jit", "flat"),
        default_mode="flat",
        color="#0a8a63",
        color_dark="#33bd8d",
        same_program_as="linen",
    ),
    "plain": Framework(
        title="plain JAX",
        runtime="jax",
        plumbing="tiebreak.frameworks.jax.plain",
        packages=("jax", "optax"),
        extra="jax",
        modes=("eager", "jit"),
        default_mode="jit",
        color="#2a2e3b",
        color_dark="#e8ebf0",
        same_program_as="linen",
    ),
    "keras": Framework(
        title="Keras",
        runtime="",
        plumbing="tiebreak.frameworks.keras.agent",
        packages=("keras",),
        extra="keras",
        modes=("torch", "tensorflow", "jax"),
        default_mode="jax",
        color="#9020d8",
        color_dark="#b45cff",
        modes_with_cxx=("torch",),
        algorithms=("ppo", "dqn", "sac"),
        backends="tiebreak.frameworks.keras.backend",
    ),
}
AUTO = "auto"
"""Mode of trainings alone: eager at first, and the default mode from a fixed update on."""

MODES = {
    "eager": "operation by operation, as written",
    "compile": "compiled by TorchInductor",
    "cudagraph": "compiled, and replayed as a CUDA graph",
    "function": "a graph by tf.function",
    "xla": "a graph by tf.function, compiled by XLA",
    "jit": "compiled by the library's own jit",
    "cached": "nnx.cached_partial: the module's graph is traversed once, not at every call",
    "split": "the state is taken apart into arrays once, then plain jax.jit",
    "flat": "the state is taken apart into arrays once, then plain jax.jit",
    "torch": "on PyTorch, compiled by TorchInductor",
    "tensorflow": "on TensorFlow, compiled by XLA",
    "jax": "on JAX, compiled by jax.jit",
}
"""How a mode executes the same code, for readers of a report."""


class Runtime(NamedTuple):
    """Facts about an array library, shared by the frameworks on top of it."""

    title: str
    """Its name in sentences."""
    module: str
    """Where its `Runtime` lies: compiling, devices, precision, randomness."""
    replay: str
    """Where its replay buffer lies."""
    ranks: str = ""
    """Where its `joined` lies, if several processes can train one agent (core/ranks.py)."""
    companions: tuple[str, ...] = ()
    """Array libraries that it cannot be imported without; the import guard lets them in."""
    fused: bool = False
    """True if rollout and update can be one compiled program, on a device engine."""
    one_thread_below: int = 0
    """Multiplications of the largest hidden layer for a batch, below which one thread of a CPU is
    faster than two in a host loop (docs/decisions/0041); 0: it never is."""
    one_thread_below_fused: int = 0
    """Multiplications below which one thread is faster in a fused loop, with environments of an
    engine whose row says `light`; 0: it never is."""


RUNTIMES = {
    "torch": Runtime(
        title="torch",
        module="tiebreak.frameworks.torch.runtime",
        replay="tiebreak.frameworks.torch.replay",
        ranks="tiebreak.frameworks.torch.ranks",
    ),
    "tensorflow": Runtime(
        title="TensorFlow",
        module="tiebreak.frameworks.tensorflow.runtime",
        replay="tiebreak.frameworks.tensorflow.replay",
        companions=("keras",),
        one_thread_below=2_000_000,
    ),
    "jax": Runtime(
        title="JAX",
        module="tiebreak.frameworks.jax.runtime",
        replay="tiebreak.frameworks.jax.replay",
        ranks="tiebreak.frameworks.jax.ranks",
        companions=("jaxlib",),
        fused=True,
        one_thread_below_fused=4_000_000,
    ),
}


class Greedy(NamedTuple):
    """How an algorithm's best action follows from its networks; export builds policies from it.

    Discrete actions are the place of the network's largest output. Outputs beyond the number of
    actions belong to a distribution, and are left out.
    """

    network: str = "actor"
    """The network that chooses, as in canonical names of weights."""
    layers: str = "layers"
    """The property of the algorithm's Config that describes its layers."""
    squashed: bool = False
    """Actions are tanh of its outputs; otherwise outputs beyond [-1, 1] are clipped."""
    distributional: bool = False
    """Its outputs are logits of an action's returns where the setting `num_atoms` is above 1; the
    best action has the largest mean."""


class Algorithm(NamedTuple):
    """Facts about an algorithm."""

    package: str
    """The folder with its specification and its implementation in every framework."""
    cases: str
    """Where the cases of its proofs lie."""
    against: str = ""
    """Where its terms and the known deviations of libraries lie, for `verify --against`; empty if
    it does not offer that."""
    stochastic: bool = False
    """Its policy is a distribution over actions; others add noise to one action to explore."""
    off_policy: bool = False
    """It learns from a replay; otherwise from what it has just collected."""
    multi_discrete: bool = False
    """Its actions can be several discrete choices at once (EnvSpec.nvec)."""
    bfloat16: bool = False
    """Its networks can compute in bfloat16; weights and losses stay float32."""
    privileged: bool = False
    """It sees the privileged part of observations, too (envs/policy_observation.py)."""
    shares_batches: bool = False
    """Several processes can each learn from a part of its batches in torch: its losses are means
    over rows (decision 0067)."""
    schedules: tuple[tuple[str, str], ...] = ()
    """Settings that spread something over total_steps, unless they are off, and what that is."""
    greedy: Greedy = Greedy()
    """How its policy chooses the best action."""
    certificate_s: float = 20.0
    """Estimated seconds of a short certificate of one framework, on two cores."""
    eager_updates: int = 800
    """Updates of a training in mode AUTO before it goes on compiled: what torch makes, as written,
    in about the half minute that compiling takes."""


ALGORITHMS = {
    "ppo": Algorithm(
        package="tiebreak.algorithms.ppo",
        cases="tiebreak.verify.ppo_cases",
        against="tiebreak.verify.against.ppo",
        stochastic=True,
        multi_discrete=True,
        shares_batches=True,
        schedules=(("anneal_lr", "the learning rate"),),
        certificate_s=12.0,
        eager_updates=10_000,
    ),
    "dqn": Algorithm(
        package="tiebreak.algorithms.dqn",
        cases="tiebreak.verify.dqn_cases",
        against="tiebreak.verify.against.dqn",
        off_policy=True,
        schedules=(("exploration_fraction", "the share of random actions"),),
        greedy=Greedy(network="q", distributional=True),
        certificate_s=5.0,
        eager_updates=10_000,
    ),
    "pqn": Algorithm(
        package="tiebreak.algorithms.pqn",
        cases="tiebreak.verify.pqn_cases",
        against="tiebreak.verify.against.pqn",
        schedules=(
            ("anneal_lr", "the learning rate"),
            ("exploration_fraction", "the share of random actions"),
        ),
        greedy=Greedy(network="q"),
        certificate_s=8.0,
        eager_updates=5_000,
    ),
    "td3": Algorithm(
        package="tiebreak.algorithms.td3",
        cases="tiebreak.verify.td3_cases",
        against="tiebreak.verify.against.td3",
        off_policy=True,
        greedy=Greedy(squashed=True),
        eager_updates=4_000,
    ),
    "sac": Algorithm(
        package="tiebreak.algorithms.sac",
        cases="tiebreak.verify.sac_cases",
        against="tiebreak.verify.against.sac",
        stochastic=True,
        off_policy=True,
        shares_batches=True,
        greedy=Greedy(squashed=True),
        eager_updates=3_000,
    ),
    "mpo": Algorithm(
        package="tiebreak.algorithms.mpo",
        cases="tiebreak.verify.mpo_cases",
        against="tiebreak.verify.against.mpo",
        stochastic=True,
        off_policy=True,
        greedy=Greedy(layers="actor_layers"),
    ),
    "fasttd3": Algorithm(
        package="tiebreak.algorithms.fasttd3",
        cases="tiebreak.verify.fasttd3_cases",
        against="tiebreak.verify.against.fasttd3",
        off_policy=True,
        shares_batches=True,
        bfloat16=True,
        privileged=True,
        greedy=Greedy(layers="actor_layers", squashed=True),
        eager_updates=100,
    ),
    "fastsac": Algorithm(
        package="tiebreak.algorithms.fastsac",
        cases="tiebreak.verify.fastsac_cases",
        stochastic=True,
        off_policy=True,
        bfloat16=True,
        privileged=True,
        greedy=Greedy(layers="actor_layers", squashed=True),
        eager_updates=100,
    ),
}

OWN_NETWORKS = "torch"
"""The framework that takes a network of a user's own."""

IMPLEMENTATIONS = {
    (algorithm, framework): f"{row.package}.{algorithm}_{framework}"
    for algorithm, row in ALGORITHMS.items()
    for framework, facts in FRAMEWORKS.items()
    if not facts.algorithms or algorithm in facts.algorithms
}
"""The module of every algorithm in every framework that has it."""


class Engine(NamedTuple):
    """Facts about an engine: where environments come from."""

    module: str
    kind: str
    """`host` (NumPy in, NumPy out) or `device` (pure JAX)."""
    packages: tuple[str, ...]
    """Importable names that must be installed."""
    extra: str
    """The extra of this package that installs them."""
    examples: tuple[str, ...]
    """Tasks to start with."""
    companions: tuple[str, ...] = ()
    """Array libraries that it cannot be imported without; the import guard lets them in."""
    simulators: tuple[str, ...] = ()
    """Simulators that it uses beside its packages, as distributions on the package index."""
    user_modules: bool = False
    """True if `module:name` names a task that a user's own module registers."""
    shareable: bool = False
    """True if processes can share the steps of its environments (envs/subprocess_env.py)."""
    light: bool = False
    """True if a step of its environments costs less than a pass through small networks."""
    renders: bool = False
    """True if it can draw its environments, for videos."""
    training_rules: bool = False
    """True if `make` takes `evaluating`, because training sees rules that evaluation leaves out."""


ENGINES = {
    "gymnasium": Engine(
        module="tiebreak.envs.gymnasium_engine",
        kind="host",
        packages=("gymnasium",),
        extra="gymnasium",
        examples=("gymnasium/HalfCheetah-v4", "gymnasium/CartPole-v1"),
        simulators=("mujoco",),
        user_modules=True,
        shareable=True,
        renders=True,
    ),
    "gymnax": Engine(
        module="tiebreak.envs.gymnax_engine",
        kind="device",
        packages=("jax", "gymnax"),
        extra="gymnax",
        examples=("gymnax/CartPole-v1", "gymnax/Pendulum-v1"),
        companions=("flax",),  # its environment states are flax.struct classes
        light=True,
    ),
    "xminigrid": Engine(
        module="tiebreak.envs.xminigrid_engine",
        kind="device",
        packages=("jax", "xminigrid"),
        extra="xminigrid",
        examples=("xminigrid/MiniGrid-Empty-5x5", "xminigrid/MiniGrid-DoorKey-5x5"),
        companions=("flax",),  # as gymnax's
        renders=True,
    ),
    "craftax": Engine(
        module="tiebreak.envs.craftax_engine",
        kind="device",
        packages=("jax", "craftax"),
        extra="craftax",
        examples=("craftax/Craftax-Classic-Symbolic-v1", "craftax/Craftax-Symbolic-v1"),
        companions=("flax",),  # as gymnax's
    ),
    "brax": Engine(
        module="tiebreak.envs.brax_engine",
        kind="device",
        packages=("jax", "brax"),
        extra="brax",
        examples=("brax/halfcheetah", "brax/ant@spring"),
        companions=("flax",),  # as gymnax's
        simulators=("mujoco", "mujoco-mjx"),
        renders=True,
    ),
    "playground": Engine(
        module="tiebreak.envs.playground_engine",
        kind="device",
        packages=("jax", "mujoco_playground"),
        extra="playground",
        examples=("playground/CheetahRun", "playground/T1JoystickFlatTerrain"),
        companions=("flax",),  # as gymnax's
        simulators=("mujoco", "mujoco-mjx", "warp-lang"),
        renders=True,
    ),
    "dm_control": Engine(
        module="tiebreak.envs.dm_control_engine",
        kind="host",
        packages=("dm_control",),
        extra="dm-control",
        examples=("dm_control/cartpole-swingup",),
        simulators=("mujoco",),
        shareable=True,
        renders=True,
    ),
    "envpool": Engine(
        module="tiebreak.envs.envpool_engine",
        kind="host",
        packages=("envpool",),
        extra="envpool",
        examples=("envpool/HalfCheetah-v4", "envpool/Pong-v5"),
        training_rules=True,  # Atari: clipped rewards, a life is an episode
    ),
}

PRECISIONS = ("float32", "tf32", "bfloat16", "float64")
"""float64 is for proofs."""


def algorithm(name: str) -> Algorithm:
    """Return an algorithm's row; raise UsageError for an unknown name."""
    if name not in ALGORITHMS:
        raise unknown("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]


def framework(name: str) -> Framework:
    """Return a framework's row; raise UsageError for an unknown name."""
    if name not in FRAMEWORKS:
        raise unknown("framework", name, FRAMEWORKS)
    return FRAMEWORKS[name]


def frameworks_of(algorithm_name: str) -> list[str]:
    """Return the frameworks that have an algorithm."""
    return [name for name in FRAMEWORKS if (algorithm_name, name) in IMPLEMENTATIONS]


def require_implementation(algorithm_name: str, framework_name: str) -> None:
    """Raise UsageError if a framework does not have an algorithm, or if one of them is unknown."""
    algorithm(algorithm_name)
    row = framework(framework_name)
    if (algorithm_name, framework_name) not in IMPLEMENTATIONS:
        raise UsageError(
            f"framework {framework_name!r} has no {algorithm_name} (it has "
            f"{', '.join(row.algorithms)}; {algorithm_name} is in "
            f"{', '.join(frameworks_of(algorithm_name))})"
        )


def mode(framework_name: str, name: str | None) -> str:
    """Return a valid mode of a framework; None means its default.

    Where this process has one of the array libraries that are its modes already, that is it.
    """
    row = framework(framework_name)
    if name is None:
        here = load(row.backends).library_here() if row.backends else ""
        return here if here in row.modes else row.default_mode
    if name not in row.modes:
        raise UsageError(
            f"framework {framework_name!r} has no mode {name!r} (valid: {', '.join(row.modes)})"
        )
    return name


def training_mode(framework_name: str, name: str | None) -> str:
    """Return a valid mode of a training; None means what trains soonest, which may be AUTO."""
    if framework(framework_name).begins_eager and name in (None, AUTO):
        return AUTO
    return mode(framework_name, name)


def evaluation_mode(framework_name: str, name: str | None) -> str:
    """Return a valid mode for evaluations; where trainings begin eager, they are eager as well."""
    chosen = training_mode(framework_name, name)
    return "eager" if chosen == AUTO else chosen


def algorithms_with(fact: str) -> tuple[str, ...]:
    """Return the names of the algorithms whose row has this flag set, e.g. `off_policy`."""
    return tuple(name for name, row in ALGORITHMS.items() if getattr(row, fact))


def library(framework_name: str, mode_name: str | None = None) -> str:
    """Return the array library under a framework in a mode; None means its default mode."""
    row = framework(framework_name)
    return row.runtime or mode(framework_name, mode_name)


def fused_frameworks() -> list[str]:
    """Return what can compile environment and learner into one program, as errors name it."""
    names: list[str] = []
    for name, row in FRAMEWORKS.items():
        if row.runtime:
            names += [name] if RUNTIMES[row.runtime].fused else []
        else:
            names += [f"{name} in mode {m}" for m in row.modes if RUNTIMES[m].fused]
    return names


def require_framework(framework_name: str, mode_name: str | None = None) -> None:
    """Raise MissingDependency, with the command that installs them, for a framework's packages."""
    chosen = library(framework_name, mode_name)
    packages = framework(framework_name).packages_in(chosen)
    require_packages(f"framework {framework_name!r}", packages, *extras(framework_name, chosen))


def extras(framework_name: str, mode_name: str) -> tuple[str, ...]:
    """Return the extras of this package that install what a framework needs in a mode."""
    row = framework(framework_name)
    if row.runtime:
        return (row.extra,)
    below = next(other.extra for other in FRAMEWORKS.values() if other.runtime == mode_name)
    return tuple(dict.fromkeys((row.extra, below)))


def runtime_module(framework_name: str, mode_name: str | None = None) -> ModuleType:
    """Import the array library under a framework in a mode; return the module of its `Runtime`.

    Raises UsageError for an unknown name, and for a framework that has another array library in
    this process; MissingDependency for a missing package.
    """
    row = framework(framework_name)
    require_framework(framework_name, mode_name)
    if row.backends:
        return load(row.backends).load(library(framework_name, mode_name))
    return load(RUNTIMES[row.runtime].module)


def import_packages(framework_name: str, mode_name: str | None = None) -> None:
    """Import the packages of a framework, and first the array library that its mode chooses."""
    row = framework(framework_name)
    if row.backends:
        runtime_module(framework_name, mode_name)
    for package in row.packages:
        load(package)


def require_packages(subject: str, packages: tuple[str, ...], *extras: str) -> None:
    """Raise MissingDependency, with the command that installs them, unless all are installed."""
    if missing := missing_packages(packages):
        raise MissingDependency(
            f"{subject} needs {', '.join(missing)}, not installed here: {how_to_install(*extras)}"
        )


def why_mode_unavailable(framework_name: str, mode_name: str) -> str:
    """Return why a mode cannot run on this machine's CPU; empty if it can."""
    row = FRAMEWORKS.get(framework_name)
    if row is None or mode_name not in row.modes_with_cxx:
        return ""
    return cxx_compiler.why_unavailable(mode_name)


def allowed_imports(packages: Collection[str]) -> set[str]:
    """Return `packages` with the array libraries that they cannot be imported without."""
    allowed = set(packages)
    for name, runtime in RUNTIMES.items():
        if name in packages:  # runtimes have the name of their package
            allowed |= set(runtime.companions)
    for engine in ENGINES.values():
        if set(engine.packages) <= set(packages):
            allowed |= set(engine.companions)
    return allowed


def load(path: str) -> ModuleType:
    """Import a module by the dotted name that a row holds."""
    return importlib.import_module(path)


def config_module(algorithm_name: str) -> ModuleType:
    """Return an algorithm's `config.py`: Config, reference, check. Imports no framework."""
    return load(f"{algorithm(algorithm_name).package}.config")


def data_module(algorithm_name: str) -> ModuleType:
    """Return an algorithm's `data.py`: batches, noise, initial weights. Imports no framework."""
    return load(f"{algorithm(algorithm_name).package}.data")


def oracle_module(algorithm_name: str) -> ModuleType:
    """Return an algorithm's oracle: the same update in float64 NumPy."""
    return load(f"{algorithm(algorithm_name).package}.{algorithm_name}_numpy")


def task_settings(algorithm_name: str, task: str) -> dict[str, Any]:
    """Return the settings in which a task's reference differs from its action space's reference."""
    table = getattr(config_module(algorithm_name), "TASKS", {})
    matching = [settings for start, settings in table.items() if task.startswith(start)]
    return {name: value for settings in matching for name, value in settings.items()}


def reference_config(algorithm_name: str, spec: EnvSpec, task: str = "") -> Any:
    """Return the reference configuration for an action space, or for a task that has its own."""
    config = config_module(algorithm_name).reference(spec)
    return replace(config, **task_settings(algorithm_name, task))


def sample_batch(
    algorithm_name: str, spec: EnvSpec, config: Any = None, rng: np.random.Generator | None = None
) -> tuple[Any, Any]:
    """Return a random valid batch and its noise as NumPy arrays, as the parity proofs use them.

    `config=None` is the reference configuration; `rng=None` is seeded with 0.
    """
    config = reference_config(algorithm_name, spec) if config is None else config
    rng = np.random.default_rng(0) if rng is None else rng
    return data_module(algorithm_name).sample_batch(spec, config, rng)


def kept_settings(
    framework_name: str, mode_name: str | None = None
) -> AbstractContextManager[None]:
    """Return a context after which an array library's precision is what the process had set.

    Raises as `runtime_module` does.
    """
    return runtime_module(framework_name, mode_name).kept_settings()


def make_runtime(
    framework_name: str,
    mode_name: str | None = None,
    precision: str = "float32",
    device: str = "cpu",
) -> Any:
    """Return the runtime under a framework, set to a mode, a precision and a device."""
    resolve = training_mode if mode_name == AUTO else mode
    chosen = resolve(framework_name, mode_name)
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    module = runtime_module(framework_name, chosen)
    return module.Runtime(framework_name, chosen, precision, device)


def make_raw_agent(algorithm_name: str, spec: EnvSpec, config: Any, runtime: Any) -> Agent:
    """Return an agent's functions as they are written: not compiled, on the runtime's arrays."""
    require_implementation(algorithm_name, runtime.framework)
    config = reference_config(algorithm_name, spec) if config is None else config
    config = config_module(algorithm_name).check(config)
    networks.require(config.network, spec)
    if networks.is_own(config.network) and runtime.framework != OWN_NETWORKS:
        raise UsageError(
            f"network {quoted(config.network)} is one of your own: these are modules of torch "
            f"(--framework {OWN_NETWORKS}); {runtime.framework!r} has "
            f"{', '.join(networks.NETWORKS)}"
        )
    module = load(IMPLEMENTATIONS[algorithm_name, runtime.framework])
    require_precision(algorithm_name, runtime.precision)
    return module.make_agent(spec, config, runtime.build())


def require_precision(algorithm_name: str, precision: str) -> None:
    """Raise UsageError if an algorithm's networks cannot compute in a precision."""
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if precision == "bfloat16" and not algorithm(algorithm_name).bfloat16:
        raise UsageError(
            f"{algorithm_name} has no precision 'bfloat16' (it is there for "
            f"{', '.join(algorithms_with('bfloat16'))}; valid here: float32, tf32)"
        )


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
    """Return an agent as five functions: init, act, step, dump, load (see core.types.Agent).

    They run in `mode`, accept NumPy arrays or the runtime's own, and `dump` returns NumPy. They
    compute in `precision` whatever the process is set to, and leave its settings as they are.
    Raises UsageError for unknown names and MissingDependency for a missing package.
    """
    require_implementation(algorithm_name, framework_name)
    with kept_settings(framework_name, mode):
        runtime = make_runtime(framework_name, mode, precision, device)
        agent = runtime.agent(make_raw_agent(algorithm_name, spec, config, runtime))
    return runtime.isolated(agent)
