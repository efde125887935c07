"""Sequences of different lengths in layers and models: each is what it is alone, whatever lies past its end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ragged import LENGTHS, built, filled, make_sequences, past
from support import assert_same_bits
from training import Problem, relative_error

import numlstm
from numlstm import GRU, LSTM, SLSTM, Bidirectional, Dense, Dropout, Embedding, Sequential, SimpleRNN, data
from numlstm.inspection import Passes
from numlstm.optimizers import Adam
from numlstm.utils import set_random_seed

FLOAT = np.dtype(np.float64)
KINDS = {
    "lstm": lambda **o: LSTM(5, **o),
    "peephole": lambda **o: LSTM(5, variant="peephole", **o),
    "cifg": lambda **o: LSTM(5, variant="cifg", **o),
    "gru": lambda **o: GRU(5, **o),
    "simple": lambda **o: SimpleRNN(5, **o),
    "slstm": lambda **o: SLSTM(5, **o),
    "backwards": lambda **o: LSTM(5, go_backwards=True, **o),
    **{
        f"both {mode}": lambda mode=mode, **o: Bidirectional(GRU(5, **o) if mode == "mul" else LSTM(5, **o), mode)
        for mode in ("concat", "sum", "mul", "ave")
    },
}


def _passes(model, x, lengths=None, dy=None):
    """Return y, dx and the gradients of all parameters of a pass without dropout."""
    passes = Passes(model.layers, x, FLOAT, lengths)
    y = passes.forward().copy()
    dx = passes.backward(y if dy is None else dy)
    return y, dx.copy(), [gradient for layer in passes.gradients for gradient in layer.values()]


STACKS = {
    **{name: lambda kind=kind, **o: [kind(return_sequences=True)] for name, kind in KINDS.items()},
    **{f"{name}, the last state": lambda kind=kind, **o: [kind()] for name, kind in KINDS.items()},
    "stack": lambda: [
        Dense(4, "tanh"),
        Bidirectional(LSTM(5, return_sequences=True)),
        Dropout(0.5),
        GRU(4, return_sequences=True, go_backwards=True),
        Dense(3, "softmax"),
        LSTM(3, variant="peephole", return_sequences=True),
        Dense(2),
    ],
    "to the last state": lambda: [LSTM(5, return_sequences=True), Bidirectional(LSTM(5), "mul"), Dense(2, "sigmoid")],
}


@pytest.mark.parametrize("name", STACKS)
def test_each_sequence_is_what_it_is_alone(rng, name):
    model = built(*STACKS[name]())
    x, lengths = data.pad(make_sequences(rng))
    y, dx, gradients = _passes(model, x, lengths)
    sums = 0
    for n, steps in enumerate(lengths):
        alone = _passes(model, x[n : n + 1, :steps])
        by_step = alone[0].ndim == 3
        assert_same_bits(y[n : n + 1, :steps] if by_step else y[n : n + 1], alone[0])
        assert_same_bits(dx[n : n + 1, :steps], alone[1])
        assert not dx[n, steps:].any() and not (by_step and y[n, steps:].any())
        sums = sums + np.concatenate([gradient.ravel() for gradient in alone[2]])
    assert relative_error(np.concatenate([gradient.ravel() for gradient in gradients]), sums) < 1e-13
    assert_same_bits(model.predict(x, lengths=lengths), y)


@pytest.mark.parametrize("name", KINDS)
def test_layers_by_themselves(rng, name):
    layer = KINDS[name](return_sequences=True, return_state=True)
    layer.build((None, 3), FLOAT)
    x, lengths = data.pad(make_sequences(rng), value=np.nan)
    y, *states = layer(x, lengths=lengths)
    for n, steps in enumerate(lengths):
        alone, *own = layer(x[n : n + 1, :steps])
        assert_same_bits(y[n : n + 1, :steps], alone)
        assert_same_bits(tuple(state[n : n + 1] for state in states), tuple(own))
        assert not y[n, steps:].any()


def test_both_directions_apart(rng):
    layer = Bidirectional(LSTM(5, return_sequences=True), merge_mode=None)
    layer.build((None, 3), FLOAT)
    x, lengths = data.pad(make_sequences(rng))
    together = layer(x, lengths=lengths)
    for n, steps in enumerate(lengths):
        for got, want in zip(together, layer(x[n : n + 1, :steps]), strict=True):
            assert_same_bits(got[n : n + 1, :steps], want)
            assert not got[n, steps:].any()


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    more=st.integers(0, 3),
    by_step=st.booleans(),
    filler=st.sampled_from([np.nan, np.inf, -3.0, 1e300]),
    seed=st.integers(0, 99),
)
def test_order_and_padding_change_nothing(lengths, more, by_step, filler, seed):
    rng = np.random.default_rng(seed)
    model = built(Bidirectional(GRU(4, return_sequences=True)), LSTM(5, return_sequences=by_step), Dense(2))
    x, lengths = data.pad(make_sequences(rng, lengths), max(lengths) + more)
    y = model.predict(x, lengths=lengths)
    assert_same_bits(model.predict(filled(x, lengths, filler), lengths=lengths), y)
    order = rng.permutation(len(x))
    assert_same_bits(model.predict(x[order], lengths=lengths[order], batch_size=3), y[order])
    target = rng.standard_normal(y.shape)
    losses = [Problem(model.layers, "mse", x, target, lengths=lengths)]
    losses.append(Problem(model.layers, "mse", filled(x, lengths, filler), target, lengths=lengths))
    if by_step:
        losses.append(Problem(model.layers, "mse", x, filled(target, lengths, filler), lengths=lengths))
    want = losses[0].gradient()
    for other in losses[1:]:
        assert other.loss() == losses[0].loss()
        assert_same_bits(other.gradient(), want)
    turned = Problem(model.layers, "mse", x[order], target[order], lengths=lengths[order])
    np.testing.assert_allclose(turned.gradient(), want, rtol=0, atol=1e-13 * (1 + np.abs(want).max()))


# --- numbers, with 0 for what is filled up ---


def _words(mask_zero, **options):
    set_random_seed(4)
    return Sequential([Embedding(9, 4, mask_zero=mask_zero), LSTM(5, return_sequences=True), Dense(3, "softmax")], **options)


def test_zeros_at_the_end_are_padding(rng, tmp_path):
    sentences = [rng.integers(1, 9, steps) for steps in LENGTHS]
    labels = [rng.integers(0, 3, steps) for steps in LENGTHS]
    x, lengths = data.pad(sentences, steps=11)
    y = data.pad(labels, steps=11, value=-1).x
    results = []
    for mask_zero, options in ((True, {}), (False, {"lengths": lengths}), (True, {"lengths": lengths})):
        model = _words(mask_zero)
        model.build((None, None))
        before = model.get_weights()[0][0]
        model.compile(Adam(0.01), "sparse_categorical_crossentropy")
        losses = model.fit(x, y, epochs=3, shuffle=False, verbose=0, **options).history["loss"]
        results.append((*model.get_weights(), np.array(losses), model.predict(x, **options)))
        assert_same_bits(model.get_weights()[0][0], before)  # is not trained
    assert_same_bits(results[0], results[1])
    assert_same_bits(results[0], results[2])
    model.save(tmp_path / "words.safetensors")
    loaded = numlstm.load(tmp_path / "words.safetensors")
    assert loaded.layers[0].mask_zero
    assert_same_bits(loaded.predict(x), results[0][-1])
    assert_same_bits(loaded.predict(sentences), results[0][-1][:, :9])
    vectors = loaded.layers[0](x)
    assert not vectors[past(lengths, 11)].any() and vectors[0, :4].all()
    assert loaded.trace(x)["lstm"]["h"].shape == (5, 11, 5)


@pytest.mark.parametrize(
    ("x", "options", "says"),
    [
        ([[1, 2, 3], [4, 0, 5]], {}, r"x\[1, 1\] is 0 within a sequence: with mask_zero=True 0 only fills up"),
        ([[1, 2, 3], [0, 4, 5]], {}, r"x\[1, 0\] is 0 within a sequence"),
        ([[1, 2, 3], [0, 0, 0]], {}, r"x\[1\] is 0 throughout: with mask_zero=True"),
        ([[1, 2], [3, 0, 4]], {}, r"x\[1, 1\] is 0 within"),
        ([[1, 2, 3], [4, 5, 0]], {"lengths": [3, 3]}, r"x\[1, 2\] is 0 within"),
        ([[1, 0, 0]], {"lengths": [2]}, r"x\[0, 1\] is 0 within"),
    ],
)
def test_zeros_elsewhere_are_refused(x, options, says):
    model = _words(True)
    with pytest.raises(ValueError, match=says):
        model.predict(x, **options)


# --- a look inside ---


@pytest.mark.parametrize("name", ["lstm", "peephole", "gru", "simple", "backwards", "both concat"])
@pytest.mark.parametrize("sequences", [False, True])
def test_traces(rng, name, sequences):
    model = built(Dense(3), KINDS[name](return_sequences=sequences), Dense(2))
    x, lengths = data.pad(make_sequences(rng), steps=11, value=np.nan)
    trace = model.trace(x, lengths=lengths)
    assert_same_bits(trace.y, model.predict(x, lengths=lengths))
    for n, steps in enumerate(lengths):
        alone = model.trace(x[n : n + 1, :steps])
        for layer, arrays in alone.items():
            for gate, array in arrays.items():
                assert_same_bits(np.ascontiguousarray(trace[layer][gate][n, :steps]), np.ascontiguousarray(array[0]))
                assert not trace[layer][gate][n, steps:].any()
