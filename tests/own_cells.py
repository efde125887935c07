"""Cells as a user writes them: twins of cells that the textbook has."""

import sys
from pathlib import Path

from numlstm import Cell, lanes
from numlstm.lanes import sigmoid, tanh

sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "examples"))

import minimal_gated_unit

HALF = 0.5


def _slope(y):
    return y * (1 - y)


def _gru_forward(z, states):
    r, u, h = sigmoid(z[0]), sigmoid(z[1]), states[0]
    n = tanh(z[2] + r * z[3])
    h = n + u * (h - n)
    return (r, u, n, z[3]), (h,), h


def _gru_backward(kept, before, after, dh, dstates):
    r, u, n, of_h = kept
    dn = dh * (1 - u) * (1 - n * n)
    return (dn * of_h * _slope(r), dh * (before[0] - n) * _slope(u), dn, dn * r), (dh * u,)


def _lstm_forward(z, states):
    """The LSTM, of whose h half is that of the step before."""
    i, f, g, o = sigmoid(z[0]), sigmoid(z[1]), tanh(z[2]), sigmoid(z[3])
    c = lanes.fma(f, states[1], i * g)
    h = HALF * (states[0] + o * tanh(c))
    return (i, f, g, o), (h, c), h


def _lstm_backward(kept, before, after, dh, dstates):
    i, f, g, o = kept
    squashed, dh = tanh(after[1]), HALF * dh
    dc = dstates[1] + dh * o * (1 - squashed * squashed)
    dz = dc * g * _slope(i), dc * before[1] * _slope(f), dc * i * (1 - g * g), dh * squashed * _slope(o)
    return dz, (dh, dc * f)


def _slstm_forward(z, states):
    c, n, m = states
    left = m + lanes.log_sigmoid(z[1])
    m = lanes.where(n == 0, z[0], lanes.maximum(left, z[0]))
    i, f, g, o = lanes.exp(z[0] - m), lanes.exp(lanes.minimum(left - m, 80.0)), tanh(z[2]), sigmoid(z[3])
    c, n = f * c + i * g, f * n + i
    return (i, f, g, o), (c, n, m), o * c / n


def _slstm_backward(kept, before, after, dh, dstates):
    i, f, g, o = kept
    ratio, down = after[0] / after[1], dh * o / after[1]
    dc, dn = dstates[0] + down, dstates[1] - down * ratio
    dlog_f = (dc * before[0] + dn * before[1]) * f
    dz_f = dlog_f * (1 - f * lanes.exp(lanes.minimum(after[2] - before[2], 80)))
    return ((dc * g + dn) * i, dz_f, dc * i * (1 - g * g), dh * ratio * _slope(o)), (dc * f, dn * f, dlog_f)


def _rnn_forward(z, states):
    h = tanh(z[0])
    return (h,), (), h


def _rnn_backward(kept, before, after, dh, dstates):
    return (dh * (1 - kept[0] * kept[0]),), ()


OWN = {
    "mgu": minimal_gated_unit.mgu,
    "own gru": Cell(_gru_forward, _gru_backward, gates="rzn", states="h", apart=1),
    "own lstm": Cell(_lstm_forward, _lstm_backward, gates="ifgo", states="hc"),
    "own slstm": Cell(_slstm_forward, _slstm_backward, gates="ifgo", states="cnm"),
    "own rnn": Cell(_rnn_forward, _rnn_backward, gates=1),
}
PROJECTED = Cell(_rnn_forward, _rnn_backward, gates=1, projected=True)
NORMED = Cell(_gru_forward, _gru_backward, gates="rzn", states="h", apart=1, layer_norm=True)
