"""Against PyTorch's bidirectional layers, two of them stacked: outputs, states and every gradient."""

import numpy as np
import pytest

from numlstm import GRU, LSTM, Bidirectional, Sequential, SimpleRNN
from numlstm.inspection import Passes

torch = pytest.importorskip("torch", reason="PyTorch is not installed; .ci/run installs it (extra `bench`)")

KINDS = {
    "lstm": (LSTM, torch.nn.LSTM, {}),
    "gru": (GRU, torch.nn.GRU, {}),
    "simple": (SimpleRNN, torch.nn.RNN, {}),
    "simple relu": (
        lambda *args, **more: SimpleRNN(*args, activation="relu", **more),
        torch.nn.RNN,
        {"nonlinearity": "relu"},
    ),
}
RELATIVE_ERROR = {np.float32: 5e-6, np.float64: 5e-12}  # of the largest element, of what orders of summation may give


def _weights(module, of):
    """Return something of PyTorch's parameters as numlstm has them, layer by layer and direction by direction."""
    hidden, found = module.hidden_size, []
    for layer in range(module.num_layers):
        for end in ("", "_reverse"):
            names = (f"{name}_l{layer}{end}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            W_ih, W_hh, b, b_h = (of(getattr(module, name)).numpy() for name in names)
            found += [W_ih, W_hh, np.concatenate([b, b_h[2 * hidden :]]) if isinstance(module, torch.nn.GRU) else b]
    return found


@pytest.mark.parametrize("dtype", RELATIVE_ERROR)
@pytest.mark.parametrize("sizes", [(3, 7, 4, 5), (20, 30, 9, 33)])
@pytest.mark.parametrize("name", KINDS)
def test_outputs_states_and_gradients_match(rng, name, sizes, dtype):
    make, torch_kind, options = KINDS[name]
    batch, steps, features, hidden = sizes
    torch.manual_seed(1)
    module = torch_kind(features, hidden, 2, batch_first=True, bidirectional=True, **options)
    module = module.to(getattr(torch, np.dtype(dtype).name))
    with torch.no_grad():  # the bias that numlstm has once
        for key, bias in module.named_parameters():
            if key.startswith("bias_hh"):
                bias[: 2 * hidden if name == "gru" else None] = 0
    made = (make(hidden, return_sequences=True, return_state=state) for state in (False, True))
    model = Sequential([Bidirectional(layer) for layer in made], dtype=dtype)
    model.build((None, None, features))
    parameters = [parameter for layer in model.layers for parameter in layer.parameters.values()]
    for parameter, value in zip(parameters, _weights(module, torch.Tensor.detach), strict=True):
        parameter[...] = value

    x = rng.standard_normal((batch, steps, features)).astype(dtype)
    dy = rng.standard_normal((batch, steps, 2 * hidden)).astype(dtype)
    passes = Passes(model.layers, x, np.dtype(dtype))
    y, states = passes.forward(), passes.runs[-1].last_states()
    dx = passes.backward(dy)
    given = torch.tensor(x, requires_grad=True)
    want_y, last = module(given)
    want_y.backward(torch.from_numpy(dy))
    last = last if isinstance(last, tuple) else (last,)
    want_states = [state[2 + direction] for direction in (0, 1) for state in last]  # of the second layer
    pairs = [(y, want_y.detach()), (dx, given.grad), *zip(states, [state.detach() for state in want_states], strict=True)]
    pairs += zip(
        (array for layer in passes.gradients for array in layer.values()), _weights(module, lambda p: p.grad), strict=True
    )
    for got, want in pairs:
        want = np.asarray(want)
        assert np.abs(got - want).max() < RELATIVE_ERROR[dtype] * np.abs(want).max()
