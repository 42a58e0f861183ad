"""Gymnasium on the host: MuJoCo v4 and v5, classic control, and any registered id.

The environments are stepped here rather than by `SyncVectorEnv`: with its SAME_STEP resets, but
without its merging of info dictionaries, which costs 10 to 30 % of a step.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import gymnasium
import numpy as np

from tiebreak import registry
from tiebreak.core import user_modules
from tiebreak.core.errors import MissingDependency, UsageError, unknown
from tiebreak.core.prefixes import Arrays, add_prefix, strip_prefix
from tiebreak.core.seeding import derive
from tiebreak.core.text import one_line, quoted
from tiebreak.core.types import Array, EnvSpec, EnvStep
from tiebreak.envs import gymnasium_state, observation_spaces
from tiebreak.envs.base import HostEnv
from tiebreak.envs.mujoco_advice import without_advice

SUPPORTED = (
    "Box observations (or Dict, Tuple of vectors) with Discrete, MultiDiscrete or bounded Box "
    "actions"
)
REGISTERED_BY = {"MiniGrid-": "minigrid", "BabyAI-": "minigrid"}
"""Beginning of an id -> the package that registers it when it is imported, and the extra."""


class GymnasiumEnv(HostEnv):
    """N environments of one Gymnasium id, stepped one after the other.

    Observations are float32; images of bytes stay bytes.
    """

    def __init__(
        self,
        envs: list[gymnasium.Env],
        spec: EnvSpec,
        seed: int,
        first: int = 0,
        from_module: bool = False,
    ):
        self.spec, self.num_envs, self._envs = spec, len(envs), envs
        self._from_module = from_module
        row = envs[0].spec
        self.time_limit = (row and row.max_episode_steps) or 0
        self._seeds = [derive(seed, "env", first + i) for i in range(len(envs))]
        self._obs_shape = (len(envs), *spec.observation_shape)
        self._obs_dtype = np.dtype(spec.observation_dtype)
        observation = observation_spaces.describe(envs[0].observation_space)
        self._convert = observation and observation.convert
        self._rows = _action_rows(envs[0].action_space)

    def reset(self) -> np.ndarray:
        """Start every environment again from its own seed."""
        obs = np.empty(self._obs_shape, self._obs_dtype)
        with user_modules.searched(self._from_module):
            for i, env in enumerate(self._envs):
                row_obs, _ = env.reset(seed=self._seeds[i])
                obs[i] = row_obs if self._convert is None else self._convert(row_obs)
        return obs

    def step(self, action: Array) -> EnvStep:
        """Step, and reset what ended; its random numbers continue from where they were."""
        obs = np.empty(self._obs_shape, self._obs_dtype)
        reward = np.empty(self.num_envs, np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), np.bool_)
        ended, convert = [], self._convert
        for i, row in enumerate(self._rows(action)):
            env = self._envs[i]
            row_obs, row_reward, terminal, cut, _ = env.step(row)
            reward[i] = row_reward if type(row_reward) is float else _one_number(row_reward)
            if convert is not None:
                row_obs = convert(row_obs)
            if terminal or cut:
                # Copied before the reset: an environment may reuse its observation's memory.
                ended.append((i, np.array(row_obs, self._obs_dtype)))
                terminated[i], truncated[i] = terminal, not terminal
                row_obs, _ = env.reset()
                if convert is not None:
                    row_obs = convert(row_obs)
            obs[i] = row_obs
        final_obs = _final(obs, ended) if ended else obs
        return EnvStep(obs, reward, terminated, truncated, final_obs)

    def snapshot(self) -> Arrays | None:
        """Return the state of MuJoCo and classic control tasks; None for any other."""
        out: Arrays = {}
        for i, env in enumerate(self._envs):
            if (arrays := gymnasium_state.snapshot(env)) is None:
                return None
            out |= add_prefix(str(i), arrays)
        return out

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue from a `snapshot`."""
        for i, env in enumerate(self._envs):
            gymnasium_state.restore(env, strip_prefix(str(i), arrays))

    @property
    def steps_per_s(self) -> float:
        """Return `render_fps` of the environment's metadata."""
        return float(self._envs[0].metadata.get("render_fps") or 0)

    def render(self, index: int) -> np.ndarray:
        """Return what the environment's own `render` draws in the mode `rgb_array`."""
        with user_modules.searched(self._from_module):
            picture: Any = self._envs[index].render()
        shape, dtype = getattr(picture, "shape", ()), getattr(picture, "dtype", None)
        if len(shape) != 3 or shape[2] not in (3, 4) or dtype != np.uint8:
            kind = f"an array {shape} of {dtype}" if shape else type(picture).__name__
            raise UsageError(
                f"the environment's render() returns {kind}; needed is an array "
                "[height, width, 3] of uint8, in the render mode 'rgb_array'"
            )
        return np.asarray(picture)[:, :, :3]

    def close(self) -> None:
        """Close every environment."""
        for env in self._envs:
            try:
                env.close()
            except Exception as error:  # what was computed stands, and the others are closed
                warnings.warn(f"close() of an environment raised {error!r}", stacklevel=2)


def make(name: str, num_envs: int, seed: int, first: int = 0, render: bool = False) -> GymnasiumEnv:
    """Make `num_envs` environments of a registered id, `HalfCheetah-v4` or `module:EnvId-v0`.

    `first`: index of the first of them among all of a run, whose processes share them.
    Raises UsageError for an unknown id, a module that cannot be imported, spaces that are not
    supported, and with `render` for what has no render mode `rgb_array`; MissingDependency when the
    environment needs a package that is not there.
    """
    row = _find(name)
    from_module = ":" in name
    envs: list[gymnasium.Env] = []
    with (
        _quiet(str(row.entry_point)),
        user_modules.searched(from_module),
        _closed_after_an_error(envs),
    ):
        envs.append(_construct(name, row, render))
        spec = _env_spec(name, envs[0])
        while len(envs) < num_envs:
            envs.append(_construct(name, row, render))
    return GymnasiumEnv(envs, spec, seed, first, from_module)


def make_by_function(
    function: Callable[[], Any], name: str, num_envs: int, seed: int
) -> GymnasiumEnv:
    """Make `num_envs` environments by a user's function, which the task `name` stands for.

    Raises UsageError for what is no Gymnasium environment, or the same one twice, and for spaces
    that are not supported; and whatever the function raises.
    """
    envs: list[gymnasium.Env] = []
    with _closed_after_an_error(envs):
        while len(envs) < num_envs:
            env = function()
            if not isinstance(env, gymnasium.Env):
                raise UsageError(f"{name} returned {quoted(env)}: a gymnasium.Env is needed")
            if env in _made:
                raise UsageError(
                    f"{name} returned an environment that it had returned before: a new one is "
                    "needed at each call, e.g. env=lambda: MyEnv()"
                )
            _made.add(env)
            envs.append(env)
        spec = _env_spec(name, envs[0])
    return GymnasiumEnv(envs, spec, seed)


_made: weakref.WeakSet[gymnasium.Env] = weakref.WeakSet()
"""Environments that users' functions have made."""


@contextlib.contextmanager
def _closed_after_an_error(envs: Sequence[gymnasium.Env]) -> Iterator[None]:
    """Close the environments that were made if an error is raised inside."""
    try:
        yield
    except BaseException:
        for env in envs:
            with contextlib.suppress(Exception):  # the first error is the one to report
                env.close()
        raise


def tasks() -> list[str]:
    """Return the registered ids that can work here, those of imported user modules included.

    Left out: MuJoCo v2 and v3 (moved to another project) and toy text (no Box observations).
    """
    for package in sorted(set(REGISTERED_BY.values())):
        if not registry.missing_packages((package,)):
            _import_package(package)
    return [name for name, row in gymnasium.registry.items() if _can_work(row.entry_point)]


def _can_work(entry_point: Any) -> bool:
    if isinstance(entry_point, str):
        return ".toy_text." not in entry_point
    return callable(entry_point) and not entry_point.__module__.startswith("gymnasium.")


def _final(obs: np.ndarray, ended: list[tuple[int, np.ndarray]]) -> np.ndarray:
    final_obs = obs.copy()
    for i, row_obs in ended:
        final_obs[i] = row_obs
    return final_obs


def _action_rows(space: gymnasium.Space) -> Callable[[Array], Any]:
    """Return a function that turns actions, [N] or [N, A], into one per environment."""
    if isinstance(space, gymnasium.spaces.Discrete):
        start = int(space.start)
        if start == 0:
            return lambda action: np.asarray(action).tolist()
        return lambda action: (np.asarray(action) + start).tolist()
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        first = space.start
        return lambda action: np.array(action, space.dtype).reshape(-1, *space.shape) + first
    assert isinstance(space, gymnasium.spaces.Box)
    shape, dtype, low, high = (-1, *space.shape), space.dtype, space.low, space.high

    def rows(action: Array) -> np.ndarray:
        """Return a copy that environments may write to, within the bounds in the space's own type.

        Rounding to another type, or in scaling to the bounds, can leave them by one unit.
        """
        own = np.array(action, dtype).reshape(shape)
        np.maximum(own, low, out=own)
        return np.minimum(own, high, out=own)

    return rows


def _one_number(reward: Any) -> float:
    """Return a reward that may be an integer, or an array of one number."""
    array = np.asarray(reward)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise UsageError(f"an environment's reward is {quoted(reward)}: one number is needed")
    return float(array.reshape(()))


def _find(name: str) -> Any:
    """Return Gymnasium's registry entry of an id, after importing its module."""
    module, _, env_id = name.rpartition(":")
    if module:
        _import(name, module)
    elif env_id not in gymnasium.registry:
        _register(name)
    if env_id not in gymnasium.registry:
        prefix = f"gymnasium/{module}:" if module else "gymnasium/"
        valid = [prefix + task for task in tasks()]
        raise unknown("task", f"gymnasium/{name}", valid, "(tiebreak list --tasks)")
    return gymnasium.registry[env_id]


def _register(name: str) -> None:
    """Import the package that registers an id, if there is one.

    Raises MissingDependency if it is not installed.
    """
    for beginning, package in REGISTERED_BY.items():
        if name.startswith(beginning):
            registry.require_packages(f"task 'gymnasium/{name}'", (package,), package)
            _import_package(package)


def _import_package(package: str) -> None:
    """Import a package that registers environments, without the greeting of pygame."""
    with contextlib.redirect_stdout(io.StringIO()):
        registry.load(package)


def _import(name: str, module: str) -> None:
    """Import a user's module, also from the folder that the command was started in."""
    try:
        user_modules.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"task 'gymnasium/{name}': importing {module!r} failed: {error}; install it, or start "
            f"in the folder that holds it (this was started in {user_modules.started_in()!r})"
        ) from error


def _construct(name: str, row: Any, render: bool) -> gymnasium.Env:
    try:
        return _construct_to_render(name, row) if render else gymnasium.make(row)
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        raise MissingDependency(f"task 'gymnasium/{name}': {one_line(error)}") from error
    except (gymnasium.error.Error, ImportError) as error:
        raise UsageError(f"task 'gymnasium/{name}' cannot run here: {one_line(error)}") from error


def _construct_to_render(name: str, row: Any) -> gymnasium.Env:
    """Make one environment that can draw itself."""
    mode, why = "rgb_array", ""
    try:
        with warnings.catch_warnings():  # about a mode that is not there, which is refused below
            warnings.filterwarnings("ignore", ".*The environment is being initialised with render")
            env = gymnasium.make(row, render_mode=mode)
        modes = env.metadata.get("render_modes") or []
        if mode in modes:
            return env
        env.close()
        why = f"its render modes are {list(modes)}"
    except TypeError as error:
        if "render_mode" not in str(error):
            raise
        why = one_line(error)
    raise UsageError(
        f"task 'gymnasium/{name}' draws no pictures: {why}; an environment that does has "
        f"{mode!r} in metadata['render_modes'], takes render_mode= and has render()"
    )


def _env_spec(name: str, env: gymnasium.Env) -> EnvSpec:
    box, discrete = gymnasium.spaces.Box, gymnasium.spaces.Discrete
    action, obs = env.action_space, observation_spaces.describe(env.observation_space)
    if obs is None:
        raise _unsupported(name, f"observations {env.observation_space}", "TransformObservation")
    shape, pixels = obs.shape, obs.pixels
    if isinstance(action, discrete):
        return EnvSpec.make(observation_shape=shape, num_actions=int(action.n), pixels=pixels)
    if isinstance(action, gymnasium.spaces.MultiDiscrete):
        return EnvSpec.make(observation_shape=shape, nvec=action.nvec.ravel(), pixels=pixels)
    if not isinstance(action, box) or not np.issubdtype(action.dtype, np.floating):
        raise _unsupported(name, f"actions {action}", "TransformAction")
    if not action.is_bounded():
        raise _unsupported(name, f"unbounded actions {action}", "RescaleAction or ClipAction")
    with np.errstate(over="ignore"):
        span = action.high.astype(np.float32) - action.low.astype(np.float32)
    if not np.isfinite(span).all():
        far = f"actions {action}, whose bounds lie further apart than float32 can hold"
        raise _unsupported(name, far, "RescaleAction")
    return EnvSpec.make(
        observation_shape=shape, action_low=action.low, action_high=action.high, pixels=pixels
    )


def _unsupported(name: str, space: str, wrapper: str) -> UsageError:
    advice = f"Register an id of your own that wraps it (gymnasium.wrappers.{wrapper}) and name it "
    advice += "as module:EnvId-v0"
    if name.endswith("()"):
        advice = f"Return it wrapped (gymnasium.wrappers.{wrapper})"
    return UsageError(f"task 'gymnasium/{name}' has {space}; supported: {SUPPORTED}. {advice}")


def _quiet(entry_point: str) -> AbstractContextManager[None]:
    """Silence MuJoCo's advice about its older model files, and its MUJOCO_LOG.TXT."""
    if "mujoco" not in entry_point or importlib.util.find_spec("mujoco") is None:
        return contextlib.nullcontext()
    return without_advice()
