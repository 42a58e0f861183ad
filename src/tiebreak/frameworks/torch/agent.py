"""State, canonical names and updates in place, shared by all agents in PyTorch.

An agent file keeps what the algorithm is: losses, `act`, gradients, `update` and `step`. Functions
that change a state write into its modules and tensors and return it; only statistics are replaced.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from tiebreak.core.errors import UsageError
from tiebreak.core.off_policy import Batch
from tiebreak.core.ranks import Ranks
from tiebreak.core.seeding import derive
from tiebreak.core.types import Agent, Array, Build, EnvSpec, RunningStats
from tiebreak.frameworks.torch import ops
from tiebreak.frameworks.torch.own_network import OwnNetwork

Gradients = dict[str, list[Array]]
"""{optimizer: gradients in the order of the tensors that it trains}."""


class AgentDef(NamedTuple):
    """Facts of an agent that training does not change; `define` makes one."""

    spec: EnvSpec
    config: Any
    """The algorithm's Config."""
    dtype: torch.dtype
    """Type of weights, losses and updates: float32 or float64."""
    network_dtype: torch.dtype
    """Type that networks compute in: `dtype`, or bfloat16."""
    device: torch.device
    networks: dict[str, Any]
    """Modules without memory by canonical name; arrays, or dictionaries of arrays, for bare
    parameters."""
    names: dict[str, list[str]]
    """Canonical names of what each optimizer trains, in the order of `Parameters.tensors`."""
    scalars: frozenset[str]
    """Canonical names of trained scalars, which are stored as [1]: torch 2.13 compiled loses
    in-place changes of float64 scalars."""
    optimizers: dict[str, Callable[[list[Array], list[Array], ops.Adam], Array]]
    bounds: list[Array]
    """Lowest and highest action, [A] each; empty for discrete actions."""
    compiled: dict[str, Callable]
    """Functions compiled in the mode at hand, by name."""
    data: ModuleType
    """The algorithm's data.py: NETWORKS, COUNTS, TARGETS and STATISTICS."""
    ranks: Ranks
    """Processes that each learn from a part of every batch; they average their gradients."""


class Parameters(NamedTuple):
    """Modules that one optimizer trains, or their targets, and all of their tensors in one list.

    Optimizers and targets loop over the list: no update has to walk the modules.
    """

    networks: dict[str, nn.Module]
    tensors: list[Array]


class AgentState(NamedTuple):
    """Everything that training changes; dictionaries by optimizer, statistics by name."""

    params: dict[str, Parameters]
    target: dict[str, Parameters]
    """Slowly following copies of `params`, of those optimizers whose networks have targets."""
    opt_state: dict[str, ops.Adam]
    statistics: dict[str, Any]
    """RunningStats, or one tensor, by canonical name."""


def define(
    spec: EnvSpec,
    config: Any,
    build: Build,
    data: ModuleType,
    *,
    networks: dict[str, Any],
    optimizers: dict[str, Callable],
    compiled: Mapping[str, Callable],
) -> AgentDef:
    """Return the definition of an agent; see AgentDef for the arguments.

    `networks` may hold one module under several names. `compiled` has the functions to compile.
    """
    dtype, device = getattr(torch, build.dtype), torch.device(build.device)
    names: dict[str, list[str]] = {}
    for optimizer, trained in data.NETWORKS.items():
        names[optimizer] = []
        for name in trained:
            if name in networks:
                names[optimizer] += _parameter_names(name, networks[name])
    scalars = {name for name, array in networks.items() if getattr(array, "shape", None) == ()}
    return AgentDef(
        spec=spec,
        config=config,
        dtype=dtype,
        network_dtype=getattr(torch, build.network_dtype or build.dtype),
        device=device,
        networks=networks,
        names=names,
        scalars=frozenset(scalars),
        optimizers=optimizers,
        bounds=[torch.tensor(bound, dtype=dtype, device=device) for bound in spec.bounds],
        compiled={name: build.compile(function) for name, function in compiled.items()},
        data=data,
        ranks=build.ranks,
    )


def metrics_of(update: Callable) -> Callable[..., Array]:
    """Wrap an `update` for compilation: return only its metrics, as one tensor.

    The state is changed in place; a compiled program need not return it.
    """

    def call(agent: AgentDef, state: AgentState, batch: Batch, noise: Any) -> Array:
        _, metrics = update(agent, state, batch, noise)
        return torch.stack(metrics)

    return call


def network(agent: AgentDef, params: Parameters, name: str) -> Callable:
    """Return a network as a function of its inputs; `params` are its optimizer's."""
    module = params.networks[name]
    if agent.network_dtype == agent.dtype:
        return module

    def call(*inputs: Array) -> Any:
        # Weights stay in `agent.dtype`: the module casts them as they are used.
        out = module(*(x.to(agent.network_dtype) for x in inputs))
        return cast(out, agent.dtype) if isinstance(out, tuple) else out.to(agent.dtype)

    return call


def cast(tree: Any, dtype: torch.dtype) -> Any:
    """Return a NamedTuple of tensors with its floating-point numbers in `dtype`."""
    return type(tree)(*(x.to(dtype) if x.is_floating_point() else x for x in tree))


def take(tree: Any, index: int | slice) -> Any:
    """Return entry `index` (or entries, if it is a slice) of every tensor's leading axis."""
    return type(tree)(*(x[index] for x in tree))


def features(agent: AgentDef, state: AgentState, obs: Array) -> Array:
    """Return observations […, observation_size] in the working precision, normalized if set.

    Pixels that are not normalized are scaled to [0, 1].
    """
    obs = obs.to(agent.dtype)
    if agent.config.normalize_obs:
        obs = ops.normalize(obs, state.statistics["obs_moments"])
    elif agent.spec.pixels:
        obs = obs / 255.0
    return obs


@torch.no_grad()
def prepare(agent: AgentDef, state: AgentState, batch: Batch) -> Batch:
    """Return an off-policy batch in the working precision, with features for observations.

    Of several ranks each gets its part of the rows of every update.
    """
    batch = cast(agent.ranks.part(batch, axis=1), agent.dtype)
    obs = features(agent, state, batch.obs)
    next_obs = features(agent, state, batch.next_obs)
    return batch._replace(obs=obs, next_obs=next_obs)


def differentiate(terms: Any, state: AgentState, *names: str) -> tuple[Any, Gradients]:
    """Differentiate `terms.loss` in what the optimizers `names` train.

    Returns the terms without their graph, and the raw gradients by optimizer.
    """
    tensors = [tensor for name in names for tensor in state.params[name].tensors]
    flat = list(torch.autograd.grad(terms.loss, tensors))
    # Gradients of convolutions come with channels last; Adam's fused kernel takes for granted that
    # they lie in memory as their kernels do.
    flat = [grad.contiguous() if grad.ndim == 4 else grad for grad in flat]
    grads, start = {}, 0
    for name in names:
        end = start + len(state.params[name].tensors)
        grads[name] = flat[start:end]
        start = end
    return type(terms)(*(x.detach() for x in terms)), grads


def apply_gradients(
    agent: AgentDef, state: AgentState, name: str, grads: Gradients
) -> tuple[AgentState, Array]:
    """Take one step of an optimizer; return the state and the gradient norm before clipping."""
    optimizer, own = agent.optimizers[name], grads[name]
    if agent.ranks.count > 1:
        own = agent.ranks.mean(own)  # of parts of one size, so that it is the whole batch's
    norm = optimizer(state.params[name].tensors, own, state.opt_state[name])
    return state, norm


def update_count(agent: AgentDef, state: AgentState, name: str) -> Array:
    """Return how many updates an optimizer has made; int32 scalar."""
    del agent
    return state.opt_state[name].count[0]


@torch.no_grad()
def update_targets(agent: AgentDef, state: AgentState, name: str, tau: float) -> AgentState:
    """Move an optimizer's target networks by the share `tau` towards its networks."""
    del agent
    torch._foreach_lerp_(state.target[name].tensors, state.params[name].tensors, tau)
    return state


@torch.no_grad()
def copy_targets(agent: AgentDef, state: AgentState, name: str, period: int) -> AgentState:
    """Copy an optimizer's networks into its targets after every `period` of its updates."""
    due = update_count(agent, state, name) % period == 0
    ops.periodic_update(due, state.params[name].tensors, state.target[name].tensors)
    return state


@torch.no_grad()
def update_statistics(agent: AgentDef, state: AgentState, obs: Array) -> AgentState:
    """Take raw observations […, observation_size] into `obs_moments`, if these are used."""
    if not agent.config.normalize_obs:
        return state
    rows = obs.to(agent.dtype).reshape(-1, agent.spec.observation_size)
    moments = ops.merge_stats(state.statistics["obs_moments"], rows)
    return state._replace(statistics={**state.statistics, "obs_moments": moments})


def named(agent: AgentDef, tree: Mapping[str, list[Array]]) -> dict[str, Array]:
    """Return lists of tensors by optimizer under canonical names, in the canonical layout."""
    out: dict[str, Array] = {}
    for optimizer, tensors in tree.items():
        for name, tensor in zip(agent.names[optimizer], tensors, strict=True):
            out[name] = tensor[0] if name in agent.scalars else _canonical(tensor)
    return out


def dump(agent: AgentDef, state: AgentState) -> dict[str, np.ndarray]:
    """Copy everything in the state to NumPy, under canonical names."""
    trees = {
        "": {name: params.tensors for name, params in state.params.items()},
        "target/": {name: target.tensors for name, target in state.target.items()},
        "adam/mu/": {name: adam.mu for name, adam in state.opt_state.items()},
        "adam/nu/": {name: adam.nu for name, adam in state.opt_state.items()},
    }
    out: dict[str, Array] = {}
    for prefix, tree in trees.items():
        out.update({prefix + name: x for name, x in named(agent, tree).items()})
    for name, count in agent.data.COUNTS.items():
        out[count] = update_count(agent, state, name)
    for name, value in state.statistics.items():
        if isinstance(value, RunningStats):
            out.update({f"{name}/{field}": x for field, x in value._asdict().items()})
        else:
            out[name] = value
    return {name: np.array(x.detach().cpu().numpy(), order="C") for name, x in out.items()}


@torch.no_grad()
def load(agent: AgentDef, weights: Mapping[str, np.ndarray]) -> AgentState:
    """Make a state from the result of `dump`, whichever framework wrote it."""

    def tensor(name: str, dtype: torch.dtype = agent.dtype) -> Array:
        return torch.tensor(weights[name], dtype=dtype, device=agent.device)

    def statistic(name: str) -> Any:
        if name in weights:
            return tensor(name)
        return RunningStats(*(tensor(f"{name}/{field}") for field in RunningStats._fields))

    def adam(name: str, count: str) -> ops.Adam:
        return ops.Adam(
            mu=_read(agent, weights, name, "adam/mu/"),
            nu=_read(agent, weights, name, "adam/nu/"),
            count=[tensor(count, torch.int32)],
        )

    return AgentState(
        params={name: _load_parameters(agent, weights, name, "") for name in agent.names},
        target={
            name: _load_parameters(agent, weights, name, "target/") for name in agent.data.TARGETS
        },
        opt_state={name: adam(name, count) for name, count in agent.data.COUNTS.items()},
        statistics={name: statistic(name) for name in agent.data.STATISTICS},
    )


def make_agent(agent: AgentDef, initial_weights: Callable, act: Callable, step: Callable) -> Agent:
    """Return the five functions of the contract, bound to `agent`.

    `initial_weights`: (spec, config, seed) -> canonical weights of a new agent.
    """

    def init(seed: int) -> AgentState:
        weights = initial_weights(agent.spec, agent.config, seed)
        return load(agent, {**weights, **_own_weights(agent, seed)})

    return Agent(
        init=init,
        act=partial(act, agent),
        step=partial(step, agent),
        dump=partial(dump, agent),
        load=partial(load, agent),
    )


def _own_weights(agent: AgentDef, seed: int) -> dict[str, np.ndarray]:
    """Return initial weights, moments and targets of networks of the user's own, by name."""
    out: dict[str, np.ndarray] = {}
    for optimizer, names in agent.data.NETWORKS.items():
        own: dict[str, np.ndarray] = {}
        for name in names:
            torso = getattr(agent.networks.get(name), "torso", None)
            if isinstance(torso, OwnNetwork):
                arrays = [_canonical(x).numpy() for x in torso.initial(derive(seed, name))]
                own.update(zip(torso.names(name), arrays, strict=True))
        out |= own
        out |= {f"adam/mu/{name}": np.zeros_like(array) for name, array in own.items()}
        out |= {f"adam/nu/{name}": np.zeros_like(array) for name, array in own.items()}
        if optimizer in agent.data.TARGETS:
            out |= {f"target/{name}": array for name, array in own.items()}
    return out


def _canonical(tensor: Array) -> Array:
    """Return a kernel in the canonical layout: torch's are [out, in] and [out, in, height, width].

    Anything else is returned as it is.
    """
    if tensor.ndim == 4:
        return tensor.permute(2, 3, 1, 0)
    return tensor.T if tensor.ndim == 2 else tensor


def _parameter_names(name: str, network: Any) -> list[str]:
    """Return the canonical names of a network's tensors, in the order of its parameters."""
    if isinstance(network, nn.Module):
        return network.names(name)
    if isinstance(network, Mapping):
        return [f"{name}/{key}" for key in network]
    return [name]


def _read(
    agent: AgentDef, weights: Mapping[str, np.ndarray], optimizer: str, prefix: str
) -> list[Array]:
    """Return an optimizer's canonical arrays as tensors in torch's layout, on the device."""
    tensors = []
    for name in agent.names[optimizer]:
        if prefix + name not in weights:
            raise UsageError(f"the weights lack {prefix + name!r}, which the network has")
        tensor = torch.tensor(weights[prefix + name], dtype=agent.dtype)
        if tensor.ndim == 2:
            tensor = tensor.T.contiguous()
        elif tensor.ndim == 4:
            tensor = tensor.permute(3, 2, 0, 1).contiguous()
        elif name in agent.scalars:
            tensor = tensor.view(1)
        tensors.append(tensor.to(agent.device))
    return tensors


def _load_parameters(
    agent: AgentDef, weights: Mapping[str, np.ndarray], optimizer: str, prefix: str
) -> Parameters:
    """Return new modules, or bare parameters, with the weights that stand under `prefix`."""
    values = _read(agent, weights, optimizer, prefix)
    networks: dict[str, nn.Module] = {}
    for name in agent.data.NETWORKS[optimizer]:
        module = agent.networks.get(name)
        if isinstance(module, nn.Module):
            new_module: nn.Module = copy.deepcopy(module)
            networks[name] = new_module.to_empty(device=agent.device)
    if not networks:
        return Parameters(networks, [nn.Parameter(value) for value in values])

    tensors = [tensor for module in networks.values() for tensor in module.parameters()]
    torch._foreach_copy_(tensors, values)
    return Parameters(networks, tensors)
