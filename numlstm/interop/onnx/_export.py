"""Models to ONNX."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

import numlstm
from numlstm import cells
from numlstm._validate import Array
from numlstm.interop._parts import changed_states, refuse
from numlstm.layers import Bidirectional, Dense, Dropout, Embedding, Layer, Recurrent
from numlstm.models import Sequential

_OPSET, _IR = 18, 8  # what runtimes of 2023 and later read
_ACTIVATIONS = {"tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu", "linear": "Affine", "hard_sigmoid": "HardSigmoid"}
_PARAMETERS = {"Affine": (1.0, 0.0), "HardSigmoid": (1 / 6, 0.5)}
_MERGE = {"sum": "ReduceSum", "mul": "ReduceProd", "ave": "ReduceMean"}
_ORDERS = {"LSTM": "iofg", "GRU": "zrn", "RNN": "n"}  # of ONNX' blocks, by the names of numlstm's


def to_model(model: Sequential, sequence_lens: bool = False) -> onnx.ModelProto:
    """Return an ONNX model that computes what `predict` does.

    Its input is `x` (N, T, F), or (N, T) of int64 for an `Embedding`, with any N, and any T where the model takes any; its
    output is `y`, and behind a layer with return_state `h` and, of an LSTM, `c` too, (N, H), those of the forward layer
    first. Operators are of opset 18.

    Parameters
    ----------
    model : Sequential
        Of float32 or float64; not every runtime has its operators in float64.
    sequence_lens : bool
        Whether there is a second input, `sequence_lens` (N,) of int32, as `predict` has `lengths`: how many steps of each
        sequence count. Recurrent layers return zeros past them, and their last states are those at the last of these steps.
        Without it, an `Embedding` with mask_zero still counts the steps itself.

    Raises
    ------
    ValueError
        If the model has no weights yet, or has what ONNX' operators do not have; the message names all of it.
    """
    if not model.built or model.input_shape is None:
        raise ValueError("the model has no weights yet: give the first layer an input_shape, or show it data, first")
    ragged = sequence_lens or getattr(model.layers[0], "mask_zero", False)
    problems = [problem for layer in model.layers for problem in _problems(layer, ragged)]
    refuse(f"ONNX cannot take over the model {model.name}", problems)
    graph = _Graph(model, sequence_lens)
    opsets = [helper.make_opsetid("", _OPSET)]
    made = helper.make_model(
        graph.made(), opset_imports=opsets, ir_version=_IR, producer_name="numlstm", producer_version=numlstm.__version__
    )
    onnx.checker.check_model(made, full_check=True)
    return made


def _problems(layer: Layer, ragged: bool) -> list[str]:
    """Return what a layer has that its operator has not."""
    label, problems = f"{layer.name} ({type(layer).__name__})", []
    ways = _ways(layer)
    for way in ways:
        problems += changed_states(way) + (["stateful=True"] if way.stateful else [])
        if isinstance(way.spec, cells.CellSpec) and not (way.spec.input_gate and way.spec.output_gate):
            problems.append("a cell without an input or output gate")
        if isinstance(way.spec, cells.CellSpec) and way.spec.forget_gate == "one":
            problems.append("a cell without a forget gate")
        if isinstance(way.spec, cells.CellSpec) and (way.spec.gate_recurrence or way.spec.gate_sets > 1):
            problems.append("a cell with recurrent gates, or with two sets of them")
        if way.outputs != way.units:
            problems.append(f"projection={way.outputs}")
        if not isinstance(way.spec, (cells.CellSpec, cells.GRUSpec, cells.RNNSpec)):
            problems.append("no operator")
    if isinstance(layer, Bidirectional):
        forward, backward = ways
        if forward.spec != backward.spec or forward.units != backward.units or forward.go_backwards:
            problems.append("two layers that are more than two directions of one")
    elif ways and ways[0].go_backwards and ways[0].return_sequences and ragged:
        problems.append("go_backwards=True, return_sequences=True and sequences of different lengths")
    if not ways and not isinstance(layer, (Dense, Dropout, Embedding)):
        problems.append("no operator")
    return [f"{label} with {problem}" for problem in dict.fromkeys(problems)]


def _ways(layer: Layer) -> list[Recurrent]:
    if isinstance(layer, Bidirectional):
        return [layer.forward_layer, layer.backward_layer]
    return [layer] if isinstance(layer, Recurrent) else []


class _Graph:
    """The nodes and arrays of a model's graph, as they are made; `last` is the name of what the layers so far return."""

    def __init__(self, model: Sequential, sequence_lens: bool) -> None:
        self._model, self._dtype = model, helper.np_dtype_to_tensor_dtype(model.dtype)
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: list[onnx.TensorProto] = []
        self._lens = self._given = "sequence_lens" if sequence_lens else ""
        self._states: list[str] = []
        self._last = "x"
        for layer in model.layers:
            self._prefix = layer.name
            if isinstance(layer, Dense):
                self._dense(layer)
            elif isinstance(layer, Embedding):
                self._last = self._node("Gather", [self._array("table", layer.parameters["table"]), "x"])
                self._lens = self._counted() if layer.mask_zero and not sequence_lens else self._lens
            elif not isinstance(layer, Dropout):
                self._recurrent(layer)

    def made(self) -> onnx.GraphProto:
        """Return the graph, with its inputs and outputs."""
        model, value = self._model, helper.make_tensor_value_info
        self._nodes.append(helper.make_node("Identity", [self._last], ["y"]))
        first = onnx.TensorProto.INT64 if isinstance(model.layers[0], Embedding) else self._dtype
        sizes = ["T" if size is None else size for size in model.input_shape or ()]
        inputs = [value("x", first, ["N", *sizes])]
        if self._given:
            inputs.append(value(self._given, onnx.TensorProto.INT32, ["N"]))
        sizes = ["T" if size is None else size for size in model.output_shape or ()]
        outputs = [value("y", self._dtype, ["N", *sizes])]
        outputs += [value(name, self._dtype, ["N", None]) for name in self._states]
        return helper.make_graph(self._nodes, model.name, inputs, outputs, self._arrays)

    def _node(self, kind: str, inputs: Sequence[str], outputs: Sequence[str] | None = None, **attributes: Any) -> str:
        """Add a node, and return the name of its first output."""
        outputs = outputs or [f"{self._prefix}/{kind}_{len(self._nodes)}"]
        self._nodes.append(helper.make_node(kind, inputs, outputs, f"{self._prefix}/{len(self._nodes)}", **attributes))
        return next(filter(None, outputs))

    def _array(self, name: str, value: Any) -> str:
        name = f"{self._prefix}/{name}"
        if all(tensor.name != name for tensor in self._arrays):
            self._arrays.append(onnx.numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def _counted(self) -> str:
        """Return the lengths of sequences that are filled up with zeros."""
        some = self._node("Cast", ["x"], to=onnx.TensorProto.BOOL)
        ones = self._node("Cast", [some], to=onnx.TensorProto.INT32)
        return self._node("ReduceSum", [ones, self._array("steps", np.array([1]))], keepdims=0)

    def _dense(self, layer: Dense) -> None:
        self._last = self._node("MatMul", [self._last, self._array("kernel", layer.parameters["W"].T)])
        if layer.use_bias:
            self._last = self._node("Add", [self._last, self._array("bias", layer.parameters["b"])])
        if layer.activation != "linear":
            self._last = self._node({**_ACTIVATIONS, "softmax": "Softmax"}[layer.activation], [self._last])

    def _recurrent(self, layer: Any) -> None:
        """Add a recurrent operator, (T, N, I) to (T, D, N, H), between changes of axes."""
        ways = _ways(layer)
        first, kind = ways[0], ways[0].spec.kind
        steps = first.return_sequences
        names = [f"{self._prefix}/{name}" for name in ("Y", "Y_h", "Y_c")[: 1 + first.spec.states]]
        attributes = {"hidden_size": first.units, **_attributes(first.spec, len(ways))}
        attributes["direction"] = "bidirectional" if len(ways) > 1 else "reverse" if first.go_backwards else "forward"
        inputs = [self._node("Transpose", [self._last], perm=[1, 0, 2]), *self._weights(kind, ways), self._lens]
        if "p" in first.spec.weights:
            inputs += ["", "", self._array("P", np.stack([_peepholes(way) for way in ways]))]
        self._node(kind, inputs, names, **attributes)
        if steps and len(ways) == 1 and first.go_backwards:
            names[0] = self._reversed(names[0])
        self._last = self._merged(names[0 if steps else 1], steps, layer)
        if first.return_state:
            self._outer_states(names[1:], len(ways))

    def _weights(self, kind: str, ways: Sequence[Recurrent]) -> list[str]:
        parts = [_onnx_weights(kind, way) for way in ways]
        return [self._array(name, np.stack(arrays)) for name, arrays in zip("WRB", zip(*parts, strict=True), strict=True)]

    def _reversed(self, name: str) -> str:
        """Return the outputs of all steps in the order in which they arise, from the last step on."""
        bounds = {"starts": [-1], "ends": [np.iinfo(np.int64).min + 1], "axes": [0], "steps": [-1]}
        return self._node("Slice", [name, *(self._array(key, np.array(value, np.int64)) for key, value in bounds.items())])

    def _merged(self, name: str, steps: bool, layer: Any) -> str:
        """Return (N, T, H) or (N, H) from (T, D, N, H) or (D, N, H): both directions side by side, or made one."""
        y = self._node("Transpose", [name], perm=[2, 0, 1, 3] if steps else [1, 0, 2])
        merge_mode = getattr(layer, "merge_mode", "concat")
        if merge_mode == "concat":
            return self._node("Reshape", [y, self._array("shape", np.array([0] * (1 + steps) + [-1]))])
        return self._node(_MERGE[merge_mode], [y, self._array("axis", np.array([1 + steps]))], keepdims=0)

    def _outer_states(self, names: Sequence[str], ways: int) -> None:
        for way in range(ways):
            for name, letter in zip(names, "hc", strict=False):
                self._states.append(letter if ways == 1 else f"{('forward', 'backward')[way]}_{letter}")
                self._node("Gather", [name, self._array(f"way_{way}", np.array(way))], [self._states[-1]], axis=0)


def _attributes(spec: cells.Spec, ways: int) -> dict[str, Any]:
    """Return the attributes that a cell needs, for so many directions."""
    if isinstance(spec, cells.CellSpec):
        names = [spec.recurrent_activation, spec.input_activation, spec.output_activation]
        attributes: dict[str, Any] = {"input_forget": 1} if spec.forget_gate == "coupled" else {}
    elif isinstance(spec, cells.GRUSpec):
        names, attributes = [spec.recurrent_activation, spec.activation], {"linear_before_reset": int(spec.reset_after)}
    else:
        assert isinstance(spec, cells.RNNSpec)
        names, attributes = [spec.activation], {}
    activations = [_ACTIVATIONS[name] for name in names] * ways
    for i, key in enumerate(("activation_alpha", "activation_beta")):
        if values := [_PARAMETERS[name][i] for name in activations if name in _PARAMETERS]:
            attributes[key] = values
    return {**attributes, "activations": activations}


def _onnx_weights(kind: str, layer: Recurrent) -> tuple[Array, Array, Array]:
    """Return W (G H, I), R (G H, H) and B (2 G H,), with zeros for what the cell does without."""
    W, R, *more = layer.params
    blocks = cells.gates(layer.spec) if isinstance(layer.spec, cells.CellSpec) else {"GRU": "rzn", "RNN": "n"}[kind]
    x_blocks = blocks if W.shape[0] == R.shape[0] else blocks.replace("g", "")
    zeros = np.zeros(layer.units, W.dtype)
    b = _arranged(kind, blocks, more[0])
    recurrent = np.concatenate([zeros, zeros, more[1]]) if "b_hn" in layer.spec.weights else np.zeros_like(b)
    return _arranged(kind, x_blocks, W), _arranged(kind, blocks, R), np.concatenate([b, recurrent])


def _peepholes(layer: Recurrent) -> Array:
    assert isinstance(layer.spec, cells.CellSpec)
    return _arranged("iof", cells.gates(layer.spec).replace("g", ""), layer.parameters["p"])


def _arranged(kind: str, blocks: str, array: Array) -> Array:
    """Return blocks of rows in ONNX' order, and zeros for those that are not there."""
    parts = dict(zip(blocks, np.split(array, len(blocks)), strict=True))
    zeros = np.zeros_like(parts[blocks[0]])
    return np.concatenate([parts.get(name, zeros) for name in _ORDERS.get(kind, kind)])
