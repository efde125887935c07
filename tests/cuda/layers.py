"""A recurrent layer with made-up numbers, run forward and backward on a device."""

import numpy as np
from made import Made
from numlstm.kernels import dropout
from numlstm.kernels.options import Options

from numlstm._engine_weights import inside, outside
from numlstm.backend import kind_of

SEED = 12345


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
        weights = inside(self.made.spec, tuple(self.made.weights.values()))
        W_ih, W_hh, b, p, *second = kind_of(self.made.spec.name).parted(weights)
        self.weights = W_ih, W_hh, b.reshape(-1, hidden), p
        self.second = [matrix for matrix in second if matrix is not None]
        self.outputs = self.made.dy.shape[2]
        self.x = np.where(np.arange(steps) < self.lengths[:, None], self.made.x.transpose(2, 0, 1), np.nan)
        self.x = self.x.transpose(1, 2, 0).astype(dtype)

        self.options, self.by_the_book = self._options(rng, options) if options else ((), {})

    def _options(self, rng, kind):
        """Return all options, and what the textbook calls them."""
        batch, _, _, hidden = self.sizes
        with_c = self.kind.state_names[:1] == ("c",) and "m" not in self.kind.state_names
        numbers = np.array([0.3 if with_c else np.inf, 0.3, 0.2 * with_c], self.dtype)
        mask = ((rng.random((batch, self.outputs)) < 0.5) * 2).astype(self.dtype)
        key = np.array([SEED] if kind == "drawn" else [], np.uint64)
        h, c = map(float, numbers[1:])
        if kind == "drawn":
            h, c = self._drawn(h, self.outputs, 32), self._drawn(c, hidden, 0)
        of_c = {"cell_clip": float(numbers[0]), "zoneout_c": c} if with_c else {}
        return Options(numbers, key, mask), {"recurrent_dropout": mask, "zoneout_h": h, **of_c}

    def _drawn(self, rate, size, shift):
        """Return the mask of zoneout (N, T, size) that the CPU draws, from 32 bits of each random word."""
        shape = *self.sizes[:2], size
        words = dropout.random_word.py_func(np.uint64(SEED), np.arange(np.prod(shape))).reshape(shape)
        return (words >> np.uint64(shift) & np.uint64(0xFFFFFFFF) < np.uint64(rate * 2**32)) * 1.0

    def _nan(self, *shape):
        return np.full(shape, np.nan, self.dtype)

    def run(self, device, tile=None, sweep=None, gradients=None, precision=None):
        """Return all results of both passes in the order of Made.by_the_textbook.

        sweep, tile, precision : of the passes; gradients : what the weights' gradients hold before, to be accumulated into
        """
        (batch, steps, inputs, hidden), kind, spec = self.sizes, self.kind, self.made.spec
        recurrent, states, outputs = device.recurrent, range(kind.states - kind.h_is_state), self.outputs
        in_c = kind.states + bool(self.options)
        c, dc = self._nan(batch, steps + 1, in_c, hidden), self._nan(batch, in_c, hidden)
        dc[:, : kind.states] = 0
        for k, state in enumerate((*self.made.states[1:], self.made.states[0])[: kind.states]):
            c[:, 0, k] = state
        for k in states:
            dc[:, k] = self.made.dstates[1 + k]

        def on_device(kind, *arrays):
            return kind(*map(device.array, arrays))

        def of_second(*shape):
            return device.array(self._nan(*shape)) if self.second else ()

        def of_norm(*shape):
            return device.array(self._nan(*shape)) if kind.base else ()

        options = self.options and on_device(Options, *self.options)
        cell = on_device(recurrent.Weights, *self.weights)._replace(options=options)
        z, y, h0 = self._nan(batch, steps, kind.slots, hidden), self._nan(batch, steps, outputs), self.made.states[0]
        layer = on_device(recurrent.Layer, self.x, h0, self.lengths, y, h0, c, z)
        inner = on_device(recurrent.Gradients, self.made.dy, self.made.dstates[0], dc, np.full_like(self.x, np.nan))
        columns = inputs + self.weights[1].shape[1]
        sums, second_sums = recurrent.sums_shapes(kind, batch, columns, hidden, outputs)
        before = [np.full_like(w, np.nan) for w in (*self.weights, *self.second)] if gradients is None else gradients
        outer = on_device(recurrent.WeightGradients, *before[:4], self._nan(*sums))
        if self.second:
            cell = cell._replace(second=device.array(self.second[0]))
            outer = outer._replace(second=device.array(before[4]), second_sums=device.array(self._nan(*second_sums)))
        layer = layer._replace(
            u=of_second(batch, steps, hidden), scale=of_norm(batch, steps, len(recurrent.products_of(kind)))
        )
        inner = inner._replace(du=of_second(batch, hidden), norm=of_norm(batch, kind.slots, hidden))

        passes = recurrent.Recurrent(
            spec.name, self.dtype, sweep, tile and recurrent.Tile(*tile), precision=precision, options=bool(options)
        )
        passes.forward(cell, layer)
        y, last, c = device.host(layer.y), device.host(layer.h), device.host(layer.c)
        passes.backward(cell, layer, inner, outer, gradients is not None)
        dx, dh, dc = device.host(inner.dx), device.host(inner.dh), device.host(inner.dc)
        weights = self.outside(*map(device.host, outer[:4]), *map(device.host, [outer.second][: len(self.second)]))
        return y, last, *(c[:, steps, k] for k in states), dx, *weights, dh, *(dc[:, k] for k in states)

    def outside(self, W_ih, W_hh, b, p, *second):
        """Return the weights' gradients as users have them."""
        if self.kind.second_product == "W_hh":
            W_hh, second = np.concatenate([W_hh, *second]), ()
        return outside(self.made.spec, (W_ih, W_hh, b.reshape(-1), p, *second))

    def by_the_textbook(self):
        return self.made.by_the_textbook(lengths=self.lengths, **self.by_the_book)
