"""FastSAC in PyTorch; README.md is the spec. A state is changed in place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from tiebreak.algorithms.fastsac import data
from tiebreak.algorithms.fastsac.config import Config
from tiebreak.algorithms.fastsac.data import (
    CRITICS,
    TARGETS,
    Act,
    ActorTerms,
    AlphaTerms,
    Batch,
    CriticTerms,
    Metrics,
    Noise,
    Target,
    actor_spec,
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
from tiebreak.frameworks.torch.networks import Critic, SquashedPolicy


@torch.no_grad()
def target_distributions(
    policy: Callable, critics: tuple, log_alpha: Array, batch: Batch, noise: Noise, config: Config
) -> Target:
    """Return the distributions that the critics are moved towards, each by its own target critic.

    The soft reward of the policy's action is part of the return: it shifts the atoms.
    """
    action, log_prob = policy(batch.next_obs).sample_log_prob(noise.next_action)  # D1
    probs1, probs2 = (torch.softmax(critic(batch.next_obs, action), 1) for critic in critics)
    atoms = ops.atoms(*config.span, probs1)
    soft_value = atoms - (log_alpha.exp() * log_prob)[:, None]
    values = batch.reward[:, None] + batch.discount[:, None] * soft_value
    values = values.clamp(*config.span)

    return Target(
        first=ops.project_distribution(probs1, values, *config.span),  # D4
        second=ops.project_distribution(probs2, values, *config.span),
        entropy=-log_prob.mean(),
    )


def critic_loss(critics: tuple, batch: Batch, target: Target, config: Config) -> CriticTerms:
    """Sum both critics' cross-entropies, each to its own distribution."""
    logits1, logits2 = (critic(batch.obs, batch.action) for critic in critics)
    cross_entropy1 = -(target.first * torch.log_softmax(logits1, 1)).sum(1).mean()
    cross_entropy2 = -(target.second * torch.log_softmax(logits2, 1)).sum(1).mean()
    loss = cross_entropy1 + cross_entropy2  # D4

    atoms = ops.atoms(*config.span, target.first)
    q1 = (torch.softmax(logits1.detach(), 1) * atoms).sum(1)
    q2 = (torch.softmax(logits2.detach(), 1) * atoms).sum(1)
    target_value = (0.5 * (target.first + target.second) * atoms).sum(1)
    return CriticTerms(
        loss=loss,
        q1=q1.mean(),
        q2=q2.mean(),
        target=target_value.mean(),
        entropy=target.entropy,
    )


def alpha_loss(log_alpha: Array, entropy: Array, action_size: int, config: Config) -> AlphaTerms:
    """Return the temperature's loss: α rises while the entropy is below its target."""
    target_entropy = -config.target_entropy_scale * action_size
    alpha = log_alpha.exp()
    return AlphaTerms(loss=alpha * (entropy - target_entropy), alpha=alpha)  # D6


def actor_loss(
    policy: Callable, critics: tuple, log_alpha: Array, batch: Batch, noise: Noise, config: Config
) -> ActorTerms:
    """Return the mean of α·log π − Q over the policy's own actions; Q is both critics' mean."""
    action, log_prob = policy(batch.obs).sample_log_prob(noise.action)  # D1
    probs1, probs2 = (torch.softmax(critic(batch.obs, action), 1) for critic in critics)
    atoms = ops.atoms(*config.span, probs1)
    q = (0.5 * (probs1 + probs2) * atoms).sum(1)  # D5
    return ActorTerms(loss=(log_alpha.exp() * log_prob - q).mean(), q=q.mean())


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks, without memory, and optimizers for a spec; compile the update."""
    dtype = getattr(torch, build.dtype)
    seen, layers = actor_spec(spec), config.actor_layers  # D9
    actor = SquashedPolicy(seen, layers, config.log_std_range, dtype)  # D3
    critic = Critic(spec, config.critic_layers, dtype, config.num_atoms)
    log_alpha = np.zeros(())
    return plumbing.define(
        spec,
        config,
        build,  # D11
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
    return Act(ops.rescale_action(raw_action, *agent.bounds), raw_action)


def critic_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[CriticTerms, Gradients]:
    """Return terms and raw gradient of the critics' loss; batch [B] of features."""
    policy = _policy(agent, state.params["actor"])
    targets = _critics(agent, state.target["critic"])
    log_alpha = _log_alpha(state.params["alpha"])
    target = target_distributions(policy, targets, log_alpha, batch, noise, agent.config)

    critics = _critics(agent, state.params["critic"])
    terms = critic_loss(critics, batch, target, agent.config)
    return differentiate(terms, state, "critic")


def alpha_gradients(
    agent: AgentDef, state: AgentState, entropy: Array
) -> tuple[AlphaTerms, Gradients]:
    """Return terms and raw gradient of the temperature's loss, from the critics' entropy."""
    log_alpha = _log_alpha(state.params["alpha"])
    terms = alpha_loss(log_alpha, entropy, agent.spec.action_size, agent.config)
    return differentiate(terms, state, "alpha")


def actor_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[ActorTerms, Gradients]:
    """Return terms and raw gradient of the actor's loss; batch [B] of features."""
    policy = _policy(agent, state.params["actor"])
    critics = _critics(agent, state.params["critic"])
    log_alpha = _log_alpha(state.params["alpha"])
    terms = actor_loss(policy, critics, log_alpha, batch, noise, agent.config)
    return differentiate(terms, state, "actor")


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Update critics, α and targets `policy_delay` times, then the actor once.

    Batch and `noise.next_action` have leading axes [policy_delay, B], `noise.action` has [B].
    """
    critic_metrics = []
    for u in range(agent.config.policy_delay):  # D7
        minibatch = take(batch, u)
        sample = Noise(noise.next_action[u], noise.action)
        critic_terms, grads = critic_gradients(agent, state, minibatch, sample)
        state, critic_norm = apply_gradients(agent, state, "critic", grads)

        alpha_terms, grads = alpha_gradients(agent, state, critic_terms.entropy)  # D6
        state, _ = apply_gradients(agent, state, "alpha", grads)

        critic_metrics.append(torch.stack([*critic_terms, critic_norm, *alpha_terms]))
        for name in TARGETS:
            state = update_targets(agent, state, name, agent.config.tau)  # D7

    # The actor climbs the updated critics, on the last of these batches.
    actor_terms, grads = actor_gradients(agent, state, minibatch, sample)  # D5
    state, actor_norm = apply_gradients(agent, state, "actor", grads)

    critic_means = torch.stack(critic_metrics).mean(0)
    return state, Metrics(*critic_means.unbind(), *actor_terms, actor_norm)


def step(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run all updates of a round on batches [U, B]; then update observation statistics."""
    rows, noise = prepare(agent, state, batch), cast(noise, agent.dtype)
    delay = agent.config.policy_delay

    metrics = []
    for i, start in enumerate(range(0, agent.config.num_updates, delay)):
        group = slice(start, start + delay)
        sample = Noise(noise.next_action[group], noise.action[i])
        metrics.append(agent.compiled["update"](agent, state, take(rows, group), sample))

    state = update_statistics(agent, state, batch.obs)  # D10
    return state, Metrics(*torch.stack(metrics).mean(0).unbind())


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D9


def _policy(agent: AgentDef, params: Parameters) -> Callable:
    """Return the policy: features [B, …], of which it sees a part -> SquashedGaussian."""
    actor = plumbing.network(agent, params, "actor")
    return lambda obs: actor(obs[:, : agent.spec.visible_size])  # D10


def _critics(agent: AgentDef, params: Parameters) -> tuple[Callable, ...]:
    """Return both critics: features [B, …], actions [B, A] -> logits [B, K]."""
    return tuple(plumbing.network(agent, params, name) for name in CRITICS)


def _log_alpha(params: Parameters) -> Array:
    """Return the logarithm of the temperature, a scalar."""
    return params.tensors[0][0]
