"""`.onnx`: one graph from `obs` [batch, …] float32 to `action`, and `scores` if it is discrete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

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
    Layer,
    LayerNorm,
    Mean,
    Normalize,
    Relu,
    Rescale,
    Silu,
    Tanh,
)
from tiebreak.export.numpy_file import Outputs

OPSET, IR_VERSION = 17, 8
"""The first version with LayerNormalization, of 2022: every runtime since reads it."""


class Graph:
    """Nodes and constants of an ONNX graph; a value is known by its name."""

    def __init__(self):
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.kept = ""
        """Output of the last Keep."""

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Add a constant."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        from onnx import helper

        name = output or f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name


def write(policy: GreedyPolicy, path: Path) -> None:
    """Write a policy as an ONNX graph with a dynamic batch."""
    from onnx import TensorProto, checker, helper

    graph = Graph()
    scores, x = "obs", "obs"
    for layer in policy.layers:
        scores, x = x, WRITERS[type(layer)](graph, x, layer)

    kind = TensorProto.INT64 if policy.discrete else TensorProto.FLOAT
    values = {"action": (kind, ("batch", *policy.action_shape))}
    graph.add("Identity", x, output="action")
    if policy.discrete:
        values["scores"] = TensorProto.FLOAT, ("batch", policy.action_size)
        graph.add("Identity", scores, output="scores")
    obs = ("batch", *policy.observation_shape)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "policy",
            [helper.make_tensor_value_info("obs", TensorProto.FLOAT, obs)],
            [helper.make_tensor_value_info(name, *value) for name, value in values.items()],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="tiebreak",
    )
    helper.set_model_props(model, policy.about)
    checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def run(path: Path, obs: np.ndarray) -> Outputs:
    """Return the actions that the file's policy chooses for observations [N, …], by onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"obs": obs}), strict=True))


def _flatten(graph: Graph, x: str, layer: Flatten) -> str:
    return graph.add("Flatten", x, axis=1)


def _normalize(graph: Graph, x: str, layer: Normalize) -> str:
    centered = graph.add("Sub", x, graph.constant(layer.mean))
    scaled = graph.add("Div", centered, graph.constant(layer.scale))
    return _clip(graph, scaled, layer.limit)


def _clip(graph: Graph, x: str, limit: float) -> str:
    return graph.add("Clip", x, graph.constant(-limit), graph.constant(limit))


def _dense(graph: Graph, x: str, layer: Dense) -> str:
    return graph.add("Gemm", x, graph.constant(layer.kernel), graph.constant(layer.bias))


def _layer_norm(graph: Graph, x: str, layer: LayerNorm) -> str:
    scale, bias = graph.constant(layer.scale), graph.constant(layer.bias)
    return graph.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=layer.epsilon)


def _image(graph: Graph, x: str, layer: Image) -> str:
    return graph.add("Reshape", x, graph.constant((-1, *layer.shape), np.int64))


def _conv(graph: Graph, x: str, layer: Conv) -> str:
    """Add a convolution, which ONNX has only with channels first."""
    kernel = graph.constant(layer.kernel.transpose(3, 2, 0, 1))
    first = graph.add("Transpose", x, perm=[0, 3, 1, 2])
    strides = [layer.stride, layer.stride]
    out = graph.add("Conv", first, kernel, graph.constant(layer.bias), strides=strides)
    return graph.add("Transpose", out, perm=[0, 2, 3, 1])


def _keep(graph: Graph, x: str, layer: Keep) -> str:
    graph.kept = x
    return x


def _add(graph: Graph, x: str, layer: Add) -> str:
    return graph.add("Add", x, graph.kept)


def _activation(operator: str) -> Callable[[Graph, str, Layer], str]:
    return lambda graph, x, layer: graph.add(operator, x)


def _mean(graph: Graph, x: str, layer: Mean) -> str:
    shape = graph.constant((0, -1, len(layer.atoms)), np.int64)  # 0: the batch, as it is
    probs = graph.add("Softmax", graph.add("Reshape", x, shape), axis=-1)
    means = graph.add("MatMul", probs, graph.constant(layer.atoms[:, None]))
    return graph.add("Flatten", means, axis=1)


def _silu(graph: Graph, x: str, layer: Silu) -> str:
    return graph.add("Mul", x, graph.add("Sigmoid", x))


def _rescale(graph: Graph, x: str, layer: Rescale) -> str:
    half = graph.constant((layer.high - layer.low) / 2)
    shifted = graph.add("Add", _clip(graph, x, 1.0), graph.constant(1.0))
    return graph.add("Add", graph.add("Mul", shifted, half), graph.constant(layer.low))


def _argmax(graph: Graph, x: str, layer: Argmax) -> str:
    return graph.add("ArgMax", x, axis=-1, keepdims=0)


def _argmax_each(graph: Graph, x: str, layer: ArgmaxEach) -> str:
    ends = np.cumsum(layer.sizes)
    best = []
    for size, end in zip(layer.sizes, ends, strict=True):
        places = np.arange(end - size, end)
        part = graph.add("Gather", x, graph.constant(places, np.int64), axis=-1)
        best.append(graph.add("ArgMax", part, axis=-1, keepdims=1))
    return graph.add("Concat", *best, axis=-1)


WRITERS: dict[type, Callable[[Graph, str, Any], str]] = {
    Flatten: _flatten,
    Normalize: _normalize,
    Dense: _dense,
    LayerNorm: _layer_norm,
    Image: _image,
    Conv: _conv,
    Keep: _keep,
    Add: _add,
    Tanh: _activation("Tanh"),
    Relu: _activation("Relu"),
    Elu: _activation("Elu"),
    Mean: _mean,
    Silu: _silu,
    Rescale: _rescale,
    Argmax: _argmax,
    ArgmaxEach: _argmax_each,
}
"""Adds a layer to a graph, and returns the name of its output."""
