"""PQN in PyTorch; README.md is the spec. A state is changed in place."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tiebreak.algorithms.pqn import data
from tiebreak.algorithms.pqn.config import Config
from tiebreak.algorithms.pqn.data import (
    Act,
    LossTerms,
    Metrics,
    Minibatch,
    Noise,
    Rollout,
    initial_weights,
    make_optimizers,
)
from tiebreak.core.types import Agent, Array, Build, EnvSpec
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
    update_count,
    update_statistics,
)
from tiebreak.frameworks.torch.networks import ActionValues


def lambda_returns(batch: Rollout, next_q: Array, config: Config) -> Array:
    """Return the λ-returns [T, N] of a rollout; next_q [T, N, K] are the values of next_obs."""
    next_value = next_q.amax(dim=-1)
    ended = torch.logical_or(batch.terminated, batch.truncated)
    going_on = 1.0 - ended.to(next_value.dtype)
    not_terminated = 1.0 - batch.terminated.to(next_value.dtype)
    keep = not_terminated if config.truncation == "bootstrap" else going_on  # D3

    # What follows the rollout's last step is not known: there the value counts whole.
    known = torch.cat([going_on[:-1], torch.zeros_like(going_on[-1:])])
    trace = config.q_lambda * known
    reward = config.reward_scale * batch.reward  # D9
    one_step = reward + config.gamma * (keep - trace) * next_value
    return ops.recurrence(one_step, config.gamma * trace, reverse=True)  # D2


def pqn_loss(q: Callable, minibatch: Minibatch) -> LossTerms:
    """Return half the mean squared distance from the λ-returns."""
    taken = q(minibatch.obs).gather(-1, minibatch.action[:, None].long())[:, 0]
    loss = 0.5 * torch.square(taken - minibatch.target).mean()  # D4
    return LossTerms(loss=loss, q=taken.mean(), target=minibatch.target.mean())


def learning_rate(config: Config, count: Array) -> Array | float:
    """Return the step size after `count` updates."""
    if not config.anneal_lr:
        return config.learning_rate
    remaining = 1.0 - count.double() / (config.num_iterations * config.updates_per_iteration)
    return config.learning_rate * remaining.clamp(min=0.0)  # D6


def epsilon(config: Config, count: Array) -> Array:
    """Return the share of random actions after `count` updates; constant within an iteration."""
    iteration = count // config.updates_per_iteration
    decay = max(1.0, config.exploration_fraction * config.num_iterations)
    progress = (iteration / decay).clamp(max=1.0)
    return config.epsilon_start + (config.epsilon_end - config.epsilon_start) * progress  # D1


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make the network, without memory, and its optimizer for a spec; compile the iteration.

    An iteration is two programs, which the loop over epochs and minibatches in `step` calls: its
    preparation, and the update on one minibatch.
    """

    def update_rows(agent: AgentDef, state: AgentState, rows: Minibatch, index: Array) -> Array:
        minibatch = Minibatch(*(x.index_select(0, index) for x in rows))
        _, metrics = update(agent, state, minibatch)
        return torch.stack(metrics)

    dtype = getattr(torch, build.dtype)
    q = ActionValues(spec, config.layers, dtype)  # D7
    return plumbing.define(
        spec,
        config,
        build,
        data,
        networks={"q": q},
        optimizers=make_optimizers(config, ops.make_optimizer, learning_rate),  # D5
        compiled={"prepare": prepare, "update": update_rows},
    )


@torch.no_grad()
def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, 2]; zero noise is greedy."""
    obs = features(agent, state, obs.reshape(len(obs), -1))
    q = _action_values(agent, state.params["q"])(obs)
    count = update_count(agent, state, "q")
    explore = noise[:, 0] > 1.0 - epsilon(agent.config, count)  # D1
    random_action = (noise[:, 1] * agent.spec.action_size).to(torch.int32)
    greedy_action = torch.argmax(q, dim=-1).to(torch.int32)
    return Act(torch.where(explore, random_action, greedy_action))


@torch.no_grad()
def prepare(agent: AgentDef, state: AgentState, batch: Rollout) -> tuple[AgentState, Minibatch]:
    """Return the λ-returns of a rollout as B rows; statistics take it in."""
    batch = cast(batch, agent.dtype)
    num_rows = batch.reward.numel()
    next_obs = features(agent, state, batch.next_obs.reshape(num_rows, -1))
    next_q = _action_values(agent, state.params["q"])(next_obs)
    next_q = next_q.reshape(*batch.reward.shape, -1)
    target = lambda_returns(batch, next_q, agent.config)

    obs = batch.obs.to(agent.dtype).reshape(num_rows, -1)
    rows = Minibatch(
        obs=features(agent, state, obs),
        action=batch.action.reshape(num_rows),
        target=target.reshape(num_rows),
    )
    return update_statistics(agent, state, obs), rows  # D10


def gradients(
    agent: AgentDef, state: AgentState, minibatch: Minibatch
) -> tuple[LossTerms, Gradients]:
    """Return terms and raw gradient of the loss."""
    terms = pqn_loss(_action_values(agent, state.params["q"]), minibatch)
    return differentiate(terms, state, "q")


def update(agent: AgentDef, state: AgentState, minibatch: Minibatch) -> tuple[AgentState, Metrics]:
    """Make one gradient step."""
    terms, grads = gradients(agent, state, minibatch)
    state, norm = apply_gradients(agent, state, "q", grads)
    return state, Metrics(*terms, grad_norm=norm)


def step(
    agent: AgentDef, state: AgentState, batch: Rollout, noise: Noise
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
    return plumbing.make_agent(agent, initial_weights, act, step)  # D8


def _action_values(agent: AgentDef, params: Parameters) -> Callable:
    """Return the network: features [B, …] -> values of all actions [B, K]."""
    return plumbing.network(agent, params, "q")
