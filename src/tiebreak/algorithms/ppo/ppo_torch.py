"""PPO in PyTorch; README.md is the spec. A state is changed in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from tiebreak.algorithms.ppo import data
from tiebreak.algorithms.ppo.config import Config
from tiebreak.algorithms.ppo.data import (
    Act,
    LossTerms,
    Metrics,
    Minibatch,
    Noise,
    RecurrentAct,
    RecurrentRollout,
    Rollout,
    Sequences,
    initial_weights,
    make_optimizers,
)
from tiebreak.core.memory import Memory
from tiebreak.core.networks import heads
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.torch import agent as plumbing
from tiebreak.frameworks.torch import ops
from tiebreak.frameworks.torch.agent import (
    AgentDef,
    AgentState,
    Gradients,
    Parameters,
    apply_gradients,
    cast,
    differentiate,
    features,
    update_statistics,
)
from tiebreak.frameworks.torch.networks import GRU, Policy, Value


def policy_loss(ratio: Array, advantage: Array, config: Config) -> Array:
    """Return the clipped surrogate (Schulman et al. 2017, eq. 7), negated; [B], [B] -> scalar.

    With `drift` "dpo", it is the plain surrogate less a drift.
    """
    if config.normalize_advantage:
        advantage = _standardize(advantage)  # D5
    if config.drift == "dpo":
        return (dpo_drift(ratio, advantage, config) - advantage * ratio).mean()  # D15
    clipped = ratio.clamp(1.0 - config.clip, 1.0 + config.clip)
    return torch.maximum(-advantage * ratio, -advantage * clipped).mean()


def dpo_drift(ratio: Array, advantage: Array, config: Config) -> Array:
    """Return the drift that DPO discovered (Lu et al. 2022, section 5); [B], [B] -> [B]."""
    better = (ratio - 1.0) * advantage
    worse = torch.log(ratio) * advantage
    if_better = torch.relu(better - config.dpo_alpha * torch.tanh(better / config.dpo_alpha))
    if_worse = torch.relu(worse - config.dpo_beta * torch.tanh(worse / config.dpo_beta))
    return torch.where(advantage >= 0.0, if_better, if_worse)


def value_loss(value: Array, old_value: Array, target: Array, config: Config) -> Array:
    """Return half the mean squared error, pessimistically clipped; [B], [B], [B] -> scalar."""
    error = torch.square(value - target)
    if config.clip_value:  # D6
        clipped = old_value + (value - old_value).clamp(-config.clip, config.clip)
        error = torch.maximum(error, torch.square(clipped - target))
    return 0.5 * error.mean()


def ppo_loss(policy: Callable, value: Callable, minibatch: Minibatch, config: Config) -> LossTerms:
    """Return the loss on one minibatch and all of its terms."""
    distribution = policy(minibatch.obs)
    log_ratio = distribution.log_prob(minibatch.action) - minibatch.log_prob
    ratio = torch.exp(log_ratio)
    entropy = distribution.entropy().mean()

    actor = policy_loss(ratio, minibatch.advantage, config)
    critic = value_loss(value(minibatch.obs), minibatch.value, minibatch.target, config)
    loss = actor + config.value_coef * critic - config.entropy_coef * entropy

    log_ratio, ratio = log_ratio.detach(), ratio.detach()
    clipped = (ratio - 1.0).abs() > config.clip
    return LossTerms(
        loss=loss,
        policy_loss=actor,
        value_loss=critic,
        entropy=entropy,
        approx_kl=(ratio - 1.0 - log_ratio).mean(),
        clip_fraction=clipped.to(ratio.dtype).mean(),
    )


def learning_rate(config: Config, count: Array) -> Array | float:
    """Return the step size after `count` updates; constant within an iteration."""
    if not config.anneal_lr:
        return config.learning_rate
    iteration = (count // config.updates_per_iteration).double()
    return config.learning_rate * (1.0 - iteration / config.num_iterations).clamp(min=0.0)  # D9


def scale_rewards(
    batch: Rollout, running_return: Array, moments: RunningStats, config: Config
) -> tuple[Array, Array, RunningStats]:
    """Divide rewards [T, N] by the standard deviation of the discounted return.

    Returns the scaled rewards, the new running return [N] and the new statistics of returns.
    """
    ended = torch.logical_or(batch.terminated, batch.truncated)
    going_on = 1.0 - ended.to(batch.reward.dtype)

    # return_t = reward_t + γ · return_{t−1}, which starts anew after the end of an episode.
    first = batch.reward[:1] + config.gamma * running_return
    rewards = torch.cat([first, batch.reward[1:]])
    carried = torch.cat([torch.zeros_like(going_on[:1]), going_on[:-1]])
    returns = ops.recurrence(rewards, config.gamma * carried)

    moments = ops.merge_stats(moments, returns.reshape(-1))
    scaled = (batch.reward / torch.sqrt(moments.var + 1e-8)).clamp(-10.0, 10.0)  # D11
    return scaled, returns[-1] * going_on[-1], moments


def advantages(batch: Rollout, reward: Array, next_value: Array, config: Config) -> Array:
    """Return generalized advantage estimates [T, N] of a rollout."""
    ended = torch.logical_or(batch.terminated, batch.truncated)
    going_on = 1.0 - ended.to(reward.dtype)
    not_terminated = 1.0 - batch.terminated.to(reward.dtype)
    keep = not_terminated if config.truncation == "bootstrap" else going_on  # D4
    return ops.gae(reward, batch.value, next_value, keep, going_on, config.gamma, config.gae_lambda)


def episode_begins(batch: RecurrentRollout) -> Array:
    """Return [T, N] bool: where an episode begins with the step, and the memory is zero."""
    ended = torch.logical_or(batch.terminated, batch.truncated)
    return torch.cat([batch.begins[None], ended[:-1]])  # D16


def by_environment(rows: Minibatch, batch: RecurrentRollout) -> Sequences:
    """Return rows [T · N] of a rollout as the whole environments [N, T] of minibatches."""
    shape = batch.reward.shape
    columns = [x.reshape(*shape, *x.shape[1:]).transpose(0, 1).contiguous() for x in rows]
    begins = episode_begins(batch).T.contiguous()
    return Sequences(*columns, hidden=batch.hidden, begins=begins)


def remember(gru: Callable, sequences: Sequences) -> Minibatch:
    """Return sequences [n, T] as rows [n · T], whose observations are the memory's states."""
    obs, begins = sequences.obs.transpose(0, 1), sequences.begins.T
    states = gru(obs, sequences.hidden, begins).transpose(0, 1)
    columns = Minibatch(*sequences[: len(Minibatch._fields)])._replace(obs=states)
    return Minibatch(*(x.flatten(0, 1) for x in columns))


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks, on the meta device, and their optimizer for a spec; compile the iteration.

    An iteration is two programs, which the loop over epochs and minibatches in `step` calls: its
    preparation, and the update on one minibatch.
    """

    def update_rows(
        agent: AgentDef, state: AgentState, rows: Minibatch | Sequences, index: Array
    ) -> Array:
        minibatch = type(rows)(*(x.index_select(0, index) for x in rows))
        if agent.ranks.count > 1:
            agent, minibatch = _own_part(agent, minibatch)
        _, metrics = update(agent, state, minibatch)
        return torch.stack(metrics)

    dtype = getattr(torch, build.dtype)
    settings = (*heads(spec, config.layers), dtype)
    networks: dict[str, Any] = {"actor": Policy(*settings), "critic": Value(*settings)}
    if config.recurrent:
        networks["memory"] = GRU(spec, config.layers, dtype)  # D14
    return plumbing.define(
        spec,
        config,
        build,
        data,
        networks=networks,
        optimizers=make_optimizers(config, ops.make_optimizer, learning_rate),  # D7 D8
        compiled={"prepare": prepare, "update": update_rows},
    )


@torch.no_grad()
def act(
    agent: AgentDef, state: AgentState, obs: Array, noise: Array, memory: Memory | None = None
) -> Act | RecurrentAct:
    """Choose actions for obs [N, *obs] and noise [N, action_size]; zero noise is greedy."""
    policy, value = _networks(agent, state.params["actor_critic"])
    obs = features(agent, state, obs.reshape(len(obs), -1))
    if memory is not None:
        hidden, begins = cast(memory, agent.dtype)
        obs = _gru(agent, state.params["actor_critic"])(obs[None], hidden, begins[None])[0]
    distribution = policy(obs)
    raw_action = action = distribution.sample(noise.to(agent.dtype))  # D1 D13
    if not agent.spec.discrete:  # D3
        action = ops.rescale_action(raw_action, *agent.bounds)
    acted = Act(action, raw_action, distribution.log_prob(raw_action), value(obs))
    return acted if memory is None else RecurrentAct(*acted, hidden=obs)


@torch.no_grad()
def prepare(
    agent: AgentDef, state: AgentState, batch: Rollout | RecurrentRollout
) -> tuple[AgentState, Minibatch | Sequences]:
    """Return advantages and targets of a rollout as rows or, with a memory, as sequences."""
    batch = cast(batch, agent.dtype)
    state, reward = _scale_rewards(agent, state, batch)

    _, value = _networks(agent, state.params["actor_critic"])
    num_rows = batch.reward.numel()
    next_obs = features(agent, state, batch.next_obs.reshape(num_rows, -1))
    if isinstance(batch, RecurrentRollout):
        next_obs = _next_states(agent, state, batch, next_obs)
    next_value = value(next_obs).reshape(reward.shape)  # D2
    advantage = advantages(batch, reward, next_value, agent.config)

    obs = batch.obs.to(agent.dtype).reshape(num_rows, -1)
    rows = Minibatch(
        obs=features(agent, state, obs),
        action=batch.action.reshape(num_rows, *batch.action.shape[2:]),
        log_prob=batch.log_prob.reshape(num_rows),
        value=batch.value.reshape(num_rows),
        advantage=advantage.reshape(num_rows),
        target=(advantage + batch.value).reshape(num_rows),
    )
    if isinstance(batch, RecurrentRollout):
        rows = by_environment(rows, batch)
    return update_statistics(agent, state, obs), rows  # D10


def gradients(
    agent: AgentDef, state: AgentState, minibatch: Minibatch | Sequences
) -> tuple[LossTerms, Gradients]:
    """Return terms and raw gradient of the loss."""
    policy, value = _networks(agent, state.params["actor_critic"])
    rows = minibatch
    if isinstance(minibatch, Sequences):
        rows = remember(_gru(agent, state.params["actor_critic"]), minibatch)
    terms = ppo_loss(policy, value, rows, agent.config)
    return differentiate(terms, state, "actor_critic")


def update(
    agent: AgentDef, state: AgentState, minibatch: Minibatch | Sequences
) -> tuple[AgentState, Metrics]:
    """Make one gradient step."""
    terms, grads = gradients(agent, state, minibatch)
    state, norm = apply_gradients(agent, state, "actor_critic", grads)
    return state, Metrics(*terms, grad_norm=norm)


def step(
    agent: AgentDef, state: AgentState, batch: Rollout | RecurrentRollout, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Prepare a rollout, then make an update on every minibatch of every epoch."""
    state, rows = agent.compiled["prepare"](agent, state, batch)

    metrics = []
    minibatches = noise.permutation.reshape(agent.config.updates_per_iteration, -1)
    for index in minibatches.unbind():
        metrics.append(agent.compiled["update"](agent, state, rows, index))
    return state, Metrics(*torch.stack(metrics).mean(0).unbind())


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D12


def _standardize(advantage: Array) -> Array:
    """Return advantages with mean 0 and standard deviation 1."""
    std = advantage.std(correction=0)
    return (advantage - advantage.mean()) / (std + 1e-8)


def _own_part(
    agent: AgentDef, minibatch: Minibatch | Sequences
) -> tuple[AgentDef, Minibatch | Sequences]:
    """Return a rank's part of a minibatch, and an agent that learns from it.

    Advantages are normalized here, as they depend on the other ranks' rows.
    """
    config = agent.config
    if config.normalize_advantage:
        minibatch = minibatch._replace(advantage=_standardize(minibatch.advantage))
        config = replace(config, normalize_advantage=False)
    return agent._replace(config=config), agent.ranks.part(minibatch, axis=0)


def _networks(agent: AgentDef, params: Parameters) -> tuple[Callable, Callable]:
    """Return policy and value: features [B, …] -> distribution, features [B, …] -> [B]."""
    policy = plumbing.network(agent, params, "actor")
    value = plumbing.network(agent, params, "critic")
    return policy, value


def _gru(agent: AgentDef, params: Parameters) -> Callable:
    """Return the memory: features [T, B, …], hidden [B, H], begins [T, B] -> states [T, B, H]."""
    return plumbing.network(agent, params, "memory")


def _next_states(
    agent: AgentDef, state: AgentState, batch: RecurrentRollout, next_obs: Array
) -> Array:
    """Return states [B, H] of the memory for features of next observations, before any reset."""
    gru = _gru(agent, state.params["actor_critic"])
    obs = features(agent, state, batch.obs.reshape(*batch.reward.shape, -1))
    states = gru(obs, batch.hidden, episode_begins(batch)).flatten(0, 1)
    nowhere = torch.zeros_like(batch.terminated).reshape(1, -1)
    return gru(next_obs[None], states, nowhere)[0]  # D16


def _scale_rewards(agent: AgentDef, state: AgentState, batch: Rollout) -> tuple[AgentState, Array]:
    """Return the rewards [T, N], scaled if configured; statistics of returns take them in."""
    if not agent.config.normalize_reward:
        return state, batch.reward
    statistics = state.statistics
    reward, running_return, return_moments = scale_rewards(
        batch, statistics["running_return"], statistics["return_moments"], agent.config
    )
    changes = {"running_return": running_return, "return_moments": return_moments}
    return state._replace(statistics={**statistics, **changes}), reward
