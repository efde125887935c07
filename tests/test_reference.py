"""The reference against central differences, identities and itself: the one file in which it is not the oracle."""

import numpy as np
import pytest
import reference
from cases import BATCH, CELL_STATE, CELLS, CLIP, HIDDEN, STEPS, Case, combinations, has
from reference.parts import activate, slope

COMBINATIONS = [pytest.param(cell, options, id=name) for name, cell, options in combinations()]


def _numeric(case, value):
    """Return the central differences of the loss by the elements of an array that the case holds."""
    step = 1e-5  # truncation error step**2, rounding error eps / step: both near 1e-10
    gradient = np.empty_like(value)
    for place in np.ndindex(value.shape):
        here, ends = value[place], []
        for end in (here + step, here - step):
            value[place] = end
            ends.append(case.loss())
        value[place] = here
        gradient[place] = (ends[0] - ends[1]) / (2 * step)
    return gradient


@pytest.mark.parametrize(("cell", "options"), COMBINATIONS)
def test_gradients_are_those_of_central_differences(rng, cell, options):
    case = Case(rng, cell, options)
    gradients = case.backward(case.run())
    pairs = [("x", case.x, gradients.x)]
    pairs += [(name, value, gradients.weights[name]) for name, value in case.weights.items()]
    pairs += [(k, value, gradient) for k, (value, gradient) in enumerate(zip(case.states, gradients.states, strict=True))]
    for name, value, gradient in pairs:
        np.testing.assert_allclose(gradient, _numeric(case, value), rtol=1e-6, atol=1e-8, err_msg=str(name))


@pytest.mark.parametrize(("name", "x", "want", "want_slope"), [
    ("hard_sigmoid", [-9.0, -3.0, -1.5, 0.0, 3.0, 9.0], [0, 0, 0.25, 0.5, 1, 1], [0, 0, 1 / 6, 1 / 6, 0, 0]),
    ("relu", [-1.0, 0.0, 2.0], [0, 0, 2], [0, 0, 1]),
])  # fmt: skip
def test_kinks_are_flat(name, x, want, want_slope):
    value = activate(name, np.array(x))
    np.testing.assert_array_equal(value, want)
    np.testing.assert_array_equal(slope(name, value), want_slope)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_options_are_tried_on_both_sides_of_their_kinks(rng, cell):
    """Else the differences above would not see a wrong branch."""
    trace = Case(rng, cell, ["hard_sigmoid"]).run().trace
    activations = {"LSTM": "ifgo", "GRU": "rzn", "SimpleRNN": "h", "SLSTM": "go"}[type(cell).__name__]
    values = np.stack([step[name] for step in trace for name in activations])
    assert 0 in values and 1 in values and 0.1 < ((values > 0) & (values < 1)).mean() < 0.9
    if cell.has_cell_state:
        trace = Case(rng, cell, ["cell clip"]).run().trace
        assert 0.1 < np.mean([np.abs(step["unclipped"]) > CLIP for step in trace]) < 0.9
        assert max(np.abs(step["c"]).max() for step in trace) == CLIP


@pytest.mark.parametrize(("cell", "options"), COMBINATIONS)
def test_a_sequence_split_in_two_with_its_state_carried_is_the_whole(rng, cell, options):
    case = Case(rng, cell, [option for option in options if option != "lengths"], steps=7)
    whole, first = case.run(), case.part(steps=slice(3))
    head = first.run()
    second = case.part(steps=slice(3, None), states=head.states)
    tail = second.run()
    np.testing.assert_allclose(np.concatenate([head.y, tail.y], axis=1), whole.y, rtol=1e-12, atol=1e-14)
    for got, want in zip(tail.states, whole.states, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)

    want = case.backward(whole)
    late = second.backward(tail)
    early = reference.rnn_backward(cell, first.x, first.weights, head.trace, first.dy, late.states, **first.options)
    np.testing.assert_allclose(np.concatenate([early.x, late.x], axis=1), want.x, rtol=1e-12, atol=1e-14)
    for name, gradient in want.weights.items():
        np.testing.assert_allclose(early.weights[name] + late.weights[name], gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("cell", "options"), COMBINATIONS)
def test_each_row_with_its_length_is_that_sequence_alone(rng, cell, options):
    case = Case(rng, cell, [option for option in options if option != "lengths"], steps=5)
    lengths = case.options["lengths"] = np.array([3, 5, 1])
    for row, length in enumerate(lengths):
        case.x[row, length:] = np.nan
    out = case.run()
    gradients = case.backward(out)
    total = {name: np.zeros_like(value) for name, value in case.weights.items()}
    for row, length in enumerate(lengths):
        alone = case.part(rows=slice(row, row + 1), steps=slice(length))
        del alone.options["lengths"]
        want = alone.run()
        np.testing.assert_allclose(out.y[row, :length], want.y[0], rtol=1e-12, atol=1e-14)
        assert not out.y[row, length:].any()
        want_gradients = alone.backward(want)
        np.testing.assert_allclose(gradients.x[row, :length], want_gradients.x[0], rtol=1e-10, atol=1e-13)
        assert not gradients.x[row, length:].any()
        for got, state in zip(out.states + gradients.states, want.states + want_gradients.states, strict=True):
            np.testing.assert_allclose(got[row], state[0], rtol=1e-10, atol=1e-13)
        for name, gradient in want_gradients.weights.items():
            total[name] += gradient
    for name, gradient in total.items():
        np.testing.assert_allclose(gradients.weights[name], gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in reference.PRESETS if name not in ("niaf", "noaf")])
def test_a_variant_is_the_peephole_lstm_with_some_weights_chosen(rng, name):
    """An open gate has a large bias, 1 - i is the gate of -z, what is absent is 0, sets with fixed shares are their mean."""
    case = Case(rng, CELLS[name], [])
    w, rows, gates = case.weights, case.cell.rows, case.cell.gates
    shares = [1.0]
    if case.cell.gate_sets > 1:  # sigmoid(log(3 / 7)) = 0.3
        shares = [0.3, 0.7]
        w["W_ih"][-HIDDEN:], w["W_hh"][-HIDDEN:], w["b"][-HIDDEN:] = 0, 0, np.log(3 / 7)
    if case.cell.gate_recurrence:
        w["R"] = np.zeros_like(w["R"])

    def arrange(a, letters, order, open_gate=0.0):
        of = {}
        for k, block in enumerate(np.split(a, len(letters))[: len(letters.replace("a", ""))]):
            share = 1.0 if letters[k] == "g" else shares[letters[:k].count(letters[k])]
            of[letters[k]] = of.get(letters[k], 0.0) + share * block
        if case.cell.forget_gate == "coupled":
            of["f"] = -of["i"]
        return np.concatenate([of.get(k, np.full_like(of[letters[0]], open_gate)) for k in order])

    same = {
        "W_ih": arrange(w["W_ih"], rows if case.cell.cell_input == "x and h" else rows.replace("g", ""), "ifgo"),
        "W_hh": arrange(w["W_hh"], rows, "ifgo"),
        "b": arrange(w["b"], rows, "ifgo", open_gate=50.0),
        "p": arrange(w["p"], gates, "ifo") if "p" in w else np.zeros(3 * HIDDEN),
    }
    want = reference.rnn(CELLS["peephole"], case.x, same, case.states[:2])
    np.testing.assert_allclose(case.run().y, want.y, rtol=1e-11, atol=1e-13)


def test_linear_activations_are_chosen_by_the_cell_or_for_the_layer(rng):
    case = Case(rng, reference.LSTM(input_activation="linear", output_activation="linear"), [])
    want = reference.rnn(reference.LSTM(), case.x, case.weights, case.states, activation="linear")
    np.testing.assert_array_equal(case.run().y, want.y)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_recurrent_dropout_is_that_of_columns_of_the_weights(rng, cell):
    case, mask = Case(rng, cell, []), np.array([2.0, 0.0, 2.0])
    got = reference.rnn(cell, case.x, case.weights, case.states, recurrent_dropout=np.tile(mask, (BATCH, 1)))
    case.weights["W_hh"] *= mask
    np.testing.assert_allclose(got.y, case.run().y, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("keep", [0.25, 1.0])
def test_zoneout_mixes_states_of_two_steps_and_h_sees_the_new_cell(rng, keep):
    case = Case(rng, CELLS["peephole"], [], steps=1)
    (h0, c0), (h, c) = case.states, case.run().states
    case.options = {"zoneout_c": keep}
    for got, want in zip(case.run().states, (h, keep * c0 + (1 - keep) * c), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-14)
    case.options = {"zoneout_h": keep}
    for got, want in zip(case.run().states, (keep * h0 + (1 - keep) * h, c), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-14)


@pytest.mark.parametrize("forget_gate", ["exp", "sigmoid"])
def test_slstm_is_its_equations_without_the_stabiliser(rng, forget_gate):
    case = Case(rng, reference.SLSTM(forget_gate), ["start"])
    h = c = n = np.zeros((BATCH, HIDDEN))
    y = []
    for t in range(STEPS):
        z = case.x[:, t] @ case.weights["W_ih"].T + h @ case.weights["W_hh"].T + case.weights["b"]
        i, f, g, o = np.split(z, 4, axis=1)
        f = np.exp(f) if forget_gate == "exp" else reference.sigmoid(f)
        c, n = f * c + np.exp(i) * np.tanh(g), f * n + np.exp(i)
        h = reference.sigmoid(o) * c / n
        y.append(h)
    np.testing.assert_allclose(case.run().y, np.stack(y, axis=1), rtol=1e-12)


@pytest.mark.parametrize("forget_gate", ["exp", "sigmoid"])
def test_the_stabiliser_of_slstm_changes_the_scale_and_nothing_else(rng, forget_gate):
    case = Case(rng, reference.SLSTM(forget_gate), [])
    out, shift = case.run(), rng.standard_normal((BATCH, HIDDEN))
    h, c, n, m = case.states
    gradients, case.states = case.backward(out), (h, c * np.exp(-shift), n * np.exp(-shift), m + shift)
    shifted = case.run()
    np.testing.assert_allclose(shifted.y, out.y, rtol=1e-12)
    np.testing.assert_allclose(case.backward(shifted).x, gradients.x, rtol=1e-9)
    _, dc, dn, dm = gradients.states
    np.testing.assert_allclose(dm, c * dc + n * dn, rtol=1e-12)


@pytest.mark.parametrize("forget_gate", ["exp", "sigmoid"])
def test_slstm_neither_overflows_nor_divides_by_zero(rng, forget_gate):
    case = Case(rng, reference.SLSTM(forget_gate), ["start"], steps=9)
    case.weights["W_ih"] *= 1000
    out = case.run()
    gradients = case.backward(out)
    assert all((step["n"] >= 1).all() for step in out.trace)
    assert np.isfinite(out.y).all() and np.abs(out.y).max() <= 1
    assert all(np.isfinite(g).all() for g in (gradients.x, *gradients.weights.values()))


@pytest.mark.parametrize(
    ("cell", "options", "reason"),
    [
        (reference.GRU(), ["projection"], "cannot be narrower"),
        *[
            (cell, [option], "needs a cell state")
            for cell in CELLS.values()
            for option in CELL_STATE
            if not has(cell, option)
        ],
    ],
)
def test_what_has_no_meaning_is_refused(rng, cell, options, reason):
    case = Case(rng, cell, options)
    with pytest.raises(AssertionError, match=reason):
        case.run()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"input_gate": False, "forget_gate": "coupled"}, "remembers nothing"),
        ({"input_gate": False, "forget_gate": "one", "output_gate": False, "peepholes": True}, "without a gate"),
        ({"forget_gate": "open"}, "forget_gate is one of"),
    ],
)
def test_an_lstm_without_meaning_is_refused(fields, reason):
    with pytest.raises(AssertionError, match=reason):
        reference.LSTM(**fields)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 5, 3, 4), (3, 4, 2, 7)])
def test_the_vanilla_lstm_is_the_preset(make_layer, sizes):
    layer = make_layer(*sizes, dtype=np.float64)
    out, gradients = layer.reference()
    weights = {"W_ih": layer.W_ih, "W_hh": layer.W_hh, "b": layer.b}
    want = reference.rnn(reference.LSTM(), layer.x, weights, (layer.h0, layer.c0))
    back = reference.rnn_backward(reference.LSTM(), layer.x, weights, want.trace, layer.dy, (layer.dh, layer.dc))
    pairs = [(out.y, want.y), (out.h, want.states[0]), (out.c, want.states[1]), (gradients.x, back.x)]
    pairs += [(gradients.h0, back.states[0]), (gradients.c0, back.states[1])]
    for got, wanted in pairs + [(getattr(gradients, name), value) for name, value in back.weights.items()]:
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)
