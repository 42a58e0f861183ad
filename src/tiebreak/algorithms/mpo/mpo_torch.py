"""MPO in PyTorch; README.md is the spec."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import NamedTuple

import numpy as np
import torch

from tiebreak.algorithms.mpo import dual_torch as duals
from tiebreak.algorithms.mpo.config import Config
from tiebreak.algorithms.mpo.data import (
    Act,
    Batch,
    LossTerms,
    Metrics,
    Noise,
    Samples,
    initial_weights,
)
from tiebreak.algorithms.mpo.dual_scipy import LEAST_LOG
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.torch import ops
from tiebreak.frameworks.torch.networks import LayerNormCritic, LayerNormPolicy
from tiebreak.frameworks.torch.ops import Gaussian


@torch.no_grad()
def draw_samples(policy: Callable, critics: Sequence, next_obs: Array, noise: Array) -> Samples:
    """Actions of the target policy and what the target critics say; noise [S, B, A]."""
    distribution = policy(next_obs)
    action = distribution.sample(noise)
    obs = next_obs.expand(len(noise), -1, -1)
    obs, clipped = (x.reshape(-1, x.shape[-1]) for x in (obs, action.clamp(-1.0, 1.0)))  # D1
    value = reduce(torch.minimum, [critic(obs, clipped) for critic in critics])  # D2
    return Samples(distribution, action, value.reshape(noise.shape[:2]))


def objectives(samples: Samples, config: Config) -> Array:
    """What the samples are reweighted by: Q, and minus the way out of bounds; [M, S, B]."""
    if not config.epsilon_penalty:
        return samples.value[None]
    outside = samples.action - samples.action.clamp(-1.0, 1.0)
    return torch.stack([samples.value, -torch.sqrt(torch.square(outside).sum(-1))])  # D5


def critic_loss(critics: Sequence[Callable], batch: Batch, target: Array) -> tuple[Array, Array]:
    """Half the mean squared errors, summed over critics; Q of the first. target [B]."""
    values = [critic(batch.obs, batch.action) for critic in critics]
    return sum(0.5 * torch.square(q - target).mean() for q in values), values[0].mean()  # D3


def policy_loss(policy: Gaussian, samples: Samples, weights: Array) -> Array:
    """Cross-entropy to the weighted samples, of the mean and of the std apart; weights [S, B]."""
    old = samples.policy
    parts = Gaussian(policy.mean, old.log_std), Gaussian(old.mean, policy.log_std)  # D6
    log_prob = sum(part.log_prob(samples.action) for part in parts)
    return -(weights * log_prob).sum(0).mean()


def mpo_loss(
    policy: Callable, critics: Sequence[Callable], dual: Mapping[str, Array], samples: Samples,
    batch: Batch, config: Config,
) -> LossTerms:  # fmt: skip
    """All losses; each one's gradient is in its own networks only."""
    target = batch.reward + batch.discount * samples.value.mean(0)  # D2
    critic, q = critic_loss(critics, batch, target)
    values = objectives(samples, config)
    if config.dual == "gradient":
        temperature = duals.positive(dual["log_temperature"])  # D8
    else:
        temperature = getattr(duals, config.dual)(values, config.epsilons)  # D4
    tempered = duals.tempered(values, temperature)
    new = policy(batch.next_obs)
    actor = policy_loss(new, samples, tempered.weights.detach().sum(0))  # D5
    multipliers = duals.temperature_loss(temperature, tempered, config.epsilons)  # D4
    kls = duals.divergences(new, samples.policy)  # D6
    for part, kl in zip(("mean", "std"), kls, strict=True):
        alpha = duals.positive(dual[f"log_alpha_{part}"])  # D8
        actor = actor + (alpha.detach() * kl).sum()
        bound = getattr(config, f"epsilon_{part}")
        multipliers = multipliers + (alpha * (bound - kl.detach())).sum()
    seen = target.mean(), temperature[0], tempered.kl[0], *(kl.mean() for kl in kls)
    return LossTerms(critic + actor + multipliers, critic, actor, multipliers, q, *seen)


class AgentDef(NamedTuple):
    """What never changes during training."""

    spec: EnvSpec
    config: Config
    dtype: torch.dtype
    device: torch.device
    networks: dict[str, LayerNormPolicy | LayerNormCritic]
    names: dict[str, list[str]]
    optimizers: dict[str, Callable[[list[Array], list[Array], ops.Adam], Array]]
    bounds: list[Array]
    update: Callable


class State(NamedTuple):
    """What training changes: tensors in lists and modules in place, the others by new ones."""

    networks: dict[str, LayerNormPolicy | LayerNormCritic]
    target_networks: dict[str, LayerNormPolicy | LayerNormCritic]
    params: dict[str, list[Array]]
    target: dict[str, list[Array]]
    opt_states: dict[str, ops.Adam]
    obs_moments: RunningStats


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Networks (without memory) and optimizers for a spec; what an update compiles."""

    def one(agent, state, data, noise):
        return torch.stack(update(agent, state, data, noise)[1])

    dtype, device = getattr(torch, build.dtype), torch.device(build.device)
    networks = {"actor": LayerNormPolicy(spec, config.hidden_sizes, config.init_std, dtype)}
    for name in config.critics:
        networks[name] = LayerNormCritic(spec, config.critic_sizes, dtype)
    names = {g: [n for k in config.groups[g] for n in networks[k].names(k)] for g in config.targets}
    names["dual"] = [f"dual/{k}" for k in config.dual_names]
    optimizers = {
        group: ops.make_optimizer(config.optimizer, lambda count, r=rate: r, config.adam_eps, clip)
        for group, (rate, clip) in config.rates.items()
    }  # D9
    box = [torch.tensor(b, dtype=dtype, device=device) for b in spec.bounds]
    return AgentDef(
        spec, config, dtype, device, networks, names, optimizers, box, build.compile(one)
    )


def init(agent: AgentDef, seed: int) -> State:
    """A new state with the canonical initial weights (D11)."""
    return load(agent, initial_weights(agent.spec, agent.config, seed))  # D11


@torch.no_grad()
def act(agent: AgentDef, state: State, obs: Array, noise: Array) -> Act:
    """obs [N, *obs], noise [N, A] -> Act; zero noise is greedy."""
    policy = state.networks["actor"](_features(agent, state, obs.reshape(len(obs), -1)))
    raw = policy.sample(noise.to(agent.dtype)).clamp(-1.0, 1.0)  # D1
    return Act(ops.rescale_action(raw, *agent.bounds), raw)


@torch.no_grad()
def prepare(agent: AgentDef, state: State, batch: Batch) -> Batch:
    """The batch in the working precision, with features for observations."""
    obs, next_obs = (_features(agent, state, x) for x in (batch.obs, batch.next_obs))
    others = batch.action, batch.reward, batch.discount
    return Batch(obs, *(x.to(agent.dtype) for x in others), next_obs)


def gradients(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[LossTerms, dict]:
    """Loss terms and the raw gradient in all weights; a batch of features, without axis U."""
    policy, *critics = state.target_networks.values()
    samples = draw_samples(policy, critics, batch.next_obs, noise.action.to(agent.dtype))
    policy, *critics = state.networks.values()
    dual = dict(zip(agent.config.dual_names, state.params["dual"], strict=True))
    terms = mpo_loss(policy, critics, dual, samples, batch, agent.config)
    flat = iter(torch.autograd.grad(terms.loss, [x for p in state.params.values() for x in p]))
    grads = {group: [next(flat) for _ in names] for group, names in state.params.items()}
    return LossTerms(*(x.detach() for x in terms)), grads


def update(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """One step of each optimizer, and the copies into the target networks when they are due."""
    terms, grads = gradients(agent, state, batch, noise)
    norms = {
        group: optimizer(state.params[group], grads[group], state.opt_states[group])
        for group, optimizer in agent.optimizers.items()
    }
    with torch.no_grad():
        torch._foreach_clamp_min_(state.params["dual"], LEAST_LOG)  # D8
        count = state.opt_states["critic"].count[0]
        due = count % agent.config.target_period == 0  # D10
        for group, old in state.target.items():
            ops.periodic_update(due, state.params[group], old)
    return state, Metrics(*terms, norms["actor"], norms["critic"])


def step(agent: AgentDef, state: State, batch: Batch, noise: Noise) -> tuple[State, Metrics]:
    """All updates of a round, on batches [U, B]; statistics then take the observations in."""
    data = prepare(agent, state, batch)
    rows = [
        (Batch(*(x[u] for x in data)), Noise(*(x[u] for x in noise)))
        for u in range(agent.config.num_updates)
    ]
    metrics = torch.stack([agent.update(agent, state, *row) for row in rows])
    if agent.config.normalize_obs:
        seen = batch.obs.to(agent.dtype).reshape(-1, agent.spec.observation_size)
        state = state._replace(obs_moments=ops.merge_stats(state.obs_moments, seen))  # D7
    return state, Metrics(*metrics.mean(0).unbind())


def named(agent: AgentDef, tree: dict[str, list[Array]]) -> dict[str, Array]:
    """What each optimizer's part of the weights is shaped like -> canonical names and layout."""
    pairs = (pair for group in tree for pair in zip(agent.names[group], tree[group], strict=True))
    return {k: x.T if x.ndim == 2 else x for k, x in pairs}


def dump(agent: AgentDef, state: State) -> dict[str, np.ndarray]:
    """Everything in the state, under canonical names; copies."""
    adams = state.opt_states.items()
    trees = {"": state.params, "target/": state.target}
    trees.update({f"adam/{k}/": {g: getattr(x, k) for g, x in adams} for k in ("mu", "nu")})
    out = {prefix + k: v for prefix, t in trees.items() for k, v in named(agent, t).items()}
    out["adam/count"] = state.opt_states["critic"].count[0]
    out.update({f"obs_moments/{k}": v for k, v in state.obs_moments._asdict().items()})
    return {k: np.array(v.detach().cpu().numpy(), order="C") for k, v in out.items()}


def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> State:
    """What `dump` wrote, in any framework -> state."""

    def tensor(name, dtype=agent.dtype):
        return torch.tensor(weights[name], dtype=dtype, device=agent.device)

    networks, targets = (
        {k: copy.deepcopy(x).to_empty(device=agent.device) for k, x in agent.networks.items()}
        for _ in range(2)
    )
    params, target = (_parameters(agent, x) for x in (networks, targets))
    with torch.no_grad():
        for group in target:
            torch._foreach_copy_(params[group], _unnamed(agent, weights, "", group))
            torch._foreach_copy_(target[group], _unnamed(agent, weights, "target/", group))
    params["dual"] = [x.requires_grad_() for x in _unnamed(agent, weights, "", "dual")]
    opt_states = {}
    for group in params:
        moving = (_unnamed(agent, weights, f"adam/{k}/", group) for k in ("mu", "nu"))
        opt_states[group] = ops.Adam(*moving, [tensor("adam/count", torch.int32)])
    moments = RunningStats(*(tensor(f"obs_moments/{k}") for k in RunningStats._fields))
    return State(networks, targets, params, target, opt_states, moments)


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """The five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return Agent(*(partial(fn, agent) for fn in (init, act, step, dump, load)))


def _features(agent: AgentDef, state: State, obs: Array) -> Array:
    obs = obs.to(agent.dtype)
    return ops.normalize(obs, state.obs_moments) if agent.config.normalize_obs else obs


def _parameters(agent: AgentDef, networks: Mapping) -> dict[str, list[Array]]:
    """Optimizer -> the parameters of its networks."""
    groups = ((g, agent.config.groups[g]) for g in agent.config.targets)
    return {g: [p for k in found for p in networks[k].parameters()] for g, found in groups}


def _unnamed(agent: AgentDef, weights: Mapping, prefix: str, group: str) -> list[Array]:
    tree = [torch.tensor(weights[prefix + k], dtype=agent.dtype) for k in agent.names[group]]
    return [(x.T.contiguous() if x.ndim == 2 else x).to(agent.device) for x in tree]
