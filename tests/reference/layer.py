"""A layer: a cell over time, with what all cells share. Projection, recurrent dropout, zoneout and lengths are here."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from reference.cells import GRU
from reference.parts import Weights


@dataclass(frozen=True)
class Options:
    """What a layer may have beside its cell.

    Layer normalisation and projection are switched on by their weights: gain_ih and gain_hh (and gain_c, b_c), W_p.
    """

    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    cell_clip: float | None = None  # c is limited to [-cell_clip, cell_clip], before the output gate and h see it
    recurrent_dropout: Any = None  # mask (N, P), scaled: h is multiplied by it before every product
    zoneout_h: Any = None  # masks (N, T, width), or anything that broadcasts: 1 keeps the state of the step before;
    zoneout_c: Any = None  # in inference the probability of that, which mixes the two
    epsilon: float = 1e-5  # of layer normalisation, PyTorch's


def weight_shapes(cell, inputs, hidden, projection=None, layer_norm=False):
    """Return the shapes of all weights by name. layer_norm: True for that of the products, "of c too"."""
    shapes = cell.weight_shapes(inputs, hidden, projection or hidden)
    if projection:
        shapes["W_p"] = (projection, hidden)
    if layer_norm:
        shapes |= {"gain_ih": shapes["W_ih"][:1], "gain_hh": shapes["W_hh"][:1]}
        if layer_norm == "of c too":
            shapes |= {"gain_c": (hidden,), "b_c": (hidden,)}
    return shapes


def state_widths(cell, weights):
    """Return the last axis of each state, in order, h first."""
    weights = weights if isinstance(weights, dict) else vars(weights)
    outputs = weights["W_hh"].shape[1]
    return cell.state_widths(weights["W_p"].shape[1] if "W_p" in weights else outputs, outputs)


def rnn(cell, x, weights, states=None, lengths=None, **options):
    """Run a cell over x (N, T, I). Return y (N, T, P), the last states, and the trace: each step's arrays by name.

    Past a sequence's length y is 0 and the states stay. Options: see Options.
    """
    layer = _Layer(cell, x, weights, lengths, options)
    states = layer.start if states is None else tuple(np.asarray(s, np.float64) for s in states)
    y, trace = np.zeros((*x.shape[:2], states[0].shape[1])), []
    for t in range(x.shape[1]):
        before = states
        new, step = cell.forward(layer.weights, layer.options, layer.x[:, t], before[0] * layer.dropout, before)
        step |= {"unprojected": new[0], "before": before}
        if "W_p" in layer.weights:
            new = (layer.weights.product("W_p", new[0]), *new[1:])
        states = tuple(keep * old + (1 - keep) * s for keep, old, s in zip(layer.keeps(t), before, new, strict=True))
        y[:, t] = layer.valid[:, t] * states[0]
        trace.append(step | {"states": states})
    return SimpleNamespace(y=y, states=states, trace=trace)


def rnn_backward(cell, x, weights, trace, dy, dstates=None, lengths=None, **options):
    """Return the gradients of sum(y dy) + sum(states dstates) for x, the weights (typed as given) and first states."""
    layer = _Layer(cell, x, weights, lengths, options)
    w, dx = layer.weights, np.zeros_like(layer.x)
    dstates = layer.start if dstates is None else tuple(np.asarray(s, np.float64) for s in dstates)
    for t in reversed(range(x.shape[1])):
        step = trace[t]
        before, seen = step["before"], step["before"][0] * layer.dropout
        dstates = (dstates[0] + layer.valid[:, t] * dy[:, t], *dstates[1:])
        keeps = layer.keeps(t)
        dnew = [(1 - keep) * d for keep, d in zip(keeps, dstates, strict=True)]
        if "W_p" in w:
            dnew[0] = w.product_backward("W_p", step["unprojected"], dnew[0])
        dx[:, t], dseen, dbefore = cell.backward(w, layer.options, layer.x[:, t], seen, before, step, dnew)
        dstates = tuple(keep * d + db for keep, d, db in zip(keeps, dstates, dbefore, strict=True))
        dstates = (dstates[0] + dseen * layer.dropout, *dstates[1:])
    gradients = w.gradient if isinstance(weights, dict) else SimpleNamespace(**w.gradient)
    return SimpleNamespace(x=dx, weights=gradients, states=dstates)


class _Layer:
    def __init__(self, cell, x, weights, lengths, options):
        self.cell, self.options = cell, Options(**options)
        self.weights = Weights(weights, self.options.epsilon)
        _check(cell, self.weights, self.options)
        batch, steps, _ = x.shape
        lengths = np.full(batch, steps) if lengths is None else np.asarray(lengths)
        self.valid = (np.arange(steps) < lengths[:, None])[..., None]
        self.x = np.where(self.valid, np.asarray(x, np.float64), 0.0)  # what lies past a length may be NaN
        self.start = tuple(np.zeros((batch, width)) for width in state_widths(cell, weights))
        self.dropout = 1.0 if self.options.recurrent_dropout is None else np.asarray(self.options.recurrent_dropout)
        zoneout = [self.options.zoneout_h, self.options.zoneout_c] + [None] * len(self.start)
        self.keep = [
            np.where(self.valid, 0.0 if mask is None else mask, 1.0) for mask, _ in zip(zoneout, self.start, strict=False)
        ]

    def keeps(self, t):
        """Return for each state how much of it stays as it was: (N, 1) or (N, width)."""
        return [keep[:, t] for keep in self.keep]


def _check(cell, weights, options):
    """Refuse what has no meaning."""
    assert not ("W_p" in weights and isinstance(cell, GRU)), "a GRU mixes n with h, so that h cannot be narrower"
    for name in ("cell_clip", "zoneout_c"):
        assert getattr(options, name) is None or cell.has_cell_state, f"{name} needs a cell state with a scale of its own"
