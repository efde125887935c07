"""A recurrent layer with made-up numbers, run forward and backward on a device."""

import numpy as np
from made import Made
from numlstm.kernels.cells import cell_type

from numlstm import cells as specs


class Layer:
    """What tests/made.py makes, in the arrays that kernels take: all that they write holds NaN before.

    lengths : of the sequences; behind them x holds NaN
    """

    def __init__(self, rng, name, sizes, dtype, lengths=None):
        batch, steps, _, hidden = sizes
        self.made, self.sizes, self.dtype = Made(rng, name, sizes, dtype), sizes, dtype
        self.lengths = np.full(batch, steps) if lengths is None else np.array(lengths)
        self.kind = cell_type(self.made.spec.name)
        W_ih, W_hh, b, p = specs.inside(self.made.spec, tuple(self.made.weights.values()))
        self.weights = W_ih, W_hh, b.reshape(-1, hidden), p
        self.x = np.where(np.arange(steps) < self.lengths[:, None], self.made.x.transpose(2, 0, 1), np.nan)
        self.x = self.x.transpose(1, 2, 0).astype(dtype)

    def _nan(self, *shape):
        return np.full(shape, np.nan, self.dtype)

    def run(self, device, tile=None, sweep=None, gradients=None, precision=None):
        """Return all results of both passes in the order of Made.by_the_textbook.

        sweep, tile, precision : of the passes; gradients : what the weights' gradients hold before, to be accumulated into
        """
        (batch, steps, inputs, hidden), kind, spec = self.sizes, self.kind, self.made.spec
        recurrent, states = device.recurrent, () if kind.h_is_state else range(kind.states)
        c, dc = self._nan(batch, steps + 1, kind.states, hidden), np.zeros((batch, kind.states, hidden), self.dtype)
        for k, state in enumerate(self.made.states[0 if kind.h_is_state else 1 :]):
            c[:, 0, k] = state
        for k in states:
            dc[:, k] = self.made.dstates[1 + k]

        def on_device(kind, *arrays):
            return kind(*map(device.array, arrays))

        cell = on_device(recurrent.Weights, *self.weights)
        z, y, h0 = self._nan(batch, steps, kind.slots, hidden), self._nan(batch, steps, hidden), self.made.states[0]
        layer = on_device(recurrent.Layer, self.x, h0, self.lengths, y, h0, c, z)
        inner = on_device(recurrent.Gradients, self.made.dy, self.made.dstates[0], dc, np.full_like(self.x, np.nan))
        sums = self._nan(recurrent.chunks(batch), kind.slots, hidden, inputs + 1 + hidden)
        before = [np.full_like(weight, np.nan) for weight in self.weights] if gradients is None else gradients
        outer = on_device(recurrent.WeightGradients, *before, sums)

        passes = recurrent.Recurrent(spec.name, self.dtype, sweep, tile and recurrent.Tile(*tile), precision=precision)
        passes.forward(cell, layer)
        y, last, c = device.host(layer.y), device.host(layer.h), device.host(layer.c)
        passes.backward(cell, layer, inner, outer, gradients is not None)
        dx, dh, dc = device.host(inner.dx), device.host(inner.dh), device.host(inner.dc)
        *weights, _ = map(device.host, outer)
        weights = specs.outside(spec, (*weights[:2], weights[2].reshape(-1), weights[3]))
        return y, last, *(c[:, steps, k] for k in states), dx, *weights, dh, *(dc[:, k] for k in states)

    def by_the_textbook(self):
        return self.made.by_the_textbook(lengths=self.lengths)
