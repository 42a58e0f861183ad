"""`.keras`: a model of Keras 3 that `keras.saving.load_model` reads, on any of its backends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tiebreak.core.errors import UsageError
from tiebreak.export.layers import (
    Argmax,
    Dense,
    Elu,
    Flatten,
    GreedyPolicy,
    LayerNorm,
    Normalize,
    Relu,
    Rescale,
    Tanh,
)
from tiebreak.export.numpy_file import Outputs


def write(policy: GreedyPolicy, path: Path) -> None:
    """Write a policy as a model with a dynamic batch.

    Raises UsageError for layers that are no row of WRITERS: convolutions and residual blocks.
    """
    if {type(layer) for layer in policy.layers} - WRITERS.keys():
        raise UsageError(
            "--to keras takes dense networks only, and this policy's is a cnn or simba: use --to "
            "onnx or torch"
        )
    obs = keras.Input(policy.observation_shape, name="obs", dtype="float32")
    scores: Any = obs
    x: Any = obs
    for layer in policy.layers:
        scores, x = x, WRITERS[type(layer)](x, layer)
    outputs = {"action": x, "scores": scores} if policy.discrete else {"action": x}
    keras.Model(obs, outputs, name="policy").save(path)


def run(path: Path, obs: np.ndarray) -> Outputs:
    """Return the actions that the file's policy chooses for observations [N, …]."""
    model: Any = keras.saving.load_model(path)
    return {name: np.asarray(ops.convert_to_numpy(value)) for name, value in model(obs).items()}


def _normalize(x: Any, layer: Normalize) -> Any:
    x = layers.Normalization(mean=layer.mean, variance=layer.scale**2)(x)
    return ops.clip(x, -layer.limit, layer.limit)


def _dense(x: Any, layer: Dense) -> Any:
    dense = layers.Dense(len(layer.bias), kernel_initializer="zeros")  # draws no random numbers
    out = dense(x)
    dense.set_weights([layer.kernel, layer.bias])
    return out


def _layer_norm(x: Any, layer: LayerNorm) -> Any:
    norm = layers.LayerNormalization(epsilon=layer.epsilon)
    out = norm(x)
    norm.set_weights([layer.scale, layer.bias])
    return out


def _rescale(x: Any, layer: Rescale) -> Any:
    half = (layer.high - layer.low) / 2
    return layers.Rescaling(half.tolist(), (layer.low + half).tolist())(ops.clip(x, -1.0, 1.0))


WRITERS: dict[type, Callable[[Any, Any], Any]] = {
    Flatten: lambda x, layer: layers.Flatten()(x),
    Normalize: _normalize,
    Dense: _dense,
    LayerNorm: _layer_norm,
    Tanh: lambda x, layer: layers.Activation("tanh")(x),
    Relu: lambda x, layer: layers.Activation("relu")(x),
    Elu: lambda x, layer: layers.Activation("elu")(x),
    Rescale: _rescale,
    Argmax: lambda x, layer: ops.argmax(x, axis=-1),
}
"""Applies a layer of Keras to a symbolic tensor."""
