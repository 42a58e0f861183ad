"""FastTD3 in PyTorch; README.md is the spec. A state is changed in place."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tiebreak.algorithms.fasttd3 import data
from tiebreak.algorithms.fasttd3.config import Config
from tiebreak.algorithms.fasttd3.data import (
    CRITICS,
    TARGETS,
    Act,
    ActorTerms,
    Batch,
    CriticTerms,
    Metrics,
    Noise,
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
from tiebreak.frameworks.torch.networks import Critic, DeterministicPolicy


@torch.no_grad()
def target_distribution(
    policy: Callable, critics: tuple, batch: Batch, noise: Noise, config: Config
) -> Array:
    """Return the distribution [B, K] that both critics are moved towards, by target critics.

    It is the projection of the rewards plus the discounted atoms of one critic's distribution.
    """
    smoothing = config.target_noise * noise.target
    smoothing = smoothing.clamp(-config.noise_clip, config.noise_clip)
    action = (policy(batch.next_obs) + smoothing).clamp(-1.0, 1.0)  # D2

    probs1, probs2 = (torch.softmax(critic(batch.next_obs, action), 1) for critic in critics)
    atoms = ops.atoms(*config.span, probs1)
    values = batch.reward[:, None] + batch.discount[:, None] * atoms
    values = values.clamp(*config.span)

    # The projection keeps the mean: choose the smaller one before, and project that one only.
    first_is_smaller = (probs1 * values).sum(1) < (probs2 * values).sum(1)  # D4
    probs = torch.where(first_is_smaller[:, None], probs1, probs2)
    return ops.project_distribution(probs, values, *config.span)  # D3


def critic_loss(critics: tuple, batch: Batch, target: Array, config: Config) -> CriticTerms:
    """Sum both critics' cross-entropies; target [B, K]."""
    logits1, logits2 = (critic(batch.obs, batch.action) for critic in critics)
    cross_entropy1 = -(target * torch.log_softmax(logits1, 1)).sum(1).mean()
    cross_entropy2 = -(target * torch.log_softmax(logits2, 1)).sum(1).mean()
    loss = cross_entropy1 + cross_entropy2  # D4

    atoms = ops.atoms(*config.span, target)
    q1 = (torch.softmax(logits1.detach(), 1) * atoms).sum(1)
    q2 = (torch.softmax(logits2.detach(), 1) * atoms).sum(1)
    target_value = (target * atoms).sum(1)
    return CriticTerms(loss=loss, q1=q1.mean(), q2=q2.mean(), target=target_value.mean())


def actor_loss(policy: Callable, critics: tuple, batch: Batch, config: Config) -> ActorTerms:
    """Return the mean of the smaller value of the policy's actions, negated."""
    action = policy(batch.obs)
    probs1, probs2 = (torch.softmax(critic(batch.obs, action), 1) for critic in critics)
    atoms = ops.atoms(*config.span, probs1)
    q1 = (probs1 * atoms).sum(1)
    q2 = (probs2 * atoms).sum(1)
    return ActorTerms(loss=-torch.minimum(q1, q2).mean())  # D5


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks, without memory, and optimizers for a spec; compile the update."""
    dtype = getattr(torch, build.dtype)
    actor = DeterministicPolicy(actor_spec(spec), config.actor_layers, dtype)
    critic = Critic(spec, config.critic_layers, dtype, config.num_atoms)  # D3
    return plumbing.define(
        spec,
        config,
        build,  # D10
        data,
        networks={"critic1": critic, "critic2": critic, "actor": actor},
        optimizers=make_optimizers(config, ops.make_optimizer),  # D7
        compiled={"update": plumbing.metrics_of(update)},
    )


@torch.no_grad()
def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A] in their units; zero noise is greedy."""
    obs = features(agent, state, obs.reshape(len(obs), -1))
    greedy = _policy(agent, state.params["actor"])(obs)
    raw_action = (greedy + noise.to(agent.dtype)).clamp(-1.0, 1.0)  # D1
    return Act(ops.rescale_action(raw_action, *agent.bounds), raw_action)


def critic_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[CriticTerms, Gradients]:
    """Return terms and raw gradient of the critics' loss; batch [B] of features."""
    policy = _policy(agent, state.params["actor"])
    targets = _critics(agent, state.target["critic"])
    target = target_distribution(policy, targets, batch, noise, agent.config)

    critics = _critics(agent, state.params["critic"])
    terms = critic_loss(critics, batch, target, agent.config)
    return differentiate(terms, state, "critic")


def actor_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[ActorTerms, Gradients]:
    """Return terms and raw gradient of the actor's loss; batch [B] of features."""
    del noise
    policy = _policy(agent, state.params["actor"])
    critics = _critics(agent, state.params["critic"])
    terms = actor_loss(policy, critics, batch, agent.config)
    return differentiate(terms, state, "actor")


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Update the critics and their targets `policy_delay` times, then the actor once.

    Batch and noise have leading axes [policy_delay, B].
    """
    critic_metrics = []
    for u in range(agent.config.policy_delay):  # D6
        minibatch, sample = take(batch, u), take(noise, u)
        critic_terms, grads = critic_gradients(agent, state, minibatch, sample)
        state, critic_norm = apply_gradients(agent, state, "critic", grads)
        critic_metrics.append(torch.stack([*critic_terms, critic_norm]))
        for name in TARGETS:
            state = update_targets(agent, state, name, agent.config.tau)  # D6

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
    for start in range(0, agent.config.num_updates, delay):
        group = slice(start, start + delay)
        metrics.append(
            agent.compiled["update"](agent, state, take(rows, group), take(noise, group))
        )

    state = update_statistics(agent, state, batch.obs)  # D9
    return state, Metrics(*torch.stack(metrics).mean(0).unbind())


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D8


def _policy(agent: AgentDef, params: Parameters) -> Callable:
    """Return the policy: features [B, …], of which it sees a part -> actions [B, A]."""
    actor = plumbing.network(agent, params, "actor")
    return lambda obs: actor(obs[:, : agent.spec.visible_size])  # D9


def _critics(agent: AgentDef, params: Parameters) -> tuple[Callable, ...]:
    """Return both critics: features [B, …], actions [B, A] -> logits [B, K]."""
    return tuple(plumbing.network(agent, params, name) for name in CRITICS)
