"""TD3 in PyTorch; README.md is the spec. A state is changed in place."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tiebreak.algorithms.td3 import data
from tiebreak.algorithms.td3.config import Config
from tiebreak.algorithms.td3.data import (
    CRITICS,
    TARGETS,
    Act,
    ActorTerms,
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
from tiebreak.frameworks.torch.networks import Critic, DeterministicPolicy


@torch.no_grad()
def td3_target(
    policy: Callable, critics: tuple, batch: Batch, noise: Array, config: Config
) -> Array:
    """Return the value [B] that both critics are moved towards, by target networks; noise [B, A].

    It is the reward plus the discounted smaller value of the target policy's smoothed action.
    """
    smoothing = config.target_noise * noise
    smoothing = smoothing.clamp(-config.noise_clip, config.noise_clip)
    action = (policy(batch.next_obs) + smoothing).clamp(-1.0, 1.0)  # D2

    q1, q2 = (critic(batch.next_obs, action) for critic in critics)
    return batch.reward + batch.discount * torch.minimum(q1, q2)


def critic_loss(critics: tuple, batch: Batch, target: Array) -> CriticTerms:
    """Sum both critics' mean squared errors; target [B]."""
    q1, q2 = (critic(batch.obs, batch.action) for critic in critics)
    loss = torch.square(q1 - target).mean() + torch.square(q2 - target).mean()  # D3
    return CriticTerms(loss=loss, q1=q1.mean(), q2=q2.mean(), target=target.mean())


def actor_loss(policy: Callable, critic: Callable, batch: Batch) -> ActorTerms:
    """Return the mean value of the policy's actions to the first critic, negated."""
    action = policy(batch.obs)
    q1 = critic(batch.obs, action)
    return ActorTerms(loss=-q1.mean())  # D4


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks, without memory, and optimizers for a spec; compile the update."""
    dtype = getattr(torch, build.dtype)
    actor = DeterministicPolicy(spec, config.layers, dtype)
    critic = Critic(spec, config.layers, dtype)
    return plumbing.define(
        spec,
        config,
        build,
        data,
        networks={"critic1": critic, "critic2": critic, "actor": actor},
        optimizers=make_optimizers(config, ops.make_optimizer),  # D6
        compiled={"update": plumbing.metrics_of(update)},
    )


@torch.no_grad()
def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy."""
    obs = features(agent, state, obs.reshape(len(obs), -1))
    greedy = _policy(agent, state.params["actor"])(obs)
    exploration = agent.config.exploration_noise * noise.to(agent.dtype)
    raw_action = (greedy + exploration).clamp(-1.0, 1.0)  # D1
    return Act(ops.rescale_action(raw_action, *agent.bounds), raw_action)


def critic_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[CriticTerms, Gradients]:
    """Return terms and raw gradient of the critics' loss; batch [B] of features."""
    policy = _policy(agent, state.target["actor"])
    targets = _critics(agent, state.target["critic"])
    target = td3_target(policy, targets, batch, noise.target, agent.config)

    critics = _critics(agent, state.params["critic"])
    terms = critic_loss(critics, batch, target)
    return differentiate(terms, state, "critic")


def actor_gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[ActorTerms, Gradients]:
    """Return terms and raw gradient of the actor's loss; batch [B] of features."""
    del noise
    policy = _policy(agent, state.params["actor"])
    critic1, _ = _critics(agent, state.params["critic"])
    terms = actor_loss(policy, critic1, batch)
    return differentiate(terms, state, "actor")


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Update the critics `policy_delay` times, then the actor and all targets once.

    Batch and noise have leading axes [policy_delay, B].
    """
    critic_metrics = []
    for u in range(agent.config.policy_delay):  # D5
        minibatch, sample = take(batch, u), take(noise, u)
        critic_terms, grads = critic_gradients(agent, state, minibatch, sample)
        state, critic_norm = apply_gradients(agent, state, "critic", grads)
        critic_metrics.append(torch.stack([*critic_terms, critic_norm]))

    # The actor climbs the updated critic, on the last of these batches.
    actor_terms, grads = actor_gradients(agent, state, minibatch, sample)  # D4
    state, actor_norm = apply_gradients(agent, state, "actor", grads)
    for name in TARGETS:
        state = update_targets(agent, state, name, agent.config.tau)  # D5

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

    state = update_statistics(agent, state, batch.obs)  # D7
    return state, Metrics(*torch.stack(metrics).mean(0).unbind())


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D8


def _policy(agent: AgentDef, params: Parameters) -> Callable:
    """Return the policy: features [B, …] -> actions [B, A]."""
    return plumbing.network(agent, params, "actor")


def _critics(agent: AgentDef, params: Parameters) -> tuple[Callable, ...]:
    """Return both critics: features [B, …], actions [B, A] -> values [B]."""
    return tuple(plumbing.network(agent, params, name) for name in CRITICS)
