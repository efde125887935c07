"""Losses: values against the formulas in plain float64 NumPy, gradients against central differences."""

import numpy as np
import pytest
import reference
from training import central_differences, relative_error

from numlstm import losses

DTYPES = [np.float32, np.float64]
SHAPES = [(7, 3), (4, 5, 3), (2, 1), (1, 40)]


def _of_elements(formula):
    return lambda t, p: formula(t, p).mean(axis=-1)


def _huber(t, p):
    d = np.abs(p - t)
    return np.where(d <= 0.3, d**2 / 2, 0.3 * (d - 0.15))


def _pinball(levels):
    return lambda t, p: np.maximum(levels * (t - p), (np.asarray(levels) - 1) * (t - p))


def _binary(t, p):
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


def _softmax(z):
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _categorical(t, p):
    return -(t * np.log(p / p.sum(axis=-1, keepdims=True))).sum(axis=-1)


# Loss; rows' values by the formula; what targets and predictions are: numbers, probabilities, distributions over classes.
CASES = {
    "mse": (losses.MeanSquaredError(), _of_elements(lambda t, p: (p - t) ** 2), "number", "number"),
    "mae": (losses.MeanAbsoluteError(), _of_elements(lambda t, p: np.abs(p - t)), "number", "number"),
    "huber": (losses.Huber(0.3), _of_elements(_huber), "number", "number"),
    "median": (losses.Quantile(), _of_elements(_pinball(0.5)), "number", "number"),
    "quantile": (losses.Quantile(0.9), _of_elements(_pinball(0.9)), "number", "number"),
    "binary": (losses.BinaryCrossentropy(), _of_elements(_binary), "probability", "probability"),
    "binary logits": (
        losses.BinaryCrossentropy(from_logits=True),
        _of_elements(lambda t, p: _binary(t, reference.sigmoid(p))),
        "probability",
        "number",
    ),
    "categorical": (losses.CategoricalCrossentropy(), _categorical, "distribution", "distribution"),
    "categorical logits": (
        losses.CategoricalCrossentropy(from_logits=True),
        lambda t, p: _categorical(t, _softmax(p)),
        "distribution",
        "number",
    ),
}


def _values(rng, kind, shape, dtype):
    numbers = 0.3 * rng.standard_normal(shape)  # no probability so small that differences of logarithms are rough
    made = {"number": numbers, "probability": reference.sigmoid(numbers), "distribution": _softmax(numbers)}
    return made[kind].astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_weights(rng, name, shape, dtype):
    loss, formula, target, prediction = CASES[name]
    t, p = _values(rng, target, shape, dtype), _values(rng, prediction, shape, dtype)
    rows = formula(t.astype(np.float64), p.astype(np.float64))
    allowed = 50 * float(np.finfo(dtype).eps)  # rows are summed in float64; softmax is computed in p's dtype
    assert loss(t, p) == pytest.approx(rows.mean(), rel=allowed, abs=allowed)
    by_row, by_sample = rng.random(shape[:-1]), rng.random(shape[0])
    assert loss(t, p, by_row) == pytest.approx((by_row * rows).mean(), rel=allowed, abs=allowed)
    want = (by_sample.reshape(-1, *[1] * (rows.ndim - 1)) * rows).mean()
    assert loss(t, p, by_sample) == pytest.approx(want, rel=allowed, abs=allowed)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient(rng, name, shape, weighted):
    loss, _, target, prediction = CASES[name]
    t, p = _values(rng, target, shape, np.float64), _values(rng, prediction, shape, np.float64)
    weights = 0.5 + rng.random(shape[:-1]) if weighted else None
    gradient = loss.gradient(t, p, weights)
    if shape[-1] == 1 and name.startswith("categorical"):
        assert not gradient.any()  # of one class the probability is 1
    else:
        assert relative_error(gradient, central_differences(lambda: loss(t, p, weights), p)) < 1e-6
    single = loss.gradient(t.astype(np.float32), p.astype(np.float32), weights)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, gradient, rtol=1e-5, atol=1e-6 * np.abs(gradient).max())


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 20)])
def test_classes_as_numbers_and_as_vectors_agree(rng, shape, logits):
    labels, p = rng.integers(0, shape[-1], shape[:-1]), rng.random(shape)
    sparse, dense = losses.SparseCategoricalCrossentropy(logits), losses.CategoricalCrossentropy(logits)
    one_hot, weights = np.eye(shape[-1])[labels], rng.random(shape[0])
    want, gradient = dense(one_hot, p, weights), dense.gradient(one_hot, p, weights)
    for form in (labels, labels[..., np.newaxis], labels.astype(np.float32), labels.astype(np.uint8), labels.tolist()):
        assert sparse(form, p, weights) == want
        np.testing.assert_array_equal(sparse.gradient(form, p, weights), gradient)


@pytest.mark.parametrize("outputs", [3, 6])
def test_quantiles_of_several_levels(rng, outputs):
    levels = (0.1, 0.5, 0.9)
    loss, p, t = losses.Quantile(levels), rng.standard_normal((5, outputs)), rng.standard_normal((5, outputs))
    want = _pinball(np.tile(levels, outputs // 3))
    assert loss(t, p) == pytest.approx(want(t, p).mean(), rel=1e-12)
    assert relative_error(loss.gradient(t, p), central_differences(lambda: loss(t, p), p)) < 1e-6
    for form in (t[:, :1], t[:, 0]):  # one target for all of them
        assert loss(form, p) == pytest.approx(want(t[:, :1], p).mean(), rel=1e-12)
    with pytest.raises(ValueError, match="the model has 4 outputs, which 3 quantiles do not divide"):
        loss(np.zeros((5, 4)), np.zeros((5, 4)))


def test_the_best_constant_is_the_quantile():
    t = np.arange(101.0)
    for level in (0.1, 0.5, 0.75):
        loss = losses.Quantile(level)
        costs = [loss(t, np.full(101, constant)) for constant in t]
        assert np.argmin(costs) == pytest.approx(100 * level, abs=0.5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_logits_are_exact(dtype):
    """Sure and right costs 0, sure and wrong costs the logit; nothing overflows, where exp(1000) would."""
    binary = losses.BinaryCrossentropy(from_logits=True)
    p = np.array([[1000], [-1000], [1000], [-1000]], dtype)
    t = np.array([[1], [0], [0], [1]], dtype)
    assert [binary(t[i : i + 1], p[i : i + 1]) for i in range(4)] == [0, 0, 1000, 1000]
    np.testing.assert_array_equal(4 * binary.gradient(t, p)[:, 0], [0, 0, 1, -1])
    classes = losses.SparseCategoricalCrossentropy(from_logits=True)
    p = np.array([[1000, -1000, 0]] * 3, dtype)
    assert [classes([label], p[:1]) for label in range(3)] == [0, 2000, 1000]
    want = np.array([[0, 0, 0], [1, -1, 0], [1, 0, -1]]) / 3
    np.testing.assert_array_equal(classes.gradient([0, 1, 2], p), want.astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["binary", "categorical"])
def test_probabilities_of_0_and_1_stay_finite(dtype, name):
    """They are kept 1e-7 from 0 and 1."""
    loss = CASES[name][0]
    p, t = np.array([[0, 1], [1, 0]], dtype), np.array([[1, 0], [1, 0]], dtype)
    assert loss(t[:1], p[:1]) == pytest.approx(-np.log(1e-7), rel=1e-6)
    assert loss(t[1:], p[1:]) == pytest.approx(0, abs=1e-6)
    assert np.isfinite(loss.gradient(t, p)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_a_nan_goes_through(rng, name, dtype):
    loss, _, target, prediction = CASES[name]
    for columns in (3, 40):
        t, p = _values(rng, target, (4, columns), dtype), _values(rng, prediction, (4, columns), dtype)
        clean = loss.gradient(t, p)
        p[2, 1] = np.nan
        assert np.isnan(loss(t, p))
        gradient = loss.gradient(t, p)
        others = np.arange(4) != 2
        assert np.isnan(gradient[2, 1])
        np.testing.assert_array_equal(gradient[others], clean[others])


def test_where_there_is_no_slope():
    zeros = np.zeros((1, 3))
    for loss in (losses.MeanSquaredError(), losses.MeanAbsoluteError(), losses.Huber()):
        assert loss(zeros, zeros) == 0 and not loss.gradient(zeros, zeros).any()
    assert losses.MeanSquaredError()([1, 2], [2, 4]) == 2.5
    assert losses.MeanSquaredError().gradient([1, 2], [2, 4]).tolist() == [1, 2]


ROW, MATRIX = np.zeros(4), np.full((4, 3), 0.5)


@pytest.mark.parametrize(
    "loss, y, p, says",
    [
        ("mse", ROW, MATRIX, r"y_true must have the shape \(4, 3\) of the model's output, not \(4,\)"),
        ("mse", MATRIX[:3], MATRIX, r"y_true must have the shape \(4, 3\)"),
        ("mse", MATRIX[:, :1], MATRIX, r"y_true must have the shape \(4, 3\)"),  # which NumPy would broadcast
        ("mse", np.zeros((0, 3)), np.zeros((0, 3)), r"y_pred is empty: its shape is \(0, 3\)"),
        ("mse", 1.0, 1.0, "y_pred must have at least one axis"),
        ("binary_crossentropy", MATRIX * 3, MATRIX, r"y_true must lie between 0 and 1, but y_true\[0, 0\] is 1.5"),
        ("binary_crossentropy", np.array([[0], [-1]]), MATRIX[:2, :1], r"y_true\[1, 0\] is -1"),
        ("categorical_crossentropy", ROW, MATRIX, "one column a class.* use sparse_categorical_crossentropy"),
        ("categorical_crossentropy", MATRIX + 1, MATRIX, r"but y_true\[0, 0\] is 1.5"),
        ("sparse_categorical_crossentropy", [0, 1, 2, 3], MATRIX, r"whole numbers from 0 to 2, but y_true\[3\] is 3"),
        ("sparse_categorical_crossentropy", [0, 1, -1, 0], MATRIX, r"but y_true\[2\] is -1"),
        ("sparse_categorical_crossentropy", np.array([0, 2**64 - 1], np.uint64), MATRIX[:2], "is 18446744073709551615"),
        ("sparse_categorical_crossentropy", [0, 1, 0.5, 0], MATRIX, r"must be whole numbers, but y_true\[2\] is 0.5"),
        ("sparse_categorical_crossentropy", [0, np.nan, 0, 0], MATRIX, r"must be whole numbers, but y_true\[1\] is nan"),
        ("sparse_categorical_crossentropy", MATRIX * 2, MATRIX, r"must have shape \(4,\), one class a row, not \(4, 3\)"),
    ],
)
def test_targets_that_do_not_fit(loss, y, p, says):
    with pytest.raises(ValueError, match=says):
        losses.get(loss)(y, p)


@pytest.mark.parametrize(
    "weights, says",
    [
        (np.ones(3), r"sample_weight must have shape \(4,\) or \(4, 5\), not \(3,\)"),
        (np.ones((4, 5, 3)), r"sample_weight must have shape"),
        ([1, 1, -0.5, 1], "sample_weight must not be negative, but its least value is -0.5"),
        ([1, np.nan, 1, 1], r"sample_weight must be finite, but sample_weight\[1\] is nan"),
    ],
)
def test_weights_that_do_not_fit(weights, says):
    with pytest.raises(ValueError, match=says):
        losses.MeanSquaredError()(np.zeros((4, 5, 3)), np.zeros((4, 5, 3)), weights)


@pytest.mark.parametrize(
    "make, error, says",
    [
        (lambda: losses.Huber(0), ValueError, "delta must be positive"),
        (lambda: losses.Quantile(1.0), ValueError, "between 0 and 1, not 1.0"),
        (lambda: losses.Quantile([]), ValueError, "quantiles must be one number or several"),
        (lambda: losses.Quantile([0.1, np.nan]), ValueError, "between 0 and 1"),
        (lambda: losses.get("mean_square_error"), ValueError, "did you mean 'mean_squared_error'.*known are .*mse"),
        (lambda: losses.get(3), TypeError, "loss must be a name or an instance of Loss, not int"),
        (lambda: losses.get({"class": "Mse", "config": {}}), ValueError, "loss 'Mse' is unknown"),
    ],
)
def test_what_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_losses_by_name_class_and_description():
    for name, kind in losses._KNOWN.items():
        assert type(losses.get(name)) is type(losses.get(kind)) is kind
    for loss in (losses.Huber(0.3), losses.Quantile([0.1, 0.9]), losses.BinaryCrossentropy(from_logits=True)):
        again = losses.get({"class": type(loss).__name__, "config": loss.get_config()})
        assert again.get_config() == loss.get_config() and losses.get(loss) is loss
    assert repr(losses.Quantile(0.1)) == "Quantile(quantiles=[0.1])"
