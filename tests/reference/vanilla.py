"""The LSTM without options, fast enough for large layers: the sums over time of its weights' gradients are one product."""

from types import SimpleNamespace

import numpy as np

from reference.parts import sigmoid


def lstm(x, W_ih, W_hh, b, h0=None, c0=None):
    """Return y, h, c and the trace (gates and states of every step) of one layer; see functional.lstm."""
    x, W_ih, W_hh, b = (np.asarray(a, np.float64) for a in (x, W_ih, W_hh, b))
    batch, steps, _ = x.shape
    hidden = W_hh.shape[1]
    h = np.zeros((batch, hidden)) if h0 is None else np.asarray(h0, np.float64)
    c = np.zeros((batch, hidden)) if c0 is None else np.asarray(c0, np.float64)
    y = np.empty((batch, steps, hidden))
    trace = []
    for t in range(steps):
        z = x[:, t] @ W_ih.T + h @ W_hh.T + b
        i, f, g, o = np.split(z, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        before = SimpleNamespace(h=h, c=c)
        c = f * c + i * g
        h = o * np.tanh(c)
        y[:, t] = h
        trace.append(SimpleNamespace(i=i, f=f, g=g, o=o, c=c, before=before))
    return SimpleNamespace(y=y, h=h, c=c, trace=trace)


def lstm_backward(x, W_ih, W_hh, b, trace, dy, dh=None, dc=None):
    """Return the gradients of sum(y dy) + sum(h dh) + sum(c dc), and dz (N, T, 4H); see functional.lstm_backward."""
    x, W_ih, W_hh, dy = (np.asarray(a, np.float64) for a in (x, W_ih, W_hh, dy))
    batch, steps, _ = x.shape
    hidden = W_hh.shape[1]
    dh = np.zeros((batch, hidden)) if dh is None else np.asarray(dh, np.float64)
    dc = np.zeros((batch, hidden)) if dc is None else np.asarray(dc, np.float64)
    dz = np.zeros((batch, steps, 4 * hidden))
    for t in reversed(range(steps)):
        s = trace[t]
        dh = dh + dy[:, t]
        squashed = np.tanh(s.c)
        dc = dc + dh * s.o * (1 - squashed**2)
        dz[:, t] = np.concatenate(
            [
                dc * s.g * s.i * (1 - s.i),
                dc * s.before.c * s.f * (1 - s.f),
                dc * s.i * (1 - s.g**2),
                dh * squashed * s.o * (1 - s.o),
            ],
            axis=1,
        )
        dh = dz[:, t] @ W_hh
        dc = dc * s.f
    dW_ih, dW_hh, db = weight_gradients(x, trace, dz)
    return SimpleNamespace(x=dz @ W_ih, W_ih=dW_ih, W_hh=dW_hh, b=db, h0=dh, c0=dc, z=dz)


def weight_gradients(x, trace, dz):
    """Return dW_ih, dW_hh and db: sums over the rows of dz (N, T, 4H), which may be fewer than the trace's."""
    batch, steps, gates = dz.shape
    hidden = gates // 4
    before = [s.before.h[:batch] for s in trace] or [np.zeros((batch, hidden))]
    before = np.stack(before, axis=1).reshape(-1, hidden)[: batch * steps]
    flat = dz.reshape(-1, gates)
    return flat.T @ x[:batch].reshape(flat.shape[0], -1), flat.T @ before, flat.sum(axis=0)
