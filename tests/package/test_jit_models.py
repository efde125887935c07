"""Sequential.jit: the bits of predict, step by step, inside compiled code; nothing allocated, any number of states."""

import copy
import pickle
import re
import threading

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError
from numlstm.kernels import chain
from stepping import ALLOCATIONS, user_script
from support import assert_same_bits

from numlstm import GRU, LSTM, SLSTM, Bidirectional, Dense, Dropout, Embedding, Sequential, SimpleRNN, cells, functional
from numlstm.layers.dense import ACTIVATIONS

step = functional.step


@numba.njit
def run(params, state, x, y):
    for t in range(x.shape[0]):
        step(params, state, x[t], y[t])


run_nogil = numba.njit(nogil=True)(run.py_func)


def _recurrent(cell, units, **options):
    if cell.endswith(", normed"):
        return _recurrent(cell.removesuffix(", normed"), units, layer_norm=True, **options)
    if cell in cells.VARIANTS:
        return LSTM(units, variant=cell, **options)
    if cell.endswith(", projected"):
        return _recurrent(cell.removesuffix(", projected"), units + 1, projection=units, **options)
    if cell == "gru before":
        return GRU(units, reset_after=False, **options)
    return {"gru": GRU, "rnn": SimpleRNN, "slstm": SLSTM}[cell](units, **options)


def _built(layers, shape, rng, dtype="float32"):
    """Return a model with weights none of which is zero."""
    model = Sequential(layers, dtype=dtype)
    model.build((None, *shape))
    model.set_weights([rng.uniform(-0.5, 0.5, array.shape) for array in model.get_weights()])
    return model


def _steps(model, x, runner=run):
    """Return the outputs of all steps of one sequence."""
    found, params, state = model.jit()
    assert found is step
    y = np.full((len(x), model.output_shape[-1]), np.nan, model.dtype)
    runner(params, state, x, y)
    return y


KINDS = [(cell, "float32") for cell in (*cells.NAMES, "gru before", "rnn, projected")] + [
    (cell, "float64") for cell in ("lstm", "peephole", "gru", "rnn")
]
KINDS += [(f"{cell}, normed", "float32") for cell in ("fgr", "gru before", "slstm, projected")] + [
    ("rnn, normed", "float64")
]


@pytest.mark.parametrize(("cell", "dtype"), KINDS)
def test_every_cell(rng, cell, dtype):
    for inputs, hidden in ((1, 1), (3, 5), (4, 17), (16, 16), (5, 50), (7, 64), (20, 67), (9, 130)):
        model = _built([_recurrent(cell, hidden, return_sequences=True)], (None, inputs), rng, dtype)
        x = rng.standard_normal((1, 6, inputs)).astype(dtype)
        assert_same_bits(_steps(model, x[0]), model.predict(x)[0])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dense(rng, activation, dtype):
    for inputs, outputs in ((1, 1), (5, 3), (16, 16), (7, 17), (20, 64), (33, 70), (3, 130)):
        model = _built([Dense(outputs, activation)], (None, inputs), rng, dtype)
        x = rng.standard_normal((1, 4, inputs)).astype(dtype)
        assert_same_bits(_steps(model, x[0]), model.predict(x)[0])
    without = _built([Dense(5, activation, use_bias=False)], (3,), rng, dtype)
    x = rng.standard_normal((4, 3)).astype(dtype)
    assert_same_bits(_steps(without, x), without.predict(x))


LSTMS = [LSTM(20, return_sequences=True), LSTM(33, return_sequences=True), Dense(2)]
MIXED = [
    Dense(6, "tanh"),
    GRU(21, return_sequences=True, use_bias=False),
    Dropout(0.3),
    SimpleRNN(70, return_sequences=True, activation="relu"),
    LSTM(9, return_sequences=True, variant="peephole", stateful=True),
    GRU(70, return_sequences=True, reset_after=False, zoneout=0.1),
    LSTM(37, return_sequences=True, projection=5, zoneout=(0.1, 0.2), cell_clip=0.3),
    Dropout(0.3),
    Dense(3, "softmax"),
]


@pytest.mark.parametrize(("layers", "dtype"), [(LSTMS, "float64"), (MIXED, "float32")], ids=["lstms", "mixed"])
def test_stacks(rng, layers, dtype):
    model = _built([copy.deepcopy(layer) for layer in layers], (None, 4), rng, dtype)
    x = rng.standard_normal((1, 12, 4)).astype(dtype)
    assert_same_bits(_steps(model, x[0]), model.predict(x)[0])


@pytest.mark.parametrize("integer", [np.int64, np.uint8, np.uint64])
def test_embedding_takes_integers(rng, integer):
    model = _built([Embedding(11, 6), LSTM(8, return_sequences=True), Dense(3)], (None,), rng)
    x = rng.integers(0, 11, (1, 9))
    assert_same_bits(_steps(model, x[0].astype(integer)), model.predict(x)[0])
    alone = _built([Embedding(11, 6)], (None,), rng)
    assert_same_bits(_steps(alone, x[0].astype(integer)), alone.predict(x)[0])


def test_without_sequences_a_step_gives_the_output_of_the_prefix(rng):
    model = _built([GRU(7, return_sequences=True), LSTM(5), Dense(2)], (None, 3), rng)
    x = rng.standard_normal((1, 8, 3)).astype(np.float32)
    for t, y in enumerate(_steps(model, x[0])):
        assert_same_bits(y, model.predict(x[:, : t + 1])[0])


@pytest.fixture
def small(rng):
    """Return a model and a sequence (20, 3)."""
    model = _built([LSTM(10, return_sequences=True), GRU(6), Dense(2, "tanh")], (None, 3), rng)
    return model, rng.standard_normal((20, 3)).astype(np.float32)


def test_thousands_of_states(rng, small):
    model, x = small
    _, params, start = model.jit()
    params = pickle.loads(pickle.dumps(params))
    many = 3000

    @numba.njit
    def run_all(params, states, x, y):
        for t in range(x.shape[0]):
            for n in range(len(states)):
                step(params, states[n], x[t, n], y[t, n])

    x = rng.standard_normal((4, many, 3)).astype(np.float32)
    y = np.empty((4, many, 2), np.float32)
    run_all(params, numba.typed.List([start.copy() for _ in range(many)]), x, y)
    assert_same_bits(y[-1], model.predict(x.swapaxes(0, 1)))


def test_a_copy_goes_on_alone(small):
    model, x = small
    whole = _steps(model, x)
    _, params, state = model.jit()
    y = np.empty_like(whole)
    run(params, state, x[:8], y[:8])
    saved, again = state.copy(), pickle.loads(pickle.dumps(state))
    for each in (state, saved, again):
        y[8:] = np.nan
        run(params, each, x[8:], y[8:])
        assert_same_bits(y, whole)


def test_many_threads_at_once(small):
    model, x = small
    x = np.tile(x, (100, 1))
    want = _steps(model, x)
    _, params, state = model.jit()
    outputs = [np.empty_like(want) for _ in range(8)]
    states = [state.copy() for _ in outputs]
    threads = [
        threading.Thread(target=run_nogil, args=(params, *each, y))
        for each, y in zip(zip(states, [x] * 8, strict=True), outputs, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for y in outputs:
        assert_same_bits(y, want)


def test_later_training_does_not_reach_params(small):
    model, x = small
    _, params, state = model.jit()
    want = _steps(model, x)
    model.set_weights([np.zeros_like(array) for array in model.get_weights()])
    y = np.empty_like(want)
    run(params, state, x, y)
    assert_same_bits(y, want)


def test_nothing_is_allocated(run_python):
    done = run_python(
        ALLOCATIONS
        + """
from numlstm import GRU, LSTM, Dense, Embedding, Sequential, SimpleRNN

layers = [LSTM(20, return_sequences=True), GRU(9, return_sequences=True), SimpleRNN(70), Dense(2, "softmax")]
model = Sequential([Embedding(5, 4, input_shape=(None,)), *layers])
_, params, state = model.jit()
check(params, state, 3, np.ones(2, np.float32))
""",
        NUMBA_NRT_STATS="1",
    )
    assert done.stdout == ""


def test_the_users_own_cache_is_hit_in_another_process(run_python, rng, tmp_path):
    layers = [
        GRU(5, return_sequences=True),
        SimpleRNN(6, return_sequences=True),
        LSTM(4, variant="nog"),
        Dense(3, "sigmoid"),
    ]
    model = _built(layers, (None, 2), rng)
    x = rng.standard_normal((1, 5, 2)).astype(np.float32)
    want = _steps(model, x[0]).tobytes().hex()
    (tmp_path / "arguments").write_bytes(pickle.dumps((*model.jit()[1:], x[0])))
    script = user_script(tmp_path, 3)
    for hits in (0, 1):
        done = run_python(script, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
        assert done.stdout.split() == [want, str(hits)], hits


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "the model has no layers that do something: add some first"),
        ([LSTM(2)], "the model has no weights yet: give the first layer an input_shape, or show it data, first"),
        (
            [Bidirectional(GRU(2), name="both", input_shape=(None, 2))],
            "layer both, a Bidirectional, reads sequences from their end: it cannot go step by step",
        ),
        (
            [LSTM(2, name="last", go_backwards=True, input_shape=(None, 2))],
            "layer last, a LSTM with go_backwards=True, reads sequences from their end: it cannot go step by step",
        ),
    ],
)
def test_models_without_a_step(layers, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Sequential(layers).jit()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros(4, np.float32)}, ValueError, "x must have shape (I,), I the inputs of the weights"),
        ({"y": np.zeros(3, np.float32)}, ValueError, "y must have shape (C,), C the units of the dense layer"),
        ({"x": np.zeros(3)}, TypingError, "x must be a contiguous 1-D array of float32, not array(float64, 1d, C)"),
        ({"y": 1.0}, TypingError, "y must be a contiguous, writable 1-D array of float32, not float64"),
        ({"state": ()}, TypingError, "state must be what came with params, not Tuple()"),
    ],
)
def test_wrong_arguments(small, change, error, message):
    _, params, state = small[0].jit()
    arguments = {"params": params, "state": state, "x": np.zeros(3, np.float32), "y": np.zeros(2, np.float32)} | change
    with pytest.raises(error, match=re.escape(message)) as caught:
        step(**arguments)
    assert len(str(caught.value)) < 3000


def test_the_state_of_another_model(small):
    _, params, state = small[0].jit()
    x, y = np.zeros(3, np.float32), np.zeros(2, np.float32)
    with pytest.raises(TypingError, match="but it is that of a model of 2 layers, not of 3"):
        step(params, state._replace(layers=state.layers[1:], outputs=state.outputs[1:]), x, y)
    with pytest.raises(TypingError, match="a namedtuple of 2 with h first, not RNNState"):
        step(params, state._replace(layers=(state.layers[1], *state.layers[1:])), x, y)


def test_parameters_of_other_kernels(small):
    _, params, state = small[0].jit()
    for foreign in (
        chain.Chain_made_by_others(params.layers),
        params._replace(layers=(*params.layers[:2], chain.Dense_of_whatever_made_by_others(*params.layers[2]))),
    ):
        with pytest.raises(TypingError, match="params were made by another version of numlstm, or for other vectors: call"):
            step(pickle.loads(pickle.dumps(foreign)), state, np.zeros(3, np.float32), np.zeros(2, np.float32))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (11, ValueError, "x must be one of the integers that the embedding knows, 0, or 1 with mask_zero, to input_dim - 1"),
        (-1, ValueError, "x must be one of the integers that the embedding knows, 0, or 1 with mask_zero, to input_dim - 1"),
        (1.0, TypingError, "x must be an integer, for the model begins with an embedding, not float64"),
    ],
)
def test_wrong_integers(rng, x, error, message):
    _, params, state = _built([Embedding(11, 4), Dense(2)], (None,), rng).jit()
    with pytest.raises(error, match=re.escape(message)):
        step(params, state, x, np.zeros(2, np.float32))
    step(params, state, 0, np.zeros(2, np.float32))
    _, params, state = _built([Embedding(11, 4, mask_zero=True), Dense(2)], (None,), rng).jit()
    with pytest.raises(ValueError, match="0, or 1 with mask_zero, to input_dim"):
        step(params, state, 0, np.zeros(2, np.float32))
