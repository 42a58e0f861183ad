"""TD3 in PyTorch; README.md is the spec."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from tiebreak.algorithms.td3.config import Config
from tiebreak.algorithms.td3.data import (
    Act,
    ActorTerms,
    Batch,
    CriticTerms,
    Metrics,
    Noise,
    initial_weights,
)
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.torch import ops
from tiebreak.frameworks.torch.networks import Critic, DeterministicPolicy


def td3_target(
    policy: Callable, critics: tuple[Callable, Callable], batch: Batch, noise: Array, config: Config
) -> Array:
    """What both critics are moved towards, by target networks; noise [B, A] -> [B]."""
    with torch.no_grad():
        smoothing = (config.target_noise * noise).clamp(-config.noise_clip, config.noise_clip)
        action = (policy(batch.next_obs) + smoothing).clamp(-1.0, 1.0)  # D2
        q1, q2 = (critic(batch.next_obs, action) for critic in critics)
        return batch.reward + batch.discount * torch.minimum(q1, q2)


def critic_loss(critics: tuple[Callable, Callable], batch: Batch, target: Array) -> CriticTerms:
    """The sum of both mean squared errors; target [B]."""
    q1, q2 = (critic(batch.obs, batch.action) for critic in critics)
    loss = torch.square(q1 - target).mean() + torch.square(q2 - target).mean()  # D3
    return CriticTerms(loss, q1.mean(), q2.mean(), target.mean())


def actor_loss(policy: Callable, critic: Callable, batch: Batch) -> ActorTerms:
    """What the policy's actions are worth to the first critic, negated."""
    return ActorTerms(-critic(batch.obs, policy(batch.obs)).mean())  # D4


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: torch.dtype
    device: torch.device
    networks: dict[str, DeterministicPolicy | Critic]
    actor_names: list[str]
    critic_names: list[str]
    actor_optimizer: Callable[[list[Array], list[Array], ops.Adam], Array]
    critic_optimizer: Callable[[list[Array], list[Array], ops.Adam], Array]
    bounds: list[Array]
    update: Callable


class State(NamedTuple):
    """What training changes: tensors in lists and modules in place, the others by new ones."""

    networks: dict[str, DeterministicPolicy | Critic]
    target_networks: dict[str, DeterministicPolicy | Critic]
    actor: list[Array]
    critics: list[Array]
    target: list[Array]
    actor_opt: ops.Adam
    critic_opt: ops.Adam
    obs_moments: RunningStats


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Networks (without memory) and optimizers for a spec; what an update compiles."""

    def group(agent, state, data, noise):
        return torch.stack(update(agent, state, data, noise)[1])

    dtype, device = getattr(torch, build.dtype), torch.device(build.device)
    sizes = spec, config.hidden_sizes, config.activation, dtype
    policy, critic = DeterministicPolicy(*sizes), Critic(*sizes)
    networks = {"actor": policy, "critic1": critic, "critic2": critic}  # load makes copies
    names = policy.names("actor"), critic.names("critic1") + critic.names("critic2")
    make = partial(ops.make_optimizer, eps=config.adam_eps, max_grad_norm=config.max_grad_norm)
    rates = config.actor_lr, config.critic_lr
    optimizers = (make(config.optimizer, lambda count, lr=lr: lr) for lr in rates)  # D6
    bounds = [torch.tensor(b, dtype=dtype, device=device) for b in spec.bounds]
    parts = networks, *names, *optimizers, bounds
    return AgentDef(spec, config, dtype, device, *parts, build.compile(group))


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D8)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D8


@torch.no_grad()
def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] -> Act; zero noise is greedy."""
    obs = _features(agent, state, obs.reshape(len(obs), -1))
    noise = agent.config.exploration_noise * noise.to(agent.dtype)
    raw = (state.networks["actor"](obs) + noise).clamp(-1.0, 1.0)  # D1
    return Act(ops.rescale_action(raw, *agent.bounds), raw)


@torch.no_grad()
def prepare(agent: AgentDef, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    obs, next_obs = (_features(agent, state, x) for x in (batch.obs, batch.next_obs))
    others = batch.action, batch.reward, batch.discount
    return Batch(obs, *(x.to(agent.dtype) for x in others), next_obs)


def critic_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, Array]]:
    """LossTerms and the raw gradient in both critics; a batch of features, without axis U."""
    policy, smoothing = state.target_networks["actor"], noise.target.to(agent.dtype)
    target = td3_target(policy, _critics(state.target_networks), batch, smoothing, agent.config)
    terms = critic_loss(_critics(state.networks), batch, target)
    grads = torch.autograd.grad(terms.loss, state.critics)
    grads = dict(zip(agent.critic_names, grads, strict=True))
    return CriticTerms(*(x.detach() for x in terms)), grads


def actor_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Array]]:
    """LossTerms and the raw gradient in the actor; a batch of features, without axis U."""
    del noise
    critic, _ = _critics(state.networks)
    terms = actor_loss(state.networks["actor"], critic, batch)
    grads = torch.autograd.grad(terms.loss, state.actor)
    grads = dict(zip(agent.actor_names, grads, strict=True))
    return ActorTerms(*(x.detach() for x in terms)), grads


def update_critics(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[State, tuple]:
    """One gradient step of both critics; their terms and gradient norm."""
    terms, grads = critic_gradients(agent, state, batch, noise)
    norm = agent.critic_optimizer(state.critics, list(grads.values()), state.critic_opt)
    return state, (*terms, norm)


def update_actor(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, tuple]:
    """One gradient step of the actor; all targets follow."""
    terms, grads = actor_gradients(agent, state, batch, noise)
    norm = agent.actor_optimizer(state.actor, list(grads.values()), state.actor_opt)
    with torch.no_grad():
        params = [*state.actor, *state.critics]
        torch._foreach_lerp_(state.target, params, agent.config.tau)  # D5
    return state, (*terms, norm)


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """A group: `policy_delay` updates of the critics, one of the actor; batch [delay, B]."""
    seen = []
    for u in range(agent.config.policy_delay):  # D5
        row = Batch(*(x[u] for x in batch)), Noise(*(x[u] for x in noise))
        state, terms = update_critics(agent, state, *row)
        seen.append(torch.stack(terms))
    state, terms = update_actor(agent, state, *row)  # D4
    return state, Metrics(*torch.stack(seen).mean(0).unbind(), *terms)


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All groups of a round, on batches [U, B]; statistics then take the observations in."""
    data, delay, history = prepare(agent, state, batch), agent.config.policy_delay, []
    for group in zip(*(x.split(delay) for x in (*data, *noise)), strict=True):
        rows = Batch(*group[: len(data)]), Noise(*group[len(data) :])
        history.append(agent.update(agent, state, *rows))
    if agent.config.normalize_obs:
        seen = batch.obs.to(agent.dtype).reshape(-1, agent.spec.observation_size)
        state = state._replace(obs_moments=ops.merge_stats(state.obs_moments, seen))  # D7
    return state, Metrics(*torch.stack(history).mean(0).unbind())


def named(agent: AgentDef, tree: dict[str, Array]) -> dict[str, Array]:
    """Named tensors in torch's layout -> the canonical one ([in, out])."""
    del agent
    return {k: x.T if x.ndim == 2 else x for k, x in tree.items()}


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names; copies."""
    actor, critics = state.actor_opt, state.critic_opt
    trees = {
        "": [*state.actor, *state.critics], "target/": state.target,
        "adam/mu/": actor.mu + critics.mu, "adam/nu/": actor.nu + critics.nu,
    }  # fmt: skip
    names, out = agent.actor_names + agent.critic_names, {}
    for prefix, tree in trees.items():
        found = named(agent, dict(zip(names, tree, strict=True)))
        out.update({prefix + k: x for k, x in found.items()})
    out["adam/actor_count"], out["adam/count"] = actor.count[0], critics.count[0]
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.array(v.detach().cpu().numpy(), order="C") for k, v in out.items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""

    def tensor(name, dtype=agent.dtype):
        return torch.tensor(weights[name], dtype=dtype, device=agent.device)

    def adam(names, count):
        moving = (_unnamed(agent, weights, f"adam/{k}/", names) for k in ("mu", "nu"))
        return ops.Adam(*moving, [tensor(count, torch.int32)])

    networks, targets = (
        {k: copy.deepcopy(x).to_empty(device=agent.device) for k, x in agent.networks.items()}
        for _ in range(2)
    )
    actor = list(networks["actor"].parameters())
    critics = [p for critic in _critics(networks) for p in critic.parameters()]
    target = [p for network in targets.values() for p in network.parameters()]
    names = agent.actor_names + agent.critic_names
    with torch.no_grad():
        torch._foreach_copy_([*actor, *critics], _unnamed(agent, weights, "", names))
        torch._foreach_copy_(target, _unnamed(agent, weights, "target/", names))
    opts = adam(agent.actor_names, "adam/actor_count"), adam(agent.critic_names, "adam/count")
    moments = RunningStats(*(tensor(f"obs_moments/{k}") for k in RunningStats._fields))
    return State(networks, targets, actor, critics, target, *opts, moments)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = obs.to(agent.dtype)
    return ops.normalize(obs, state.obs_moments) if agent.config.normalize_obs else obs


def _critics(networks: Mapping[str, Critic]) -> tuple[Critic, Critic]:
    return networks["critic1"], networks["critic2"]


def _unnamed(agent: AgentDef, weights: Mapping, prefix: str, names: list[str]) -> list[Array]:
    tree = [torch.tensor(weights[prefix + k], dtype=agent.dtype) for k in names]
    return [(x.T.contiguous() if x.ndim == 2 else x).to(agent.device) for x in tree]
