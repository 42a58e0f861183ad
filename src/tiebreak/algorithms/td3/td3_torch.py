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
from tiebreak.core.types import Agent, Array, Build, EnvSpec, Moments
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


class Static(NamedTuple):
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
    obs_moments: Moments


def make_static(spec: EnvSpec, config: Config, build: Build) -> Static:
    """Networks (without memory) and optimizers for a spec; what an update compiles."""

    def group(static, state, data, noise):
        return torch.stack(update(static, state, data, noise)[1])

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
    return Static(spec, config, dtype, device, *parts, build.compile(group))


def init(static: Static, seed: int) -> State:
    """A new state with the canonical initial weights (D8)."""
    return load(static, initial_weights(static.spec, static.config, seed))  # D8


@torch.no_grad()
def act(static: Static, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] -> Act; zero noise is greedy."""
    obs = _features(static, state, obs.reshape(len(obs), -1))
    noise = static.config.exploration_noise * noise.to(static.dtype)
    raw = (state.networks["actor"](obs) + noise).clamp(-1.0, 1.0)  # D1
    return Act(ops.fit_to_bounds(raw, *static.bounds), raw)


@torch.no_grad()
def prepare(static: Static, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    obs, next_obs = (_features(static, state, x) for x in (batch.obs, batch.next_obs))
    others = batch.action, batch.reward, batch.discount
    return Batch(obs, *(x.to(static.dtype) for x in others), next_obs)


def critic_gradients(
    static: Static, state: State, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, Array]]:
    """Terms and the raw gradient in both critics; a batch of features, without axis U."""
    policy, smoothing = state.target_networks["actor"], noise.target.to(static.dtype)
    target = td3_target(policy, _critics(state.target_networks), batch, smoothing, static.config)
    terms = critic_loss(_critics(state.networks), batch, target)
    grads = torch.autograd.grad(terms.loss, state.critics)
    grads = dict(zip(static.critic_names, grads, strict=True))
    return CriticTerms(*(x.detach() for x in terms)), grads


def actor_gradients(
    static: Static, state: State, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, Array]]:
    """Terms and the raw gradient in the actor; a batch of features, without axis U."""
    del noise
    critic, _ = _critics(state.networks)
    terms = actor_loss(state.networks["actor"], critic, batch)
    grads = torch.autograd.grad(terms.loss, state.actor)
    grads = dict(zip(static.actor_names, grads, strict=True))
    return ActorTerms(*(x.detach() for x in terms)), grads


def update_critics(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[State, tuple]:
    """One gradient step of both critics; their terms and gradient norm."""
    terms, grads = critic_gradients(static, state, batch, noise)
    norm = static.critic_optimizer(state.critics, list(grads.values()), state.critic_opt)
    return state, (*terms, norm)


def update_actor(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[State, tuple]:
    """One gradient step of the actor; all targets follow."""
    terms, grads = actor_gradients(static, state, batch, noise)
    norm = static.actor_optimizer(state.actor, list(grads.values()), state.actor_opt)
    with torch.no_grad():
        params = [*state.actor, *state.critics]
        torch._foreach_lerp_(state.target, params, static.config.tau)  # D5
    return state, (*terms, norm)


def update(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """A group: `policy_delay` updates of the critics, one of the actor; batch [delay, B]."""
    seen = []
    for u in range(static.config.policy_delay):  # D5
        row = Batch(*(x[u] for x in batch)), Noise(*(x[u] for x in noise))
        state, terms = update_critics(static, state, *row)
        seen.append(torch.stack(terms))
    state, terms = update_actor(static, state, *row)  # D4
    return state, Metrics(*torch.stack(seen).mean(0).unbind(), *terms)


def step(static: Static, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All groups of a round, on batches [U, B]; statistics then take the observations in."""
    data, delay, history = prepare(static, state, batch), static.config.policy_delay, []
    for group in zip(*(x.split(delay) for x in (*data, *noise)), strict=True):
        rows = Batch(*group[: len(data)]), Noise(*group[len(data) :])
        history.append(static.update(static, state, *rows))
    if static.config.normalize_obs:
        seen = batch.obs.to(static.dtype).reshape(-1, static.spec.observation_size)
        state = state._replace(obs_moments=ops.merge_moments(state.obs_moments, seen))  # D7
    return state, Metrics(*torch.stack(history).mean(0).unbind())


def named(static: Static, tree: dict[str, Array]) -> dict[str, Array]:
    """Named tensors in torch's layout -> the canonical one ([in, out])."""
    del static
    return {k: x.T if x.ndim == 2 else x for k, x in tree.items()}


def dump(static: Static, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names; copies."""
    actor, critics = state.actor_opt, state.critic_opt
    trees = {
        "": [*state.actor, *state.critics], "target/": state.target,
        "adam/mu/": actor.mu + critics.mu, "adam/nu/": actor.nu + critics.nu,
    }  # fmt: skip
    names, out = static.actor_names + static.critic_names, {}
    for prefix, tree in trees.items():
        found = named(static, dict(zip(names, tree, strict=True)))
        out.update({prefix + k: x for k, x in found.items()})
    out["adam/actor_count"], out["adam/count"] = actor.count[0], critics.count[0]
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.array(v.detach().cpu().numpy(), order="C") for k, v in out.items()}


def load(static: Static, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""

    def tensor(name, dtype=static.dtype):
        return torch.tensor(weights[name], dtype=dtype, device=static.device)

    def adam(names, count):
        moving = (_unnamed(static, weights, f"adam/{k}/", names) for k in ("mu", "nu"))
        return ops.Adam(*moving, [tensor(count, torch.int32)])

    networks, targets = (
        {k: copy.deepcopy(x).to_empty(device=static.device) for k, x in static.networks.items()}
        for _ in range(2)
    )
    actor = list(networks["actor"].parameters())
    critics = [p for critic in _critics(networks) for p in critic.parameters()]
    target = [p for network in targets.values() for p in network.parameters()]
    names = static.actor_names + static.critic_names
    with torch.no_grad():
        torch._foreach_copy_([*actor, *critics], _unnamed(static, weights, "", names))
        torch._foreach_copy_(target, _unnamed(static, weights, "target/", names))
    opts = adam(static.actor_names, "adam/actor_count"), adam(static.critic_names, "adam/count")
    moments = Moments(*(tensor(f"obs_moments/{k}") for k in Moments._fields))
    return State(networks, targets, actor, critics, target, *opts, moments)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    static = make_static(spec, config, build)
    return Agent(*(partial(fn, static) for fn in (init, act, step, dump, load)))


def _features(static: Static, state: State, obs: Array) -> Array:
    obs = obs.to(static.dtype)
    return ops.normalize(obs, state.obs_moments) if static.config.normalize_obs else obs


def _critics(networks: Mapping[str, Critic]) -> tuple[Critic, Critic]:
    return networks["critic1"], networks["critic2"]


def _unnamed(static: Static, weights: Mapping, prefix: str, names: list[str]) -> list[Array]:
    tree = [torch.tensor(weights[prefix + k], dtype=static.dtype) for k in names]
    return [(x.T.contiguous() if x.ndim == 2 else x).to(static.device) for x in tree]
