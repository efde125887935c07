"""A user's own cell beyond what test_cells.py asks of every cell: its check, its errors, files, and the cache on disk."""

import math
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import Made
from own_cells import OWN, minimal_gated_unit
from support import assert_same_bits

import numlstm
from numlstm import RNN, Cell, Dense, GRUSpec, Sequential, cells, check_cell, functional, lanes
from numlstm.lanes import sigmoid, tanh

MGU = OWN["mgu"]
FACTOR = 2


def plain_forward(z, states):
    h = tanh(z[0])
    return (h,), (), h


def plain_backward(kept, before, after, dh, dstates):
    return (dh * (1 - kept[0] * kept[0]),), ()


def _bend(x):
    """A function of the user's own that others call, with a branch by lanes and numbers on all sides."""
    return lanes.where(x > 0.25, FACTOR * x, 1 - x / 4) + lanes.where(x < -1, -0.5, 0.0)


def _ops(x, y):
    return (
        _bend(x) + lanes.maximum(x, 0) - lanes.minimum(0.1, y),
        lanes.fma(x, 2, y) * lanes.sqrt(lanes.exp(y)) + lanes.relu(-x),
        lanes.hard_sigmoid(x) / (3 + sigmoid(y)) - lanes.log_sigmoid(x + y),
        lanes.where(x <= y, 1, 0)
        + lanes.where(x != y, tanh(x), y)
        + lanes.where(x >= y, x, 2.5) * lanes.where(x == y, 1, 0),
    )


def ops_forward(z, states):
    a, b, c, d = _ops(z[0], z[1])
    return (a, b), (a, b, c, d), a + 1


def ops_backward(kept, before, after, dh, dstates):
    return (dh, 0.0), (dh, 0, 1.5, dh)


def _of_a_module(z, states):
    return (z[0],), (), z[0] * math.pi


OPS = Cell(ops_forward, ops_backward, gates="ab", states=4)
numbers = st.floats(-6, 6, width=32)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("function", [lanes.maximum, lanes.minimum], ids=["maximum", "minimum"])
def test_the_greater_and_the_lesser_of_a_nan_are_one(function, swap):
    def forward(z, states):
        return (z[0],), (), function(z[0], 0.5)

    def swapped(z, states):
        return (z[0],), (), function(0.5, z[0])

    cell = Cell(swapped if swap else forward, plain_backward, gates=1)
    weights = np.zeros((2, 1)), np.zeros((2, 2)), np.array([np.nan, 1.0])
    (y,) = functional.rnn(np.zeros((1, 1, 1)), weights, cell=cell, tape=False).y[0]
    assert np.isnan(y[0]) and y[1] == function(0.5, 1.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20))
def test_compiled_functions_are_those_of_numpy(pairs):
    """Two gates that see x alone, one step: the states are what the functions return in plain Python."""
    x, hidden = np.array(pairs)[:, np.newaxis], 1
    weights = np.eye(2), np.zeros((2, hidden)), np.zeros(2)
    out = functional.rnn(x, weights, cell=OPS, tape=False)
    a, b, c, d = _ops(x[:, 0, :1], x[:, 0, 1:])
    for got, want in zip(out.states, (a + 1, a, b, c, d), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-14, atol=1e-14)


def test_numbers_among_what_is_returned():
    x, weights = np.ones((1, 1, 2)), (np.eye(2), np.zeros((2, 1)), np.zeros(2))
    out = functional.rnn(x, weights, cell=OPS)
    gradients = functional.rnn_backward(out.tape, dy=np.full((1, 1, 1), 3.0))
    assert gradients.x.ravel().tolist() == [3, 0]
    assert [float(state[0, 0]) for state in gradients.states] == [0, 3, 0, 1.5, 3]


@pytest.mark.parametrize("name", ["own lstm", "own slstm"])
def test_sequences_of_different_lengths_are_what_they_are_alone(rng, name):
    """With h among the states, which the engine then holds last, and without."""
    made, lengths = Made(rng, name, (4, 9, 3, 7), np.float64), (9, 1, 5, 8)
    weights = tuple(made.weights.values())
    out = functional.rnn(made.x, weights, made.states, cell=OWN[name], lengths=lengths)
    got = functional.rnn_backward(out.tape, made.dy, made.dstates)
    for n, steps in enumerate(lengths):
        row, part = slice(n, n + 1), (slice(n, n + 1), slice(steps))
        first, last = (tuple(state[row] for state in states) for states in (made.states, made.dstates))
        alone = functional.rnn(made.x[part], weights, first, cell=OWN[name])
        gradients = functional.rnn_backward(alone.tape, made.dy[part], last)
        assert_same_bits((out.y[part], got.x[part]), (alone.y, gradients.x))
        for ours, theirs in zip((*out.states, *got.states), (*alone.states, *gradients.states), strict=True):
            assert_same_bits(ours[row], theirs)


@pytest.mark.parametrize("name", [name for name in OWN if name != "own slstm"])
def test_check_cell_finds_right_gradients_right(name):
    errors = check_cell(OWN[name])
    assert list(errors) == [f"sum {each}" for each in OWN[name].sums] + [f"state {each}" for each in OWN[name].own_states]
    assert max(errors.values()) < 1e-9


def test_check_cell_names_what_is_wrong():
    right = MGU.backward

    def backward(kept, before, after, dh, dstates):
        (dz_f, dz_n, dz_h), (d,) = right(kept, before, after, dh, dstates)
        return (dz_f, dz_n * 1.01, dz_h), (d + 0.1,)

    wrong = Cell(MGU.forward, backward, gates="fn", states="h", apart=1)
    with pytest.raises(ValueError, match=r"its gradient is off, of sum n by 0\.0\d+.*; of state h by 0\.1, where") as raised:
        check_cell(wrong)
    assert "sum f" not in str(raised.value)


def test_check_cell_at_chosen_states():
    """c / n needs an n that is not near 0: there the check of an sLSTM's c and n holds."""
    rng = np.random.default_rng(0)
    states = rng.standard_normal(50), rng.uniform(1, 2, 50), np.full(50, -50.0)  # m far below i~: m' = i~, not a constant
    with pytest.raises(ValueError, match="of sum i by") as raised:
        check_cell(OWN["own slstm"], states)
    assert "of state" not in str(raised.value) and "of sum f" not in str(raised.value)
    with pytest.raises(ValueError, match="states must be 3 arrays of one length"):
        check_cell(OWN["own slstm"], states[:2])
    with pytest.raises(TypeError, match=r"cell must be a numlstm\.Cell, not GRUSpec"):
        check_cell(GRUSpec())


# --- layers and files ---


@pytest.fixture
def model(rng):
    model = Sequential([RNN(6, "mgu", return_sequences=True, input_shape=(9, 3)), RNN(5, "gru"), Dense(1)])
    model.compile("adam", "mse")
    x, y = rng.standard_normal((32, 9, 3)), rng.standard_normal((32, 1))
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, epochs=8, verbose=0)
    assert model.evaluate(x, y, verbose=0) < before
    return model


def test_a_layer_of_any_cell(rng, model):
    layer = model.layers[0]
    assert [array.shape for array in layer.get_weights()] == [(3, 12), (6, 12), (18,)]
    assert repr(layer).startswith("RNN(units=6, cell=Cell(forward=forward, backward=backward, gates=('f', 'n'), states=(")
    x = rng.standard_normal((2, 9, 3)).astype(np.float32)
    assert_same_bits(layer(x), functional.rnn(x, layer.params, cell="mgu", tape=False).y)
    trace = model.trace(x)[layer.name]
    assert list(trace) == ["f", "n", "h"]
    h = np.concatenate([np.zeros((2, 1, 6), np.float32), trace["h"][:, :-1]], axis=1)
    np.testing.assert_allclose(trace["h"], h + trace["f"] * (trace["n"] - h), atol=1e-6)
    step, params, state = model.jit()
    y = np.empty(1, np.float32)
    for t in range(9):
        step(params, state, x[0, t], y)
    np.testing.assert_allclose(y, model.predict(x)[0], rtol=1e-6)


def test_a_cell_can_be_pickled_where_its_functions_can():
    assert pickle.loads(pickle.dumps(MGU)) == MGU and len({MGU, OPS, pickle.loads(pickle.dumps(OPS))}) == 2


def test_a_file_holds_the_name_of_the_cell(rng, model, tmp_path):
    path, x = tmp_path / "model.safetensors", rng.standard_normal((2, 9, 3))
    model.save(path)
    assert_same_bits(numlstm.load(path).predict(x), model.predict(x))
    del cells._BY_NAME["mgu"]
    try:
        with pytest.raises(
            numlstm.FileFormatError, match=r"a cell of your own, 'mgu', .* numlstm\.cells\.register\('mgu', cell\)"
        ):
            numlstm.load(path)
        with pytest.raises(
            ValueError, match=r"Cell\(forward=forward.* has no name that a file could hold: call numlstm\.cells"
        ):
            model.save(path)
    finally:
        cells.register("mgu", MGU)


def test_the_example_learns(run_python):
    script = Path(minimal_gated_unit.__file__).read_text(encoding="utf-8")
    right = re.search(r"(\d+)% right", run_python(script).stdout)
    assert int(right[1]) > 85


# --- errors ---


def _cell(forward=plain_forward, backward=plain_backward, gates=1, **more):
    return Cell(forward, backward, gates, **more)


def _returns(value):
    return lambda z, states: value(z)


def _refers(thing):
    def forward(z, states):
        thing  # noqa: B018
        return plain_forward(z, states)

    return forward


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: _cell(gates=5), ValueError, "gates must be 1 to 4, not 5"),
        (lambda: _cell(gates=0), ValueError, "gates must be .*1"),
        (lambda: _cell(gates="ff"), ValueError, "gates has a name twice"),
        (lambda: _cell(gates=1.5), TypeError, "gates must be a number, or names such as"),
        (lambda: _cell(states="ch"), ValueError, "states must begin with 'h' if it is among them, not with 'c'"),
        (lambda: _cell(apart=2), ValueError, "apart must be at most as many as there are gates, 1, not 2"),
        (lambda: _cell(forward=3), TypeError, "forward must be a function in Python, not int"),
        (lambda: _cell(lambda z: z), TypeError, r"forward must take \(z, states\), not \(z\)"),
        (
            lambda: _cell(backward=lambda kept, dh: kept),
            TypeError,
            r"backward must take \(kept, before, after, dh, dstates\)",
        ),
        (lambda: _cell(_returns(lambda z: z[0])), ValueError, r"forward must return \(kept, states, h\), not ndarray"),
        (
            lambda: _cell(_returns(lambda z: (z[0], (), z[0]))),
            ValueError,
            "forward must return kept as a tuple of at most 1",
        ),
        (lambda: _cell(_returns(lambda z: (z * 3, (), z[0]))), ValueError, "kept as a tuple of at most 1, not 3"),
        (lambda: _cell(states=1), ValueError, "forward must return states as a tuple of 1, not 0"),
        (lambda: _cell(_returns(lambda z: (z, (), z[0].sum()))), ValueError, "numbers for each unit in h"),
        (lambda: _cell(_returns(lambda z: (z, (), z[0][:2]))), ValueError, "numbers for each unit in h, of the shape of z"),
        (
            lambda: _cell(_returns(lambda z: (z, (), z[3]))),
            ValueError,
            "forward fails on NumPy arrays: IndexError: tuple index",
        ),
        (
            lambda: _cell(lambda z, states: (z, (2 * z[0],), z[0]), states="h"),
            ValueError,
            "forward must return the new h as the first of its states",
        ),
        (
            lambda: _cell(_refers(np.sin)),
            TypeError,
            "refers to thing, which does not compute on lanes: .* exp, fma, hard_sigmoid",
        ),
        (
            lambda: _cell(_of_a_module),
            TypeError,
            "refers to math.pi: take it by its own name, from math import pi",
        ),
        (lambda: _cell(_refers({})), TypeError, "refers to thing, which is a dict: a cell's functions may refer to numbers"),
        (lambda: cells.register("gru", MGU), ValueError, "'gru' is a cell of numlstm's: choose another name"),
        (lambda: cells.register(3, MGU), TypeError, "name must be a string, not int"),
        (lambda: cells.register("mine", 3), TypeError, "cell must be a name or a CellSpec, .* not int"),
        (lambda: RNN(3, "mgru"), ValueError, "did you mean 'mgu'"),
    ],
)
def test_what_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()


def _power(z, states):
    return (z[0] ** 2,), (), z[0]


def _method(z, states):
    return (z[0].clip(0, 1),), (), z[0]


@pytest.mark.parametrize(
    ("forward", "says"), [(_power, r"there is no pow\(lanes, 2\)"), (_method, "Unknown attribute 'clip' of type lanes")]
)
def test_code_that_numba_cannot_compile_is_a_line(forward, says):
    weights, line = (np.zeros((1, 1)), np.zeros((1, 1)), np.zeros(1)), forward.__code__.co_firstlineno + 1
    where = rf"{forward.__name__}, backward=plain_backward, .*test_own_cells\.py, line {line}\)"
    with pytest.raises(TypeError, match=rf"Numba cannot compile Cell\(forward={where}: {says}$") as raised:
        functional.rnn(np.zeros((1, 2, 1)), weights, cell=_cell(forward))
    assert "\n" not in str(raised.value)


# --- what the machine code on disk goes by ---


def test_names_stand_for_what_functions_compute():
    def variant(factor, inner):
        def helper(x):
            return factor * tanh(x)

        def forward(z, states):
            h = helper(z[0]) if inner else tanh(z[0])
            return (h,), (), h

        return _cell(forward).name

    assert variant(2, True) == variant(2, True)
    names = {
        variant(2, True),
        variant(3, True),
        variant(2.0, True),
        variant(2, False),
        _cell().name,
        _cell(gates=2, backward=lambda kept, before, after, dh, dstates: ((dh, dh), ())).name,
    }
    assert len(names) == 6


def test_what_functions_refer_to_is_that_of_when_the_cell_was_made():
    factor = 2.0

    def helper(x):
        return (lambda y: factor * y)(tanh(x))

    def forward(z, states):
        h = helper(z[0])
        return (h,), (), h

    cell = _cell(forward)
    factor = 3.0
    forward_of_3 = _cell(forward)
    assert forward_of_3.name != cell.name
    x, weights = np.ones((1, 1, 1)), (np.ones((1, 1)), np.zeros((1, 1)), np.zeros(1))
    for each, want in ((cell, 2.0), (forward_of_3, 3.0)):
        assert functional.rnn(x, weights, cell=each, tape=False).y[0, 0, 0] == pytest.approx(want * np.tanh(1))


SCRIPT = """
import sys
import numpy as np
from numlstm import Cell, functional
from numlstm.kernels import parallel
from numlstm.lanes import tanh

def forward(z, states):
    h = FACTOR * tanh(z[0])
    return (h,), (), h

def backward(kept, before, after, dh, dstates):
    return (dh * (FACTOR - kept[0] * kept[0] / FACTOR),), ()

FACTOR = float(sys.argv[1])
x, weights = np.ones((1, 1, 1)), (np.ones((1, 1)), np.ones((1, 1)), np.zeros(1))
if len(sys.argv) > 2:  # what others left must not be in the way
    functional.rnn(x, weights, cell="rnn", tape=False)
cell = Cell(forward, backward, gates=1)
y = functional.rnn(x, weights, cell=cell, tape=False).y
assert np.isclose(y[0, 0, 0], FACTOR * np.tanh(1)), y
print(sum(parallel.forward.stats.cache_hits.values()))
"""


def test_a_changed_function_is_never_served_from_the_disk(run_python, tmp_path):
    folder = {"NUMLSTM_CACHE_DIR": str(tmp_path / "cache")}
    found = [
        run_python(SCRIPT, *arguments, **folder).stdout.strip() for arguments in ((2,), (3,), (2,), (3, "rnn"), (3, "rnn"))
    ]
    assert found == ["0", "0", "1", "1", "2"]
