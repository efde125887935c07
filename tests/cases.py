"""Every cell with every option, on made-up weights and sequences, for the reference and what is held against it."""

import numpy as np
import reference

CELLS = {
    **reference.PRESETS,
    "gru": reference.GRU(),
    "gru before": reference.GRU(reset_after=False),
    "rnn": reference.SimpleRNN(),
    "slstm": reference.SLSTM(),
    "slstm sigmoid": reference.SLSTM(forget_gate="sigmoid"),
}
BATCH, STEPS, INPUTS, HIDDEN = 3, 3, 2, 3
CLIP = 0.4
OPTIONS = {
    "plain": {},
    "start": {"start": True},
    "hard_sigmoid": {"recurrent_activation": "hard_sigmoid", "activation": "hard_sigmoid"},
    "relu": {"activation": "relu"},
    "linear": {"activation": "linear"},
    "layer norm": {"layer_norm": True},
    "layer norm of c": {"layer_norm": "of c too"},
    "projection": {"projection": 2},
    "cell clip": {"cell_clip": CLIP},
    "recurrent dropout": {"recurrent_dropout": "mask"},
    "zoneout h": {"zoneout_h": "mask"},
    "zoneout c": {"zoneout_c": "mask"},
    "expected zoneout h": {"zoneout_h": 0.1},
    "expected zoneout c": {"zoneout_c": 0.3},
    "lengths": {"lengths": np.array([2, 3, 1])},
}
TOGETHER = ["projection", "layer norm", "recurrent dropout", "zoneout h", "zoneout c", "cell clip", "lengths"]
CELL_STATE = ("cell clip", "zoneout c", "expected zoneout c")


def has(cell, option):
    """Tell whether a cell has an option; test_what_has_no_meaning_is_refused has the others."""
    if option == "projection":
        return not isinstance(cell, reference.GRU)
    if option == "layer norm of c" and not cell.has_cell_state:
        return False
    return cell.has_cell_state or option not in CELL_STATE


class Case:
    """A cell with made-up weights, inputs, options and upstream gradients."""

    def __init__(self, rng, cell, options, steps=STEPS):
        self.cell = cell
        self.options = {name: value for option in options for name, value in OPTIONS[option].items()}
        of_weights = {name: self.options.pop(name) for name in ("projection", "layer_norm") if name in self.options}
        scale = 3.0 if "hard_sigmoid" in options else 1.0  # to reach the flat ends
        shapes = reference.weight_shapes(cell, INPUTS, HIDDEN, **of_weights)
        self.weights = {name: rng.uniform(-scale, scale, shape) for name, shape in shapes.items()}
        widths = reference.state_widths(cell, self.weights)
        self.x, self.dy = rng.standard_normal((BATCH, steps, INPUTS)), rng.standard_normal((BATCH, steps, widths[0]))
        self.states, self.dstates = (tuple(rng.standard_normal((BATCH, width)) for width in widths) for _ in range(2))
        if isinstance(cell, reference.SLSTM):
            self.states[2][:] = 1 + np.abs(self.states[2])  # n is a sum of exponentials
        if self.options.pop("start", False):
            self.states = tuple(np.zeros_like(s) for s in self.states)
        for name in [name for name, value in self.options.items() if isinstance(value, str) and value == "mask"]:
            if name == "recurrent_dropout":
                self.options[name] = (rng.random((BATCH, widths[0])) < 0.5) * 2.0
            else:
                self.options[name] = rng.random((BATCH, steps, HIDDEN if name == "zoneout_c" else widths[0])) < 0.5

    def run(self):
        return reference.rnn(self.cell, self.x, self.weights, self.states, **self.options)

    def backward(self, out):
        dstates = self.dstates
        if isinstance(self.cell, reference.SLSTM):  # the adjoint of `loss`
            (_, c, n, _), (dh, dratio, dlog, _) = out.states, dstates
            dstates = dh, dratio / n, dlog / n - dratio * c / n**2, dlog
        return reference.rnn_backward(self.cell, self.x, self.weights, out.trace, self.dy, dstates, **self.options)

    def loss(self):
        """Return sum(y dy) + sum(states dstates); of an sLSTM's memory what does not depend on its scale: c / n, n e^m."""
        out = self.run()
        states = out.states
        if isinstance(self.cell, reference.SLSTM):
            h, c, n, m = states
            states = h, c / n, np.log(n) + m
        return (out.y * self.dy).sum() + sum((s * d).sum() for s, d in zip(states, self.dstates, strict=False))

    def part(self, rows=slice(None), steps=slice(None), states=None):
        """Return the case with some of its sequences or steps."""
        part = object.__new__(Case)
        part.cell, part.weights, part.options = self.cell, self.weights, dict(self.options)
        part.x, part.dy = self.x[rows, steps], self.dy[rows, steps]
        part.states = tuple(s[rows] for s in self.states) if states is None else states
        part.dstates = tuple(s[rows] for s in self.dstates)
        for name, value in self.options.items():
            if isinstance(value, np.ndarray):
                part.options[name] = value[rows, steps] if name.startswith("zoneout") else value[rows]
        return part


def combinations():
    """Yield (name, cell, options): every cell with every option that it has, and with several of them together."""
    for name, cell in CELLS.items():
        for option in OPTIONS:
            if has(cell, option):
                yield f"{name}-{option}", cell, [option]
        yield f"{name}-together", cell, [option for option in TOGETHER if has(cell, option)]
