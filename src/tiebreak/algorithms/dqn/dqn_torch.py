"""DQN in PyTorch; README.md is the spec."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from tiebreak.algorithms.dqn.config import Config
from tiebreak.algorithms.dqn.data import Act, Batch, LossTerms, Metrics, Noise, initial_weights
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.torch import ops
from tiebreak.frameworks.torch.networks import ActionValues


def dqn_target(q: Callable, target_q: Callable, batch: Batch, config: Config) -> Array:
    """What Q is moved towards; [B]."""
    with torch.no_grad():
        next_q = target_q(batch.next_obs)
        best = torch.argmax(q(batch.next_obs) if config.double_q else next_q, dim=-1)  # D3
        next_value = next_q.gather(-1, best[:, None])[:, 0]
        return batch.reward + batch.discount * next_value


def dqn_loss(q: Callable, batch: Batch, target: Array) -> LossTerms:
    """Mean squared temporal-difference error (D2); target [B]."""
    taken = q(batch.obs).gather(-1, batch.action[:, None].long())[:, 0]
    loss = torch.square(taken - target).mean()  # D2
    return LossTerms(loss, taken.mean(), target.mean())


def epsilon(config: Config, count: Array) -> Array:
    """The share of random actions after `count` updates (D1)."""
    steps = config.learning_starts + count * (config.round_steps / config.num_updates)
    done = (steps / (config.exploration_fraction * config.total_steps)).clamp(max=1.0)
    return config.epsilon_start + (config.epsilon_end - config.epsilon_start) * done  # D1


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: torch.dtype
    device: torch.device
    q: ActionValues
    names: list[str]
    optimizer: Callable[[list[Array], list[Array], ops.Adam], Array]
    update: Callable


class State(NamedTuple):
    """What training changes: tensors in lists and modules in place, the others by new ones."""

    q: ActionValues
    target_q: ActionValues
    params: list[Array]
    target: list[Array]
    opt_state: ops.Adam
    obs_moments: RunningStats


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Network (without memory) and optimizer for a spec; what an update compiles."""

    def one(agent, state, data, noise):
        return torch.stack(update(agent, state, data, noise)[1])

    dtype, device = getattr(torch, build.dtype), torch.device(build.device)
    q = ActionValues(spec, config.hidden_sizes, config.activation, dtype)
    optimizer = ops.make_optimizer(
        config.optimizer, lambda count: config.learning_rate, config.adam_eps, config.max_grad_norm
    )  # D5
    return AgentDef(spec, config, dtype, device, q, q.names("q"), optimizer, build.compile(one))


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D6)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D6


@torch.no_grad()
def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, 2] -> Act; zero noise is greedy."""
    q = state.q(_features(agent, state, obs.reshape(len(obs), -1)))
    explore = noise[:, 0] > 1.0 - epsilon(agent.config, state.opt_state.count[0])  # D1
    anywhere = (noise[:, 1] * agent.spec.action_size).to(torch.int32)
    action = torch.where(explore, anywhere, torch.argmax(q, dim=-1).to(torch.int32))
    return Act(action, action)


@torch.no_grad()
def prepare(agent: AgentDef, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    obs, next_obs = (_features(agent, state, x) for x in (batch.obs, batch.next_obs))
    reward, discount = (x.to(agent.dtype) for x in (batch.reward, batch.discount))
    return Batch(obs, batch.action, reward, discount, next_obs)


def gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[LossTerms, list[Array]]:
    """Loss terms and the raw gradient in the weights; a batch of features, without axis U."""
    del noise
    target = dqn_target(state.q, state.target_q, batch, agent.config)
    terms = dqn_loss(state.q, batch, target)
    grads = torch.autograd.grad(terms.loss, state.params)
    return LossTerms(*(x.detach() for x in terms)), list(grads)


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """One gradient step, and the copy into the target network when it is due."""
    terms, grads = gradients(agent, state, batch, noise)
    grad_norm = agent.optimizer(state.params, grads, state.opt_state)
    with torch.no_grad():
        due = state.opt_state.count[0] % agent.config.target_period == 0  # D4
        ops.periodic_update(due, state.params, state.target)
    return state, Metrics(*terms, grad_norm)


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All updates of a round, on batches [U, B]; statistics then take the observations in."""
    data = prepare(agent, state, batch)
    rows = [
        (Batch(*(x[u] for x in data)), Noise(*(x[u] for x in noise)))
        for u in range(agent.config.num_updates)
    ]
    metrics = torch.stack([agent.update(agent, state, *row) for row in rows])
    if agent.config.normalize_obs:
        seen = batch.obs.to(agent.dtype).reshape(-1, agent.spec.observation_size)
        state = state._replace(obs_moments=ops.merge_stats(state.obs_moments, seen))  # D7
    return state, Metrics(*metrics.mean(0).unbind())


def named(agent: AgentDef, tree: list[Array]) -> dict[str, Array]:
    """Tensors in the order of the parameters -> canonical names and layout ([in, out])."""
    return {k: x.T if x.ndim == 2 else x for k, x in zip(agent.names, tree, strict=True)}


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names; copies."""
    adam = state.opt_state
    out = named(agent, state.params)
    trees = ("target", state.target), ("adam/mu", adam.mu), ("adam/nu", adam.nu)
    out.update({f"{name}/{k}": v for name, tree in trees for k, v in named(agent, tree).items()})
    out["adam/count"] = adam.count[0]
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.array(v.detach().cpu().numpy(), order="C") for k, v in out.items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""

    def tensor(name, dtype=agent.dtype):
        return torch.tensor(weights[name], dtype=dtype, device=agent.device)

    q, target_q = (copy.deepcopy(agent.q).to_empty(device=agent.device) for _ in range(2))
    params, target = list(q.parameters()), list(target_q.parameters())
    with torch.no_grad():
        torch._foreach_copy_(params, _unnamed(agent, weights, ""))
        torch._foreach_copy_(target, _unnamed(agent, weights, "target/"))
    moving = (_unnamed(agent, weights, f"adam/{k}/") for k in ("mu", "nu"))
    adam = ops.Adam(*moving, [tensor("adam/count", torch.int32)])
    moments = RunningStats(*(tensor(f"obs_moments/{k}") for k in RunningStats._fields))
    return State(q, target_q, params, target, adam, moments)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = obs.to(agent.dtype)
    return ops.normalize(obs, state.obs_moments) if agent.config.normalize_obs else obs


def _unnamed(agent: AgentDef, weights: Mapping[str, np.ndarray], prefix: str) -> list[Array]:
    tree = [torch.tensor(weights[prefix + k], dtype=agent.dtype) for k in agent.names]
    return [(x.T.contiguous() if x.ndim == 2 else x).to(agent.device) for x in tree]
