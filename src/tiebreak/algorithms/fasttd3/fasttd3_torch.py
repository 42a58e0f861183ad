"""FastTD3 in PyTorch; README.md is the spec."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from tiebreak.algorithms.fasttd3.config import Config
from tiebreak.algorithms.fasttd3.data import (
    COUNTS,
    CRITICS,
    ActorTerms,
    CriticTerms,
    Metrics,
    Noise,
    actor_spec,
    initial_weights,
    make_optimizers,
)
from tiebreak.core.off_policy import Act, Batch
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.torch import ops
from tiebreak.frameworks.torch.networks import Critic, DeterministicPolicy


def target_distribution(
    policy: Callable, critics: tuple, batch: Batch, noise: Noise, config: Config
) -> Array:
    """What both critics are moved towards, by target critics; [B, K]."""
    with torch.no_grad():
        smoothing = config.target_noise * noise.target
        smoothing = smoothing.clamp(-config.noise_clip, config.noise_clip)
        action = (policy(batch.next_obs) + smoothing).clamp(-1.0, 1.0)  # D2
        one, two = (torch.softmax(critic(batch.next_obs, action), 1) for critic in critics)
        values = batch.reward[:, None] + batch.discount[:, None] * ops.atoms(*config.span, one)
        values = values.clamp(*config.span)
        # Projecting keeps the mean: the smaller is known before, and only that one is projected.
        smaller = (one * values).sum(1) < (two * values).sum(1)  # D4
        return ops.project_distribution(
            torch.where(smaller[:, None], one, two), values, *config.span
        )  # D3


def critic_loss(critics: tuple, batch: Batch, target: Array, config: Config) -> CriticTerms:
    """The sum of both cross-entropies; target [B, K]."""
    one, two = (critic(batch.obs, batch.action) for critic in critics)
    loss = sum(-(target * torch.log_softmax(q, 1)).sum(1).mean() for q in (one, two))  # D4
    atoms = ops.atoms(*config.span, target)
    q1, q2 = ((torch.softmax(q.detach(), 1) * atoms).sum(1).mean() for q in (one, two))
    return CriticTerms(loss, q1, q2, (target * atoms).sum(1).mean())


def actor_loss(policy: Callable, critics: tuple, batch: Batch, config: Config) -> ActorTerms:
    """What the policy's actions are worth to the critic that expects less of them, negated."""
    action = policy(batch.obs)
    one, two = (torch.softmax(critic(batch.obs, action), 1) for critic in critics)
    atoms = ops.atoms(*config.span, one)
    q1, q2 = ((probs * atoms).sum(1) for probs in (one, two))
    return ActorTerms(-torch.minimum(q1, q2).mean())  # D5


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: torch.dtype
    network_dtype: torch.dtype
    device: torch.device
    actor: DeterministicPolicy
    critic: Critic
    names: dict[str, list[str]]
    optimizers: dict[str, Callable[[list[Array], list[Array], ops.Adam], Array]]
    bounds: list[Array]
    update: Callable


class State(NamedTuple):
    """What training changes: tensors in lists and modules in place. Dictionaries by optimizer."""

    actor: DeterministicPolicy
    critics: tuple[Critic, ...]
    targets: tuple[Critic, ...]
    params: dict[str, list[Array]]
    target: list[Array]
    opt_state: dict[str, ops.Adam]
    obs_moments: RunningStats


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Networks (without memory) and optimizers for a spec; what an update compiles."""

    def group(agent, state, data, noise):
        return torch.stack(update(agent, state, data, noise)[1])

    dtypes = [getattr(torch, k) for k in (build.dtype, build.network_dtype or build.dtype)]  # D10
    dtype, device = dtypes[0], torch.device(build.device)
    actor = DeterministicPolicy(actor_spec(spec), config.actor_sizes, config.activation, dtype)
    critic = Critic(spec, config.critic_sizes, config.activation, dtype, config.num_atoms)  # D3
    critics = [name for prefix in CRITICS for name in critic.names(prefix)]
    names = {"critic": critics, "actor": actor.names("actor")}
    bounds = [torch.tensor(b, dtype=dtype, device=device) for b in spec.bounds]
    parts = actor, critic, names, make_optimizers(config, ops.make_optimizer), bounds  # D7
    return AgentDef(spec, config, *dtypes, device, *parts, build.compile(group))


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D8)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D8


@torch.no_grad()
def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] in units of actions -> Act; zero noise is greedy."""
    obs = _features(agent, state, obs.reshape(len(obs), -1))
    raw = (_policy(agent, state.actor)(obs) + noise.to(agent.dtype)).clamp(-1.0, 1.0)  # D1
    return Act(ops.rescale_action(raw, *agent.bounds), raw)


@torch.no_grad()
def prepare(agent: AgentDef, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    batch = Batch(*(x.to(agent.dtype) for x in batch))
    obs, next_obs = (_features(agent, state, x) for x in (batch.obs, batch.next_obs))
    return batch._replace(obs=obs, next_obs=next_obs)


def critic_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[CriticTerms, dict[str, list[Array]]]:
    """Loss terms and the critics' raw gradient; a batch of features, without axis U."""
    policy, targets = _policy(agent, state.actor), _critics(agent, state.targets)
    target = target_distribution(policy, targets, batch, noise, agent.config)
    terms = critic_loss(_critics(agent, state.critics), batch, target, agent.config)
    return _differentiated(state, "critic", terms)


def actor_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, list[Array]]]:
    """Loss terms and the actor's raw gradient; a batch of features, without axis U."""
    policy, critics = _policy(agent, state.actor), _critics(agent, state.critics)
    return _differentiated(state, "actor", actor_loss(policy, critics, batch, agent.config))


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """A group: `policy_delay` updates of the critics, one of the actor; batch [delay, B]."""
    tau, seen = agent.config.tau, []
    for u in range(agent.config.policy_delay):  # D6
        row = Batch(*(x[u] for x in batch)), Noise(*(x[u] for x in noise))
        terms, grads = critic_gradients(agent, state, *row)
        norm = _apply(agent, state, grads)
        with torch.no_grad():
            torch._foreach_lerp_(state.target, state.params["critic"], tau)  # D6
        seen.append(torch.stack([*terms, norm]))
    terms, grads = actor_gradients(agent, state, *row)  # D5
    norm = _apply(agent, state, grads)
    return state, Metrics(*torch.stack(seen).mean(0).unbind(), *terms, norm)


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All groups of a round, on batches [U, B]; statistics then take the observations in."""
    data, delay, history = prepare(agent, state, batch), agent.config.policy_delay, []
    for group in zip(*(x.to(agent.dtype).split(delay) for x in (*data, *noise)), strict=True):
        rows = Batch(*group[: len(data)]), Noise(*group[len(data) :])
        history.append(agent.update(agent, state, *rows))
    if agent.config.normalize_obs:
        seen = batch.obs.to(agent.dtype).reshape(-1, agent.spec.observation_size)
        state = state._replace(obs_moments=ops.merge_stats(state.obs_moments, seen))  # D9
    return state, Metrics(*torch.stack(history).mean(0).unbind())


def named(agent: AgentDef, tree: dict[str, list[Array]]) -> dict[str, Array]:
    """Tensors in the order of the parameters, by optimizer -> canonical names, [in, out]."""
    pairs = (zip(agent.names[name], part, strict=True) for name, part in tree.items())
    return {k: x.T if x.ndim == 2 else x for part in pairs for k, x in part}


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names; copies."""
    mu, nu = ({k: getattr(x, m) for k, x in state.opt_state.items()} for m in ("mu", "nu"))
    trees = {"": state.params, "target/": {"critic": state.target}, "adam/mu/": mu, "adam/nu/": nu}
    out = {p + k: v for p, tree in trees.items() for k, v in named(agent, tree).items()}
    out.update({count: state.opt_state[name].count[0] for name, count in COUNTS.items()})
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.array(v.detach().cpu().numpy(), order="C") for k, v in out.items()}


@torch.no_grad()
def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""

    def tensor(name, dtype=agent.dtype):
        return torch.tensor(weights[name], dtype=dtype, device=agent.device)

    modules, unnamed = (agent.actor, *[agent.critic] * 4), partial(_unnamed, agent, weights)
    actor, *twins = (copy.deepcopy(x).to_empty(device=agent.device) for x in modules)
    critics, targets = tuple(twins[:2]), tuple(twins[2:])
    learnt, target = ([p for q in twins for p in q.parameters()] for twins in (critics, targets))
    params, adams = {"critic": learnt, "actor": list(actor.parameters())}, {}
    torch._foreach_copy_(target, unnamed("critic", "target/"))
    for name, count in COUNTS.items():
        torch._foreach_copy_(params[name], unnamed(name, ""))
        moving = (unnamed(name, f"adam/{k}/") for k in ("mu", "nu"))
        adams[name] = ops.Adam(*moving, [tensor(count, torch.int32)])
    moments = RunningStats(*(tensor(f"obs_moments/{k}") for k in RunningStats._fields))
    return State(actor, critics, targets, params, target, adams, moments)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = obs.to(agent.dtype)
    return ops.normalize(obs, state.obs_moments) if agent.config.normalize_obs else obs


def _policy(agent: AgentDef, network: Callable) -> Callable:
    visible, computing = agent.spec.visible_size, _computing(agent, network)
    return lambda obs: computing(obs[:, :visible])  # D9


def _critics(agent: AgentDef, networks: tuple) -> tuple[Callable, ...]:
    return tuple(_computing(agent, network) for network in networks)


def _computing(agent: AgentDef, network: Callable) -> Callable:
    """`network` in the type that networks compute in; its weights stay what they are."""
    return lambda *x: network(*(v.to(agent.network_dtype) for v in x)).to(agent.dtype)  # D10


def _apply(agent: AgentDef, state: State, grads: dict[str, list[Array]]) -> Array:
    ((name, tree),) = grads.items()
    return agent.optimizers[name](state.params[name], tree, state.opt_state[name])


def _differentiated(state: State, name: str, terms: Any) -> tuple[Any, dict[str, list[Array]]]:
    grads = torch.autograd.grad(terms.loss, state.params[name])
    return type(terms)(*(x.detach() for x in terms)), {name: list(grads)}


def _unnamed(agent: AgentDef, weights: Mapping, name: str, prefix: str) -> list[Array]:
    tree = [torch.tensor(weights[prefix + k], dtype=agent.dtype) for k in agent.names[name]]
    return [(x.T.contiguous() if x.ndim == 2 else x).to(agent.device) for x in tree]
