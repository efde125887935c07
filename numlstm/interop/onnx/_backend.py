"""A backend of ONNX: models and single nodes, run by numlstm's cells and NumPy."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend as BaseBackend
from onnx.backend.base import BackendRep as BaseBackendRep
from onnx.backend.base import namedtupledict

from numlstm._validate import Array
from numlstm.interop._parts import refuse

from . import _operators, _recurrent
from ._operators import Node

_WEIGHTS = (1, 2, 3, 7)  # W, R, B and P among the inputs of a recurrent node; a GRU and an RNN have no eighth


class _RecurrentStep:
    """A recurrent node; its weights are brought into numlstm's layout once, if they are constants."""

    def __init__(self, node: Node, constants: Mapping[str, Array]) -> None:
        self._recurrent = _recurrent.read(node.kind, node.attributes)
        names = [name for i, name in enumerate(node.proto.input) if i in _WEIGHTS and name]
        fixed = all(name in constants for name in names)
        self._weights = self._weights_of(_inputs_of(node, constants)) if fixed else None

    def __call__(self, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x, _, _, _, lengths, h, c = (*inputs, *[None] * 7)[:7]
        assert x is not None
        return self._recurrent.run(x, self._weights or self._weights_of(inputs), lengths, (h, c))

    def _weights_of(self, inputs: Sequence[Array | None]) -> list[_recurrent.Weights]:
        W, R, B, P = (inputs[i] if i < len(inputs) else None for i in _WEIGHTS)
        assert W is not None and R is not None
        return self._recurrent.weights(W, R, B, P)


class BackendRep(BaseBackendRep):
    """A model that is ready to run, from `Backend.prepare`."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph, nodes = model.graph, _operators.nodes_of(model)
        self._inputs = {value.name: value for value in graph.input}
        self._constants = constants_of(model, nodes)
        self._required = [name for name in self._inputs if name not in self._constants]
        self._outputs = [value.name for value in graph.output]
        fixed = {name: value for name, value in self._constants.items() if name not in self._inputs}
        self._steps: list[tuple[Node, Callable[[Sequence[Array | None]], Sequence[Array]]]] = [
            (node, _RecurrentStep(node, fixed) if _is_recurrent(node) else functools.partial(_operators.run, node))
            for node in nodes
            if node.kind != "Constant"
        ]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return the outputs, a namedtuple of arrays.

        Parameters
        ----------
        inputs : sequence or dict of arrays, or one array
            In the order of the graph's inputs, or by their names; those with a default may be left out.

        Raises
        ------
        TypeError
            For an array of another dtype than the graph has it.
        ValueError
            For missing or unknown inputs, or another number of axes.
        """
        values = {**self._constants, **self._named(inputs)}
        for node, step in self._steps:
            values.update(zip(node.proto.output, step(_inputs_of(node, values)), strict=False))
        outputs: tuple[Any, ...] = namedtupledict("Outputs", self._outputs)(*(values[name] for name in self._outputs))
        return outputs

    def _named(self, inputs: Any) -> dict[str, Array]:
        if not isinstance(inputs, Mapping):
            given = inputs if isinstance(inputs, (list, tuple)) else [inputs]
            names = self._required if len(given) == len(self._required) else list(self._inputs)
            if len(given) > len(names):
                raise ValueError(f"inputs must be those of the graph, {', '.join(names)}, not {len(given)} arrays")
            inputs = dict(zip(names, given, strict=False))
        wrong = [name for name in inputs if name not in self._inputs] + [n for n in self._required if n not in inputs]
        if wrong:
            raise ValueError(f"inputs must be those of the graph, {', '.join(self._inputs)}, not {', '.join(inputs)}")
        return {name: _checked(self._inputs[name], np.asarray(value)) for name, value in inputs.items()}


def constants_of(model: onnx.ModelProto, nodes: Sequence[Node]) -> dict[str, Array]:
    """Return the arrays that are in a model, by name."""
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return constants | {node.proto.output[0]: _operators.run(node, ())[0] for node in nodes if node.kind == "Constant"}


def _inputs_of(node: Node, values: Mapping[str, Array]) -> list[Array | None]:
    return [values.get(name) if name else None for name in node.proto.input]


def _is_recurrent(node: Node) -> bool:
    return node.kind in _recurrent.KINDS


def _checked(info: Any, value: Array) -> Array:
    """Return an input if it has the dtype and the number of axes that the graph says."""
    tensor = info.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    if value.dtype != dtype:
        raise TypeError(f"{info.name} must be an array of {dtype}, not {value.dtype}")
    if tensor.HasField("shape") and len(tensor.shape.dim) != value.ndim:
        raise ValueError(f"{info.name} must have {len(tensor.shape.dim)} axes, not shape {value.shape}")
    return value


def _problems(nodes: Sequence[Node]) -> list[str]:
    """Return what of these nodes cannot be run."""
    problems = []
    for node in nodes:
        if _is_recurrent(node):
            try:
                _recurrent.read(node.kind, node.attributes)
            except ValueError as error:
                problems.append(f"{node.label} with {error}")
        elif node.kind not in _operators.KNOWN:
            problems.append(node.label)
    return problems


class Backend(BaseBackend):
    """Runs ONNX models on the CPU, by the interface of `onnx.backend.base.Backend`.

    LSTM, GRU and RNN nodes run by numlstm's cells, in float32 or float64. What those do not have (clip, and
    activations other than Tanh, Relu, Sigmoid, Affine and HardSigmoid with their defaults) runs step by step in NumPy,
    slowly, and so do the operators around them: Gemm, MatMul, Add, activations, Gather, Squeeze,
    Transpose, Reshape and some more; `supported_operators` lists them.
    """

    supported_operators = tuple(sorted((*_recurrent.KINDS, *_operators.KNOWN)))

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Return whether all nodes of a model can be run."""
        return cls.supports_device(device) and not _problems(_operators.nodes_of(model))

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep:
        """Return a model, ready to run.

        Raises
        ------
        ValueError
            For a device other than "CPU", or operators that are not supported; the message names all of them.
        onnx.checker.ValidationError
            For what is not a valid model.
        """
        if not cls.supports_device(device):
            raise ValueError(f"device must be 'CPU', not {device!r}")
        super().prepare(model, device, **kwargs)
        refuse("numlstm cannot run this model", _problems(_operators.nodes_of(model)))
        return BackendRep(model)

    @classmethod
    def run_node(
        cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Return the outputs of one node, a namedtuple; `inputs` are those of its inputs that have a name.

        opset_version : of the operator, as a keyword; the newest that this onnx knows if left out
        """
        super().run_node(node, inputs, device, outputs_info, **kwargs)
        names, arrays = [name for name in node.input if name], [np.asarray(value) for value in inputs]
        make, dtype = onnx.helper.make_tensor_value_info, onnx.helper.np_dtype_to_tensor_dtype
        given = [make(name, dtype(array.dtype), array.shape) for name, array in zip(names, arrays, strict=True)]
        made = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "node", given, made)
        opset = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
        refuse("numlstm cannot run this node", _problems(_operators.nodes_of(model)))
        return BackendRep(model).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Return whether it is "CPU"."""
        return device == "CPU"
