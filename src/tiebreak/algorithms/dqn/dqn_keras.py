"""DQN in Keras; README.md is the spec."""

# Keras's functions have no annotations, and pyright infers that symbolic calls return None.
# pyright: reportOptionalOperand=false, reportOptionalSubscript=false
# pyright: reportOptionalIterable=false, reportOptionalMemberAccess=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from tiebreak.algorithms.dqn import data
from tiebreak.algorithms.dqn.config import Config
from tiebreak.algorithms.dqn.data import (
    Act,
    Batch,
    LossTerms,
    Metrics,
    Noise,
    initial_weights,
    make_optimizers,
)
from tiebreak.core.types import Agent, Array, Build, EnvSpec
from tiebreak.frameworks.keras import agent as plumbing
from tiebreak.frameworks.keras import ops
from tiebreak.frameworks.keras.agent import (
    AgentDef,
    AgentState,
    apply_gradients,
    copy_targets,
    differentiate,
    features,
    of_row,
    prepare,
    update_count,
    update_statistics,
    widest,
)
from tiebreak.frameworks.keras.networks import ActionValues


def expected_values(outputs: Array, config: Config) -> Array:
    """Return action values [B, A]: a network's outputs, or the means of its distributions."""
    if config.num_atoms == 1:
        return outputs
    probs = keras.ops.softmax(outputs)
    return keras.ops.sum(probs * ops.atoms(*config.span, outputs), axis=-1)  # D8


def dqn_target(q: Callable, target_q: Callable, batch: Batch, config: Config) -> Array:
    """Return the value [B], or distribution [B, K], that Q is moved towards by the target network.

    It is the reward plus the discounted value of the best next action.
    """
    next_q = target_q(batch.next_obs)
    choosing_q = q(batch.next_obs) if config.double_q else next_q  # D3
    best = keras.ops.argmax(expected_values(choosing_q, config), axis=-1)
    if config.num_atoms > 1:
        logits = keras.ops.take_along_axis(next_q, best[:, None, None], axis=1)[:, 0]
        return keras.ops.stop_gradient(shifted_distribution(logits, batch, config))  # D8
    next_value = keras.ops.take_along_axis(next_q, best[:, None], axis=-1)[:, 0]
    return keras.ops.stop_gradient(batch.reward + batch.discount * next_value)


def shifted_distribution(logits: Array, batch: Batch, config: Config) -> Array:
    """Return the distribution of reward plus discounted return, on the atoms; logits [B, K]."""
    probs = keras.ops.softmax(logits)
    values = batch.discount[:, None] * ops.atoms(*config.span, probs)
    values = ops.clip(batch.reward[:, None] + values, *config.span)
    return ops.project_distribution(probs, values, *config.span)


def dqn_loss(q: Callable, batch: Batch, target: Array, config: Config) -> LossTerms:
    """Return the mean squared temporal-difference error; target [B].

    Of distributions, the mean cross-entropy; target [B, K].
    """
    if config.num_atoms > 1:
        index = batch.action[:, None, None]
        logits = keras.ops.take_along_axis(q(batch.obs), index, axis=1)[:, 0]
        return distribution_loss(logits, target, config)  # D8
    taken = keras.ops.take_along_axis(q(batch.obs), batch.action[:, None], axis=-1)[:, 0]
    loss = keras.ops.mean(keras.ops.square(taken - target))  # D2
    return LossTerms(loss=loss, q=keras.ops.mean(taken), target=keras.ops.mean(target))


def distribution_loss(logits: Array, target: Array, config: Config) -> LossTerms:
    """Return the mean cross-entropy of the taken actions' logits [B, K]; target [B, K]."""
    cross_entropy = -keras.ops.sum(target * keras.ops.log_softmax(logits), axis=-1)
    target_value = keras.ops.sum(target * ops.atoms(*config.span, target), axis=-1)
    q = expected_values(logits, config)
    return LossTerms(
        loss=keras.ops.mean(cross_entropy),
        q=keras.ops.mean(q),
        target=keras.ops.mean(target_value),
    )


def epsilon(config: Config, count: Array) -> Array:
    """Return the share of random actions after `count` updates (D1)."""
    steps = config.learning_starts + widest(count) * (config.round_steps / config.num_updates)
    decay_steps = config.exploration_fraction * config.total_steps
    progress = keras.ops.minimum(steps / decay_steps, 1.0)
    return config.epsilon_start + (config.epsilon_end - config.epsilon_start) * progress  # D1


def make_agent_def(spec: EnvSpec, config: Config, build: Build) -> AgentDef:
    """Make network and optimizer for a spec, without weights; compile the update."""
    q = ActionValues(spec, config.layers, build.dtype, config.num_atoms)  # D8
    return plumbing.define(
        spec,
        config,
        build,
        data,
        networks={"q": q},
        optimizers=make_optimizers(config, ops.make_optimizer),  # D5
        compiled={"update": of_row(update)},
    )


def act(agent: AgentDef, state: AgentState, obs: Array, noise: Array) -> Act:
    """Choose actions for obs [N, *obs] and noise [N, 2]; zero noise is greedy."""
    obs = features(agent, state, keras.ops.reshape(obs, (obs.shape[0], -1)))
    outputs = _action_values(agent, state.params["q"])(obs)
    q = expected_values(outputs, agent.config)  # D8
    count = update_count(agent, state, "q")
    explore = noise[:, 0] > 1.0 - keras.ops.cast(epsilon(agent.config, count), noise.dtype)  # D1
    random_action = keras.ops.cast(noise[:, 1] * agent.spec.action_size, "int32")
    greedy_action = keras.ops.cast(keras.ops.argmax(q, axis=-1), "int32")
    action = keras.ops.where(explore, random_action, greedy_action)
    return Act(action=action, raw_action=action)


def gradients(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[LossTerms, dict[str, Any]]:
    """Return terms and raw gradient of the loss; batch [B] of features."""
    del noise
    q = _action_values(agent, state.params["q"])
    target_q = _action_values(agent, state.target["q"])
    target = dqn_target(q, target_q, batch, agent.config)

    def loss(params: Mapping[str, Any]) -> LossTerms:
        return dqn_loss(_action_values(agent, params), batch, target, agent.config)

    terms, grads = differentiate(loss, state.params["q"])
    return terms, {"q": grads}


def update(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Make one gradient step, and copy the network into its target when that is due."""
    terms, grads = gradients(agent, state, batch, noise)
    state, norm = apply_gradients(agent, state, "q", grads)
    state = copy_targets(agent, state, "q", agent.config.target_period)  # D4
    metrics = Metrics(
        loss=terms.loss,
        q=terms.q,
        target=terms.target,
        grad_norm=norm,
    )
    return state, metrics


def step(
    agent: AgentDef, state: AgentState, batch: Batch, noise: Noise
) -> tuple[AgentState, Metrics]:
    """Run all updates of a round on batches [U, B]; then update observation statistics."""
    rows = prepare(agent, state, batch)

    def body(state: AgentState, i: Array) -> tuple[AgentState, Array]:
        return agent.compiled["update"](agent, state, rows, noise, i)

    updates = agent.config.num_updates
    state, metrics = ops.scan(body, state, updates, len(Metrics._fields), agent.dtype)
    state = update_statistics(agent, state, batch.obs)  # D7
    return state, Metrics(*keras.ops.unstack(metrics))


def make_agent(spec: EnvSpec, config: Config, build: Build) -> Agent:
    """Return the five functions of the contract."""
    agent = make_agent_def(spec, config, build)
    return plumbing.make_agent(agent, initial_weights, act, step)  # D6


def _action_values(agent: AgentDef, params: Mapping[str, Any]) -> Callable:
    """Return the network: features [B, …] -> values of all actions [B, A], or logits [B, A, K]."""
    return plumbing.network(agent, params, "q")
