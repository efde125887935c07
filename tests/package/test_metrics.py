"""Metrics: values by hand, and what "accuracy" means."""

import numpy as np
import pytest

from numlstm import Dense, Sequential, losses, metrics

CLASSES = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1]])
LABELS = np.array([1, 1, 2, 1])  # three of four
SIDES = np.array([[0.9, 0.2], [0.4, 0.4], [0.6, 0.5]])
TRUTH = np.array([[1, 0], [1, 0], [0, 0]])  # four of six: 0.5 is not above the threshold


def _evaluate(prediction, y, loss, *names):
    """Return the metrics of a model whose output is its input."""
    model = Sequential([Dense(prediction.shape[-1], use_bias=False, kernel_initializer="orthogonal")], dtype="float64")
    model.predict(prediction)
    model.set_weights([np.eye(prediction.shape[-1])])
    model.compile("sgd", loss, metrics=list(names))
    logs = model.evaluate(prediction, y, batch_size=3, return_dict=True)
    assert list(logs) == ["loss", *names]
    return logs


def test_errors(rng):
    p, y = rng.standard_normal((2, 7, 2))
    logs = _evaluate(p, y, "huber", "mse", "mean_squared_error", "mae", "rmse", "root_mean_squared_error", "quantile")
    assert logs["mse"] == logs["mean_squared_error"] == pytest.approx(((p - y) ** 2).mean(), rel=1e-12)
    assert logs["rmse"] == logs["root_mean_squared_error"] == pytest.approx(np.sqrt(((p - y) ** 2).mean()), rel=1e-12)
    assert logs["mae"] == pytest.approx(np.abs(p - y).mean(), rel=1e-12)
    assert logs["quantile"] == pytest.approx(logs["mae"] / 2, rel=1e-12)


@pytest.mark.parametrize("name", ["accuracy", "acc", "sparse_categorical_accuracy"])
@pytest.mark.parametrize("logits", [False, True])
def test_accuracy_of_numbers_of_classes(name, logits):
    loss = losses.SparseCategoricalCrossentropy(from_logits=logits)
    prediction = np.log(CLASSES) if logits else CLASSES
    assert _evaluate(prediction, LABELS, loss, name)[name] == 0.75
    assert _evaluate(prediction, LABELS[:, np.newaxis], loss, name)[name] == 0.75


@pytest.mark.parametrize("name", ["accuracy", "categorical_accuracy"])
def test_accuracy_of_vectors_of_classes(name):
    logs = _evaluate(CLASSES, np.eye(3)[LABELS], "categorical_crossentropy", name, "mae")
    assert logs[name] == 0.75
    assert logs["mae"] == pytest.approx(np.abs(CLASSES - np.eye(3)[LABELS]).mean(), rel=1e-12)


@pytest.mark.parametrize("name", ["accuracy", "binary_accuracy"])
@pytest.mark.parametrize("logits", [False, True])
def test_accuracy_of_two_classes(name, logits):
    prediction = np.log(SIDES / (1 - SIDES)) if logits else SIDES
    logs = _evaluate(prediction, TRUTH, losses.BinaryCrossentropy(from_logits=logits), name)
    assert logs[name] == pytest.approx(4 / 6)


def test_metrics_of_a_model_that_leaves_its_activation_to_the_loss(rng):
    """They see what `predict` returns."""
    x, labels = rng.standard_normal((9, 4)), rng.integers(0, 3, 9)
    model = Sequential([Dense(3, "softmax")], dtype="float64")
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy", "categorical_crossentropy"])
    loss, accuracy, crossentropy = model.evaluate(x, labels)
    prediction = model.predict(x)
    assert accuracy == pytest.approx((prediction.argmax(axis=1) == labels).mean())
    assert crossentropy == pytest.approx(loss, rel=1e-6)
    assert loss == pytest.approx(-np.log(prediction[np.arange(9), labels]).mean(), rel=1e-12)


def test_metrics_may_be_losses():
    given = [losses.Huber(2.0), losses.MeanAbsoluteError, "mse"]
    assert [metrics.get(value, losses.MeanSquaredError()).name for value in given] == ["huber", "mean_absolute_error", "mse"]
    for none in ((), None, []):
        model = Sequential([Dense(1)])
        model.compile("sgd", "mse", metrics=none)
        assert model.evaluate(np.ones((2, 1)), np.ones(2)) >= 0


@pytest.mark.parametrize(
    "metric, loss, error, says",
    [
        ("accuracy", "mse", ValueError, "'accuracy' goes with a cross-entropy, not with MeanSquaredError"),
        ("acuracy", "mse", ValueError, r"metric 'acuracy' is unknown \(did you mean 'accuracy'\?\); known are .*accuracy"),
        (3, "mse", TypeError, "metric must be a name or an instance of Loss, not int"),
        (["mse"], "mse", TypeError, "metric must be a name or an instance of Loss, not list"),
        ("mse", "sparse_categorical_crossentropy", ValueError, "does not go with .* numbers of classes"),
        ("binary_accuracy", "sparse_categorical_crossentropy", ValueError, "does not go with .* numbers of classes"),
        ("sparse_categorical_accuracy", "mse", ValueError, "does not go with .* numbers of classes"),
        (
            "sparse_categorical_accuracy",
            "categorical_crossentropy",
            ValueError,
            "does not go with .* numbers of classes",
        ),
    ],
)
def test_what_is_refused(metric, loss, error, says):
    with pytest.raises(error, match=says):
        Sequential([Dense(3)]).compile("sgd", loss, metrics=[metric])
