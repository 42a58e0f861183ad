"""Data types and settings that all off-policy algorithms share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from tiebreak.core.config import check_numbers
from tiebreak.core.errors import UsageError
from tiebreak.core.types import Array, EnvSpec, State


class Act(NamedTuple):
    """Result of `act` for N observations."""

    action: Array
    """[N] int32, or [N, A] floats within the bounds, for the environment."""
    raw_action: Array
    """Action for learner and replay; for a box, scaled to [-1, 1]."""


class ActNoise(NamedTuple):
    """Draws of exploration with a noise scale σ per episode, [T, N, …] (decision 0025)."""

    normal: Array
    """[…, A] standard normal; multiplied by the σ of the environment's episode."""
    uniform: Array
    """[…] in [0, 1): position in its range of the σ of an episode that begins with this step."""


class Exploring(NamedTuple):
    """State of N environments between two steps, for exploration with a σ per episode."""

    scale: Array
    """[N]: σ of the last step."""
    terminated: Array
    """[N] bool: the last step ended an episode."""
    truncated: Array
    """[N] bool: the last step cut an episode."""


class Explored(NamedTuple):
    """Result of acting with a σ per episode."""

    action: Array
    """As in Act."""
    raw_action: Array
    """As in Act."""
    scale: Array
    """[N]: σ of this step."""


def exploring_act(act: Callable, scales: tuple[float, float], where: Callable) -> Callable:
    """Wrap `act` so that its noise is σ times a draw, with σ drawn as an episode begins (0025).

    Returns a function (state, obs, ActNoise of one step, Exploring) -> Explored. `scales` is the
    range of σ, `where` the array library's function of that name.
    """
    low, high = scales

    def call(state: State, obs: Array, noise: ActNoise, exploring: Exploring) -> Explored:
        begins = exploring.terminated | exploring.truncated
        scale = where(begins, low + (high - low) * noise.uniform, exploring.scale)
        acted = act(state, obs, scale[:, None] * noise.normal)
        return Explored(acted.action, acted.raw_action, scale)

    return call


class Transition(NamedTuple):
    """One step of N environments, with leading axes [T, N]: input of the replay."""

    obs: Array
    action: Array
    """Act.raw_action."""
    reward: Array
    """Result of the action, as are the three fields below."""
    terminated: Array
    truncated: Array
    next_obs: Array
    """Next observation before any automatic reset (EnvStep.final_obs)."""


class Batch(NamedTuple):
    """Output of the replay; leading axes [U, B] for the U updates of one `step`."""

    obs: Array
    """[…, observation_size]."""
    action: Array
    """[…] int32, or […, A]."""
    reward: Array
    """[…]: discounted sum of up to n rewards."""
    discount: Array
    """[…]: factor of the value of `next_obs`: γ to the number of those rewards; 0 where no value
    follows. Algorithms thus need no rule of their own for ends and n-step returns."""
    next_obs: Array
    """[…, observation_size]: observation after the last of those rewards."""


@dataclass(frozen=True)
class OffPolicyConfig:
    """Settings that every off-policy algorithm has.

    A round is `num_steps` steps of each environment and then `num_updates` updates. An iteration is
    `num_rounds` rounds; metrics reach the host once per iteration.
    """

    total_steps: int = 1_000_000
    """Environment steps of the whole training, all environments together."""
    num_envs: int = 1
    """Environments stepped side by side."""
    env_processes: int = 1
    """Processes that step the environments, for engines in Python (gymnasium, dm_control); 1: the
    training's own process. Results do not depend on it."""
    num_steps: int = 1
    """Steps of each environment per round."""
    num_updates: int = 1
    """Updates per round: updates per environment step = num_updates / (num_envs * num_steps)."""
    num_rounds: int = 50
    """Rounds per iteration: random numbers are drawn and metrics are read once per iteration."""
    learning_starts: int = 5_000
    """Environment steps with uniformly random actions before the first update; whole iterations."""
    replay_size: int = 1_000_000
    """Transitions kept, all environments together."""
    batch_size: int = 256
    """Transitions per update."""
    gamma: float = 0.99
    """Discount per step."""
    n_step: int = 1
    """Rewards that are summed before the value of the next state is added (n-step return)."""
    truncation: Literal["bootstrap", "terminal"] = "bootstrap"
    """Treatment of time limits: `bootstrap` adds the value of the next state (Pardo et al. 2018);
    `terminal` treats them as terminations, a mistake of several public codes."""
    normalize_obs: bool = False
    """Normalize observations to mean 0 and variance 1, by statistics of the training batches."""
    adam_eps: float = 1e-8
    """Adam's ε, added to the bias-corrected √v."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """`sgd` (no momentum) is for proofs: Adam's first step hides wrong factors."""
    prng: Literal["threefry2x32", "rbg", "unsafe_rbg"] = "threefry2x32"
    """JAX's random number generator. `rbg` is faster on GPUs and TPUs, but its numbers depend on
    the kind of device, and populations cannot use it. torch and TensorFlow have their own."""
    max_grad_norm: float = 0.0
    """Global gradient norm above which gradients are scaled down; 0: never."""

    @property
    def round_steps(self) -> int:
        """Environment steps per round."""
        return self.num_envs * self.num_steps

    @property
    def iteration_steps(self) -> int:
        """Environment steps per iteration."""
        return self.num_rounds * self.round_steps

    @property
    def rows_per_pass(self) -> int:
        """Rows of the largest array that passes through a network in an update."""
        return self.batch_size

    @property
    def num_iterations(self) -> int:
        """Iterations of the whole training, warm-up included; at least 1."""
        return max(1, self.total_steps // self.iteration_steps)

    @property
    def warmup_iterations(self) -> int:
        """Iterations with random actions and no update."""
        return math.ceil(self.learning_starts / self.iteration_steps)

    @property
    def updates_per_step(self) -> int:
        """Updates in one call of the agent's `step`."""
        return self.num_updates

    @property
    def updates_per_iteration(self) -> int:
        """Updates per iteration."""
        return self.num_rounds * self.num_updates

    @property
    def ring_length(self) -> int:
        """Steps of each environment that the replay keeps: whole rounds, so that no round wraps."""
        return self.replay_size // self.round_steps * self.num_steps


RANGES = {
    "gamma": (0.0, 1.0),
    "adam_eps": (0.0, math.inf),
    "max_grad_norm": (0.0, math.inf),
}
"""Lowest and highest valid values of the numbers that are not counts."""


def require_box(algorithm: str, spec: EnvSpec) -> None:
    """Raise UsageError for discrete actions, in which a critic has no gradient."""
    if spec.discrete:
        others = "dqn, pqn, sac or ppo" if spec.nvec is None else "ppo"
        raise UsageError(f"{algorithm} needs a box of actions; for discrete ones use {others}")


def require_one_choice(algorithm: str, spec: EnvSpec) -> None:
    """Raise UsageError for several discrete actions at once."""
    if spec.nvec is not None:
        raise UsageError(
            f"{algorithm} needs a box or one discrete action; for {len(spec.nvec)} at once "
            "(MultiDiscrete) use ppo"
        )


def actor_spec(spec: EnvSpec) -> EnvSpec:
    """Return the environment as an actor sees it whose critics see privileged observations, too."""
    if spec.visible is None:
        return spec
    return replace(spec, observation_shape=(spec.visible_size,), visible=None)


def check(config: OffPolicyConfig, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raise UsageError if settings contradict one another; `ranges` are the algorithm's own."""
    check_numbers(config, {**RANGES, **ranges}, may_be_0=("learning_starts",))
    _check_replay(config)


def _check_replay(config: OffPolicyConfig) -> None:
    needed = max(config.num_steps, config.n_step)
    if config.ring_length < needed:
        raise UsageError(
            f"replay_size is {config.replay_size}; num_steps {config.num_steps}, n_step "
            f"{config.n_step} and num_envs {config.num_envs} need at least "
            f"{math.ceil(needed / config.num_steps) * config.round_steps}"
        )
    if config.warmup_iterations * config.num_rounds * config.num_steps < config.n_step - 1:
        raise UsageError(
            f"learning_starts is {config.learning_starts}; the first update needs at least n_step "
            f"({config.n_step}) steps of each environment"
        )
    if config.total_steps // config.iteration_steps <= config.warmup_iterations:
        raise UsageError(
            f"total_steps is {config.total_steps}: nothing would be learnt in them, as "
            f"learning_starts is {config.learning_starts} and an iteration (num_rounds * num_steps "
            f"* num_envs) has {config.iteration_steps} steps"
        )


def sample_batch(spec: EnvSpec, config: OffPolicyConfig, rng: np.random.Generator) -> Batch:
    """Draw a valid batch for one `step`, partly terminal, as NumPy arrays (floats: float32)."""
    rows = config.num_updates, config.batch_size
    obs, next_obs = spec.draw_observations(rng, (2, *rows, spec.observation_size))
    if spec.discrete:
        action = rng.integers(spec.action_size, size=rows, dtype=np.int32)
    else:
        action = np.tanh(rng.standard_normal((*rows, spec.action_size), dtype=np.float32))
    reward = rng.standard_normal(rows, dtype=np.float32)
    rewards = rng.integers(1, config.n_step + 1, size=rows)  # fewer than n before an end
    discount = np.where(rng.random(rows) < 0.1, 0.0, config.gamma**rewards).astype(np.float32)
    return Batch(obs, action, reward, discount, next_obs)
