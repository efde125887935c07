"""A recurrent layer with made-up numbers, run forward and backward on a device."""

import numpy as np
from made import SPECS, Made
from numlstm.kernels import dropout
from numlstm.kernels.options import Options

from numlstm._engine_weights import inside, outside
from numlstm.backend import kind_of

SEED = 12345
NOT_YET = ("gru before", *(name for name in SPECS if "normed" in name or "projected" in name))  # by the kernels for CUDA


class Layer:
    """What tests/made.py makes, in the arrays that kernels take: all that they write holds NaN before.

    lengths : of the sequences; behind them x holds NaN
    options : None, or whether zoneout mixes by its probabilities ("expected") or draws masks ("drawn")
    """

    def __init__(self, rng, name, sizes, dtype, lengths=None, options=None):
        batch, steps, _, hidden = sizes
        self.made, self.sizes, self.dtype = Made(rng, name, sizes, dtype), sizes, dtype
        self.lengths = np.full(batch, steps) if lengths is None else np.array(lengths)
        self.kind = kind_of(self.made.spec.name).cell
        W_ih, W_hh, b, p = inside(self.made.spec, tuple(self.made.weights.values()))
        self.weights = W_ih, W_hh, b.reshape(-1, hidden), p
        self.x = np.where(np.arange(steps) < self.lengths[:, None], self.made.x.transpose(2, 0, 1), np.nan)
        self.x = self.x.transpose(1, 2, 0).astype(dtype)

        self.options, self.by_the_book = self._options(rng, options) if options else ((), {})

    def _options(self, rng, kind):
        """Return all options, and what the textbook calls them."""
        (batch, steps, _, hidden), with_c = (
            self.sizes,
            self.kind.state_names[:1] == ("c",) and "m" not in self.kind.state_names,
        )
        numbers = np.array([0.3 if with_c else np.inf, 0.3, 0.2 * with_c], self.dtype)
        mask = ((rng.random((batch, hidden)) < 0.5) * 2).astype(self.dtype)
        key = np.array([SEED] if kind == "drawn" else [], np.uint64)
        words = dropout.random_word.py_func(np.uint64(SEED), np.arange(batch * steps * hidden)).reshape(batch, steps, hidden)
        halves = words >> np.uint64(32), words & np.uint64(0xFFFFFFFF)
        keeps = [(half < np.uint64(float(rate) * 2**32)) * 1.0 for half, rate in zip(halves, numbers[1:], strict=True)]
        h, c = keeps if kind == "drawn" else map(float, numbers[1:])
        of_c = {"cell_clip": float(numbers[0]), "zoneout_c": c} if with_c else {}
        return Options(numbers, key, mask), {"recurrent_dropout": mask, "zoneout_h": h, **of_c}

    def _nan(self, *shape):
        return np.full(shape, np.nan, self.dtype)

    def run(self, device, tile=None, sweep=None, gradients=None, precision=None):
        """Return all results of both passes in the order of Made.by_the_textbook.

        sweep, tile, precision : of the passes; gradients : what the weights' gradients hold before, to be accumulated into
        """
        (batch, steps, inputs, hidden), kind, spec = self.sizes, self.kind, self.made.spec
        recurrent, states = device.recurrent, range(kind.states - kind.h_is_state)
        in_c = kind.states + bool(self.options)
        c, dc = self._nan(batch, steps + 1, in_c, hidden), self._nan(batch, in_c, hidden)
        dc[:, : kind.states] = 0
        for k, state in enumerate((*self.made.states[1:], self.made.states[0])[: kind.states]):
            c[:, 0, k] = state
        for k in states:
            dc[:, k] = self.made.dstates[1 + k]

        def on_device(kind, *arrays):
            return kind(*map(device.array, arrays))

        options = self.options and on_device(Options, *self.options)
        cell = on_device(recurrent.Weights, *self.weights)._replace(options=options)
        z, y, h0 = self._nan(batch, steps, kind.slots, hidden), self._nan(batch, steps, hidden), self.made.states[0]
        layer = on_device(recurrent.Layer, self.x, h0, self.lengths, y, h0, c, z)
        inner = on_device(recurrent.Gradients, self.made.dy, self.made.dstates[0], dc, np.full_like(self.x, np.nan))
        sums = self._nan(recurrent.chunks(batch), kind.slots, hidden, inputs + 1 + self.weights[1].shape[1])
        before = [np.full_like(weight, np.nan) for weight in self.weights] if gradients is None else gradients
        outer = on_device(recurrent.WeightGradients, *before, sums)

        passes = recurrent.Recurrent(
            spec.name, self.dtype, sweep, tile and recurrent.Tile(*tile), precision=precision, options=bool(options)
        )
        passes.forward(cell, layer)
        y, last, c = device.host(layer.y), device.host(layer.h), device.host(layer.c)
        passes.backward(cell, layer, inner, outer, gradients is not None)
        dx, dh, dc = device.host(inner.dx), device.host(inner.dh), device.host(inner.dc)
        *weights, _ = map(device.host, outer)
        weights = outside(spec, (*weights[:2], weights[2].reshape(-1), weights[3]))
        return y, last, *(c[:, steps, k] for k in states), dx, *weights, dh, *(dc[:, k] for k in states)

    def by_the_textbook(self):
        return self.made.by_the_textbook(lengths=self.lengths, **self.by_the_book)
