"""What the CUDA engine has beside recurrent layers, against the CPU's kernels and NumPy."""

import numpy as np
import pytest
from numlstm.kernels import losses, parallel, target, updates

ONE_PART = parallel.new_runtime(0, 0, 1, 1)
KINDS = 5  # of activations
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def close(got, want, eps=8):
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=eps * np.finfo(got.dtype).eps, atol=eps * np.finfo(got.dtype).eps)


@DTYPES
@pytest.mark.parametrize("rate", [0.25, 0.9])
def test_masks_are_those_of_the_cpu(rng, device, dtype, rate):
    x, key = rng.standard_normal((7, 3, 11)).astype(dtype), np.uint64(2**63 + 5)
    want, y = np.empty_like(x), device.array(np.full_like(x, np.nan))
    parallel.drop(ONE_PART, key, rate, x, want)
    device.operations.drop(0, key, rate, device.array(x), y)
    assert device.host(y).tobytes() == want.tobytes()


@DTYPES
def test_embeddings_are_those_of_the_cpu(rng, device, dtype):
    table, indices = rng.standard_normal((5, 130)).astype(dtype), rng.integers(0, 5, 12)
    dy, dtable = rng.standard_normal((12, 130)).astype(dtype), rng.standard_normal((5, 130)).astype(dtype)
    y, on_device = device.array(np.full((12, 130), np.nan, dtype)), device.array(dtable)
    device.operations.gather(0, device.array(table), device.array(indices), y)
    device.operations.scatter(0, device.array(indices), device.array(dy), on_device)
    assert np.array_equal(device.host(y), table[indices])
    parallel.scatter(ONE_PART, indices, dy, dtable)
    assert device.host(on_device).tobytes() == dtable.tobytes()


@DTYPES
@pytest.mark.parametrize("kind", range(KINDS))
def test_activations_and_their_slopes_match_the_cpu(rng, device, dtype, kind):
    z = rng.standard_normal((30, 7)).astype(dtype)
    z[3, 2], z[4, 1] = np.nan, 100
    y, slope = np.empty_like(z), np.empty((30, -(-7 // target.lanes(dtype)) * target.lanes(dtype)), dtype)
    dy = rng.standard_normal(z.shape).astype(dtype)
    parallel.activate(ONE_PART, kind, z, y)
    parallel.differentiate(ONE_PART, kind, y, dy, slope)
    got, dz = (device.array(np.full_like(z, np.nan)) for _ in range(2))
    device.operations.activate(0, kind, device.array(z), got)
    close(device.host(got), y)
    device.operations.differentiate(0, kind, device.array(y), device.array(dy), dz)
    close(device.host(dz), slope[:, :7])


LOSSES = [
    (losses.Squared(), "values"),
    (losses.Absolute(), "values"),
    (losses.Huber(0.7), "values"),
    (losses.Quantile(np.array([0.1, 0.5, 0.9])), "values"),
    (losses.BinaryLogits(), "values"),
    (losses.BinaryProbabilities(), "probabilities"),
    (losses.BinaryHits(0.5), "values"),
    *((kind(), targets) for kind in (losses.Logits, losses.Hits) for targets in ("classes", "values")),
    *((losses.Probabilities(), targets) for targets in ("classes", "probabilities")),
]


@DTYPES
@pytest.mark.parametrize(
    ("loss", "targets"), LOSSES, ids=lambda value: value if isinstance(value, str) else type(value).__name__
)
@pytest.mark.parametrize("ragged", [False, True], ids=["", "weighted and ragged"])
def test_losses_and_their_gradients_match_the_cpu(rng, device, dtype, loss, targets, ragged):
    rows, classes = 150, 6
    prediction = rng.random if targets == "probabilities" or isinstance(loss, losses.Probabilities) else rng.standard_normal
    prediction = prediction((rows, classes)).astype(dtype)
    target = rng.integers(0, classes, rows) if targets == "classes" else rng.random((rows, classes)).astype(dtype)
    weights = rng.random(rows if ragged else 0).astype(dtype)
    lengths = rng.integers(0, 16, 10 if ragged else 0)
    gradient, values = np.full_like(prediction, np.nan), np.empty(rows)  # hits have no gradient
    total = parallel.loss(ONE_PART, loss, prediction, target, weights, lengths, 0.3, gradient, values)

    on_device = [device.array(a) for a in (prediction, target, weights, lengths)]
    got, each, sums = (device.array(np.full_like(a, np.nan)) for a in (prediction, values, np.empty(4)))
    on_device_loss = loss._replace(levels=device.array(loss.levels)) if isinstance(loss, losses.Quantile) else loss
    device.operations.loss(0, on_device_loss, *on_device, 0.3, got, values=each, sums=sums)
    close(device.host(got), gradient, 16)
    assert device.host(each) == pytest.approx(values, rel=64 * float(np.finfo(dtype).eps))
    assert device.host(sums)[0] == pytest.approx(total, rel=64 * float(np.finfo(dtype).eps))


RULES = [
    updates.SGD(0.1),
    updates.Momentum(0.1, 0.9, 0.0),
    updates.Momentum(0.1, 0.9, 1.0),
    updates.RMSprop(0.1, 0.9, 1e-7),
    updates.Adam(0.1, 0.9, 0.999, 1e-7, 0.01),
]


@DTYPES
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_rules_move_parameters_as_on_the_cpu(rng, device, dtype, rule):
    size, slots = 300, updates.SLOTS[type(rule)]
    parameters, gradient = (rng.standard_normal(size).astype(dtype) for _ in range(2))
    kept = rng.random((slots, size)).astype(dtype)
    on_device, g, k, factor = (device.array(a) for a in (parameters, gradient, kept, np.array([0.7])))
    device.operations.update(0, rule, on_device, g, k, factor, 0.5)
    table = np.array([[parameters.ctypes.data, size]])
    parallel.update(ONE_PART, rule, table, gradient, kept, np.array([0.7]), 0.5)
    close(device.host(on_device), parameters)
    close(device.host(k), kept)


@DTYPES
@pytest.mark.parametrize("size", [0, 1, 127, 1000])
def test_a_gradient_is_measured_and_clipped_where_it_is(rng, device, dtype, size):
    gradient = rng.standard_normal(size).astype(dtype)
    sums = device.array(np.full(4, np.nan))
    device.operations.sum_of_squares(0, device.array(gradient), sums)
    square = (gradient.astype(np.float64) ** 2).sum()
    assert device.host(sums)[0] == pytest.approx(square, rel=1e-12)
    for limit, want in ((0.5 * np.sqrt(square), 0.5), (2 * np.sqrt(square) + 1, 0.9)):
        factor = device.array(np.array([0.9]))
        device.operations.clip(0, sums[:1], limit, factor)
        assert device.host(factor)[0] == pytest.approx(0.9 if size == 0 else want)


@DTYPES
def test_dense_layers_match_numpy(rng, device, dtype):
    rows, inputs, columns, none = 7, 5, 11, 0
    x, W, b, dz = (
        rng.standard_normal(s).astype(dtype) for s in ((rows, inputs), (columns, inputs), columns, (rows, columns))
    )

    def empty(*shape):
        return device.array(np.full(shape, np.nan, dtype))

    layer = device.recurrent.Layer(
        device.array(x[np.newaxis]),
        empty(1, none),
        device.array(np.array([rows])),
        empty(1, rows, none),
        empty(1, none),
        empty(1, rows + 1, 0, none),
        empty(1, rows, 1, columns),
    )
    cell = device.recurrent.Weights(*map(device.array, (W, W[:, :0], b[np.newaxis], b[:0])))
    dense = device.recurrent.Dense(dtype, device.recurrent.Tile(4, 2, 2, 4))
    dense.forward(cell, layer)
    assert np.allclose(device.host(layer.z)[0, :, 0], x @ W.T + b, rtol=0, atol=50 * np.finfo(dtype).eps)
    layer = layer._replace(z=device.array(dz.reshape(1, rows, 1, columns)))
    inner = device.recurrent.Gradients(empty(1, rows, 0), empty(1, 0), empty(1, 0, 0), empty(1, rows, inputs))
    outer = device.recurrent.WeightGradients(
        empty(columns, inputs), empty(columns, 0), empty(1, columns), empty(0), empty(1, 1, columns, inputs + 1)
    )
    dense.backward(cell, layer, inner, outer, False)
    for got, want in ((inner.dx, dz @ W), (outer.x, dz.T @ x), (outer.b, dz.sum(axis=0))):
        assert np.allclose(device.host(got)[0 if got is not outer.x else ...], want, rtol=0, atol=50 * np.finfo(dtype).eps)
