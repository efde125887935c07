"""What goes on inside a model: gates and states against the textbook, how far back gradients reach by differences."""

import numpy as np
import pytest
import reference
from support import assert_same_bits
from training import central_differences, relative_error

import numlstm
from numlstm import GRU, LSTM, SLSTM, Bidirectional, CellSpec, Dense, Dropout, Embedding, Sequential, SimpleRNN
from numlstm.utils import set_random_seed

CELLS = {
    **{name: (lambda name=name, **more: LSTM(9, variant=name, **more), cell) for name, cell in reference.PRESETS.items()},
    "no gate": (
        lambda **more: LSTM(9, variant=CellSpec(False, "one", False), **more),
        reference.LSTM(False, "one", False),
    ),
    "gru": (lambda **more: GRU(9, **more), reference.GRU()),
    "gru before": (lambda **more: GRU(9, reset_after=False, **more), reference.GRU(reset_after=False)),
    "rnn": (lambda **more: SimpleRNN(9, **more), reference.SimpleRNN()),
    "slstm": (lambda **more: SLSTM(9, forget_gate="sigmoid", **more), reference.SLSTM("sigmoid")),
}
CELLS = {name: made for name, made in CELLS.items() if name in (*numlstm.cells.NAMES, "no gate", "gru before")}
CELLS["lstm, normed"] = lambda **more: LSTM(9, layer_norm=True, **more), reference.LSTM()
CELLS["gru before, normed"] = lambda **more: GRU(9, reset_after=False, layer_norm=True, **more), reference.GRU(False)
NAMES = {
    "nig": "fgoch",
    "nfg": "igoch",
    "1997": "igoch",
    "nog": "ifgch",
    "ltms": "ifgoach",
    "no gate": "gch",
    "gru": "rznh",
    "gru before": "rznh",
    "gru before, normed": "rznh",
    "rnn": "h",
    "slstm": "ifgocnmh",
}


def _by_the_textbook(layer, cell, x):
    shapes = reference.weight_shapes(cell, x.shape[2], layer.units, layer_norm=layer.spec.layer_norm)
    steps = reference.rnn(cell, x, dict(zip(shapes, layer.params, strict=True))).trace
    return lambda name: np.stack([step["states"][0] if name == "h" else step[name] for step in steps], axis=1)


@pytest.mark.usefixtures("all_dealt_out")
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_a_trace_is_the_textbooks(rng, name, backwards):
    make, cell = CELLS[name]
    options = {"stateful": True, "dropout": 0.5, "recompute": "states"}  # which change nothing
    layer = make(bias_initializer="glorot_uniform", go_backwards=backwards, **options)
    x = rng.standard_normal((3, 7, 2))
    model = Sequential([layer, Dense(2)], dtype="float64")
    y = model.predict(x)
    states = layer.states
    trace = model.trace(x)
    assert layer.states is states and list(trace) == [layer.name]
    arrays, want = trace[layer.name], _by_the_textbook(layer, cell, x[:, ::-1] if backwards else x)
    assert "".join(arrays) == NAMES.get(name, "ifgoch")
    for key, got in arrays.items():
        expected = want(key)[:, ::-1] if backwards else want(key)
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14, err_msg=key)
        assert got.base is not None
    assert_same_bits(trace.y, y)


def test_a_trace_names_layers_and_is_of_views(rng):
    x = rng.standard_normal((3, 7, 2))
    inner, upper = GRU(4, return_sequences=True), LSTM(5, return_sequences=True)
    model = Sequential([upper, Dropout(0.5), Bidirectional(inner), LSTM(3), Dense(1)])
    trace = model.trace(x)
    assert list(trace) == ["lstm", "bidirectional/forward", "bidirectional/backward", "lstm_1"]
    assert repr(trace).splitlines() == [
        "Trace of gates and states",
        "lstm                     i, f, g, o, c, h   (N, T, H) = (3, 7, 5)",
        "bidirectional/forward    r, z, n, h         (N, T, H) = (3, 7, 4)",
        "bidirectional/backward   r, z, n, h         (N, T, H) = (3, 7, 4)",
        "lstm_1                   i, f, g, o, c, h   (N, T, H) = (3, 7, 3)",
    ]
    both = model.layers[2]
    y = np.ascontiguousarray(trace["lstm"]["h"])
    for direction in ("forward", "backward"):
        alone = Sequential([getattr(both, f"{direction}_layer")]).trace(y)
        (arrays,) = alone.values()
        for name, got in trace[f"bidirectional/{direction}"].items():
            assert_same_bits(np.ascontiguousarray(got), np.ascontiguousarray(arrays[name]))
    side_by_side = np.concatenate([trace[f"bidirectional/{name}"]["h"] for name in ("forward", "backward")], axis=-1)
    assert_same_bits(side_by_side, both(y))
    gates = trace["lstm"]
    assert np.may_share_memory(gates["i"], gates["f"]) and not np.shares_memory(gates["i"], gates["f"])  # interleaved
    with pytest.raises(ValueError, match="the model has no recurrent layer: there are no gates to trace"):
        Sequential([Dense(1)]).trace(np.ones((2, 3)))


MODELS = {
    "both directions": lambda: [Bidirectional(LSTM(3, return_sequences=True), "mul"), Bidirectional(GRU(2))],
    "last output": lambda: [LSTM(5, dropout=0.5), Dropout(0.5), Dense(2, "tanh")],
    "each output": lambda: [GRU(5, return_sequences=True, recompute="states"), SimpleRNN(4, return_sequences=True)],
    "backwards": lambda: [LSTM(4, go_backwards=True, stateful=True)],
}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_by_lag_are_central_differences(rng, name):
    set_random_seed(1)
    x = rng.standard_normal((3, 6, 2))
    model = Sequential(MODELS[name](), dtype="float64")
    model.predict(x)
    states = [layer.states for layer in model.layers]
    got = model.gradient_by_lag(x)
    assert got.shape == (3, 6)

    squares = np.zeros((3, 6))
    for sequence in range(3):
        part = x[sequence : sequence + 1].copy()
        model.reset_states()
        for output in range(model.predict(part).shape[-1]):

            def last(part=part, output=output):
                model.reset_states()
                y = model.predict(part)[0]
                return (y if y.ndim == 1 else y[-1])[output]

            squares[sequence] += (central_differences(last, part)[0] ** 2).sum(axis=1)
    assert relative_error(got, np.sqrt(squares)[:, ::-1]) < 1e-6

    for layer, before in zip(model.layers, states, strict=True):
        layer.states = before
    model.gradient_by_lag(x)
    assert all(layer.states is before for layer, before in zip(model.layers, states, strict=True))
    assert_same_bits(model.gradient_by_lag(x), got)


def test_gradients_by_lag_of_an_embedding_are_by_its_vectors(rng):
    words, set_of_layers = rng.integers(0, 7, (3, 6)), [LSTM(4, seed=1), Dense(1, seed=2)]
    embedding = Embedding(7, 5, seed=3)
    want = Sequential(set_of_layers).gradient_by_lag(embedding(words))
    assert_same_bits(Sequential([embedding, *set_of_layers]).gradient_by_lag(words), want)


def test_lags_are_steps():
    with pytest.raises(ValueError, match=r"x must be sequences \(N, T, F\), of which lags are steps, not of shape \(2, 3\)"):
        Sequential([Dense(2)]).gradient_by_lag(np.ones((2, 3)))
