"""SAC in PyTorch; README.md is the spec. A state is changed in place."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from tiebreak.algorithms.sac import data
from tiebreak.algorithms.sac.config import Config
from tiebreak.algorithms.sac.data import (
    CRITICS,
    TARGETS,
    Act,
    ActorTerms,
    AlphaTerms,
    Batch,
    CriticTerms,
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
    differentiate,
    features,
    prepare,
    take,
    update_statistics,
    update_targets,
)
from tiebreak.frameworks.torch.networks import ActionValues, Critic, Policy, SquashedPolicy


def soft_terms(policy: Callable, critics: tuple, obs: Array, noise: Array) -> tuple[Array, Array]:
    """Return Q and log π of the policy's action, both [B]; of discrete ones, the expectations.

    Q is the smaller of both critics' values.
    """
    distribution = policy(obs)
    if isinstance(distribution, ops.Categorical):  # D12
        q1, q2 = (q(obs) for q in critics)
        probs = distribution.log_p.exp()
        return (probs * torch.minimum(q1, q2)).sum(-1), (probs * distribution.log_p).sum(-1)
    action, log_prob = distribution.sample_log_prob(noise)  # D1
    q1, q2 = (q(obs, action) for q in critics)
    return torch.minimum(q1, q2), log_prob


def taken_value(critic: Callable, batch: Batch) -> Array:
    """Return the values [B] of a batch's actions by one critic."""
    if batch.action.is_floating_point():
        return critic(batch.obs, batch.action)
    return critic(batch.obs).gather(-1, batch.action[:, None].long())[:, 0]  # D12


@torch.no_grad()
def critic_target(
    policy: Callable, targets: tuple, log_alpha: Array, batch: Batch, noise: Noise
) -> Array:
    """Return the soft value [B] that both critics are moved towards, by target critics."""
    q, log_prob = soft_terms(policy, targets, batch.next_obs, noise.next_action)
    soft_value = q - log_alpha.exp() * log_prob  # D4 D6
    return batch.reward + batch.discount * soft_value


def critic_loss(critics: tuple, batch: Batch, target: Array) -> CriticTerms:
    """Sum both critics' mean squared temporal-difference errors; target [B]."""
    q1, q2 = (taken_value(critic, batch) for critic in critics)
    loss = torch.square(q1 - target).mean() + torch.square(q2 - target).mean()  # D4
    return CriticTerms(loss=loss, q1=q1.mean(), q2=q2.mean(), target=target.mean())


def actor_loss(
    policy: Callable, critics: tuple, log_alpha: Array, batch: Batch, noise: Noise
) -> ActorTerms:
    """Return the mean of α·log π − Q over the policy's own actions: minus the soft value."""
    q, log_prob = soft_terms(policy, critics, batch.obs, noise.action)  # D5
    loss = (log_alpha.exp() * log_prob - q).mean()  # D6
    return ActorTerms(loss=loss, q=q.mean(), entropy=-log_prob.mean())


def alpha_loss(
    policy: Callable, log_alpha: Array, batch: Batch, noise: Noise, config: Config
) -> AlphaTerms:
    """Return the temperature's loss: α rises while the entropy is below its target."""
    with torch.no_grad():
        distribution = policy(batch.obs)
        if isinstance(distribution, ops.Categorical):
            log_prob, most = -distribution.entropy(), math.log(distribution.log_p.shape[-1])
            target_entropy = config.target_entropy_scale * most  # D12
        else:
            _, log_prob = distribution.sample_log_prob(noise.action)
            target_entropy = -config.target_entropy_scale * noise.action.shape[-1]  # D6
        deficit = log_prob.mean() + target_entropy
    return AlphaTerms(loss=-log_alpha * deficit, alpha=log_alpha.exp())  # D6


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks, without memory, and optimizers for a spec; compile the update."""
    dtype = getattr(torch, build.dtype)
    if spec.discrete:  # D12
        actor, critic = (network(spec, config.layers, dtype) for network in (Policy, ActionValues))
    else:
        actor = SquashedPolicy(spec, config.layers, config.log_std_range, dtype)
        critic = Critic(spec, config.layers, dtype)
    log_alpha = np.zeros(())
    return plumbing.define(
        spec,
        config,
        build,
        data,
        networks={"critic1": critic, "critic2": critic, "actor": actor, "log_alpha": log_alpha},
        optimizers=make_optimizers(config, ops.make_optimizer),  # D8
        compiled={"update": plumbing.metrics_of(update)},
    )


@torch.no_grad()
def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy."""
    obs = features(agent, state, obs.reshape(len(obs), -1))
    distribution = _policy(agent, state.params["actor"])(obs)
    raw_action = distribution.sample(noise.to(agent.dtype))  # D1
    if agent.spec.discrete:
        return Act(raw_action, raw_action)
    return Act(ops.rescale_action(raw_action, *agent.bounds), raw_action)


def critic_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[CriticTerms, Gradients]:
    """Return terms and raw gradient of the critics' loss; batch [B] of features."""
    policy = _policy(agent, state.params["actor"])
    targets = _critics(agent, state.target["critic"])
    log_alpha = _log_alpha(state.params["alpha"])
    target = critic_target(policy, targets, log_alpha, batch, noise)

    critics = _critics(agent, state.params["critic"])
    terms = critic_loss(critics, batch, target)
    return differentiate(terms, state, "critic")


def actor_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[ActorTerms, Gradients]:
    """Return terms and raw gradient of the actor's loss; batch [B] of features."""
    policy = _policy(agent, state.params["actor"])
    critics = _critics(agent, state.params["critic"])
    log_alpha = _log_alpha(state.params["alpha"])
    terms = actor_loss(policy, critics, log_alpha, batch, noise)
    return differentiate(terms, state, "actor")


def alpha_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AlphaTerms, Gradients]:
    """Return terms and raw gradient of the temperature's loss; batch [B] of features."""
    policy = _policy(agent, state.params["actor"])
    log_alpha = _log_alpha(state.params["alpha"])
    terms = alpha_loss(policy, log_alpha, batch, noise, agent.config)
    return differentiate(terms, state, "alpha")


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Update critics, actor, α and targets in this order; each sees the updates before it."""
    critic_terms, grads = critic_gradients(agent, state, batch, noise)  # D7
    state, critic_norm = apply_gradients(agent, state, "critic", grads)

    actor_terms, grads = actor_gradients(agent, state, batch, noise)
    state, actor_norm = apply_gradients(agent, state, "actor", grads)

    alpha_terms, grads = alpha_gradients(agent, state, batch, noise)
    state, _ = apply_gradients(agent, state, "alpha", grads)

    for name in TARGETS:
        state = update_targets(agent, state, name, agent.config.tau)  # D9
    return state, Metrics(*critic_terms, *actor_terms, *alpha_terms, critic_norm, actor_norm)


def step(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run all updates of a round on batches [U, B]; then update observation statistics."""
    rows, noise = prepare(agent, state, batch), cast(noise, agent.dtype)

    metrics = []
    for u in range(agent.config.num_updates):
        metrics.append(agent.compiled["update"](agent, state, take(rows, u), take(noise, u)))

    state = update_statistics(agent, state, batch.obs)  # D11
    return state, Metrics(*torch.stack(metrics).mean(0).unbind())


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D10


def _policy(agent: AgentDef, params: Parameters) -> Callable:
    """Return the policy: features [B, …] -> distribution of actions [B, A] or [B]."""
    return plumbing.network(agent, params, "actor")


def _critics(agent: AgentDef, params: Parameters) -> tuple[Callable, ...]:
    """Return both critics: features [B, …], actions [B, A] -> values [B].

    Of discrete actions: features -> values [B, K].
    """
    return tuple(plumbing.network(agent, params, name) for name in CRITICS)


def _log_alpha(params: Parameters) -> Array:
    """Return the logarithm of the temperature, a scalar."""
    return params.tensors[0][0]
