"""A whole training step of CUDA operations one after the other, against the model that does the same on the CPU."""

import numpy as np
from numlstm.kernels import losses
from numlstm.kernels.cells import cell_type

from numlstm import LSTM, Dense, Embedding, Sequential, Trainer
from numlstm.cells import CellSpec
from numlstm.losses import SparseCategoricalCrossentropy
from numlstm.optimizers import Adam

BATCH, STEPS, WORDS, WIDTH, UNITS, CLASSES = 5, 3, 7, 4, 6, 3
LENGTHS = np.array([3, 1, 2, 3, 2])
CLIP = 0.05  # so small that it matters
UPDATES = 3


def on_the_cpu(tokens, labels):
    """Return the parameters before, those after some updates, and the last loss."""
    layers = Embedding(WORDS, WIDTH, seed=1), LSTM(UNITS, seed=2), Dense(CLASSES, seed=3)
    model = Sequential(layers)
    model.predict(tokens, verbose=0)
    before = [array.copy() for layer in layers for array in layer.parameters.values()]
    loss = SparseCategoricalCrossentropy(from_logits=True)
    trainer = Trainer(model, Adam(0.1), loss, clip_norm=CLIP)
    history = trainer.fit(tokens, labels, BATCH, UPDATES, verbose=0, shuffle=False, lengths=LENGTHS)
    return before, [array for layer in layers for array in layer.parameters.values()], history.history["loss"][-1]


class Step:
    """Parameters, gradients and all else of a training step on a device; only labels and tokens go there."""

    def __init__(self, device, parameters):
        self.device, self.shapes = device, [array.shape for array in parameters]
        flat = np.concatenate([array.ravel() for array in parameters])
        self.parameters, self.gradient = device.array(flat), self.empty(flat.size)
        self.slots, self.updates = self.zeros(2, flat.size), 0
        self.views, self.gradients = self._parts(self.parameters), self._parts(self.gradient)
        small = device.recurrent.Tile(4, 2, 2, 4)
        self.lstm = device.recurrent.Recurrent(CellSpec().name, np.float32, tile=small)
        self.dense = device.recurrent.Dense(np.float32, small)

    def empty(self, *shape):
        return self.device.array(np.full(shape, np.nan, np.float32))

    def zeros(self, *shape):
        return self.device.array(np.zeros(shape, np.float32))

    def _parts(self, flat):
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])
        return [flat[end - int(np.prod(s)) : end].reshape(s) for s, end in zip(self.shapes, ends, strict=True)]

    def __call__(self, tokens, labels):
        """Move the parameters by one step and return the loss before."""
        device, (table, W_ih, W_hh, b, W, b_dense) = self.device, self.views
        d_table, *d_lstm, d_W, d_b_dense = self.gradients
        run, parts = device.operations, device.recurrent
        tokens, labels, lengths = (device.array(a) for a in (tokens.ravel(), labels, LENGTHS))

        x = self.empty(BATCH, STEPS, WIDTH)
        run.gather(0, table, tokens, x.reshape(BATCH * STEPS, WIDTH))
        states = self.zeros(BATCH, STEPS + 1, 1, UNITS)
        y, h, z = self.empty(BATCH, STEPS, UNITS), self.zeros(BATCH, UNITS), self.empty(BATCH, STEPS, 4, UNITS)
        layer = parts.Layer(x, self.zeros(BATCH, UNITS), lengths, y, h, states, z)
        cell = parts.Weights(W_ih, W_hh, b.reshape(4, UNITS), self.zeros(0))
        self.lstm.forward(cell, layer)

        logits, none = self.empty(1, BATCH, 1, CLASSES), self.zeros(1, 0)
        flat = parts.Layer(
            h.reshape(1, BATCH, UNITS),
            none,
            device.array(np.array([BATCH])),
            self.zeros(1, BATCH, 0),
            none,
            self.zeros(1, BATCH + 1, 0, 0),
            logits,
        )
        head = parts.Weights(W, self.zeros(CLASSES, 0), b_dense.reshape(1, CLASSES), self.zeros(0))
        self.dense.forward(head, flat)

        dz, values, sums = self.empty(BATCH, CLASSES), device.array(np.empty(BATCH)), device.array(np.empty(3))
        scores, everything = logits.reshape(BATCH, CLASSES), self.zeros(0)
        no_lengths = device.array(np.zeros(0, np.int64))
        more = everything, no_lengths, 1 / BATCH, dz
        run.loss(0, losses.Logits(), scores, labels, *more, values=values, sums=sums)
        loss = device.host(sums)[0] / BATCH

        dh = self.empty(1, BATCH, UNITS)
        inner = parts.Gradients(self.zeros(1, BATCH, 0), none, self.zeros(1, 0, 0), dh)
        work = self.empty(1, 1, CLASSES, UNITS + 1)
        outer = parts.WeightGradients(d_W, self.zeros(CLASSES, 0), d_b_dense.reshape(1, CLASSES), self.zeros(0), work)
        self.dense.backward(head, flat._replace(z=dz.reshape(1, BATCH, 1, CLASSES)), inner, outer, False)

        dx, dc = self.empty(BATCH, STEPS, WIDTH), self.zeros(BATCH, 1, UNITS)
        inner = parts.Gradients(self.zeros(BATCH, STEPS, UNITS), dh.reshape(BATCH, UNITS), dc, dx)
        work = self.empty(*parts.sums_shapes(cell_type(CellSpec().name), BATCH, WIDTH + UNITS, UNITS, UNITS)[0])
        outer = parts.WeightGradients(*d_lstm[:2], d_lstm[2].reshape(4, UNITS), self.zeros(0), work)
        self.lstm.backward(cell, layer, inner, outer, False)
        d_table[:] = 0
        run.scatter(0, tokens, dx.reshape(BATCH * STEPS, WIDTH), d_table)

        factor = device.array(np.ones(1))
        run.sum_of_squares(0, self.gradient, sums)
        run.clip(0, sums[:1], CLIP, factor)
        run.update(0, Adam(0.1).rule(self.updates), self.parameters, self.gradient, self.slots, factor, 0.0)
        self.updates += 1
        return loss


def test_training_matches_the_model_on_the_cpu(rng, device):
    tokens, labels = rng.integers(0, WORDS, (BATCH, STEPS)), rng.integers(0, CLASSES, BATCH)
    before, after, want = on_the_cpu(tokens, labels)
    step = Step(device, before)
    found = [step(tokens, labels) for _ in range(UPDATES)]
    assert found[0] > found[-1] and abs(found[-1] - want) < 1e-5
    for got, expected, start in zip(step.views, after, before, strict=True):
        assert np.abs(expected - start).max() > 0.05  # much further than what is allowed
        np.testing.assert_allclose(device.host(got), expected, rtol=0, atol=1e-4)
