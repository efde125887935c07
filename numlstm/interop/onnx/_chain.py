"""A graph of ONNX as layers one after the other."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from numlstm import cells
from numlstm._engine_weights import inside
from numlstm.interop._parts import Part, both_ways, recurrent
from numlstm.layers import GRU, LSTM, Dense, Embedding, SimpleRNN

from . import _operators, _recurrent, _values
from ._operators import Node
from ._recurrent import Recurrent
from ._values import Value

_MERGE = {"ReduceSum": "sum", "ReduceProd": "mul", "ReduceMean": "ave"}
_OUTPUTS = (["N", "T", "F"], ["T", "N", "F"], ["N", "F"])


class Chain:
    """Follows a graph from node to node, and makes a list of layers of what it meets, and of problems."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.parts: list[Part] = []
        self.problems: list[str] = []
        self.rank = 0  # of the input
        self._age = 0
        self._axes: dict[str, str] = {}  # of the input, by number, once they are known
        self._values: dict[str, Any] = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        nodes = _operators.nodes_of(model)
        inputs = [value for value in model.graph.input if value.name not in self._values]
        for value in inputs if len(inputs) == 2 else []:
            if all(value.name not in node.proto.input or _takes_lengths(node, value.name) for node in nodes):
                self._values[value.name] = Value("lengths")
                inputs = [other for other in inputs if other is not value]
        outputs = [value.name for value in model.graph.output]
        if len(inputs) != 1 or len(outputs) != 1:
            self.problems.append(f"{len(inputs)} inputs and {len(outputs)} outputs, where a model has one of each")
        for value in inputs:
            self.rank = len(value.type.tensor_type.shape.dim)
            self._values[value.name] = Value("data", tuple(map(str, range(self.rank))), 0)
        for node in nodes:
            self._follow(node)
        for name in outputs[:1]:
            self._finish(self._data(self._values[name], "the output"))

    def _finish(self, value: Value | None) -> None:
        axes = [] if value is None else self._named(value.axes)
        untouched = axes == sorted(axes) and not {"D", "N", "T"} & set(axes)  # numbers, and F behind them
        if axes not in _OUTPUTS and not untouched:
            self.problems.append(f"an output whose axes are {', '.join(axes)}")

    def _follow(self, node: Node) -> None:
        inputs = [self._values.get(name) if name else None for name in node.proto.input]
        kinds = {value.kind for value in inputs if isinstance(value, Value)}
        if node.kind in _recurrent.KINDS:
            outputs: Sequence[Any] = self._recurrent(node, inputs)
        elif node.kind not in _operators.KNOWN:
            outputs = [self._problem(node.label)]
        elif not kinds:
            outputs = _operators.run(node, inputs)
        elif "unknown" in kinds:
            outputs = [Value("unknown")]
        elif node.kind == "Shape" or kinds <= {"size", "zeros"}:
            outputs = [Value("size") if node.kind == "Shape" else _values.of_shapes(node, inputs)]
        else:
            outputs = [self._step(node, inputs)]
        for name in node.proto.output:
            self._values[name] = Value("other")
        self._values.update(zip(node.proto.output, outputs, strict=False))

    def _step(self, node: Node, inputs: Sequence[Any]) -> Value:
        before, foreign = (
            len(self.problems),
            [value for value in inputs if isinstance(value, Value) and value.kind != "data"],
        )
        if foreign:
            value = self._data(foreign[0], node.label)
        elif node.kind in _LAYERS:
            value = _LAYERS[node.kind](self, node, inputs)
        elif node.kind in _values.STEPS and isinstance(inputs[0], Value):
            value = _values.STEPS[node.kind](node, *inputs)
        else:
            value = self._activate(node, inputs[0])
        if value is None and len(self.problems) == before:
            self.problems.append(node.label)
        return value or Value("unknown")

    # --- layers ---

    def _recurrent(self, node: Node, inputs: Sequence[Any]) -> Sequence[Value]:
        x, W, R, B, lens, *states, P = (*inputs, *[None] * 8)[:8]
        before = len(self.problems)
        self._check_recurrent(node, (W, R, B, P), lens, states)
        try:
            made = _recurrent.read(node.kind, node.attributes)
        except ValueError as error:
            return [self._problem(f"{node.label} with {error}")] * 3
        value = self._data(x, node.label)
        order = ("N", "T", "F") if made.batch_first else ("T", "N", "F")
        if value is not None and not self._bind(value.axes, order):
            self.problems.append(f"{node.label} of axes {', '.join(self._named(value.axes))}")
        if len(self.problems) > before or not self._add_recurrent(node, made, (W, R, B, P)) or value is None:
            return [Value("unknown")] * 3
        ends = tuple((len(self.parts) - 1, way) for way in range(len(made.reverse)))
        axes = ("N", "T", "D", "F") if made.batch_first else ("T", "D", "N", "F")
        y = self._now(axes).replaced(ends=ends, units=made.hidden, reversed=made.reverse == (True,))
        return [y, y.replaced(axes=tuple(axis for axis in axes if axis != "T"), last=True, reversed=False), Value("other")]

    def _check_recurrent(self, node: Node, weights: Sequence[Any], lens: Any, states: Sequence[Any]) -> None:
        if any(isinstance(array, Value) for array in weights):
            self.problems.append(f"{node.label} with weights that are computed")
        lengths = next(
            (value for value in self._values.values() if isinstance(value, Value) and value.kind == "lengths"), None
        )
        if lens is not lengths:
            self.problems.append(f"{node.label} with other sequence_lens than an input of the graph for all of its kind")
        for state in states:
            if state is not None and not (state.kind == "zeros" if isinstance(state, Value) else not state.any()):
                self.problems.append(f"{node.label} with first states other than zeros")

    def _add_recurrent(self, node: Node, made: Recurrent, weights: Sequence[Any]) -> bool:
        """Add a layer, if there is one; return whether there is."""
        blocks, use_bias = made.blocks(*weights), weights[2] is not None
        peepholes = any(block.P.any() for block in blocks)
        spec, *others = (made.spec(way, peepholes) for way in range(len(blocks)))
        if spec is None or others not in ([], [spec]):
            self.problems.append(f"{node.label} with a cell that numlstm does not have, or two of them")
            return False
        kind, given = _layer_of(spec)
        values = []
        for block in blocks:
            arrays = zip(("W_ih", "W_hh", "b", "p"), inside(spec, _recurrent.in_numlstm(spec, block)), strict=True)
            values.append({name: a for name, a in arrays if a.size and (use_bias or name != "b")})
        if made.reverse == (True,):
            given["go_backwards"] = True
        make = recurrent(kind, made.hidden, len(blocks) > 1, use_bias=use_bias, **given)
        features = blocks[0].W.shape[2]
        self.parts.append(Part(make, {"return_sequences": True}, features, both_ways(values), len(blocks)))
        return True

    def _dense(self, node: Node, inputs: Sequence[Any]) -> Value | None:
        """Add a dense layer, for MatMul and Gemm."""
        x, W, b = (*inputs, None)[:3]
        plain = node.get("alpha", 1.0) == node.get("beta", 1.0) == 1.0 and not node.get("transA", 0)
        if not isinstance(x, Value) or not isinstance(W, np.ndarray) or W.ndim != 2 or isinstance(b, Value) or not plain:
            return None
        W = W if node.get("transB", 0) else W.T
        value = self._data(x, node.label)
        if value is None or "D" in value.axes or self._named(value.axes)[-1] in ("N", "T"):
            return None
        self.parts.append(Part(Dense, {"units": len(W), "use_bias": False}, W.shape[1], {"W": W}))
        after = self._now((*value.axes[:-1], "F"))
        return after if b is None or self._add_bias(b) else None

    def _add(self, node: Node, inputs: Sequence[Any]) -> Value | None:
        value, b = inputs if isinstance(inputs[0], Value) else inputs[::-1]
        return self._next(value, node) if isinstance(b, np.ndarray) and self._add_bias(b) else None

    def _add_bias(self, b: Any) -> bool:
        """Let a constant be the bias of the dense layer before it; return whether it can."""
        part = self.parts[-1] if self.parts else None
        if part is None or part.make is not Dense or part.options["use_bias"] or "activation" in part.options:
            return False
        if b.size not in (1, part.options["units"]) or b.size != (*b.shape, 1)[max(0, b.ndim - 1)]:
            return False
        part.options["use_bias"] = True
        part.values["b"] = np.broadcast_to(b.reshape(-1), part.options["units"])
        return True

    def _activate(self, node: Node, value: Value) -> Value | None:
        softmax, part = node.kind == "Softmax", self.parts[-1] if self.parts else None
        activation = _operators.activation(node)
        name = "softmax" if softmax else None if activation is None else activation.in_numlstm
        if name not in ("relu", "tanh", "sigmoid", "softmax"):
            return None
        if softmax and _operators.softmax_axis(node) not in (-1, len(value.axes) - 1):
            return self._problem(f"{node.label} along another axis than the last")
        if part is None or part.make is not Dense or "activation" in part.options:
            return self._problem(f"{node.label} elsewhere than behind a MatMul or Gemm")
        part.options["activation"] = name
        return self._next(value, node)

    def _gather(self, node: Node, inputs: Sequence[Any]) -> Value | None:
        """Take vectors from a table, the last step of all, or one direction or layer."""
        table, index = inputs
        if isinstance(table, np.ndarray) and isinstance(index, Value) and not self.parts and node.get("axis", 0) == 0:
            self.parts.append(
                Part(Embedding, {"input_dim": len(table), "output_dim": table.shape[1]}, None, {"table": table})
            )
            return self._now((*index.axes, "F"))
        if not isinstance(table, Value) or isinstance(index, Value) or np.ndim(index):
            return None
        axis = node.get("axis", 0) % len(table.axes)
        letter, axes = self._named(table.axes)[axis], table.without(axis)
        if letter == "D" and table.ends is not None:
            return table.replaced(axes=axes, ends=(table.ends[int(index)],))
        steps = next((part for part in reversed(self.parts) if "return_sequences" in part.options), None)
        if letter != "T" or index != -1 or steps is None or steps.place > 1 or self._data(table, node.label) is None:
            return None
        steps.options["return_sequences"] = False
        return self._now(axes)

    def _merge(self, node: Node, inputs: Sequence[Any]) -> Value | None:
        """Make two directions one."""
        value: Value = inputs[0]
        axes = node.axes(inputs, len(value.axes)) or ()
        if [value.axes[axis] for axis in axes] != ["D"] or node.get("keepdims", 1) or len(value.ends or ()) != 2:
            return None
        if self._data(value, node.label) is None:
            return None
        self.parts[-1].options["merge_mode"] = _MERGE[node.kind]
        return self._now(value.without(axes[0]))

    # --- values ---

    def _named(self, axes: Sequence[str]) -> list[str]:
        return [self._axes.get(axis, axis) for axis in axes]

    def _bind(self, axes: Sequence[str], order: Sequence[str]) -> bool:
        """Learn which axes of the input these are; return whether they can be."""
        for axis, letter in zip(axes, order, strict=False):
            if axis.isdigit() and letter not in self._axes.values():
                self._axes.setdefault(axis, letter)
        return self._named(axes) == list(order)

    def _now(self, axes: Sequence[str]) -> Value:
        """Return the data as it is now; what is older cannot be used any more."""
        self._age += 1
        return Value("data", tuple(axes), self._age)

    def _next(self, value: Any, node: Node) -> Value | None:
        data = self._data(value, node.label)
        return None if data is None else self._now(data.axes)

    def _problem(self, text: str) -> Value:
        self.problems.append(text)
        return Value("unknown")

    def _data(self, value: Any, label: str) -> Value | None:
        """Return a value as what the next layer takes; None, and a problem, if it cannot be that."""
        if isinstance(value, Value) and value.kind == "unknown":  # its problem is named already
            return None
        if not isinstance(value, Value) or value.kind != "data":
            self.problems.append(f"{label} of something else than what the layers return")
        elif value.ends is not None:
            return self._from_recurrent(value, label)
        elif value.age != self._age:
            self.problems.append(f"{label} beside other layers: they must follow one another")
        else:
            return value
        return None

    def _from_recurrent(self, value: Value, label: str) -> Value | None:
        """Let what a recurrent node returned be what its layer returns."""
        part, newest = self.parts[-1], len(self.parts) - 1
        if value.ends != tuple((newest, way) for way in range(part.place or 0)):
            self.problems.append(f"{label} of other than all directions of the layer before it")
        elif value.reversed:
            self.problems.append(
                f"{label} of a reversed sequence in the order of its steps: numlstm returns them as they arise"
            )
        else:
            part.options["return_sequences"] = not value.last
            return value
        return None


def _takes_lengths(node: Node, name: str) -> bool:
    """Return whether a node takes this as the lengths of sequences, and as nothing else."""
    return node.kind in _recurrent.KINDS and [i for i, given in enumerate(node.proto.input) if given == name] == [4]


def _layer_of(spec: cells.Spec) -> tuple[Any, dict[str, Any]]:
    """Return the layer that has a cell, and the options that say so."""
    if isinstance(spec, cells.GRUSpec):
        return GRU, spec.get_config()
    if isinstance(spec, cells.RNNSpec):
        return SimpleRNN, {"activation": spec.activation}
    assert isinstance(spec, cells.CellSpec)
    options: dict[str, Any] = {"activation": spec.input_activation, "recurrent_activation": spec.recurrent_activation}
    return LSTM, options if LSTM(1, **options).spec == spec else {"variant": spec}


_LAYERS: Mapping[str, Callable[[Chain, Node, Sequence[Any]], Value | None]] = {
    "MatMul": Chain._dense,
    "Gemm": Chain._dense,
    "Add": Chain._add,
    "Gather": Chain._gather,
    **dict.fromkeys(_MERGE, Chain._merge),
}
