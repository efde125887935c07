"""What a cell costs in flops, as the kernels write it; a comparison counts as one, a multiply-add as two."""

from typing import NamedTuple

from cell_engines import CELLS, outputs_of
from problem import Shape

from numlstm.cells import GRUSpec, RNNSpec, SLSTMSpec, Spec, gates

VALUE = {"sigmoid": 22, "tanh": 25, "hard_sigmoid": 4, "relu": 1, "linear": 0, "exp": 22, "log_sigmoid": 37}
SLOPE = {"sigmoid": 2, "tanh": 2, "hard_sigmoid": 2, "relu": 1, "linear": 0}


class Flops(NamedTuple):
    """Of one unit and step: products of a forward pass, and element-wise ones forward and backward."""

    products: int
    forward: int
    backward: int

    def of(self, quantity: str) -> int:
        both = quantity == "forward_backward"
        return self.products * (3 if both else 1) + self.forward + both * self.backward


OF_OPTIONS = {"lstm, cell clip": (4, 5), "lstm, recurrent dropout": (1, 1), "lstm, zoneout": (8, 9)}  # forward, backward


def flops(cell: str, shape: Shape) -> Flops:
    """Count what one unit and step of a cell costs; whole numbers, of which masks are made, do not count."""
    counted, more = _flops(CELLS[cell], shape), OF_OPTIONS.get(cell, (0, 0))
    if CELLS[cell].layer_norm:  # kernels/norm.py
        weights = CELLS[cell].weights
        rows, biases = weights["W_ih"][0] + weights["W_hh"][0], sum(n for name, (n, _) in weights.items() if name[0] == "b")
        more = 8 * rows + 12, 11 * rows + 4 + biases
    return counted._replace(forward=counted.forward + more[0], backward=counted.backward + more[1])


def _flops(spec: Spec, shape: Shape) -> Flops:
    outputs = outputs_of(spec, shape.H)
    products = 2 * (spec.weights["W_ih"][0] * shape.I + spec.weights["W_hh"][0] * outputs)
    products += 2 * outputs if "W_p" in spec.weights else 0
    products += 2 * spec.weights["R"][0] ** 2 * shape.H if "R" in spec.weights else 0
    if spec == CELLS["mgu"]:
        return Flops(products, VALUE["sigmoid"] + VALUE["tanh"] + 6, 13)
    if isinstance(spec, RNNSpec):
        return Flops(products, VALUE[spec.activation], 2 + SLOPE[spec.activation])
    gate, slope = VALUE[spec.recurrent_activation], SLOPE[spec.recurrent_activation]
    if isinstance(spec, GRUSpec):
        forward, backward = (5, 14) if spec.reset_after else (4, 15)
        return Flops(products, 2 * gate + VALUE[spec.activation] + forward, 2 * slope + SLOPE[spec.activation] + backward)
    if isinstance(spec, SLSTMSpec):
        of_f = spec.forget_gate == "sigmoid"
        forward = 2 * VALUE["exp"] + VALUE[spec.activation] + gate + of_f * VALUE["log_sigmoid"] + 14
        return Flops(products, forward, SLOPE[spec.activation] + slope + of_f * (VALUE["exp"] + 5) + 19)
    count = len(gates(spec)) - 1
    more = 2 * count * spec.peepholes + (spec.forget_gate == "coupled")
    values = VALUE[spec.input_activation] + VALUE[spec.output_activation]
    slopes = SLOPE[spec.input_activation] + SLOPE[spec.output_activation]
    forward = count * gate + values + 4 + more
    more += 3 * spec.gate_recurrence  # of the gates' gradients as states
    if spec.gate_sets == 2:  # differences, their mean, and the share
        forward, more = forward + VALUE["sigmoid"] + 9, more + 14
    return Flops(products, forward, count * (2 + slope) + slopes + VALUE[spec.output_activation] + 7 + more)
