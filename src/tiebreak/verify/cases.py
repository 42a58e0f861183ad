"""PPO's test cases: shapes that nobody chose, weights and batches for which every term matters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tiebreak.algorithms.ppo import ppo_numpy as oracle
from tiebreak.algorithms.ppo.config import Config
from tiebreak.algorithms.ppo.data import Noise, Rollout, act_noise, initial_weights, sample_batch
from tiebreak.core.noise import sample
from tiebreak.core.types import EnvSpec
from tiebreak.ops.numpy_ops import to_float64


class Case(NamedTuple):
    """One specification and configuration, and the seed of its weights and batches."""

    spec: EnvSpec
    config: Config
    seed: int

    @property
    def actions(self) -> str:
        """`discrete` or `continuous`."""
        return "discrete" if self.spec.discrete else "continuous"

    def describe(self) -> str:
        """All that is needed to make the case again: `draw(seed, actions)`, in words."""
        c = self.config
        names = ("clip_value", "normalize_obs", "normalize_reward", "anneal_lr")
        shape, hidden = (
            "-".join(map(str, x)) for x in (self.spec.observation_shape, c.hidden_sizes)
        )
        switches = " ".join(name for name in names if getattr(c, name)) or "plain"
        return (
            f"seed {self.seed}, {self.actions}: obs {shape}, act {self.spec.action_size}, "
            f"hidden {hidden} {c.activation}, {c.num_steps}x{c.num_envs} steps, "
            f"{c.num_epochs}x{c.num_minibatches} updates, {c.optimizer}, "
            f"truncation {c.truncation}, {switches}"
        )


def draw(seed: int, actions: str) -> Case:
    """The case of this seed: sizes, switches and constants are all drawn, but kept small."""
    rng = np.random.default_rng([seed, actions == "discrete"])
    shape = tuple(int(n) for n in rng.integers(1, 5, size=rng.integers(1, 4)))
    if actions == "discrete":
        spec = EnvSpec.make(observation_shape=shape, num_actions=int(rng.integers(2, 8)))
    else:
        low = rng.uniform(-3.0, -0.1, size=rng.integers(1, 6)).tolist()
        high = (low + rng.uniform(0.5, 4.0, size=len(low))).tolist()
        spec = EnvSpec.make(observation_shape=shape, action_low=low, action_high=high)
    minibatches, rows, envs = (int(n) for n in rng.integers((1, 3, 1), (4, 9, 5)))
    flags = rng.random(8) < 0.5
    config = Config(
        total_steps=10 * rows * envs * minibatches,
        num_envs=envs,
        num_steps=rows * minibatches,
        num_minibatches=minibatches,
        num_epochs=int(rng.integers(1, 3)),
        learning_rate=float(10 ** rng.uniform(-3.0, -1.5)),
        anneal_lr=bool(flags[0]),
        gamma=float(rng.uniform(0.8, 0.999)),
        gae_lambda=float(rng.uniform(0.7, 0.999)),
        clip=float(rng.uniform(0.1, 0.3)),
        clip_value=bool(flags[1]),
        entropy_coef=float(rng.uniform(0.01, 0.1)),
        value_coef=float(rng.uniform(0.3, 1.0)),
        max_grad_norm=float(10 ** rng.uniform(-0.5, 0.5)),
        normalize_advantage=bool(flags[2]),
        optimizer="adam" if flags[7] else "sgd",
        hidden_sizes=tuple(int(n) for n in rng.integers(3, 18, size=rng.integers(1, 4))),
        activation="tanh" if flags[3] else "relu",
        log_std_init=float(rng.uniform(-0.7, 0.3)),
        normalize_obs=bool(flags[4]),
        normalize_reward=bool(flags[5]),
        truncation="bootstrap" if flags[6] else "terminal",
    )
    return Case(spec, config, seed)


def fixed(actions: str) -> Case:
    """A small case with the reference's switches: the one that quick runs and lock-step use."""
    if actions == "discrete":
        spec = EnvSpec.make(observation_shape=(5,), num_actions=3)
    else:
        spec = EnvSpec.make(observation_shape=(2, 3), action_low=(-0.4, -2.0), action_high=(0.4, 1))
    continuous = actions == "continuous"
    config = Config(
        total_steps=24 * 100,
        num_envs=3,
        num_steps=8,
        num_minibatches=2,
        num_epochs=2,
        learning_rate=3e-3,
        entropy_coef=0.02,
        hidden_sizes=(17, 9),
        normalize_obs=continuous,
        normalize_reward=continuous,
    )
    return Case(spec, config, 0)


def perturbed_weights(case: Case) -> dict[str, np.ndarray]:
    """Float32 weights in mid-training: no moment is zero, no count at its start."""
    rng = np.random.default_rng([case.seed, 1])
    weights = initial_weights(case.spec, case.config, case.seed)
    for name, value in weights.items():
        normal = rng.standard_normal(value.shape)
        if name.startswith("adam/mu/"):
            weights[name] = 0.05 * normal
        elif name.startswith("adam/nu/"):
            weights[name] = 0.01 * normal**2 + 1e-4
        elif name.endswith("/kernel"):
            weights[name] = value + 0.5 * normal / np.sqrt(len(value))
        elif name.endswith("_moments/var"):
            weights[name] = 0.5 + normal**2
        else:
            weights[name] = value + 0.2 * normal
        weights[name] = np.asarray(weights[name], np.float32)
    half_way = case.config.updates_per_iteration * (case.config.num_iterations // 3)
    weights["adam/count"] = np.asarray(half_way, np.int32)
    for name in ("obs_moments/count", "return_moments/count"):
        weights[name] = np.asarray(float(rng.integers(1000, 3000)), np.float32)
    return weights


def rollout_near(
    case: Case, weights: Mapping[str, np.ndarray], index: int = 0
) -> tuple[Rollout, Noise]:
    """Batch number `index`: `sample_batch`, with log-probabilities and values moved near the
    policy's and critic's own, so that both sides of every clip are visited.
    """
    rng = np.random.default_rng([case.seed, 2, index])
    rollout, noise = sample_batch(case.spec, case.config, rng)
    _add_outliers(case.config, rollout)
    weights = to_float64(weights)
    x = oracle.normalize_obs(case.config, weights, rollout.obs)
    out, value = oracle.forward(case.config, weights, x)
    action = rollout.action
    if not case.spec.discrete:
        std = np.exp(weights["actor/log_std"])
        action = (out + std * rng.standard_normal(out.shape)).astype(np.float32)
        rollout = rollout._replace(action=action.reshape(rollout.action.shape))
    rows = action.reshape(len(x), *rollout.action.shape[2:])
    log_prob, _ = oracle.log_prob_entropy(case.spec, weights, out, rows)
    log_prob = log_prob + 0.25 * rng.standard_normal(log_prob.shape)
    value = value + 0.25 * rng.standard_normal(value.shape)
    shape = rollout.value.shape
    near = rollout._replace(
        log_prob=log_prob.reshape(shape).astype(np.float32),
        value=value.reshape(shape).astype(np.float32),
    )
    return near, noise


def _add_outliers(config: Config, rollout: Rollout) -> None:
    """In place: numbers that normalization has to clip, where there is normalization."""
    if config.normalize_obs:
        rollout.obs[0, 0] *= 100.0
        rollout.next_obs[-1, -1] *= 100.0
    if config.normalize_reward:
        rollout.reward[0, 0] += 60.0
        rollout.reward[-1, -1] -= 60.0


def act_inputs(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Observations [N, *obs] and noise [N, A] for one `act`."""
    rng = np.random.default_rng([case.seed, 3])
    n = case.config.num_envs
    obs = rng.standard_normal((n, *case.spec.observation_shape), dtype=np.float32)
    if case.config.normalize_obs:
        obs[0] *= 100.0
    return obs, sample(act_noise(case.spec, n), rng)


def well_conditioned(case: Case) -> bool:
    """Whether one step of the oracle barely moves when its weights move by ten float32 ulps.

    Where it jumps, a ratio, a value or a ReLU sits on the edge of a clip, and no two float32
    programs have to agree. The oracle alone decides, before any framework has run.
    """
    weights = to_float64(perturbed_weights(case))
    rollout, noise = rollout_near(case, weights)
    rng = np.random.default_rng([case.seed, 4])
    moved = {
        k: weights[k] * (1.0 + 1e-6 * rng.standard_normal(weights[k].shape))
        for k in oracle.trained(weights)
    }
    ends = [
        oracle.step(case.spec, case.config, start, rollout, noise)
        for start in (weights, {**weights, **moved})
    ]
    (one, metrics), (two, moved_metrics) = ends
    far = max(float(np.max(np.abs(one[k] - two[k]))) for k in one)
    return max(far, float(np.max(np.abs(np.subtract(metrics, moved_metrics))))) < 1e-5


def draws(seed: int, actions: str, precision: str, count: int) -> list[Case]:
    """`count` cases from `seed` on; for float32 only well-conditioned ones."""
    found: list[Case] = []
    while len(found) < count:
        case = draw(seed, actions)
        if precision == "float64" or well_conditioned(case):
            found.append(case)
        seed += 1
    return found
