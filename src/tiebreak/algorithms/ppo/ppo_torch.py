"""PPO in PyTorch; README.md is the spec."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from tiebreak.algorithms.ppo.config import Config
from tiebreak.algorithms.ppo.data import (
    Act,
    LossTerms,
    Metrics,
    Minibatch,
    Noise,
    Rollout,
    initial_weights,
)
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.torch import ops
from tiebreak.frameworks.torch.networks import Policy, Value


def policy_loss(ratio: Array, advantage: Array, config: Config) -> Array:
    """The clipped surrogate (Schulman et al. 2017, eq. 7), negated; [B], [B] -> scalar."""
    if config.normalize_advantage:
        advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)  # D5
    clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
    return torch.maximum(-advantage * ratio, -advantage * clipped).mean()


def value_loss(value: Array, old_value: Array, target: Array, config: Config) -> Array:
    """Half the mean squared error, pessimistically clipped; [B], [B], [B] -> scalar."""
    error = torch.square(value - target)
    if config.clip_value:  # D6
        moved = old_value + (value - old_value).clamp(-config.clip, config.clip)
        error = torch.maximum(error, torch.square(moved - target))
    return 0.5 * error.mean()


def ppo_loss(policy: Callable, value: Callable, minibatch: Minibatch, config: Config) -> LossTerms:
    """All terms of the loss on one minibatch."""
    distribution = policy(minibatch.obs)
    log_ratio = distribution.log_prob(minibatch.action) - minibatch.log_prob
    ratio = torch.exp(log_ratio)
    entropy = distribution.entropy().mean()
    actor = policy_loss(ratio, minibatch.advantage, config)
    critic = value_loss(value(minibatch.obs), minibatch.value, minibatch.target, config)
    loss = actor + config.value_coef * critic - config.entropy_coef * entropy
    log_ratio, ratio = log_ratio.detach(), ratio.detach()
    approx_kl = (ratio - 1.0 - log_ratio).mean()
    clip_fraction = ((ratio - 1.0).abs() > config.clip).to(ratio.dtype).mean()
    return LossTerms(loss, actor, critic, entropy, approx_kl, clip_fraction)


def learning_rate(config: Config, count: Array) -> Array | float:
    """The step size after `count` updates; constant within an iteration."""
    if not config.anneal_lr:
        return config.learning_rate
    iteration = (count // config.updates_per_iteration).double()
    return config.learning_rate * (1.0 - iteration / config.num_iterations).clamp(min=0.0)  # D9


def scale_rewards(
    batch: Rollout, running_return: Array, moments: RunningStats, config: Config
) -> tuple[Array, Array, RunningStats]:
    """Rewards [T, N] over the std of the discounted return; the new running return and moments."""
    going = 1.0 - torch.logical_or(batch.terminated, batch.truncated).to(batch.reward.dtype)
    first = batch.reward[:1] + config.gamma * running_return
    before = torch.cat([torch.zeros_like(going[:1]), going[:-1]])
    rewards = torch.cat([first, batch.reward[1:]])
    returns = ops.recurrence(rewards, config.gamma * before)
    moments = ops.merge_stats(moments, returns.reshape(-1))
    scaled = (batch.reward / torch.sqrt(moments.var + 1e-8)).clamp(-10.0, 10.0)  # D11
    return scaled, returns[-1] * going[-1], moments


def advantages(batch: Rollout, reward: Array, next_value: Array, config: Config) -> Array:
    """Generalized advantage estimates [T, N] of a rollout."""
    going_on = 1.0 - torch.logical_or(batch.terminated, batch.truncated).to(reward.dtype)
    not_terminated = 1.0 - batch.terminated.to(reward.dtype)
    keep = not_terminated if config.truncation == "bootstrap" else going_on  # D4
    return ops.gae(reward, batch.value, next_value, keep, going_on, config.gamma, config.gae_lambda)


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: torch.dtype
    device: torch.device
    networks: tuple[Policy, Value]
    names: list[str]
    optimizer: Callable[[list[Array], list[Array], ops.Adam], Array]
    bounds: list[Array]
    prepare: Callable
    body: Callable


class State(NamedTuple):
    """What training changes: tensors in lists and modules in place, the others by new ones."""

    policy: Policy
    value: Value
    params: list[Array]
    opt_state: ops.Adam
    obs_moments: RunningStats
    return_moments: RunningStats
    running_return: Array


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Networks (without memory) and optimizer for a spec; what an iteration compiles."""

    def body(agent, state, data, rows):
        _, metrics = update(agent, state, Minibatch(*(x.index_select(0, rows) for x in data)))
        return torch.stack(metrics)

    dtype, device = getattr(torch, build.dtype), torch.device(build.device)
    sizes = config.hidden_sizes, config.activation, dtype
    networks = Policy(spec, *sizes), Value(spec, *sizes)
    names = [name for network in networks for name in network.names()]
    optimizer = ops.make_optimizer(
        config.optimizer, partial(learning_rate, config), config.adam_eps, config.max_grad_norm
    )  # D7 D8
    bounds = [torch.tensor(b, dtype=dtype, device=device) for b in spec.bounds]
    compiled = build.compile(prepare), build.compile(body)
    return AgentDef(spec, config, dtype, device, networks, names, optimizer, bounds, *compiled)


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D12)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D12


@torch.no_grad()
def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, action_size] -> Act; zero noise is greedy."""
    obs = _features(agent, state, obs)
    distribution = state.policy(obs)
    raw = action = distribution.sample(noise.to(agent.dtype))  # D1
    if not agent.spec.discrete:  # D3
        action = ops.rescale_action(raw, *agent.bounds)
    return Act(action, raw, distribution.log_prob(raw), state.value(obs))


@torch.no_grad()
def prepare(agent: AgentDef, state: State, batch: Rollout) -> tuple[State, Minibatch]:
    """Advantages and targets of a rollout, flattened to B rows; normalizers take it in."""
    config, rows = agent.config, batch.reward.numel()
    batch = Rollout(*(x.to(agent.dtype) if x.is_floating_point() else x for x in batch))
    reward, running, moments = batch.reward, state.running_return, state.return_moments
    if config.normalize_reward:
        reward, running, moments = scale_rewards(batch, running, moments, config)
    next_value = state.value(_features(agent, state, batch.next_obs.reshape(rows, -1)))  # D2
    advantage = advantages(batch, reward, next_value.reshape(reward.shape), config)
    raw_obs = batch.obs.to(agent.dtype).reshape(rows, -1)
    data = Minibatch(
        _features(agent, state, raw_obs),
        batch.action.reshape(rows, *batch.action.shape[2:]),
        *(x.reshape(rows) for x in (batch.log_prob, batch.value, advantage)),
        (advantage + batch.value).reshape(rows),
    )
    state = state._replace(return_moments=moments, running_return=running)
    if config.normalize_obs:
        state = state._replace(obs_moments=ops.merge_stats(state.obs_moments, raw_obs))  # D10
    return state, data


def gradients(agent: AgentDef, state: State, minibatch: Minibatch) -> tuple[LossTerms, list[Array]]:
    """Loss terms and the raw gradient in the weights."""
    terms = ppo_loss(state.policy, state.value, minibatch, agent.config)
    grads = torch.autograd.grad(terms.loss, state.params)
    return LossTerms(*(x.detach() for x in terms)), list(grads)


def update(agent: AgentDef, state: State, minibatch: Minibatch) -> tuple[State, Metrics]:
    """One gradient step."""
    terms, grads = gradients(agent, state, minibatch)
    grad_norm = agent.optimizer(state.params, grads, state.opt_state)
    return state, Metrics(*terms, grad_norm)


def step(agent: AgentDef, state: State, batch: Rollout, noise: Noise) -> tuple[State, Metrics]:
    """One iteration: prepare, then every epoch's minibatches."""
    state, data = agent.prepare(agent, state, batch)
    rows = noise.permutation.reshape(agent.config.updates_per_iteration, -1).unbind()
    metrics = torch.stack([agent.body(agent, state, data, picked) for picked in rows])
    return state, Metrics(*metrics.mean(0).unbind())


def named(agent: AgentDef, tree: list[Array]) -> dict[str, Array]:
    """Tensors in the order of the parameters -> canonical names and layout ([in, out])."""
    return {k: x.T if x.ndim == 2 else x for k, x in zip(agent.names, tree, strict=True)}


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names; copies."""
    adam = state.opt_state
    out = named(agent, state.params)
    out.update({f"adam/mu/{k}": v for k, v in named(agent, adam.mu).items()})
    out.update({f"adam/nu/{k}": v for k, v in named(agent, adam.nu).items()})
    out["adam/count"] = adam.count[0]
    for name, moments in (("obs", state.obs_moments), ("return", state.return_moments)):
        out.update({f"{name}_moments/{k}": v for k, v in moments._asdict().items()})
    out["running_return"] = state.running_return
    return {k: np.array(v.detach().cpu().numpy(), order="C") for k, v in out.items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""

    def tensor(name, dtype=agent.dtype):
        return torch.tensor(weights[name], dtype=dtype, device=agent.device)

    def moments(name):
        return RunningStats(*(tensor(f"{name}_moments/{k}") for k in RunningStats._fields))

    policy, value = (copy.deepcopy(x).to_empty(device=agent.device) for x in agent.networks)
    params = [*policy.parameters(), *value.parameters()]
    with torch.no_grad():
        torch._foreach_copy_(params, _unnamed(agent, weights, ""))
    moving = (_unnamed(agent, weights, f"adam/{k}/") for k in ("mu", "nu"))
    adam = ops.Adam(*moving, [tensor("adam/count", torch.int32)])
    obs, returns, running = moments("obs"), moments("return"), tensor("running_return")
    return State(policy, value, params, adam, obs, returns, running)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = obs.to(agent.dtype).reshape(len(obs), -1)
    return ops.normalize(obs, state.obs_moments) if agent.config.normalize_obs else obs


def _unnamed(agent: AgentDef, weights: Mapping[str, np.ndarray], prefix: str) -> list[Array]:
    tree = [torch.tensor(weights[prefix + k], dtype=agent.dtype) for k in agent.names]
    return [(x.T.contiguous() if x.ndim == 2 else x).to(agent.device) for x in tree]
