"""A model's step in a kernel of the user's, a sequence for each thread, against the model on the CPU."""

import numpy as np
import pytest
import reference
import worlds_on_a_gpu
from made import SPECS, Made
from own_cells import OWN

from numlstm import GRU, LSTM, Dense, DeviceError, Dropout, Embedding, Sequential, SimpleRNN, jitting
from numlstm._engine_weights import inside
from numlstm.backend.cuda.availability import missing
from numlstm.backend.cuda.steps import GpuSteps
from numlstm.functional import SequenceState

SEQUENCES, STEPS, THREADS = 5, 4, 3  # the last block has threads without a sequence
CELLS = [(name, options) for name in SPECS for options in (False, True) if not (options and name in OWN)]


def go_through(cuda, step):
    """Return a kernel that reads inputs (T, N, I) or whole numbers (T, N) and writes outputs (T, N, C)."""

    @cuda.jit
    def run(params, states, x, y):
        n = cuda.grid(1)
        if n < y.shape[1]:
            state = SequenceState(states, n)
            for t in range(y.shape[0]):
                step(params, state, x[t, n], y[t, n])

    return run


def run(device, step, params, states, x, columns, dtype):
    """Return the outputs of inputs (N, T, ..) of a model or layer on a device, in two launches."""
    params, states = jitting.map_arrays(device.array, (params, states))
    kernel, found = go_through(device.cuda, step), []
    for part in (x[:, :1], x[:, 1:]):
        y = device.array(np.full((part.shape[1], len(x), columns), np.nan, dtype))
        kernel[-(-len(x) // THREADS), THREADS](params, states, device.array(part.swapaxes(0, 1)), y)
        found.append(device.host(y))
    return np.concatenate(found).swapaxes(0, 1)


def of_model(device, model, x):
    made = jitting.jit_on_gpu(model, len(x), GpuSteps(device.step))
    return run(device, *made, x, model.output_shape[-1], model.dtype)


def built(rng, layers, shape, dtype="float32"):
    """Return a model with weights that are not zero anywhere."""
    model = Sequential(layers, dtype=dtype)
    model.build((None, *shape))
    model.set_weights([rng.uniform(-0.5, 0.5, w.shape).astype(dtype) for w in model.get_weights()])
    return model


def assert_right(got, want):
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=16 * np.finfo(want.dtype).eps)


@pytest.mark.parametrize(
    ("name", "options"), CELLS, ids=lambda value: value if isinstance(value, str) else "options" * value
)
def test_every_cell_matches_the_textbook(rng, device, name, options):
    """As `predict` computes it: with zoneout's expectation, beginning with zeros."""
    dtype = np.float64 if options else np.float32
    made = Made(rng, name, (SEQUENCES, STEPS, 3, 6), dtype)
    start = tuple(np.zeros_like(state) for state in made.states)
    has_c = options and "c" in made.spec.state_names and "m" not in made.spec.state_names
    clip, zoneout = 0.3 if has_c else None, (0.25 * options, 0.1 * has_c)
    maker = GpuSteps(device.step)
    weights = inside(made.spec, tuple(made.weights.values()))
    made_layer = maker.recurrent_step(made.spec.name, weights, clip, zoneout)
    step, params = maker.chain_step([made_layer])
    outputs = made.dy.shape[2]
    sizes, work = made.spec.state_sizes(6, outputs), maker.work_sizes(made_layer)
    products = jitting.numbers_of_products(made.spec, 6, np.dtype(dtype))
    part = jitting.Part(None, outputs, made.spec.state_names, sizes, work, products)
    layer = jitting.zero_state(part, np.dtype(dtype), after=(SEQUENCES,))
    got = run(device, step, params, jitting.ModelState((layer,), ()), made.x, outputs, dtype)
    of_c = {"zoneout_c": zoneout[1], "cell_clip": clip} if has_c else {}
    chosen = {**made.options, **({"zoneout_h": zoneout[0], **of_c} if options else {})}
    wide = {key: value.astype(np.float64) for key, value in made.weights.items()}
    want = reference.rnn(made.cell, made.x.astype(np.float64), wide, start, **chosen)
    assert_right(got, want.y.astype(dtype))


def test_layers_one_after_the_other(rng, device):
    layers = [
        GRU(5, return_sequences=True, use_bias=False, reset_after=False),
        Dropout(0.3),
        LSTM(7, return_sequences=True, projection=4),
        SimpleRNN(3, return_sequences=True, layer_norm=True),
    ]
    model = built(rng, [Dense(6, "tanh"), *layers, Dense(3, "relu"), Dense(3, "softmax")], (None, 4))
    x = rng.standard_normal((SEQUENCES, STEPS, 4)).astype(np.float32)
    assert_right(of_model(device, model, x), model.predict(x, verbose=0))


@pytest.mark.parametrize("integer", [np.int64, np.uint8])
def test_an_embedding_takes_integers_and_gives_nan_for_what_it_does_not_know(rng, device, integer):
    model = built(rng, [Embedding(11, 6), LSTM(3, return_sequences=True), Dense(2, "sigmoid")], (None,))
    x = rng.integers(0, 11, (SEQUENCES, STEPS)).astype(integer)
    want = model.predict(x, verbose=0)
    x[1, 2], want[1, 2:] = 11, np.nan
    assert_right(of_model(device, model, x), want)


def test_the_example_feeds_outputs_back_in(rng, device):
    model = built(rng, [LSTM(6, return_sequences=True), Dense(1)], (None, 1))
    step, params, states = jitting.jit_on_gpu(model, SEQUENCES, GpuSteps(device.step))
    params, states = jitting.map_arrays(device.array, (params, states))
    series = rng.standard_normal((SEQUENCES, 3, 1)).astype(np.float32)
    seen, futures = device.array(series.swapaxes(0, 1)), device.array(np.full((4, SEQUENCES, 1), np.nan, np.float32))
    worlds_on_a_gpu.make_simulation(step, device.cuda)[2, THREADS](params, states, seen, futures)
    for _ in range(4):
        series = np.concatenate([series, model.predict(series, verbose=0)[:, -1:]], axis=1)
    assert_right(device.host(futures), series[:, 3:].swapaxes(0, 1))


@pytest.mark.gpu
def test_the_example_follows_the_pendulum():
    if missing():
        pytest.skip(f"no GPU: {missing()}")
    error = worlds_on_a_gpu.main(epochs=40, worlds=200)
    assert error[0] < 0.05 and error[9] < 0.2


def test_models_with_the_same_layers_share_a_step(rng, simulated):
    """So that a kernel is compiled for all of them once."""
    models = [built(rng, [LSTM(units, return_sequences=True), Dense(1)], (None, 1)) for units in (3, 4)]
    models.append(built(rng, [LSTM(3, return_sequences=True, zoneout=0.1), Dense(1)], (None, 1)))
    one, same, other = (jitting.jit_on_gpu(model, 1, GpuSteps(simulated.step))[0] for model in models)
    assert one is same and one is not other


def test_y_of_another_dtype_is_refused(rng, device):
    model = built(rng, [Dense(1)], (1,))
    step, *made = jitting.jit_on_gpu(model, 1, GpuSteps(device.step))
    params, states = jitting.map_arrays(device.array, tuple(made))
    x, y = (device.array(np.zeros((1, 1, 1), dtype)) for dtype in (np.float32, np.float64))
    with pytest.raises(Exception, match="y must be a 1-D array of float32"):
        go_through(device.cuda, step)[1, 1](params, states, x, y)


def test_a_step_on_a_gpu_needs_one(rng, monkeypatch):
    monkeypatch.setattr("numlstm.backend.cuda.availability.missing", lambda: "there is none")
    model = built(rng, [LSTM(3)], (None, 1))
    with pytest.raises(DeviceError, match="there is none"):
        model.jit(device="cuda", sequences=2)
    with pytest.raises(ValueError, match="sequences is for device='cuda', not 2"):
        model.jit(sequences=2)
