"""Recurrent dropout, zoneout and clipping of c on every kind of cell: against the textbook, and themselves in other ways."""

import numpy as np
import pytest
import reference
from numlstm.kernels import dropout
from own_cells import OWN
from support import assert_same_bits

import numlstm
from numlstm import GRU, LSTM, Bidirectional, CellSpec, Dense, Sequential, SimpleRNN, cells, functional
from numlstm._samples import Data
from numlstm.functional import RNNOptions

CELLS = {
    "lstm": reference.LSTM(),
    "peephole": reference.PRESETS["peephole"],
    "cifg": reference.PRESETS["cifg"],
    "fgr": reference.PRESETS["fgr"],
    "gru": reference.GRU(),
    "gru before": reference.GRU(reset_after=False),
    "rnn": reference.SimpleRNN(),
    "slstm": reference.SLSTM(),
    "projected": reference.PRESETS["peephole"],
    "lstm, normed": reference.LSTM(),
    "gru before, normed": reference.GRU(reset_after=False),
}
SPECS = {  # of cells without a name of their own
    "gru before": cells.GRUSpec(reset_after=False),
    "projected": CellSpec(peepholes=True, projected=True),
    "lstm, normed": CellSpec(layer_norm=True),
    "gru before, normed": cells.GRUSpec(reset_after=False, layer_norm=True),
}
SIZES = [(3, 7, 5, 9), (2, 40, 3, 33), (1, 20, 4, 64)]
ALLOWED_EPS = 500  # in units of eps * (1 + the largest element): sums of a few hundred products, and T steps of them
SEED = 12345
KINDS = ["clip", "mask", "expected zoneout", "zoneout", "all"]


def _masks_of_zoneout(rates, batch, steps, hidden):
    """Return what kernels.options draws, from the 64 bits of each place: the upper half for h, the lower one for c."""
    words = dropout.random_word.py_func(np.uint64(SEED), np.arange(batch * steps * hidden))
    halves = words >> np.uint64(32), words & np.uint64(0xFFFFFFFF)
    thresholds = [np.uint64(float(rate) * 2**32) for rate in rates]
    return [(half < t).reshape(batch, steps, hidden) * 1.0 for half, t in zip(halves, thresholds, strict=True)]


class Case:
    """A cell with made-up weights, inputs, states, upstream gradients and options, for us and for the textbook."""

    def __init__(self, rng, name, kind, sizes, dtype, ragged=False):
        batch, steps, inputs, hidden = self.sizes = sizes
        self.spec, self.cell = cells.spec(SPECS.get(name, name)), CELLS[name]
        outputs = hidden // 2 + 1 if "W_p" in self.spec.weights else hidden
        projection = None if outputs == hidden else outputs
        shapes = reference.weight_shapes(self.cell, inputs, hidden, projection, self.spec.layer_norm)
        scale, widths = hidden**-0.5, self.spec.state_sizes(hidden, outputs)
        self.weights = {key: rng.uniform(-scale, scale, shape).astype(dtype) for key, shape in shapes.items()}
        self.x = rng.standard_normal((batch, steps, inputs)).astype(dtype)
        self.dy = rng.standard_normal((batch, steps, outputs)).astype(dtype)
        self.states, self.dstates = (
            tuple(rng.standard_normal((batch, width)).astype(dtype) for width in widths) for _ in range(2)
        )
        if name == "slstm":
            self.states[2][:] = 1 + np.abs(self.states[2])  # n is a sum of exponentials
        self.lengths = rng.integers(1, steps, batch, endpoint=True) if ragged else None
        ours, textbooks = {}, {}
        with_c = self.cell.has_cell_state
        if kind in ("clip", "all") and with_c:
            ours["cell_clip"] = textbooks["cell_clip"] = float(dtype(0.3))
        if kind in ("mask", "all"):
            mask = ((rng.random((batch, outputs)) < 0.5) * 2).astype(dtype)
            ours["recurrent_mask"], textbooks["recurrent_dropout"] = mask, mask
        if "zoneout" in kind or kind == "all":
            rates = dtype(0.3), dtype(0.2 if with_c else 0)
            ours["zoneout"], keeps = tuple(float(rate) for rate in rates), rates
            if kind != "expected zoneout":
                masks = [_masks_of_zoneout(rates, batch, steps, units) for units in (outputs, hidden)]
                ours["seed"], keeps = SEED, (masks[0][0], masks[1][1])
            textbooks["zoneout_h"] = keeps[0]
            if with_c:
                textbooks["zoneout_c"] = keeps[1]
        self.options, self.by_the_book = RNNOptions(**ours), textbooks | {"lengths": self.lengths}

    def run(self, rows=slice(None), **changed):
        given = {"lengths": self.lengths, "options": self.options, "states": self.states, "x": self.x} | changed
        return functional.rnn(weights=tuple(self.weights.values()), cell=self.spec, **given)

    def run_both(self, **changed):
        out = self.run(**changed)
        gradients = functional.rnn_backward(out.tape, self.dy, self.dstates)
        return out.y, *out.states, gradients.x, *gradients.weights, *gradients.states

    def by_the_textbook(self):
        args = self.x.astype(np.float64), {key: value.astype(np.float64) for key, value in self.weights.items()}
        out = reference.rnn(self.cell, *args, self.states, **self.by_the_book)
        gradients = reference.rnn_backward(self.cell, *args, out.trace, self.dy, self.dstates, **self.by_the_book)
        return out.y, *out.states, gradients.x, *gradients.weights.values(), *gradients.states


COMBINATIONS = [(name, kind) for name in CELLS for kind in KINDS if kind != "clip" or CELLS[name].has_cell_state]


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("name", "kind"), COMBINATIONS)
def test_outputs_states_and_all_gradients_match_the_reference(rng, name, kind, sizes, ragged):
    case = Case(rng, name, kind, sizes, np.float64, ragged)
    for got, want in zip(case.run_both(), case.by_the_textbook(), strict=True):
        assert got.shape == want.shape
        assert np.abs(got - want).max() < ALLOWED_EPS * np.finfo(np.float64).eps * (1 + np.abs(want).max())


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_in_float32(rng, name):
    case = Case(rng, name, "all", (3, 7, 5, 70), np.float32)
    for got, want in zip(case.run_both(), case.by_the_textbook(), strict=True):
        assert got.dtype == np.float32
        assert np.abs(got - want).max() < ALLOWED_EPS * np.finfo(np.float32).eps * (1 + np.abs(want).max())


@pytest.mark.usefixtures("all_dealt_out")
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("name", CELLS)
def test_threads_windows_and_cuts_change_no_bit(rng, name, ragged):
    case = Case(rng, name, "all", (5, 40, 6, 70), np.float64, ragged)
    numlstm.set_num_threads(1)
    want = case.run_both()
    for threads in (2, 3, 8):
        numlstm.set_num_threads(threads)
        for recompute in (None, *functional.RECOMPUTE):
            assert_same_bits(case.run_both(recompute=recompute), want)
    out = case.run(tape=False)
    assert_same_bits((out.y, *out.states), want[: 1 + len(out.states)])
    weights = functional.pack(tuple(case.weights.values()), case.spec)
    packed = functional.rnn(
        case.x, weights, case.states, cell=case.spec, tape=False, lengths=case.lengths, options=case.options
    )
    assert_same_bits((packed.y, *packed.states), want[: 1 + len(out.states)])


@pytest.mark.parametrize("name", sorted(set(OWN) - {"own slstm"}))  # whose adjoint takes a state as a constant
def test_gradients_of_a_users_own_cell_are_those_of_its_outputs(rng, name):
    """There is no textbook of it with options: by differences along random directions."""
    cell, hidden = OWN[name], 5
    columns = {"W_ih": 3, "W_hh": hidden}
    shapes = [(blocks * hidden, columns.get(name, 0))[:axes] for name, (blocks, axes) in cell.weights.items()]
    start = [rng.uniform(-0.5, 0.5, shape) for shape in ((2, 6, 3), *shapes, *[(2, hidden)] * cell.states)]
    ways = [rng.standard_normal(array.shape) for array in start]
    mask = (rng.random((2, hidden)) < 0.5) * 2.0
    options, dy = RNNOptions(zoneout=(0.3, 0.0), seed=SEED, recurrent_mask=mask), rng.standard_normal((2, 6, hidden))
    dstates = tuple(rng.standard_normal((cell.states, 2, hidden)))

    def run(shift):
        x, *rest = [array + shift * way for array, way in zip(start, ways, strict=True)]
        weights, states = tuple(rest[: len(shapes)]), tuple(rest[len(shapes) :])
        out = functional.rnn(x, weights, states, cell=cell, options=options)
        loss = (out.y * dy).sum() + sum((state * d).sum() for state, d in zip(out.states, dstates, strict=True))
        return loss, functional.rnn_backward(out.tape, dy, dstates)

    _, found = run(0.0)
    slope = sum((g * way).sum() for g, way in zip((found.x, *found.weights, *found.states), ways, strict=True))
    assert slope == pytest.approx((run(1e-6)[0] - run(-1e-6)[0]) / 2e-6, rel=1e-6)


def test_two_rows_of_one_pass_have_masks_of_their_own(rng):
    case = Case(rng, "lstm", "zoneout", (2, 30, 3, 16), np.float64)
    x, states = np.stack([case.x[0]] * 2), tuple(np.stack([state[0]] * 2) for state in case.states)
    y = case.run(x=x, states=states).y
    assert (y[0] != y[1]).any()
    again = case.run(x=x, states=states).y
    assert_same_bits(y, again)


def test_a_bound_that_c_never_meets_changes_no_bit(rng):
    case = Case(rng, "lstm", "clip", (3, 9, 4, 20), np.float32)
    plain = case.run_both(options=None)
    assert_same_bits(case.run_both(options=RNNOptions(cell_clip=100.0)), plain)
    assert_same_bits(case.run_both(options=RNNOptions()), plain)


def test_a_nan_stays_in_its_row(rng):
    case = Case(rng, "lstm", "all", (3, 9, 4, 20), np.float32)
    want, x = case.run().y, case.x.copy()
    x[1, 3, 2] = np.nan
    y = case.run(x=x).y
    assert_same_bits(y[::2], want[::2])
    assert np.isnan(y[1, 3:]).any(axis=1).all()


@pytest.mark.parametrize("options", [None, RNNOptions(zoneout=(0.1, 0.1))])
@pytest.mark.parametrize("recompute", functional.RECOMPUTE)
def test_no_steps_leave_memory_alone(run_python, options, recompute):
    """Computing gates again once wrote the product with h0 where there is no step: with these sizes beyond the memory."""
    run_python(
        f"""
import numpy as np
from numlstm import functional
from numlstm.functional import RNNOptions
rng = np.random.default_rng(0)
weights = [rng.standard_normal(shape, np.float32) for shape in ((1024, 3), (1024, 256), (1024,))]
states = np.ones((2, 4, 256), np.float32)
for _ in range(20):
    x, options = np.zeros((4, 0, 3), np.float32), {options!r}
    out = functional.rnn(x, weights, tuple(states), cell="lstm", recompute={recompute!r}, options=options)
    gradients = functional.rnn_backward(out.tape, np.zeros((4, 0, 256), np.float32), tuple(states))
    assert (gradients.states[0] == 1).all() and all((g == 0).all() for g in gradients.weights)
"""
    )


# --- layers ---

LAYERS = {
    "lstm": lambda **options: LSTM(6, cell_clip=0.5, **options),
    "gru": lambda **options: GRU(6, **options),
    "simple": lambda **options: SimpleRNN(6, **options),
    "both ways": lambda **options: Bidirectional(LSTM(6, **options)),
    "normed": lambda **options: LSTM(6, layer_norm=True, **options),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    "options", [{"recurrent_dropout": 0.4}, {"zoneout": 0.2}, {"recurrent_dropout": 0.2, "zoneout": 0.1}]
)
def test_a_model_learns_with_them_the_same_each_time_and_any_way(rng, tmp_path, name, options):
    x, y = rng.standard_normal((12, 20, 3)), rng.standard_normal((12, 1))
    losses = []
    for change in ({}, {}, {"recompute": "gates"}, {"recompute": "states"}):
        model = Sequential([numlstm.Input((20, 3)), LAYERS[name](**options, **change, seed=1), Dense(1, seed=2)])
        before = model.get_weights()
        trainer = numlstm.Trainer(model, numlstm.optimizers.Adam(0.01), seed=3)
        trainer.fit(x, y, epochs=2, batch_size=6, verbose=0)
        assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
        losses.append(model.predict(x))
    assert_same_bits(tuple(losses[1:]), tuple(losses[:1] * 3))
    model.save(tmp_path / "model.safetensors")
    assert_same_bits(numlstm.load(tmp_path / "model.safetensors").predict(x), losses[0])


def test_training_a_layer_draws_masks_and_predicting_does_not(rng):
    x = rng.standard_normal((4, 10, 3)).astype(np.float32)
    plain = LSTM(8, seed=1, return_sequences=True)
    want = plain(x)
    for options, same in (({"recurrent_dropout": 0.5}, True), ({"zoneout": (0.1, 0.5)}, False)):
        layer = LSTM(8, seed=1, return_sequences=True, **options)
        assert_same_bits(layer(x), layer(x))
        assert (layer(x) == want).all() == same
        assert (layer(x, training=True) != layer(x, training=True)).any()
    expected = functional.rnn(x, layer.params, cell="lstm", tape=False, options=RNNOptions(zoneout=(0.1, 0.5)))
    assert_same_bits(layer(x), expected.y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [LSTM, GRU, SimpleRNN])
def test_the_step_of_a_layer_has_the_bits_of_the_whole(rng, kind, dtype):
    """Recurrent dropout is for training; zoneout mixes by its probabilities."""
    options = {"recurrent_dropout": 0.5, "zoneout": 0.2, **({"cell_clip": 0.1} if kind is LSTM else {})}
    for hidden in (5, 33, 70):
        model = Sequential([numlstm.Input((9, 3)), kind(hidden, return_sequences=True, **options)], dtype=dtype)
        x, y = rng.standard_normal((9, 3)).astype(dtype), np.empty((9, hidden), dtype)
        step, params, state = model.jit()
        for t in range(9):
            step(params, state, x[t], y[t])
        assert_same_bits(y, model.predict(x[np.newaxis])[0])


@pytest.mark.parametrize("kind", [LSTM, GRU, SimpleRNN])
def test_a_trace_is_of_what_predict_computes(rng, kind):
    model = Sequential([numlstm.Input((9, 3)), kind(8, return_sequences=True, zoneout=0.5), Dense(1)])
    x = rng.standard_normal((4, 9, 3)).astype(np.float32)
    assert_same_bits(model.trace(x).y, model.predict(x))


def test_pieces_of_a_sequence_have_masks_of_their_own():
    """A step adds 1 to each unit, or zoneout keeps it; with the same masks in all pieces some would never count."""
    model = Sequential([SimpleRNN(50, activation="linear", return_sequences=True, zoneout=0.5, use_bias=False)])
    model.build((None, None, 1))
    model.set_weights([np.ones((1, 50)), np.eye(50)])
    step = numlstm.Trainer(model, numlstm.optimizers.SGD(0.0), truncate=1, seed=1)._ready()
    x, nothing = np.ones((1, 1, 1), np.float32), np.zeros((1, 0), np.float32)
    outputs = []
    for piece in range(8):
        step.learn(Data(x, np.zeros((1, 1, 50), np.float32), nothing), 0, False, step.meter(), piece)
        outputs.append(step._shapes[x.shape, True, False].plan.runs[0].y[0, 0].copy())
    kept = np.diff([np.zeros(50), *outputs], axis=0) == 0
    assert 0.3 < kept.mean() < 0.7 and (kept[0] != kept[1]).any()


X = np.zeros((2, 4, 3))
WEIGHTS = tuple(np.zeros(shape) for shape in ((8, 3), (8, 2), (8,)))


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda: functional.rnn(X, WEIGHTS, cell="lstm", options={"zoneout": 0.1}),
            TypeError,
            "options must be an RNNOptions",
        ),
        (lambda: _rnn(cell_clip=0), ValueError, "cell_clip must be positive, not 0"),
        (lambda: _rnn(zoneout=(0.1, 1.0)), ValueError, "zoneout must be at least 0 and below 1, not 1.0"),
        (lambda: _rnn(zoneout=(0.1, 0.2, 0.3)), ValueError, "zoneout must be a probability or a pair, for h and for c"),
        (lambda: _rnn(recurrent_mask=np.ones((2, 3))), ValueError, r"recurrent_mask must have shape \(N=2, H=2\)"),
        (lambda: _rnn(recurrent_mask=np.ones((2, 2), np.float32)), TypeError, "recurrent_mask"),
        (lambda: _rnn(zoneout=(0.1, 0.1), seed=-1), ValueError, "seed"),
        (
            lambda: _rnn(zoneout=(0.1, 0.1), seed=1 << 64),
            ValueError,
            r"seed must be below 2\*\*64, not 184467440",
        ),
        (lambda: LSTM(3, recurrent_dropout=1.0), ValueError, "recurrent_dropout must be at least 0 and below 1"),
        (lambda: LSTM(3, cell_clip=-1), ValueError, "cell_clip must be positive"),
        (lambda: LSTM(3, projection=3), ValueError, "projection must be less than units, 3, not 3"),
        (lambda: LSTM(3, projection=0), ValueError, "projection must be at least 1, not 0"),
        (lambda: LSTM(3, variant=cells.CellSpec(projected=True)), ValueError, "needs to know its outputs"),
        (
            lambda: functional.rnn(X, (*WEIGHTS, np.zeros((2, 2))), cell=cells.CellSpec(projected=True)),
            ValueError,
            r"W_p must have shape \(P, H\) with P at least 1 and less than H, not \(2, 2\)",
        ),
        (
            lambda: functional.rnn(X, (*WEIGHTS, np.zeros((2, 3))), cell=cells.CellSpec(projected=True)),
            ValueError,
            r"W_hh must have shape \(4H=12, P=2\) to go with W_p \(2, 3\)",
        ),
        (lambda: GRU(3, zoneout=(0.1, 0.1)), ValueError, "zoneout of c is for cells with such a state, not for GRUSpec"),
        (lambda: cells.checked_options(cells.GRUSpec(), 1.0, 0.0), ValueError, "cell_clip is for cells with a state c"),
    ],
)
def test_what_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()


def _rnn(**options):
    return functional.rnn(X, WEIGHTS, cell="lstm", options=RNNOptions(**options))
