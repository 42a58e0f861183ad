"""DQN in PyTorch; README.md is the spec. A state is changed in place."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tiebreak.algorithms.dqn import data
from tiebreak.algorithms.dqn.config import Config
from tiebreak.algorithms.dqn.data import (
    TARGETS,
    Act,
    Batch,
    LossTerms,
    Metrics,
    Noise,
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
    copy_targets,
    differentiate,
    features,
    prepare,
    take,
    update_count,
    update_statistics,
)
from tiebreak.frameworks.torch.networks import ActionValues


@torch.no_grad()
def dqn_target(q: Callable, target_q: Callable, batch: Batch, config: Config) -> Array:
    """Return the value [B] that Q is moved towards, by the target network."""
    next_q = target_q(batch.next_obs)
    selector = q(batch.next_obs) if config.double_q else next_q  # D3
    best_action = torch.argmax(selector, dim=-1)
    next_value = next_q.gather(-1, best_action[:, None])[:, 0]
    return batch.reward + batch.discount * next_value


def dqn_loss(q: Callable, batch: Batch, target: Array) -> LossTerms:
    """Return the mean squared temporal-difference error; target [B]."""
    value = q(batch.obs).gather(-1, batch.action[:, None].long())[:, 0]
    loss = torch.square(value - target).mean()  # D2
    return LossTerms(loss=loss, q=value.mean(), target=target.mean())


def epsilon(config: Config, count: Array) -> Array:
    """Return the share of random actions after `count` updates."""
    steps = config.learning_starts + count * (config.round_steps / config.num_updates)
    progress = (steps / (config.exploration_fraction * config.total_steps)).clamp(max=1.0)
    return config.epsilon_start + (config.epsilon_end - config.epsilon_start) * progress  # D1


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make the network, without memory, and its optimizer for a spec; compile the update."""
    dtype = getattr(torch, build.dtype)
    q = ActionValues(spec, config.layers, dtype)
    return plumbing.define(
        spec,
        config,
        build,
        data,
        networks={"q": q},
        optimizers=make_optimizers(config, ops.make_optimizer),  # D5
        compiled={"update": plumbing.metrics_of(update)},
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
    action = torch.where(explore, random_action, greedy_action)
    return Act(action, action)


def gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[LossTerms, Gradients]:
    """Return terms and raw gradient of the loss; batch [B] of features."""
    del noise
    q = _action_values(agent, state.params["q"])
    target_q = _action_values(agent, state.target["q"])
    target = dqn_target(q, target_q, batch, agent.config)
    terms = dqn_loss(q, batch, target)
    return differentiate(terms, state, "q")


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Make one gradient step, and copy the network into its target when that is due."""
    terms, grads = gradients(agent, state, batch, noise)
    state, norm = apply_gradients(agent, state, "q", grads)
    for name in TARGETS:
        state = copy_targets(agent, state, name, agent.config.target_period)  # D4
    return state, Metrics(*terms, grad_norm=norm)


def step(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run all updates of a round on batches [U, B]; then update observation statistics."""
    rows, noise = prepare(agent, state, batch), cast(noise, agent.dtype)

    metrics = []
    for u in range(agent.config.num_updates):
        metrics.append(agent.compiled["update"](agent, state, take(rows, u), take(noise, u)))

    state = update_statistics(agent, state, batch.obs)  # D7
    return state, Metrics(*torch.stack(metrics).mean(0).unbind())


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D6


def _action_values(agent: AgentDef, params: Parameters) -> Callable:
    """Return the network: features [B, …] -> values of all actions [B, K]."""
    return plumbing.network(agent, params, "q")
