"""Training against PyTorch: gradients of whole models, losses, optimisers, and the first steps of a training."""

import numpy as np
import pytest
from training import Problem, relative_error

from numlstm import LSTM, Dense, Embedding, Sequential, Trainer, backend, losses
from numlstm.optimizers import SGD, Adam, AdamW, RMSprop
from numlstm.utils import set_random_seed

torch = pytest.importorskip("torch", reason="PyTorch is not installed; .ci/run installs it (extra `bench`)")
functional = torch.nn.functional

STEPS = 50


class Twin(torch.nn.Module):
    """A numlstm model of LSTM, Dense and Embedding layers, in PyTorch, with its weights."""

    def __init__(self, model):
        super().__init__()
        self.layers, self.model = torch.nn.ModuleList(), model
        for layer in model.layers:
            p = {name: torch.from_numpy(value.copy()) for name, value in layer.parameters.items()}
            if isinstance(layer, LSTM):
                twin = torch.nn.LSTM(p["W_ih"].shape[1], layer.units, batch_first=True)
                twin.weight_ih_l0.data, twin.weight_hh_l0.data = p["W_ih"], p["W_hh"]
                twin.bias_ih_l0.data, twin.bias_hh_l0.data = p["b"], torch.zeros_like(p["b"])
                twin.bias_hh_l0.requires_grad_(False)  # numlstm has one bias
            elif isinstance(layer, Dense):
                twin = torch.nn.Linear(p["W"].shape[1], layer.units)
                twin.weight.data, twin.bias.data = p["W"], p["b"]
            else:
                twin = torch.nn.Embedding(*p["table"].shape, _weight=p["table"])
            self.layers.append(twin)

    def forward(self, x):
        for layer, twin in zip(self.model.layers, self.layers, strict=True):
            x = twin(x)
            if isinstance(layer, LSTM):
                x = x[0] if layer.return_sequences else x[0][:, -1]
            elif isinstance(layer, Dense) and layer.activation != "linear":
                x = torch.softmax(x, dim=-1) if layer.activation == "softmax" else getattr(torch, layer.activation)(x)
        return x

    def flat(self, of):
        """Return something of all trained parameters, one after the other."""
        return np.concatenate([of(p).detach().numpy().ravel() for p in self.parameters() if p.requires_grad])


def _logits(y_pred):
    """Return what went into the last softmax, up to a constant that does not matter."""
    return torch.log(y_pred).movedim(-1, 1)


MODELS = {
    "numbers": (
        lambda: [LSTM(20, return_sequences=True), LSTM(9), Dense(6, "tanh"), Dense(2)],
        "mse",
        lambda p, y: functional.mse_loss(p, y),
    ),
    "each step": (
        lambda: [Dense(7, "relu"), LSTM(9, return_sequences=True), Dense(2, "sigmoid")],
        losses.Huber(0.5),
        lambda p, y: functional.huber_loss(p, y, delta=0.5),
    ),
    "classes": (
        lambda: [Embedding(10, 6), LSTM(8, return_sequences=True), Dense(4, "softmax")],
        "sparse_categorical_crossentropy",
        lambda p, y: functional.cross_entropy(_logits(p), y),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_whole_models(rng, name):
    layers, loss, torch_loss = MODELS[name]
    set_random_seed(3)
    model = Sequential(layers(), dtype="float64")
    x = rng.integers(0, 10, (5, 7)) if name == "classes" else rng.standard_normal((5, 7, 3))
    shape = model.predict(x).shape
    y = rng.integers(0, 4, shape[:-1]) if name == "classes" else rng.standard_normal(shape)
    problem = Problem(model.layers, loss, x, y)
    twin = Twin(model)
    value = torch_loss(twin(torch.from_numpy(x)), torch.from_numpy(y))
    value.backward()
    assert problem.loss() == pytest.approx(value.item(), rel=1e-12)
    assert relative_error(problem.gradient(), twin.flat(lambda p: p.grad)) < 1e-9


LOSSES = {
    "mse": (losses.MeanSquaredError(), lambda p, t: functional.mse_loss(p, t)),
    "mae": (losses.MeanAbsoluteError(), lambda p, t: functional.l1_loss(p, t)),
    "huber": (losses.Huber(0.4), lambda p, t: functional.huber_loss(p, t, delta=0.4)),
    "binary": (losses.BinaryCrossentropy(), lambda p, t: functional.binary_cross_entropy(p, t)),
    "binary logits": (
        losses.BinaryCrossentropy(from_logits=True),
        lambda p, t: functional.binary_cross_entropy_with_logits(p, t),
    ),
    "quantile": (
        losses.Quantile(0.3),
        lambda p, t: torch.maximum(0.3 * (t - p), -0.7 * (t - p)).mean(),  # PyTorch has none: its autograd's gradient
    ),
    "categorical": (
        losses.CategoricalCrossentropy(),
        lambda p, t: -(t * torch.log(p / p.sum(-1, keepdim=True))).sum(-1).mean(),
    ),
    "categorical logits": (
        losses.CategoricalCrossentropy(from_logits=True),
        lambda p, t: functional.cross_entropy(p.movedim(-1, 1), t.movedim(-1, 1)),
    ),
}


@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 5)])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(rng, name, shape):
    loss, torch_loss = LOSSES[name]
    prediction, target = rng.random(shape), rng.random(shape)
    prediction = 9 * (prediction - 0.5) if "logits" in name else prediction
    p = torch.tensor(prediction, requires_grad=True)
    value = torch_loss(p, torch.from_numpy(target))
    value.backward()
    assert loss(target, prediction) == pytest.approx(value.item(), rel=1e-12)
    assert relative_error(loss.gradient(target, prediction), p.grad.numpy()) < 1e-12


def test_classes(rng):
    labels, prediction = rng.integers(0, 5, (3, 4)), rng.standard_normal((3, 4, 5))
    p = torch.tensor(prediction, requires_grad=True)
    want = functional.cross_entropy(p.movedim(-1, 1), torch.from_numpy(labels))
    want.backward()
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    assert loss(labels, prediction) == pytest.approx(want.item(), rel=1e-12)
    assert relative_error(loss.gradient(labels, prediction), p.grad.numpy()) < 1e-12


# Keras adds epsilon beside what PyTorch adds it to: to the variance (RMSprop) or to the root before its bias is corrected
# (Adam). So it is made too small to matter, and gradients have no zeros.
TINY = 1e-30
OPTIMIZERS = {
    "sgd": (SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (SGD(0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "nesterov": (SGD(0.1, momentum=0.8, nesterov=True), lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, nesterov=True)),
    "rmsprop": (RMSprop(0.01, epsilon=TINY), lambda p: torch.optim.RMSprop(p, 0.01, alpha=0.9, eps=TINY)),
    "adam": (Adam(0.01, epsilon=TINY), lambda p: torch.optim.Adam(p, 0.01, eps=TINY)),
    "adamw": (
        AdamW(0.01, weight_decay=0.1, epsilon=TINY),
        lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1, eps=TINY),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(rng, name):
    optimizer, torch_optimizer = OPTIMIZERS[name]
    p = rng.standard_normal(37)
    twin = torch.tensor(p, requires_grad=True)
    torch_steps = torch_optimizer([twin])
    updates = backend.Updates([p], backend.SLOTS[type(optimizer.rule(0))], p.dtype)
    for step, gradient in enumerate(rng.standard_normal((STEPS, 37))):
        updates.gradient[...] = gradient
        updates.apply(optimizer.rule(step), 1.0, None, None, 0.0)
        twin.grad = torch.from_numpy(gradient)
        torch_steps.step()
        np.testing.assert_allclose(p, twin.detach().numpy(), rtol=1e-12, atol=1e-13)


def test_the_first_steps_of_a_training(rng):
    """In float32, with both epsilons as small as to make the same steps: see above."""
    x, y = rng.standard_normal((16, 20, 4)).astype(np.float32), rng.standard_normal((16, 1)).astype(np.float32)
    set_random_seed(4)
    model = Sequential([LSTM(24, return_sequences=True), LSTM(16), Dense(1)])
    model.predict(x)
    twin = Twin(model)
    trainer = Trainer(model, Adam(0.01, epsilon=TINY), "mse")
    torch_steps = torch.optim.Adam([p for p in twin.parameters() if p.requires_grad], 0.01, eps=TINY)
    for _ in range(3):
        value = functional.mse_loss(twin(torch.from_numpy(x)), torch.from_numpy(y))
        torch_steps.zero_grad()
        value.backward()
        torch_steps.step()
        assert trainer.step(x, y) == pytest.approx(value.item(), rel=1e-5)
        parameters = np.concatenate([p.ravel() for layer in model.layers for p in layer.parameters.values()])
        np.testing.assert_allclose(parameters, twin.flat(lambda p: p), rtol=0, atol=1e-5)
