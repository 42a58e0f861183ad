"""`.keras`: a model of Keras 3 that `keras.saving.load_model` reads, on any of its backends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tiebreak.export.layers import (
    Add,
    Argmax,
    ArgmaxEach,
    Conv,
    Dense,
    Elu,
    Flatten,
    GreedyPolicy,
    Image,
    Keep,
    LayerNorm,
    Mean,
    Normalize,
    Relu,
    Rescale,
    Silu,
    Tanh,
)
from tiebreak.export.numpy_file import Outputs


def write(policy: GreedyPolicy, path: Path) -> None:
    """Write a policy as a model with a dynamic batch."""
    obs = keras.Input(policy.observation_shape, name="obs", dtype="float32")
    scores: Any = obs
    x: Any = obs
    kept: Any = obs
    for layer in policy.layers:
        if isinstance(layer, Keep):
            kept = x
        elif isinstance(layer, Add):
            x = layers.Add()([x, kept])
        else:
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


def _conv(x: Any, layer: Conv) -> Any:
    height, width, _, outputs = layer.kernel.shape
    conv = layers.Conv2D(
        outputs,
        (height, width),
        strides=layer.stride,
        data_format="channels_last",
        kernel_initializer="zeros",
    )
    out = conv(x)
    conv.set_weights([layer.kernel, layer.bias])
    return out


def _mean(x: Any, layer: Mean) -> Any:
    probs = layers.Softmax()(layers.Reshape((-1, len(layer.atoms)))(x))
    dense = layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    out = dense(probs)
    dense.set_weights([layer.atoms[:, None]])
    return layers.Flatten()(out)


def _argmax_each(x: Any, layer: ArgmaxEach) -> Any:
    ends = np.cumsum(layer.sizes)[:-1].tolist()
    parts: Any = ops.split(x, ends, axis=-1)
    return ops.stack([ops.argmax(part, axis=-1) for part in parts], axis=-1)


def _rescale(x: Any, layer: Rescale) -> Any:
    half = (layer.high - layer.low) / 2
    return layers.Rescaling(half.tolist(), (layer.low + half).tolist())(ops.clip(x, -1.0, 1.0))


WRITERS: dict[type, Callable[[Any, Any], Any]] = {
    Flatten: lambda x, layer: layers.Flatten(data_format="channels_last")(x),
    Normalize: _normalize,
    Dense: _dense,
    LayerNorm: _layer_norm,
    Image: lambda x, layer: layers.Reshape(layer.shape)(x),
    Conv: _conv,
    Tanh: lambda x, layer: layers.Activation("tanh")(x),
    Relu: lambda x, layer: layers.Activation("relu")(x),
    Elu: lambda x, layer: layers.Activation("elu")(x),
    Mean: _mean,
    Silu: lambda x, layer: layers.Activation("silu")(x),
    Rescale: _rescale,
    Argmax: lambda x, layer: ops.argmax(x, axis=-1),
    ArgmaxEach: _argmax_each,
}
"""Applies a layer to a symbolic tensor; `write` has Keep and Add."""
