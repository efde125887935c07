"""Cells by name, with made-up weights, inputs, states and upstream gradients, and what the textbook makes of them."""

import numpy as np
import own_cells
import reference
from own_cells import OWN

from numlstm import Cell, CellSpec, GRUSpec, RNNSpec, SLSTMSpec, cells, functional

SPECS = {
    **cells.VARIANTS,
    "gates of other shapes": CellSpec(True, "coupled", False, "hard_sigmoid", "relu", "linear", peepholes=True),
    "no gate": CellSpec(False, "one", False),
    "gru": GRUSpec(),
    "gru of other shapes": GRUSpec("relu", "hard_sigmoid"),
    "gru before": GRUSpec(reset_after=False),
    "projected": CellSpec(peepholes=True, projected=True),
    "rnn": RNNSpec(),
    "rnn relu": RNNSpec("relu"),
    "rnn, projected": RNNSpec(projected=True),
    "slstm": SLSTMSpec(),
    "slstm sigmoid": SLSTMSpec("sigmoid", "relu", "hard_sigmoid"),
    **OWN,
    "fgr, normed": CellSpec(peepholes=True, gate_recurrence=True, layer_norm=True),
    "ltms, normed": CellSpec(gate_sets=2, layer_norm=True),
    "projected, normed": CellSpec(projected=True, layer_norm=True),
    "gru, normed": GRUSpec(layer_norm=True),
    "gru before, normed": GRUSpec(reset_after=False, layer_norm=True),
    "rnn, normed": RNNSpec(layer_norm=True),
    "slstm, projected, normed": SLSTMSpec(projected=True, layer_norm=True),
    "own gru, normed": own_cells.NORMED,
    "own rnn, projected": own_cells.PROJECTED,
}
OWN_TEXTBOOK = {
    "mgu": (reference.MGU(), {}),
    "own gru": (reference.GRU(), {}),
    "own lstm": (reference.LSTM(), {"zoneout_h": 0.5}),
    "own slstm": (reference.SLSTM("sigmoid"), {}),
    "own rnn": (reference.SimpleRNN(), {}),
}


def textbook(spec):
    """Return the reference's cell, and its options."""
    if isinstance(spec, Cell):
        known = {**OWN, "own gru": own_cells.NORMED} if spec.layer_norm else OWN
        known = {"own rnn": own_cells.PROJECTED} if spec.projected else known
        return next(OWN_TEXTBOOK[name] for name, own in known.items() if own == spec)
    if isinstance(spec, GRUSpec):
        options = {"activation": spec.activation, "recurrent_activation": spec.recurrent_activation}
        return reference.GRU(spec.reset_after), options
    if isinstance(spec, RNNSpec):
        return reference.SimpleRNN(), {"activation": spec.activation}
    if isinstance(spec, SLSTMSpec):
        options = {"activation": spec.activation, "recurrent_activation": spec.recurrent_activation}
        return reference.SLSTM(spec.forget_gate), options
    squash = {"linear"} ^ {spec.input_activation, spec.output_activation, "linear"} or {"linear"}
    (activation,) = squash
    inner, outer = ("linear" if a == "linear" else "tanh" for a in (spec.input_activation, spec.output_activation))
    cell = reference.LSTM(
        spec.input_gate,
        spec.forget_gate,
        spec.output_gate,
        inner,
        outer,
        spec.peepholes,
        gate_recurrence=spec.gate_recurrence,
        gate_sets=spec.gate_sets,
        cell_input="h" if spec.cell_input == "h only" else spec.cell_input,
    )
    return cell, {"activation": activation, "recurrent_activation": spec.recurrent_activation}


class Made:
    """A cell with made-up weights, inputs, states and upstream gradients."""

    def __init__(self, rng, name, sizes, dtype):
        self.spec = SPECS[name]
        batch, steps, inputs, hidden = sizes
        self.cell, self.options = textbook(self.spec)
        outputs = hidden // 2 + 1 if "W_p" in self.spec.weights else hidden
        projection = outputs if outputs < hidden else None
        shapes = reference.weight_shapes(self.cell, inputs, hidden, projection, self.spec.layer_norm)
        scale = 1 / np.sqrt(hidden)
        self.weights = {key: rng.uniform(-scale, scale, shape).astype(dtype) for key, shape in shapes.items()}
        self.x = rng.standard_normal((batch, steps, inputs)).astype(dtype)
        self.dy = rng.standard_normal((batch, steps, outputs)).astype(dtype)
        widths = self.spec.state_sizes(hidden, outputs)
        self.states, self.dstates = (
            tuple(rng.standard_normal((batch, width)).astype(dtype) for width in widths) for _ in range(2)
        )
        if self.spec.state_names == ("h", "c", "n", "m"):
            self.states[2][1:] = 1 + np.abs(self.states[2][1:])  # n is a sum of exponentials
            self.states[1][0] = self.states[2][0] = 0  # as at the start

    def run(self, **options):
        return functional.rnn(self.x, tuple(self.weights.values()), self.states, cell=self.spec, **options)

    def run_both(self, **options):
        """Return all results of both passes, flat."""
        out = self.run(**options)
        gradients = functional.rnn_backward(out.tape, self.dy, self.dstates)
        return out.y, *out.states, gradients.x, *gradients.weights, *gradients.states

    def by_the_textbook(self, **options):
        """Return what `run_both` should, with more of the reference's options."""
        options = {**self.options, **options}
        wide = {key: value.astype(np.float64) for key, value in self.weights.items()}
        args = self.x.astype(np.float64), wide
        out = reference.rnn(self.cell, *args, self.states, **options)
        dstates = tuple(state.astype(np.float64) for state in self.dstates)
        gradients = reference.rnn_backward(self.cell, *args, out.trace, self.dy, dstates, **options)
        states = out.states[: self.spec.states]
        return out.y, *states, gradients.x, *gradients.weights.values(), *gradients.states[: self.spec.states]
