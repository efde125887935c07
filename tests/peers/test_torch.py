"""Against torch.nn.LSTM: outputs, states and every gradient of 60 random configurations."""

import numpy as np
import pytest
from support import GRADIENTS, Layer

from numlstm import functional

torch = pytest.importorskip("torch", reason="PyTorch is not installed; .ci/run installs it (extra `bench`)")

# Relative to the largest element, of what either of two orders of summation may give.
RELATIVE_ERROR = {np.float32: 5e-6, np.float64: 5e-12}


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("seed", range(60))
def test_outputs_states_and_gradients_match(seed, ragged):
    rng = np.random.default_rng(seed)
    dtype = (np.float32, np.float64)[seed % 2]
    sizes = rng.integers(1, (40, 60, 90, 150), endpoint=True)
    layer = Layer.random(rng, *sizes, dtype=dtype)
    lengths = rng.integers(1, sizes[1], sizes[0], endpoint=True) if ragged else None
    out = functional.lstm(layer.x, layer.weights, layer.h0, layer.c0, lengths)
    gradients = functional.lstm_backward(out.tape, layer.dy, layer.dh, layer.dc)

    module = torch.nn.LSTM(int(sizes[2]), int(sizes[3]), batch_first=True, dtype=getattr(torch, np.dtype(dtype).name))
    tensors = {name: torch.from_numpy(value.copy()) for name, value in vars(layer).items()}
    with torch.no_grad():
        module.weight_ih_l0.copy_(tensors["W_ih"])
        module.weight_hh_l0.copy_(tensors["W_hh"])
        module.bias_ih_l0.copy_(tensors["b"])
        module.bias_hh_l0.zero_()
    for name in ("x", "h0", "c0"):
        tensors[name].requires_grad_()
    x, pack, pad = tensors["x"], torch.nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pad_packed_sequence
    given = pack(x, torch.from_numpy(lengths), batch_first=True, enforce_sorted=False) if ragged else x
    y, (h, c) = module(given, (tensors["h0"][None], tensors["c0"][None]))
    if ragged:
        y = pad(y, batch_first=True, total_length=x.shape[1])[0]
    ((y * tensors["dy"]).sum() + (h[0] * tensors["dh"]).sum() + (c[0] * tensors["dc"]).sum()).backward()

    want = {
        "W_ih": module.weight_ih_l0.grad,
        "W_hh": module.weight_hh_l0.grad,
        "b": module.bias_ih_l0.grad,
        **{name: tensors[name].grad for name in ("x", "h0", "c0")},
    }
    pairs = [(out.y, y), (out.h, h[0]), (out.c, c[0])] + [(getattr(gradients, name), want[name]) for name in GRADIENTS]
    for got, wanted in pairs:
        wanted = wanted.detach().numpy()
        assert np.abs(got - wanted).max() < RELATIVE_ERROR[dtype] * np.abs(wanted).max()
