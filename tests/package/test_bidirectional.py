"""Both directions: against the textbook, put together by hand; states, threads, copies, and what does not go together."""

import copy
import json
import pickle

import numpy as np
import pytest
import reference
from support import assert_same_bits

import numlstm
from numlstm import (
    GRU,
    LSTM,
    SLSTM,
    Bidirectional,
    Dense,
    Dropout,
    FileFormatError,
    Sequential,
    SimpleRNN,
    Trainer,
    backend,
    files,
)
from numlstm._workspace import aligned_empty
from numlstm.layers.base import Setting
from numlstm.utils import set_random_seed

FLOAT = np.dtype(np.float64)
CELLS = {
    "lstm": (LSTM, {}, reference.LSTM()),
    "cifg": (LSTM, {"variant": "cifg"}, reference.PRESETS["cifg"]),
    "gru": (GRU, {}, reference.GRU()),
    "simple": (SimpleRNN, {}, reference.SimpleRNN()),
    "slstm": (SLSTM, {}, reference.SLSTM()),
}
MERGED = {
    "concat": (lambda f, b: np.concatenate([f, b], axis=-1), lambda dy, f, b: np.split(dy, 2, axis=-1)),
    "sum": (lambda f, b: f + b, lambda dy, f, b: (dy, dy)),
    "mul": (lambda f, b: f * b, lambda dy, f, b: (dy * b, dy * f)),
    "ave": (lambda f, b: (f + b) / 2, lambda dy, f, b: (dy / 2, dy / 2)),
}


def _made(rng, name, merge_mode, **options):
    """Return a layer of 4 units whose weights are all random, and x of 3 sequences of 6 steps."""
    kind, own, _ = CELLS[name]
    layer = Bidirectional(kind(4, **own, **options), merge_mode)
    layer.build((6, 2), FLOAT)
    layer.set_weights([rng.standard_normal(weight.shape) / 2 for weight in layer.get_weights()])
    return layer, rng.standard_normal((3, 6, 2))


def _weights(layer, cell):
    """Return a layer's weights by the reference's names."""
    return dict(zip(reference.weight_shapes(cell, 2, 4), layer.params, strict=True))


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("merge_mode", MERGED)
@pytest.mark.parametrize("name", CELLS)
def test_outputs_states_and_gradients_are_the_textbooks(rng, name, merge_mode, sequences):
    cell, (merged, parted) = CELLS[name][2], MERGED[merge_mode]
    layer, x = _made(rng, name, merge_mode, return_sequences=sequences, return_state=True)
    both, inputs = (layer.forward_layer, layer.backward_layer), (x, x[:, ::-1])
    runs = [reference.rnn(cell, given, _weights(one, cell)) for one, given in zip(both, inputs, strict=True)]
    outputs = (runs[0].y, runs[1].y[:, ::-1]) if sequences else [run.states[0] for run in runs]
    y, *states = layer(x)
    np.testing.assert_allclose(y, merged(*outputs), rtol=1e-12, atol=1e-14)
    for got, want in zip(states, [*runs[0].states, *runs[1].states], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)

    run = layer.begin(Setting(x.shape, FLOAT, aligned_empty, True, False, False, backend))
    run.load()
    gradients = {name: np.empty_like(value) for name, value in layer.parameters.items()}
    dy = rng.standard_normal(run.forward(x, 0).shape)
    dx = run.backward(dy, gradients, False)
    want_dx = 0
    for i, (one, given, own) in enumerate(zip(both, inputs, parted(dy, *outputs), strict=True)):
        dstates = None if sequences else (own, *(np.zeros((3, 4)) for _ in runs[i].states[1:]))
        own = (own[:, ::-1] if i else own) if sequences else np.zeros((3, 6, 4))
        back = reference.rnn_backward(cell, given, _weights(one, cell), runs[i].trace, own, dstates)
        want_dx = want_dx + (back.x[:, ::-1] if i else back.x)
        flat = np.concatenate([value.ravel() for value in back.weights.values()])
        got = np.concatenate([value.ravel() for value in Bidirectional.parted(gradients)[i].values()])
        np.testing.assert_allclose(got, flat, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(dx, want_dx, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_without_merging_there_are_two_outputs(rng, name, sequences):
    layer, x = _made(rng, name, None, return_sequences=sequences, return_state=True)
    forward, backward, *states = layer(x)
    assert forward.flags.c_contiguous and backward.flags.c_contiguous
    assert_same_bits(forward, layer.forward_layer(x)[0])
    turned = layer.backward_layer(x)[0]
    assert_same_bits(backward, np.ascontiguousarray(turned[:, ::-1]) if sequences else turned)
    assert_same_bits(tuple(states), (*layer.forward_layer(x)[1:], *layer.backward_layer(x)[1:]))
    with pytest.raises(ValueError, match=r"layer Bidirectional with merge_mode=None has two outputs, .* choose 'concat'"):
        Sequential([layer])


def test_weights_are_in_keras_order(rng):
    model = Sequential([Bidirectional(GRU(2, return_sequences=True), input_shape=(None, 3)), Bidirectional(LSTM(4), "sum")])
    shapes = [(3, 6), (2, 6), (2, 6)] * 2 + [(4, 16), (4, 16), (16,)] * 2
    assert [weight.shape for weight in model.get_weights()] == shapes
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    model.set_weights(weights)
    for layer, own in zip(model.layers, (weights[:6], weights[6:]), strict=True):
        for direction, part in ((layer.forward_layer, own[:3]), (layer.backward_layer, own[3:])):
            for got, want in zip(direction.get_weights()[:2], part[:2], strict=True):  # a GRU's biases are sums
                np.testing.assert_array_equal(got, want)
    assert model.count_params() == sum(np.prod(shape) for shape in shapes) - 2 * 2 * 2  # those of z and r, too
    assert model.output_shape == (4,)


def test_each_direction_has_weights_and_masks_of_its_own(rng):
    kernels = [Bidirectional(LSTM(4, seed=seed), input_shape=(5, 3)) for seed in (7, 7, None)]
    for layer in kernels:
        layer.build((5, 3), FLOAT)
        assert not np.array_equal(layer.get_weights()[0], layer.get_weights()[3])
    assert_same_bits(tuple(kernels[0].get_weights()), tuple(kernels[1].get_weights()))
    # One step, gates open, no recurrence: an output is 0 where its feature is left out.
    layer = Bidirectional(LSTM(1, dropout=0.5))
    layer.build((1, 1), FLOAT)
    layer.set_weights([np.array([[0, 0, 0.5, 0]]), np.zeros((1, 4)), np.array([100.0, -1000, 0, 100])] * 2)
    kept = layer(np.ones((500, 1, 1)), training=True) != 0
    assert 0.4 < kept.mean() < 0.6 and 0.4 < (kept[:, 0] == kept[:, 1]).mean() < 0.6


# --- states ---


@pytest.mark.parametrize("name", CELLS)
def test_states_are_carried_in_each_direction(rng, name):
    layer, x = _made(rng, name, "concat", return_sequences=True, stateful=True, return_state=True)
    first, *states = layer(x[:, :4])
    assert_same_bits(layer.states, tuple(states))
    second = layer(x[:, 4:])
    layer.reset_states()
    assert layer.states is None
    assert_same_bits(tuple(layer(x[:, :4])), (first, *states))
    layer.reset_states()
    assert_same_bits(tuple(layer(x[:, 4:], initial_state=states)), tuple(second))
    assert not np.array_equal(layer(x[:, 4:])[0], second[0])
    count = len(states)
    with pytest.raises(TypeError, match=rf"initial_state must be {count} arrays \(N, H\), first .* not {count - 1} items"):
        layer(x, initial_state=states[1:])


def test_a_model_carries_states_and_returns_them(rng):
    x, y = rng.standard_normal((4, 5, 3)), rng.standard_normal((4, 6))
    model = Sequential([Bidirectional(LSTM(3, stateful=True, return_state=True), input_shape=(None, 3))])
    first = model.predict(x)
    assert [array.shape for array in first] == [(4, 6)] + [(4, 3)] * 4
    assert_same_bits(model.layers[0].states, tuple(first[1:]))
    model.reset_states()
    assert model.layers[0].states is None

    model = Sequential([Bidirectional(LSTM(3, stateful=True)), Dense(6)])
    y_first = model.predict(x)
    states = model.layers[0].states
    loss = Trainer(model, "sgd").evaluate(x, y)["loss"]  # from zeros, and leaves the states
    assert loss == pytest.approx(np.mean((y_first - y) ** 2), rel=1e-6)
    assert_same_bits(model.layers[0].states, states)


# --- models ---


def _layers():
    lower = Bidirectional(LSTM(9, return_sequences=True, dropout=0.2))
    return [lower, Dropout(0.2), Bidirectional(GRU(7), "mul"), Dense(2)]


@pytest.mark.usefixtures("all_dealt_out")
def test_threads_change_no_bit(rng):
    x, y = rng.standard_normal((9, 8, 3)), rng.standard_normal((9, 2))
    results = []
    for threads in (1, 2, 5):
        numlstm.set_num_threads(threads)
        set_random_seed(3)
        model = Sequential(_layers())
        Trainer(model, "adam").fit(x, y, batch_size=4, epochs=2, verbose=0)
        results.append((*model.get_weights(), model.predict(x)))
    for result in results[1:]:
        assert_same_bits(result, results[0])


def test_recomputing_changes_no_bit(rng):
    x, y = rng.standard_normal((4, 50, 3)), rng.standard_normal((4, 6))
    results = []
    for recompute in (None, "gates", "states"):
        set_random_seed(3)
        lower = Bidirectional(LSTM(5, return_sequences=True, recompute=recompute), "mul")
        model = Sequential([lower, Bidirectional(GRU(3, recompute=recompute))])
        Trainer(model, "adam").fit(x, y, epochs=2, verbose=0)
        results.append(tuple(model.get_weights()))
    assert_same_bits(results[1], results[0])
    assert_same_bits(results[2], results[0])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_whole(rng, again):
    x, y = rng.standard_normal((4, 5, 3)), rng.standard_normal((4, 2))
    model = Sequential(_layers())
    model.compile("adam", "mse")
    want = model.predict(x)
    other = again(model)
    assert_same_bits(other.predict(x), want)
    other.fit(x, y, epochs=2, verbose=0)
    assert_same_bits(model.predict(x), want)
    assert not np.array_equal(other.predict(x), want)


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("layer", 3, "layer must be an LSTM, GRU, SimpleRNN, SLSTM or RNN layer, not 3"),
        ("layer", {}, "layer must be a name or an instance of Recurrent"),
        ("backward_layer", {"class": "Bidirectional", "config": {}}, "backward_layer 'Bidirectional' is unknown"),
        ("backward_layer", {"class": "GRU", "config": {"units": 3}}, "both have go_backwards=False"),
        ("merge_mode", "mean", "merge_mode must be one of"),
        ("merge_mode", None, "has two outputs"),
    ],
)
def test_nonsense_in_a_file(tmp_path, name, value, says):
    path = tmp_path / "model"
    Sequential([Bidirectional(LSTM(3), input_shape=(5, 3))]).save(path)
    tensors, header = files.read(path)
    header = json.loads(json.dumps(header))
    header["model"]["layers"][0]["config"][name] = value
    files.write(path, tensors, header)
    with pytest.raises(FileFormatError, match=says):
        numlstm.load(path)


def test_how_it_is_shown(capsys):
    layer = Bidirectional(GRU(3, name="inner"), "sum")
    assert repr(layer) == (
        "Bidirectional(layer=GRU(units=3, name='forward_inner'), merge_mode='sum', "
        "backward_layer=GRU(units=3, go_backwards=True, name='backward_inner'))"
    )
    Sequential([Bidirectional(LSTM(50), input_shape=(60, 1)), Dense(1)]).summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines[4].split() == ["bidirectional", "(Bidirectional)", "(None,", "100)", "20,800"]


def test_the_layer_given_is_left_as_it_is(rng):
    x = rng.standard_normal((2, 5, 3))
    inner = LSTM(4)
    y = inner(x)
    layer = Bidirectional(inner)
    assert not layer.built and layer.forward_layer is not inner
    layer(x)
    layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    assert_same_bits(inner(x), y)


@pytest.mark.parametrize(
    "make, error, says",
    [
        (
            lambda: Bidirectional(Dense(3)),
            TypeError,
            r"layer must be an LSTM, GRU, SimpleRNN, SLSTM or RNN layer, not Dense\(units=3",
        ),
        (lambda: Bidirectional(LSTM), TypeError, "layer must be .*: an instance, with its arguments"),
        (
            lambda: Bidirectional(LSTM(3), backward_layer=3),
            TypeError,
            "backward_layer must be an LSTM, GRU, SimpleRNN, SLSTM or RNN",
        ),
        (
            lambda: Bidirectional(LSTM(3), "mean"),
            ValueError,
            "merge_mode must be one of 'concat', 'sum', 'mul', 'ave', None",
        ),
        (lambda: Bidirectional(LSTM(3, go_backwards=True)), ValueError, "both have go_backwards=True: leave it to Bidir"),
        (
            lambda: Bidirectional(LSTM(3), backward_layer=LSTM(3)),
            ValueError,
            "both have go_backwards=False: one of them must",
        ),
        (
            lambda: Bidirectional(LSTM(3), backward_layer=LSTM(3, go_backwards=True, stateful=True)),
            ValueError,
            "layer has stateful=False, but backward_layer stateful=True: they must be the same",
        ),
        (
            lambda: Bidirectional(LSTM(3), "sum", backward_layer=GRU(4, go_backwards=True)),
            ValueError,
            "layer has 3 units, but backward_layer 4: merge_mode='sum' needs as many",
        ),
        (lambda: Bidirectional(LSTM(3))(np.zeros((2, 3))), ValueError, r"takes sequences \(N, T, F\)"),
        (
            lambda: Sequential([Bidirectional(GRU(3), input_shape=(4, 2)), LSTM(2)]),
            ValueError,
            "needs return_sequences=True",
        ),
    ],
)
def test_what_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()
