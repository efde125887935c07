"""Every cell through functional.rnn and its layer: against the textbook, itself in other ways, and PyTorch's layout."""

import os
import subprocess
import sys

import numpy as np
import own_cells
import pytest
from made import SPECS, Made
from support import assert_same_bits

import numlstm
from numlstm import GRU, LSTM, RNN, SLSTM, Cell, CellSpec, GRUSpec, SimpleRNN, SLSTMSpec, functional

# Also in float32; all others only differ in what is compiled from the same lines.
SINGLE = ("peephole", "gru", "rnn", "slstm sigmoid", "own lstm", "rnn, normed")
NAMES = [(name, np.float64) for name in SPECS] + [(name, np.float32) for name in SINGLE]
SIZES = [(3, 7, 5, 9), (2, 40, 3, 33), (7, 5, 20, 64)]
ALLOWED_EPS = 500  # in units of eps * (1 + the largest element): sums of a few hundred products, and T steps of them


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("name", "dtype"), NAMES)
def test_outputs_states_and_all_gradients_match_the_reference(rng, name, dtype, sizes):
    made = Made(rng, name, sizes, dtype)
    for got, want in zip(made.run_both(), made.by_the_textbook(), strict=True):
        assert got.shape == want.shape and got.dtype == dtype
        assert np.abs(got - want).max() < ALLOWED_EPS * np.finfo(dtype).eps * (1 + np.abs(want).max())


@pytest.mark.usefixtures("all_dealt_out")
@pytest.mark.parametrize("name", SPECS)
def test_threads_windows_packing_and_cuts_change_no_bit(rng, name):
    made = Made(rng, name, (5, 40, 6, 70), np.float64)
    numlstm.set_num_threads(1)
    want = made.run_both()
    numlstm.set_num_threads(3)
    for recompute in (None, *functional.RECOMPUTE):
        assert_same_bits(made.run_both(recompute=recompute), want)
    weights = functional.pack(tuple(made.weights.values()), made.spec)
    packed = functional.rnn(made.x, weights, made.states, cell=made.spec, tape=False)
    assert_same_bits((packed.y, *packed.states), want[: 1 + made.spec.states])
    early = functional.rnn(made.x[:, :17], weights, made.states, cell=made.spec, tape=False)
    late = functional.rnn(made.x[:, 17:], weights, early.states, cell=made.spec, tape=False)
    assert_same_bits((np.concatenate([early.y, late.y], axis=1), *late.states), want[: 1 + made.spec.states])


LAYERS = {
    "lstm": lambda **options: LSTM(6, **options),
    "peephole": lambda **options: LSTM(6, variant="peephole", **options),
    "fgr": lambda **options: LSTM(6, variant="fgr", **options),
    "a cell by its parts": lambda **options: LSTM(6, variant=CellSpec(output_gate=False), **options),
    "relu": lambda **options: LSTM(6, activation="relu", **options),
    "projected": lambda **options: LSTM(6, projection=4, **options),
    "gru": lambda **options: GRU(6, **options),
    "gru before": lambda **options: GRU(6, reset_after=False, **options),
    "simple": lambda **options: SimpleRNN(6, **options),
    "slstm": lambda **options: SLSTM(6, forget_gate="sigmoid", **options),
    "lstm, normed": lambda **options: LSTM(6, layer_norm=True, **options),
    "gru before, normed": lambda **options: GRU(6, reset_after=False, layer_norm=True, **options),
    "slstm, projected": lambda **options: SLSTM(6, projection=4, layer_norm=True, **options),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_function(rng, name):
    layer = LAYERS[name](return_state=True, return_sequences=True)
    x = rng.standard_normal((3, 5, 4)).astype(np.float32)
    layer(x)
    layer.set_weights([rng.uniform(-0.5, 0.5, array.shape) for array in layer.get_weights()])
    y, *states = layer(x)
    want = functional.rnn(x, layer.params, cell=layer.spec, tape=False)
    assert_same_bits((y, *states), (want.y, *want.states))
    again = numlstm.layers.KNOWN[type(layer).__name__](**layer.get_config())
    again(x)
    again.set_weights(layer.get_weights())
    for got, wanted in zip(again(x), [y, *states], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)  # a GRU's biases in Keras' layout are sums


@pytest.mark.parametrize("name", LAYERS)
def test_a_saved_model_predicts_the_same(rng, tmp_path, name):
    model = numlstm.Sequential(
        [numlstm.Input((5, 4)), LAYERS[name](return_sequences=True), LAYERS[name](), numlstm.Dense(1)]
    )
    x, y = rng.standard_normal((8, 5, 4)), rng.standard_normal((8, 1))
    model.compile("adam", "mse")
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=5, verbose=0)
    assert model.evaluate(x, y, verbose=0) < before
    model.save(tmp_path / "model.safetensors")
    assert_same_bits(numlstm.load(tmp_path / "model.safetensors").predict(x), model.predict(x))


def test_the_forget_gate_of_a_variant_begins_open():
    for variant, blocks, forget in (("lstm", 4, [1]), ("nig", 3, [0]), ("nog", 3, [1]), ("ltms", 8, [1, 5])):
        layer = LSTM(5, variant=variant, input_shape=(2, 3))
        layer.build((2, 3), np.dtype(np.float32))
        bias = layer.parameters["b"].reshape(blocks, 5)
        assert (bias[forget] == 1).all() and bias.sum() == 5 * len(forget)


def test_a_cell_by_its_parts_is_compiled_once(tmp_path):
    """Its type exists only once it was made; a later process finds the compiled code all the same."""
    script = """
import numpy as np
from numlstm import CellSpec, functional
from numlstm.kernels import parallel
x, weights = np.ones((2, 3, 4)), tuple(np.ones(shape) for shape in ((9, 4), (9, 3), (9,)))
functional.rnn(x, weights, cell=CellSpec(input_gate=False), tape=False)
print(sum(parallel.forward.stats.cache_hits.values()))
"""
    environment = {**os.environ, "NUMLSTM_CACHE_DIR": str(tmp_path)}
    run = [subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True) for _ in range(2)]
    assert [done.stdout.strip() for done in run] == ["0", "1"], run


WEIGHTS = tuple(np.zeros(shape) for shape in ((8, 3), (8, 2), (8,)))
FGR = (*WEIGHTS, np.zeros(6))
X = np.zeros((1, 4, 3))


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: functional.rnn(X, WEIGHTS, cell="grru"), ValueError, "cell must be one of 'lstm', .*did you mean 'gru'"),
        (lambda: functional.rnn(X, WEIGHTS, cell=LSTM), TypeError, "cell must be a name or a CellSpec"),
        (lambda: functional.rnn(X, WEIGHTS, cell="gru"), TypeError, r"weights must be \(W_ih, W_hh, b, b_hn\) or what"),
        (lambda: functional.rnn(X, (*WEIGHTS, np.zeros(2)), cell="gru"), ValueError, r"W_hh must have shape \(3H, H\)"),
        (lambda: functional.rnn(X, (*WEIGHTS, np.zeros(2)), cell="peephole"), ValueError, r"p must have shape \(3H=6\)"),
        (
            lambda: functional.rnn(X, WEIGHTS, (X[0],), cell="lstm"),
            TypeError,
            r"states must be a tuple of 2, \(h, c\), not 1",
        ),
        (
            lambda: functional.rnn(X, WEIGHTS, (X[0], None), cell="lstm"),
            ValueError,
            r"states\[0\] must have shape \(N=1, H=2\)",
        ),
        (lambda: functional.rnn(X, functional.pack(WEIGHTS), cell="1997", tape=False), ValueError, "packed for CellSpec"),
        (lambda: CellSpec(input_gate=1), TypeError, "input_gate must be True or False, not 1"),
        (lambda: CellSpec(forget_gate="none"), ValueError, "forget_gate must be one of 'learned', 'one', 'coupled'"),
        (lambda: CellSpec(False, "coupled"), ValueError, "needs an input gate"),
        (lambda: CellSpec(False, "one", False, peepholes=True), ValueError, "for gates, of which this cell has none"),
        (lambda: CellSpec(False, "one", False, cell_input="h only"), ValueError, "of which this cell has none"),
        (
            lambda: CellSpec(output_gate=False, gate_recurrence=True),
            ValueError,
            "for cells with an input, a forget and an out",
        ),
        (lambda: CellSpec(gate_sets=3), ValueError, "gate_sets must be 1 or 2, not 3"),
        (
            lambda: CellSpec(gate_sets=2, peepholes=True),
            ValueError,
            "gate_sets=2 is for cells with an input, a forget and an",
        ),
        (
            lambda: functional.rnn(X, (*FGR, np.zeros((6, 2))), cell="fgr"),
            ValueError,
            "R must have as many columns as rows, 3H=6",
        ),
        (lambda: SimpleRNN(3, layer_norm=1), TypeError, "layer_norm must be True or False, not 1"),
        (lambda: GRU(3, projection=2), ValueError, "projection is not for a GRU.*cannot be narrower than n"),
        (lambda: SLSTM(3, projection=3), ValueError, "projection must be less than units, 3, not 3"),
        (lambda: RNN(3, "rnn", projection=2), ValueError, r"RNNSpec\(.*\) has no projection: projected=True"),
        (lambda: RNN(3, own_cells.PROJECTED), ValueError, "needs to know its outputs: give projection="),
        (
            lambda: Cell(own_cells.NORMED.forward, own_cells.NORMED.backward, 3, "h", 1, projected=True),
            ValueError,
            "projected=True is for functions that do not get h",
        ),
        (
            lambda: LSTM(3, variant="fgr", projection=2),
            ValueError,
            "gate_recurrence=True and a projection do not go together",
        ),
        (lambda: GRUSpec(recurrent_activation="tanh"), ValueError, "recurrent_activation must be one of"),
        (lambda: SLSTMSpec("sigmoids"), ValueError, "forget_gate must be one of 'exp', 'sigmoid'"),
        (lambda: SLSTM(3)(X, initial_state=X[0]), TypeError, r"must be a tuple \(h, c, n, m\) of arrays \(N, H\)"),
        (lambda: LSTM(3, variant="peepholes"), ValueError, "did you mean 'peephole'"),
        (lambda: LSTM(3, variant=3), TypeError, "variant must be a name or a CellSpec, not int"),
        (lambda: LSTM(3, "relu", variant=CellSpec()), ValueError, "which says its activations"),
        (lambda: GRU(3)(X, initial_state=[X[0], X[0]]), TypeError, r"initial_state must be an array h \(N, H\)"),
    ],
)
def test_what_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()
