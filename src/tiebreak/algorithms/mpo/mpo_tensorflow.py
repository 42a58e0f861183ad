"""MPO in TensorFlow; README.md is the spec. A state is made of variables, written in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import tensorflow as tf

from tiebreak.algorithms.mpo import data
from tiebreak.algorithms.mpo import dual_tensorflow as duals
from tiebreak.algorithms.mpo.config import Config
from tiebreak.algorithms.mpo.data import (
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
from tiebreak.core.errors import UsageError
from tiebreak.core.types import Agent, Array, Build, EnvSpec
from tiebreak.frameworks.tensorflow import agent as plumbing
from tiebreak.frameworks.tensorflow import ops
from tiebreak.frameworks.tensorflow.agent import (
    AgentDef,
    AgentState,
    apply_gradients,
    cast,
    copy_targets,
    cut,
    differentiate,
    features,
    network,
    prepare,
    take,
    update_statistics,
)
from tiebreak.frameworks.tensorflow.networks import Critic, ScaledPolicy
from tiebreak.frameworks.tensorflow.ops import Gaussian


def draw_samples(policy: Callable, critics: Sequence, next_obs: Array, noise: Array) -> Samples:
    """Draw actions of the target policy and their values to the target critics; noise [S, B, A]."""
    distribution = policy(next_obs)
    action = distribution.sample(noise)

    # Critics take two axes: fold S and B into one.
    obs = tf.broadcast_to(next_obs, (*noise.shape[:2], next_obs.shape[-1]))
    obs = tf.reshape(obs, (-1, obs.shape[-1]))
    clipped = tf.clip_by_value(action, -1.0, 1.0)  # D1
    clipped = tf.reshape(clipped, (-1, clipped.shape[-1]))

    value = reduce(tf.minimum, [critic(obs, clipped) for critic in critics])  # D2
    return Samples(policy=distribution, action=action, value=tf.reshape(value, noise.shape[:2]))


def objectives(samples: Samples, config: Config) -> Array:
    """Return what the samples are reweighted by, [M, S, B]: Q, and minus the excess of actions."""
    if not config.epsilon_penalty:
        return samples.value[None]
    excess = samples.action - tf.clip_by_value(samples.action, -1.0, 1.0)
    penalty = -tf.sqrt(tf.reduce_sum(tf.square(excess), axis=-1))
    return tf.stack([samples.value, penalty])  # D5


def critic_loss(critics: Sequence[Callable], batch: Batch, target: Array) -> tuple[Array, Array]:
    """Sum half the mean squared errors over critics; also return the mean Q of the first."""
    values = [critic(batch.obs, batch.action) for critic in critics]
    loss = sum(0.5 * tf.reduce_mean(tf.square(q - target)) for q in values)  # D3
    return loss, tf.reduce_mean(values[0])


def policy_loss(policy: Gaussian, samples: Samples, weights: Array) -> Array:
    """Return the cross-entropy to samples of weights [S, B], of mean and std separately."""
    old = samples.policy
    new_mean = Gaussian(policy.mean, old.log_std)  # D6
    new_std = Gaussian(old.mean, policy.log_std)
    log_prob = new_mean.log_prob(samples.action) + new_std.log_prob(samples.action)
    return -tf.reduce_mean(tf.reduce_sum(weights * log_prob, axis=0))


def mpo_loss(
    policy: Callable, critics: Sequence[Callable], dual: Mapping[str, Array], samples: Samples,
    batch: Batch, config: Config,
) -> LossTerms:  # fmt: skip
    """Return all losses; the gradient of each is in its own networks only."""
    hold, mean = tf.stop_gradient, tf.reduce_mean
    target = batch.reward + batch.discount * mean(samples.value, axis=0)  # D2
    critic, q = critic_loss(critics, batch, target)

    # E-step: reweight the samples.
    values = objectives(samples, config)
    temperature = _temperature(dual, values, config)
    tempered = duals.tempered(values, temperature)

    # M-step: fit the policy to them, within bounds on its divergence from the target policy.
    new = policy(batch.next_obs)
    weights = tf.reduce_sum(hold(tempered.weights), axis=0)
    actor = policy_loss(new, samples, weights)  # D5
    multipliers = duals.temperature_loss(temperature, tempered, config.epsilons)  # D4
    kl_mean, kl_std = duals.divergences(new, samples.policy)  # D6
    for name, kl, bound in (
        ("log_alpha_mean", kl_mean, config.epsilon_mean),
        ("log_alpha_std", kl_std, config.epsilon_std),
    ):
        alpha = duals.positive(dual[name])  # D8
        actor += tf.reduce_sum(hold(alpha) * kl)
        multipliers += tf.reduce_sum(alpha * (bound - hold(kl)))

    return LossTerms(
        loss=critic + actor + multipliers,
        critic_loss=critic,
        policy_loss=actor,
        dual_loss=multipliers,
        q=q,
        target=mean(target),
        temperature=temperature[0],
        kl_q=hold(tempered.kl)[0],
        kl_mean=mean(kl_mean),
        kl_std=mean(kl_std),
    )


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make networks and optimizers for a spec, without weights."""
    if config.dual == "slsqp" and not build.host_calls:
        raise UsageError(
            "dual is 'slsqp', which calls SciPy in every update; a program of mode 'xla' cannot "
            "(valid there: 'newton', which finds the same minimum, and 'gradient'); "
            "use --set dual=newton, or --mode function"
        )
    networks = {name: Critic(name, spec, config.critic_layers) for name in config.critics}
    networks["actor"] = ScaledPolicy("actor", spec, config.actor_layers, config.init_std)
    layouts = plumbing.layouts_of(networks, data.NETWORKS)
    dual = initial_dual(spec, config)
    layouts["dual"] = {f"dual/{name}": value.shape for name, value in dual.items()}
    return AgentDef(
        spec=spec,
        config=config,
        dtype=build.dtype,
        network_dtype=build.dtype,
        networks=networks,
        optimizers=make_optimizers(config, ops.make_optimizer),  # D9
        layouts=layouts,
        data=data,
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, A]; zero noise is greedy."""
    obs = features(agent, state, tf.reshape(obs, (obs.shape[0], -1)))
    distribution = _policy(agent, state.params["actor"])(obs)
    sample = distribution.sample(tf.cast(noise, agent.dtype))
    raw = tf.clip_by_value(sample, -1.0, 1.0)  # D1

    low, high = (tf.constant(bound, agent.dtype) for bound in agent.spec.bounds)
    return Act(action=ops.rescale_action(raw, low, high), raw_action=raw)


def gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[LossTerms, dict[str, Array]]:
    """Return terms and raw gradients of all losses; batch [B] of features."""
    policy = _policy(agent, state.target["actor"])
    critics = _critics(agent, state.target["critic"])
    samples = draw_samples(policy, critics, batch.next_obs, noise.action)

    def loss(actor: Array, critic: Array, dual: Array) -> LossTerms:
        return mpo_loss(
            policy=_policy(agent, actor),
            critics=_critics(agent, critic),
            dual=_dual(agent, dual),
            samples=samples,
            batch=batch,
            config=agent.config,
        )

    return differentiate(loss, state, "actor", "critic", "dual")


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Take a step of each optimizer, and copy weights into the target networks when it is due."""
    terms, grads = gradients(agent, state, batch, noise)
    state, actor_norm = apply_gradients(agent, state, "actor", grads)
    state, critic_norm = apply_gradients(agent, state, "critic", grads)
    state, _ = apply_gradients(agent, state, "dual", grads)

    dual = state.params["dual"]
    dual.assign(tf.maximum(dual, LEAST_LOG))  # D8
    state = copy_targets(agent, state, "actor", agent.config.target_period)  # D10
    state = copy_targets(agent, state, "critic", agent.config.target_period)
    return state, Metrics(*terms, actor_grad_norm=actor_norm, critic_grad_norm=critic_norm)


def step(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run all updates of a round on batches [U, B]; then update observation statistics."""
    rows = prepare(agent, state, batch), cast(noise, agent.dtype)

    def body(u: Array) -> Array:
        _, metrics = update(agent, state, *take(rows, u))
        return tf.stack(metrics)

    indices = tf.range(agent.config.num_updates)
    metrics = ops.scan(body, indices, len(Metrics._fields), agent.dtype)
    state = update_statistics(agent, state, batch.obs)  # D7
    return state, Metrics(*tf.unstack(metrics))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D11


def _policy(agent: AgentDef, flat: Array) -> Callable:
    """Return the policy: features [B, …] -> Gaussian."""
    return network(agent, cut(agent, "actor", flat), "actor")


def _critics(agent: AgentDef, flat: Array) -> tuple[Callable, ...]:
    """Return one or two critics: features [B, …], actions [B, A] -> values [B]."""
    params = cut(agent, "critic", flat)
    return tuple(network(agent, params, name) for name in agent.config.critics)


def _dual(agent: AgentDef, flat: Array) -> dict[str, Array]:
    """Return the dual variables before softplus, by name without the prefix `dual/`."""
    params = cut(agent, "dual", flat)
    return {name: params[f"dual/{name}"] for name in agent.config.dual_names}


def _temperature(dual: Mapping[str, Array], values: Array, config: Config) -> Array:
    """Return the temperatures [M]: trained, or those that solve the dual problems exactly."""
    if config.dual == "gradient":
        return duals.positive(dual["log_temperature"])  # D8
    solve = {"newton": duals.newton, "slsqp": duals.slsqp}[config.dual]
    return solve(values, config.epsilons)  # D4
