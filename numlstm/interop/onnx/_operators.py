"""The operators around recurrent ones, in NumPy."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from numlstm._validate import Array

from ._activations import Activation, read

Inputs = Sequence[Array | None]


@dataclass
class Node:
    """A node, its attributes as Python's objects, and the version of the operators that its model uses."""

    proto: Any
    attributes: dict[str, Any]
    opset: int

    @property
    def kind(self) -> str:
        """The operator's name, with its domain if it is not ONNX' own."""
        domain = self.proto.domain
        return str(self.proto.op_type if domain in ("", "ai.onnx") else f"{domain}.{self.proto.op_type}")

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{self.proto.name} ({self.kind})" if self.proto.name else self.kind

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute."""
        return self.attributes.get(name, default)

    def axes(self, inputs: Inputs, rank: int) -> tuple[int, ...] | None:
        """Return the axes of a node that has them as an attribute in old versions and as its second input in later ones."""
        axes = inputs[1] if len(inputs) > 1 and inputs[1] is not None else self.get("axes")
        return None if axes is None else tuple(int(axis) % rank for axis in np.ravel(axes))


def nodes_of(model: onnx.ModelProto) -> list[Node]:
    """Return the nodes of a model's graph, in the order in which they run."""
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    return [node_of(proto, opset) for proto in model.graph.node]


def node_of(proto: onnx.NodeProto, opset: int) -> Node:
    """Return a node with its attributes."""
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in proto.attribute}
    return Node(proto, {name: _plain(value) for name, value in values.items()}, opset)


def _plain(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, (list, tuple)) or type(value).__module__.startswith("google"):
        return [_plain(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def run(node: Node, inputs: Inputs) -> list[Array]:
    """Return the outputs of a node of `KNOWN`."""
    output = _OPERATORS[node.kind](node, *inputs)
    return output if isinstance(output, list) else [np.asarray(output)]


def activation(node: Node) -> Activation | None:
    """Return the function of a node that is one, or None."""
    if node.kind not in _ACTIVATIONS:
        return None
    given = [[node.get(name)] if name in node.attributes else [] for name in ("alpha", "beta")]
    return read([node.kind], *given)[0]


def softmax_axis(node: Node) -> int:
    """Return the axis of a Softmax."""
    return int(node.get("axis", 1 if node.opset < 13 else -1))


def _gemm(node: Node, a: Array, b: Array, c: Array | None = None) -> Array:
    a, b = a.T if node.get("transA", 0) else a, b.T if node.get("transB", 0) else b
    y: Array = a.dtype.type(node.get("alpha", 1.0)) * (a @ b)
    return y if c is None else y + c.dtype.type(node.get("beta", 1.0)) * c


def _softmax(node: Node, x: Array) -> Array:
    axis = softmax_axis(node)
    z = x.reshape(math.prod(x.shape[:axis]), -1) if node.opset < 13 else x  # over all axes from this one on
    last = -1 if node.opset < 13 else axis
    e = np.exp(z - z.max(axis=last, keepdims=True))
    y: Array = (e / e.sum(axis=last, keepdims=True)).reshape(x.shape)
    return y


def _squeeze(node: Node, x: Array, *axes: Array | None) -> Array:
    return np.squeeze(x, node.axes((x, *axes), x.ndim))


def _unsqueeze(node: Node, x: Array, *axes: Array | None) -> Array:
    given: Any = axes[0] if axes else node.get("axes")
    return np.expand_dims(x, tuple(int(axis) for axis in np.ravel(given)))


def _reshape(node: Node, x: Array, shape: Array) -> Array:
    keep = not node.get("allowzero", 0)
    return x.reshape([x.shape[i] if size == 0 and keep else int(size) for i, size in enumerate(shape)])


def _slice(node: Node, x: Array, *bounds: Array | None) -> Array:
    if not bounds:
        bounds = tuple(node.get(name) for name in ("starts", "ends", "axes"))
    starts, ends, axes, steps = (*(None if b is None else np.ravel(b) for b in bounds), None, None)[:4]
    assert starts is not None and ends is not None
    where: list[slice] = [slice(None)] * x.ndim
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis, step = int(i if axes is None else axes[i]), int(1 if steps is None else steps[i])
        size = x.shape[axis]
        whole = None if step < 0 and end < -size else int(end)  # beyond the first element is before it
        where[axis] = slice(int(start), whole, step)
    return x[tuple(where)]


def _shape(node: Node, x: Array) -> Array:
    return np.array(x.shape[node.get("start", 0) : node.get("end", x.ndim)], np.int64)


def _constant(node: Node) -> Array:
    value: Any = next(iter(node.attributes.values()))
    return np.asarray(value, {float: np.float32, int: np.int64}.get(type(np.ravel(value)[0].item())))


def _constant_of_shape(node: Node, shape: Array) -> Array:
    value = node.get("value", np.zeros(1, np.float32))
    return np.full(tuple(map(int, shape)), value[0], value.dtype)


def _gather(node: Node, x: Array, indices: Array) -> Array:
    return np.take(x, indices, axis=node.get("axis", 0))


def _cast(node: Node, x: Array) -> Array:
    return x.astype(onnx.helper.tensor_dtype_to_np_dtype(node.get("to")))


def _reduce(function: Callable[..., Any]) -> Callable[..., Any]:
    def reduce(node: Node, x: Array, *axes: Array | None) -> Any:
        return function(x, axis=node.axes((x, *axes), x.ndim), keepdims=bool(node.get("keepdims", 1)))

    return reduce


_ACTIVATIONS = ("Relu", "Tanh", "Sigmoid", "HardSigmoid", "LeakyRelu", "Elu", "Softplus", "Softsign")
_OPERATORS: dict[str, Callable[..., Any]] = {
    **{name: lambda node, x: activation(node)(x).astype(x.dtype) for name in _ACTIVATIONS},  # type: ignore[misc]
    "Add": lambda node, a, b: a + b,
    "Cast": _cast,
    "Concat": lambda node, *xs: np.concatenate(xs, axis=node.get("axis")),
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Div": lambda node, a, b: a / b if a.dtype.kind == "f" else a // b,
    "Dropout": lambda node, x, *more: [x, np.ones(x.shape, bool)],
    "Expand": lambda node, x, shape: np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(map(int, shape)))),
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": lambda node, x: x,
    "MatMul": lambda node, a, b: a @ b,
    "Mul": lambda node, a, b: a * b,
    "ReduceMean": _reduce(np.mean),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Sub": lambda node, a, b: a - b,
    "Transpose": lambda node, x: x.transpose(node.get("perm")),
    "Unsqueeze": _unsqueeze,
}
KNOWN = frozenset(_OPERATORS)
