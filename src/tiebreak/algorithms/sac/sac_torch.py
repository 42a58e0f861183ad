"""SAC in PyTorch; README.md is the spec."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from tiebreak.algorithms.sac.config import Config
from tiebreak.algorithms.sac.data import (
    COUNTS,
    CRITICS,
    ActorTerms,
    AlphaTerms,
    CriticTerms,
    Metrics,
    Noise,
    initial_weights,
    make_optimizers,
)
from tiebreak.core.off_policy import Act, Batch
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.torch import ops
from tiebreak.frameworks.torch.networks import Critic, SquashedPolicy


def critic_target(
    policy: Callable, targets: tuple, log_alpha: Array, batch: Batch, noise: Noise
) -> Array:
    """What both critics are moved towards; [B]."""
    with torch.no_grad():
        action, log_prob = policy(batch.next_obs).sample_log_prob(noise.next_action)  # D1
        q1, q2 = (q(batch.next_obs, action) for q in targets)
        soft_value = torch.minimum(q1, q2) - log_alpha.exp() * log_prob  # D4 D6
        return batch.reward + batch.discount * soft_value


def critic_loss(critics: tuple, batch: Batch, target: Array) -> CriticTerms:
    """Both critics' mean squared temporal-difference errors, summed; target [B]."""
    q1, q2 = (q(batch.obs, batch.action) for q in critics)
    loss = torch.square(q1 - target).mean() + torch.square(q2 - target).mean()  # D4
    return CriticTerms(loss, q1.mean(), q2.mean(), target.mean())


def actor_loss(
    policy: Callable, critics: tuple, log_alpha: Array, batch: Batch, noise: Noise
) -> ActorTerms:
    """Minus the soft value, mean of Q − α·log π, of the policy's own actions."""
    action, log_prob = policy(batch.obs).sample_log_prob(noise.action)  # D1
    q1, q2 = (q(batch.obs, action) for q in critics)
    q = torch.minimum(q1, q2)  # D5
    loss = (log_alpha.exp() * log_prob - q).mean()  # D6
    return ActorTerms(loss, q.mean(), -log_prob.mean())


def alpha_loss(
    policy: Callable, log_alpha: Array, batch: Batch, noise: Noise, config: Config
) -> AlphaTerms:
    """Raises α while the policy's entropy is below its target, and lowers it above."""
    with torch.no_grad():
        _, log_prob = policy(batch.obs).sample_log_prob(noise.action)
        target_entropy = -config.target_entropy_scale * noise.action.shape[-1]  # D6
        missing = log_prob.mean() + target_entropy
    return AlphaTerms(-log_alpha * missing, log_alpha.exp())  # D6


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: torch.dtype
    device: torch.device
    actor: SquashedPolicy
    critic: Critic
    names: dict[str, list[str]]
    optimizers: dict[str, Callable[[list[Array], list[Array], ops.Adam], Array]]
    bounds: list[Array]
    update: Callable


class State(NamedTuple):
    """What training changes: tensors in lists and modules in place. Dictionaries by optimizer."""

    actor: SquashedPolicy
    critics: tuple[Critic, ...]
    targets: tuple[Critic, ...]
    params: dict[str, list[Array]]
    """log_alpha as [1]: torch 2.13 compiled loses changes in place to scalars in float64."""
    target_params: list[Array]
    opt_state: dict[str, ops.Adam]
    obs_moments: RunningStats


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Networks (without memory) and optimizers for a spec; what an update compiles."""

    def one(agent, state, data, noise):
        return torch.stack(update(agent, state, data, noise)[1])

    dtype, device = getattr(torch, build.dtype), torch.device(build.device)
    shape = spec, config.hidden_sizes, config.activation
    actor, critic = SquashedPolicy(*shape, config.log_std_range, dtype), Critic(*shape, dtype)
    critics = [name for prefix in CRITICS for name in critic.names(prefix)]
    names = {"critic": critics, "actor": actor.names("actor"), "alpha": ["log_alpha"]}
    optimizers = make_optimizers(config, ops.make_optimizer)  # D8
    bounds = [torch.tensor(b, dtype=dtype, device=device) for b in spec.bounds]
    parts = actor, critic, names, optimizers, bounds
    return AgentDef(spec, config, dtype, device, *parts, build.compile(one))


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D10)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D10


@torch.no_grad()
def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] -> Act; zero noise is greedy."""
    obs = _features(agent, state, obs.reshape(len(obs), -1))
    raw = state.actor(obs).sample(noise.to(agent.dtype))  # D1
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
    target = critic_target(state.actor, state.targets, state.params["alpha"][0][0], batch, noise)
    terms = critic_loss(state.critics, batch, target)
    return _differentiated(state, "critic", terms)


def actor_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[ActorTerms, dict[str, list[Array]]]:
    """Loss terms and the actor's raw gradient; a batch of features, without axis U."""
    terms = actor_loss(state.actor, state.critics, state.params["alpha"][0][0], batch, noise)
    return _differentiated(state, "actor", terms)


def alpha_gradients(
    agent: AgentDef, state: State, batch: Batch, noise: Noise
) -> tuple[AlphaTerms, dict[str, list[Array]]]:
    """Loss terms and the raw gradient in log α; a batch of features, without axis U."""
    terms = alpha_loss(state.actor, state.params["alpha"][0][0], batch, noise, agent.config)
    return _differentiated(state, "alpha", terms)


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """Critics, actor, α, targets, in this order: each sees what those before have become."""
    critic, grads = critic_gradients(agent, state, batch, noise)  # D7
    critic_norm = _apply(agent, state, grads)
    actor, grads = actor_gradients(agent, state, batch, noise)
    actor_norm = _apply(agent, state, grads)
    alpha, grads = alpha_gradients(agent, state, batch, noise)
    _apply(agent, state, grads)
    with torch.no_grad():
        torch._foreach_lerp_(state.target_params, state.params["critic"], agent.config.tau)  # D9
    return state, Metrics(*critic, *actor, *alpha, critic_norm, actor_norm)


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All updates of a round, on batches [U, B]; statistics then take the observations in."""
    data, noise = prepare(agent, state, batch), Noise(*(x.to(agent.dtype) for x in noise))
    rows = zip(zip(*data, strict=True), zip(*noise, strict=True), strict=True)
    metrics = [agent.update(agent, state, Batch(*row), Noise(*draw)) for row, draw in rows]
    if agent.config.normalize_obs:
        seen = batch.obs.to(agent.dtype).reshape(-1, agent.spec.observation_size)
        state = state._replace(obs_moments=ops.merge_stats(state.obs_moments, seen))  # D11
    return state, Metrics(*torch.stack(metrics).mean(0).unbind())


def named(agent: AgentDef, tree: dict[str, list[Array]]) -> dict[str, Array]:
    """Tensors in the order of the parameters, by optimizer -> canonical names, [in, out]."""
    pairs = (zip(agent.names[name], part, strict=True) for name, part in tree.items())
    out = {k: x.T if x.ndim == 2 else x for part in pairs for k, x in part}
    return {k: x[0] if k == "log_alpha" else x for k, x in out.items()}


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names; copies."""
    mu, nu = ({k: getattr(x, m) for k, x in state.opt_state.items()} for m in ("mu", "nu"))
    target = {"critic": state.target_params}
    trees = {"": state.params, "target/": target, "adam/mu/": mu, "adam/nu/": nu}
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
    alpha, adams = [torch.nn.Parameter(tensor("log_alpha")[None])], {}
    params = {"critic": learnt, "actor": list(actor.parameters()), "alpha": alpha}
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


def _apply(agent: AgentDef, state: State, grads: dict[str, list[Array]]) -> Array:
    """A step of the one optimizer that `grads` is for; the norm before clipping."""
    ((name, tree),) = grads.items()
    return agent.optimizers[name](state.params[name], tree, state.opt_state[name])


def _differentiated(state: State, name: str, terms: Any) -> tuple[Any, dict[str, list[Array]]]:
    grads = torch.autograd.grad(terms.loss, state.params[name])
    return type(terms)(*(x.detach() for x in terms)), {name: list(grads)}


def _unnamed(agent: AgentDef, weights: Mapping, name: str, prefix: str) -> list[Array]:
    tree = [torch.tensor(weights[prefix + k], dtype=agent.dtype) for k in agent.names[name]]
    return [(x.T.contiguous() if x.ndim == 2 else x.view(-1)).to(agent.device) for x in tree]
