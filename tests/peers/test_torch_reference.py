"""The reference against torch.nn.LSTM (proj_size too), GRU and RNN: outputs, states and every gradient."""

import numpy as np
import pytest
import reference

torch = pytest.importorskip("torch", reason="PyTorch is not installed; .ci/run installs it (extra `bench`)")

BATCH, STEPS, INPUTS, HIDDEN = 3, 6, 4, 5
CASES = {
    "LSTM": (torch.nn.LSTM, reference.LSTM(), {}, {}),
    "LSTM projected": (torch.nn.LSTM, reference.LSTM(), {"proj_size": 2}, {}),
    "GRU": (torch.nn.GRU, reference.GRU(), {}, {}),
    "RNN tanh": (torch.nn.RNN, reference.SimpleRNN(), {"nonlinearity": "tanh"}, {}),
    "RNN relu": (torch.nn.RNN, reference.SimpleRNN(), {"nonlinearity": "relu"}, {"activation": "relu"}),
}


def _gradients_of_weights(module, weights):
    """Return the gradients of the module's weights by the reference's names, and set its weights."""
    p = dict(module.named_parameters())
    names = {"W_ih": "weight_ih_l0", "W_hh": "weight_hh_l0", "b": "bias_ih_l0", "W_p": "weight_hr_l0"}
    with torch.no_grad():
        p["bias_hh_l0"].zero_()
        for name in weights:
            if name == "b_hn":
                p["bias_hh_l0"][-HIDDEN:] = torch.from_numpy(weights[name])
            else:
                p[names[name]].copy_(torch.from_numpy(weights[name]))
    return lambda: {
        name: (p["bias_hh_l0"].grad[-HIDDEN:] if name == "b_hn" else p[names[name]].grad).numpy() for name in weights
    }


@pytest.mark.parametrize("lengths", [None, [6, 1, 4]], ids=["whole", "ragged"])
@pytest.mark.parametrize("name", CASES)
def test_outputs_states_and_gradients_match(rng, name, lengths):
    make, cell, arguments, options = CASES[name]
    shapes = reference.weight_shapes(cell, INPUTS, HIDDEN, projection=arguments.get("proj_size"))
    weights = {key: rng.uniform(-1, 1, shape) for key, shape in shapes.items()}
    module = make(INPUTS, HIDDEN, batch_first=True, dtype=torch.float64, **arguments)
    gradients_of_weights = _gradients_of_weights(module, weights)
    x = rng.standard_normal((BATCH, STEPS, INPUTS))
    states = tuple(rng.standard_normal((BATCH, width)) for width in reference.state_widths(cell, weights))

    out = reference.rnn(cell, x, weights, states, lengths, **options)
    dy, dstates = rng.standard_normal(out.y.shape), tuple(rng.standard_normal(s.shape) for s in states)
    gradients = reference.rnn_backward(cell, x, weights, out.trace, dy, dstates, lengths, **options)

    given = [torch.tensor(a, requires_grad=True) for a in (x, *states)]
    first = tuple(s[None] for s in given[1:])
    packed = given[0] if lengths is None else torch.nn.utils.rnn.pack_padded_sequence(given[0], lengths, True, False)
    y, last = module(packed, first if len(first) > 1 else first[0])
    y = y if lengths is None else torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0]
    last = last if len(first) > 1 else (last,)
    upstream = torch.from_numpy(dy), *(torch.from_numpy(d)[None] for d in dstates)
    sum((a * d).sum() for a, d in zip((y, *last), upstream, strict=True)).backward()

    pairs = [(out.y, y.detach()), *((s, want[0].detach()) for s, want in zip(out.states, last, strict=True))]
    pairs += [(got, want.grad) for got, want in zip((gradients.x, *gradients.states), given, strict=True)]
    pairs += [(gradients.weights[key], want) for key, want in gradients_of_weights().items()]
    for got, want in pairs:
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("projection", [None, 2])
@pytest.mark.parametrize("of_what", [True, "of c too"])
@pytest.mark.parametrize("steps", [1, 5])
def test_layer_normalised_lstm_is_that_of_torchs_layer_norm(rng, steps, of_what, projection):
    """Ba, Kiros and Hinton, "Layer normalization" (2016), equations 20 to 22, whose biases beside b are in b."""
    cell, epsilon = reference.LSTM(), 0.01
    shapes = reference.weight_shapes(cell, INPUTS, HIDDEN, projection, of_what)
    weights = {key: rng.uniform(-1, 1, shape) for key, shape in shapes.items()}
    x, dy = rng.standard_normal((BATCH, steps, INPUTS)), rng.standard_normal((BATCH, steps, projection or HIDDEN))
    out = reference.rnn(cell, x, weights, epsilon=epsilon)
    gradients = reference.rnn_backward(cell, x, weights, out.trace, dy, epsilon=epsilon)

    w = {key: torch.tensor(value, requires_grad=True) for key, value in weights.items()}
    norm = lambda z, gain, bias=None: torch.nn.functional.layer_norm(z, z.shape[1:], gain, bias, epsilon)  # noqa: E731
    h, c = (torch.zeros(BATCH, width, dtype=torch.float64) for width in (projection or HIDDEN, HIDDEN))
    y = []
    for x_t in torch.from_numpy(x).unbind(1):
        z = norm(x_t @ w["W_ih"].T, w["gain_ih"]) + norm(h @ w["W_hh"].T, w["gain_hh"]) + w["b"]
        i, f, g, o = z.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(norm(c, w["gain_c"], w["b_c"]) if "gain_c" in w else c)
        h = h @ w["W_p"].T if projection else h
        y.append(h)
    y = torch.stack(y, dim=1)
    (y * torch.from_numpy(dy)).sum().backward()
    np.testing.assert_allclose(out.y, y.detach(), rtol=1e-11, atol=1e-12)
    for key, gradient in gradients.weights.items():
        np.testing.assert_allclose(gradient, w[key].grad, rtol=1e-10, atol=1e-12, err_msg=key)
