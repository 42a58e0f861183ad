"""Networks other than dense layers: the oracle's gradients, all frameworks, a planted bug."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from verify.planted import Plant
from verify.runtimes import inner_runtime, packages_of
from verify.test_planted_bugs import plant_bug

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.core.networks import Layers, convolved_size
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks import weights
from tiebreak.frameworks.numpy import networks
from tiebreak.verify import parity
from tiebreak.verify.case import cases_of
from tiebreak.verify.compare import ErrorTable
from tiebreak.verify.network_cases import VARIANTS, of_network

STEP = 1e-6


def examine(algorithm: str, framework: str, name: str) -> ErrorTable:
    """Check losses, gradients, `act` and a step of a network's case in float64."""
    runtime = inner_runtime(framework)
    errors, case = ErrorTable(algorithm, framework, "float64"), of_network(algorithm, name)
    for check in (cases_of(algorithm).check_losses, parity.check_public):
        check(errors, runtime, case)
    return errors


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "silu"])
def test_the_oracle_s_gradients_are_the_slopes(name, activation):
    """In every weight, and in the action, along random directions."""
    variant = VARIANTS[name]
    shape, kind = variant.observation_shape, variant.settings["network"]
    spec = EnvSpec.make(observation_shape=shape, action_low=[-1, -1], action_high=[1, 1])
    layers = Layers(kind, (6, 6), activation)
    rng = np.random.default_rng(0)
    inputs = spec.observation_size + spec.action_size
    net = weights.init_network(rng, "q", spec, layers, inputs, 3, gain=1.0)
    net = {k: v + 0.1 * rng.standard_normal(v.shape) for k, v in net.items()}
    x, d_out = rng.standard_normal((4, inputs)), rng.standard_normal((4, 3))

    def loss(moved: dict, x: np.ndarray = x) -> float:
        out, _ = networks.forward(spec, layers, {**net, **moved}, "q", x)
        return float((out * d_out).sum())

    _, cache = networks.forward(spec, layers, net, "q", x)
    grads = networks.backward(spec, layers, net, "q", cache, d_out)
    assert set(grads) == set(net)
    for key, grad in grads.items():
        direction = rng.standard_normal(grad.shape)
        high, low = (loss({key: net[key] + h * direction}) for h in (STEP, -STEP))
        assert (high - low) / (2 * STEP) == pytest.approx((grad * direction).sum(), rel=1e-5)

    direction = np.zeros_like(x)
    direction[:, -2:] = rng.standard_normal((4, 2))
    high, low = (loss({}, x + h * direction) for h in (STEP, -STEP))
    d_action = networks.action_gradient(spec, layers, net, "q", cache, d_out)
    slope = (d_action * direction[:, -2:]).sum()
    assert (high - low) / (2 * STEP) == pytest.approx(slope, rel=1e-5)


def test_convolutions_leave_what_the_papers_say():
    assert convolved_size((84, 84, 4)) == 7 * 7 * 64
    assert convolved_size((10, 10, 4)) == 8 * 8 * 16
    assert convolved_size((36, 36, 1)) == 64
    assert convolved_size((3, 3, 1)) == 16


def in_all_frameworks():
    """Yield every algorithm with every network, in all frameworks that have it.

    All algorithms of a framework share its networks, so that a sampled run has DQN, which is the
    quickest, in every framework, with every network, and seldom the others.
    """
    often = pytest.mark.slow(each=("framework", "name"), share=0.0)
    seldom = pytest.mark.slow(share=0.008)
    for algorithm in registry.ALGORITHMS:
        for framework in registry.frameworks_of(algorithm):
            for name in VARIANTS:
                marks = often if algorithm == "dqn" else seldom
                yield pytest.param(framework, algorithm, name, marks=marks)


@pytest.fixture
def framework(request: pytest.FixtureRequest):
    """Skip frameworks that are not installed."""
    if registry.missing_packages(packages_of(request.param)):
        pytest.skip(f"{request.param} is not installed")
    return request.param


@pytest.mark.parametrize(
    ("framework", "algorithm", "name"), in_all_frameworks(), indirect=["framework"]
)
def test_every_framework_agrees_with_the_oracle(framework, algorithm, name):
    errors = examine(algorithm, framework, name)
    assert errors.ok, errors.failed()


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
@pytest.mark.parametrize("framework", ["torch"], indirect=True)
def test_the_cnn_agrees_with_the_oracle(framework, algorithm):
    errors = examine(algorithm, framework, "cnn")
    assert errors.ok, errors.failed()
    assert len(errors.entries) > 15


def channels_slowest(flatten):
    """Flatten images as torch's own layout [B, C, H, W] would."""

    def wrong(image):
        for axis in (2, 1):  # moves the channels to the front, two neighbours at a time
            image = swap(image, axis, axis + 1)
        return flatten(image)

    return wrong


def swap(x, a: int, b: int):
    """Swap two axes, in the library that `x` comes from."""
    order = [0, 1, 2, 3]
    order[a], order[b] = order[b], order[a]
    library = type(x).__module__.partition(".")[0]
    if library == "torch":
        return x.permute(*order)
    if library == "tensorflow":
        import tensorflow as tf

        return tf.transpose(x, order)
    return x.transpose(order)


@pytest.mark.slow(share=0.15)
@pytest.mark.parametrize("framework", registry.FRAMEWORKS, indirect=True)
def test_channels_flattened_in_another_order_are_caught(framework, monkeypatch):
    plant_bug(monkeypatch, "dqn", framework, Plant("flatten_image", channels_slowest))
    assert examine("dqn", framework, "cnn").failed()


def test_a_cnn_refuses_vectors_in_one_line():
    spec = EnvSpec.make(observation_shape=(4,), num_actions=2)
    config = replace(registry.reference_config("dqn", spec), network="cnn")
    with pytest.raises(UsageError, match=r"takes images.*shape \(4,\): use --set network=mlp"):
        registry.make_agent("dqn", "torch", spec, config)
    with pytest.raises(UsageError, match=r"unknown network 'cnm'.*did you mean 'cnn'"):
        registry.make_agent("dqn", "torch", spec, replace(config, network="cnm"))
