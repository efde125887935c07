"""The element-wise mathematics of each cell and of its adjoint, written once, over lanes.

A lane is a SIMD vector on the CPU; the functions only use operators and the elementary functions, and write numbers through
``constant``, so that nothing is computed in a wider type. The type of a cell's parameters selects its functions.
"""

from typing import Any, NamedTuple

from numba.extending import overload

from .elementary import sigmoid, tanh
from .simd import constant, fma


class LSTM(NamedTuple):
    """Packed parameters of the LSTM with input, forget and output gates (Gers et al. 2000; Greff et al. 2017, NP).

    x : (H'/L, I, 4L)  input weights (layout.pack_gates)
    h : (H'/L, H, 4L)  recurrent weights
    b : (4, H')  bias, H padded to whole vectors with zeros
    """

    x: Any
    h: Any
    b: Any


def cell_forward(cell, z_i, z_f, z_g, z_o, c):
    """Return (i, f, g, o, c, h) of one step from the pre-activations and the previous cell state."""
    raise NotImplementedError("compiled code only")


def cell_backward(cell, i, f, g, o, c_before, c, dh, dc):
    """Return (dz_i, dz_f, dz_g, dz_o, dc_before) from one step's gates and states and the gradients that reach h and c."""
    raise NotImplementedError("compiled code only")


def _lstm_forward(cell, z_i, z_f, z_g, z_o, c):
    i, f, g, o = sigmoid(z_i), sigmoid(z_f), tanh(z_g), sigmoid(z_o)
    c = fma(f, c, i * g)
    return i, f, g, o, c, o * tanh(c)


def _lstm_backward(cell, i, f, g, o, c_before, c, dh, dc):
    one = constant(i, 1)
    squashed = tanh(c)
    dc = fma(dh * o, one - squashed * squashed, dc)
    dz_i = dc * g * (i * (one - i))
    dz_f = dc * c_before * (f * (one - f))
    dz_g = dc * i * (one - g * g)
    dz_o = dh * squashed * (o * (one - o))
    return dz_i, dz_f, dz_g, dz_o, dc * f


_CELLS = {LSTM: (_lstm_forward, _lstm_backward)}


def _functions_of(cell):
    return _CELLS.get(getattr(cell, "instance_class", None), (None, None))


@overload(cell_forward)
def _choose_forward(cell, z_i, z_f, z_g, z_o, c):
    return _functions_of(cell)[0]


@overload(cell_backward)
def _choose_backward(cell, i, f, g, o, c_before, c, dh, dc):
    return _functions_of(cell)[1]
