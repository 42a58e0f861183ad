"""MPO in PyTorch; README.md is the spec. A state is changed in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import torch

from tiebreak.algorithms.mpo import data
from tiebreak.algorithms.mpo import dual_torch as duals
from tiebreak.algorithms.mpo.config import Config
from tiebreak.algorithms.mpo.data import (
    TARGETS,
    Act,
    Batch,
    LossTerms,
    Metrics,
    Noise,
    Samples,
    initial_dual,
    initial_weights,
    make_optimizers,
)
from tiebreak.algorithms.mpo.dual_scipy import LEAST_LOG
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
    update_statistics,
)
from tiebreak.frameworks.torch.networks import Critic, ScaledPolicy
from tiebreak.frameworks.torch.ops import Gaussian


@torch.no_grad()
def draw_samples(policy: Callable, critics: Sequence, next_obs: Array, noise: Array) -> Samples:
    """Sample actions of the target policy and evaluate them by the target critics.

    next_obs [B, observation_size], noise [S, B, A].
    """
    distribution = policy(next_obs)
    action = distribution.sample(noise)

    # One call of each critic for all S · B actions.
    obs = next_obs.expand(len(noise), -1, -1).reshape(-1, next_obs.shape[-1])
    clipped = action.clamp(-1.0, 1.0).reshape(-1, noise.shape[-1])  # D1
    value = reduce(torch.minimum, [critic(obs, clipped) for critic in critics])  # D2
    return Samples(distribution, action, value.reshape(noise.shape[:2]))


def objectives(samples: Samples, config: Config) -> Array:
    """Return what the samples are reweighted by [M, S, B]: Q, and the distance out of bounds.

    The distance counts negatively. It is left out where `epsilon_penalty` is 0.
    """
    if not config.epsilon_penalty:
        return samples.value[None]
    excess = samples.action - samples.action.clamp(-1.0, 1.0)
    distance = torch.sqrt(torch.square(excess).sum(-1))
    return torch.stack([samples.value, -distance])  # D5


def critic_loss(critics: Sequence[Callable], batch: Batch, target: Array) -> tuple[Array, Array]:
    """Return half the critics' mean squared errors, summed, and the first one's mean Q.

    target [B].
    """
    values = [critic(batch.obs, batch.action) for critic in critics]
    loss = sum(0.5 * torch.square(q - target).mean() for q in values)  # D3
    return loss, values[0].mean()


def policy_loss(policy: Gaussian, samples: Samples, weights: Array) -> Array:
    """Return the cross-entropy to the weighted samples, of mean and std apart; weights [S, B]."""
    old = samples.policy
    new_mean = Gaussian(policy.mean, old.log_std)  # D6
    new_std = Gaussian(old.mean, policy.log_std)
    log_prob = new_mean.log_prob(samples.action) + new_std.log_prob(samples.action)
    return -(weights * log_prob).sum(0).mean()


def mpo_loss(
    policy: Callable, critics: Sequence[Callable], dual: Mapping[str, Array], samples: Samples,
    batch: Batch, config: Config,
) -> LossTerms:  # fmt: skip
    """Return the sum of all losses and its terms; each loss changes its own networks only."""
    target = batch.reward + batch.discount * samples.value.mean(0)  # D2
    critic, q = critic_loss(critics, batch, target)

    # E-step: reweight the target policy's samples by their value, as far as the KL bounds allow.
    values = objectives(samples, config)
    temperature = _temperature(dual, values, config)
    tempered = duals.tempered(values, temperature)

    # M-step: fit the policy to the samples, while the multipliers hold it near its target.
    new = policy(batch.next_obs)
    actor = policy_loss(new, samples, tempered.weights.detach().sum(0))  # D5
    kl_mean, kl_std = duals.divergences(new, samples.policy)  # D6
    alpha_mean = duals.positive(dual["log_alpha_mean"])  # D8
    alpha_std = duals.positive(dual["log_alpha_std"])
    actor = actor + (alpha_mean.detach() * kl_mean).sum() + (alpha_std.detach() * kl_std).sum()

    multipliers = duals.temperature_loss(temperature, tempered, config.epsilons)  # D4
    multipliers = multipliers + (alpha_mean * (config.epsilon_mean - kl_mean.detach())).sum()
    multipliers = multipliers + (alpha_std * (config.epsilon_std - kl_std.detach())).sum()
    return LossTerms(
        loss=critic + actor + multipliers,
        critic_loss=critic,
        policy_loss=actor,
        dual_loss=multipliers,
        q=q,
        target=target.mean(),
        temperature=temperature[0],
        kl_q=tempered.kl[0],
        kl_mean=kl_mean.mean(),
        kl_std=kl_std.mean(),
    )


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks, without memory, and optimizers for a spec; compile the update."""
    dtype = getattr(torch, build.dtype)
    actor = ScaledPolicy(spec, config.actor_layers, config.init_std, dtype)
    critic = Critic(spec, config.critic_layers, dtype)
    return plumbing.define(
        spec,
        config,
        build,
        data,
        networks={
            "actor": actor,
            **dict.fromkeys(config.critics, critic),
            "dual": initial_dual(spec, config),
        },
        optimizers=make_optimizers(config, ops.make_optimizer),  # D9
        compiled={"update": plumbing.metrics_of(update)},
    )


@torch.no_grad()
def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy."""
    obs = features(agent, state, obs.reshape(len(obs), -1))
    distribution = _policy(agent, state.params["actor"])(obs)
    raw_action = distribution.sample(noise.to(agent.dtype)).clamp(-1.0, 1.0)  # D1
    return Act(ops.rescale_action(raw_action, *agent.bounds), raw_action)


def gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[LossTerms, Gradients]:
    """Return terms and raw gradients of the losses; batch [B] of features."""
    samples = draw_samples(
        _policy(agent, state.target["actor"]),
        _critics(agent, state.target["critic"]),
        batch.next_obs,
        noise.action,
    )
    terms = mpo_loss(
        _policy(agent, state.params["actor"]),
        _critics(agent, state.params["critic"]),
        _dual(agent, state.params["dual"]),
        samples,
        batch,
        agent.config,
    )
    return differentiate(terms, state, "actor", "critic", "dual")


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Make a step of each optimizer, and copy networks into their targets when that is due."""
    terms, grads = gradients(agent, state, batch, noise)
    state, actor_norm = apply_gradients(agent, state, "actor", grads)
    state, critic_norm = apply_gradients(agent, state, "critic", grads)
    state, _ = apply_gradients(agent, state, "dual", grads)
    state = _clip_dual(state)
    for name in TARGETS:
        state = copy_targets(agent, state, name, agent.config.target_period)  # D10
    return state, Metrics(*terms, actor_norm, critic_norm)


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
    return plumbing.make_agent(agent, initial_weights, act, step)  # D11


def _policy(agent: AgentDef, params: Parameters) -> Callable:
    """Return the policy: features [B, …] -> Gaussian."""
    return plumbing.network(agent, params, "actor")


def _critics(agent: AgentDef, params: Parameters) -> list[Callable]:
    """Return all critics: features [B, …], actions [B, A] -> values [B]."""
    return [plumbing.network(agent, params, name) for name in agent.config.critics]


def _dual(agent: AgentDef, params: Parameters) -> dict[str, Array]:
    """Return the dual variables by name."""
    return dict(zip(agent.config.dual_names, params.tensors, strict=True))


@torch.no_grad()
def _clip_dual(state: AgentState) -> AgentState:
    """Raise dual variables to the least value that they may have."""
    torch._foreach_clamp_min_(state.params["dual"].tensors, LEAST_LOG)  # D8
    return state


def _temperature(dual: Mapping[str, Array], values: Array, config: Config) -> Array:
    """Return the temperature [M] of each objective: a dual variable, or the duals' minimum."""
    if config.dual == "gradient":
        return duals.positive(dual["log_temperature"])  # D8
    solve = {"slsqp": duals.slsqp, "newton": duals.newton}[config.dual]
    return solve(values, config.epsilons)  # D4
