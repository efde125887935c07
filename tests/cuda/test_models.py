"""Models on a GPU give the answers that they give on the CPU, to rounding: in the simulator."""

import copy

import numpy as np
import pytest
from own_cells import OWN

from numlstm import (
    GRU,
    LSTM,
    RNN,
    SLSTM,
    Bidirectional,
    Dense,
    DeviceError,
    Dropout,
    Embedding,
    Sequential,
    SimpleRNN,
    Trainer,
    load,
)
from numlstm.backend import cuda
from numlstm.backend.cuda import feed
from numlstm.losses import Huber, Quantile, SparseCategoricalCrossentropy
from numlstm.optimizers import SGD, Adam, AdamW, RMSprop

N, T, F = 5, 3, 2
LENGTHS = np.array([3, 1, 2, 3, 2])


def close(got, want, tolerance=3e-5):
    assert got.shape == want.shape and got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance)


def same(make, x, y, fit=(), optimizer="adam", loss="mse", metrics=(), **trainer):
    """Train a model on both devices and hold what they say against each other."""
    fit, found = {"batch_size": 3, "epochs": 2, "verbose": 0, **dict(fit)}, []
    lengths = {name: value for name, value in fit.items() if name == "lengths"}
    for device in ("cpu", "cuda"):
        model = Sequential(make()).to(device)
        before, start = model.predict(x, **lengths), model.get_weights()
        of_model = Trainer(model, optimizer() if callable(optimizer) else optimizer, loss, metrics, seed=3, **trainer)
        history = of_model.fit(x, y, **fit).history
        found.append((before, {**history, **of_model.evaluate(x, y, **lengths)}, model.get_weights()))
    (want, numbers, weights), (got, other_numbers, other_weights) = found
    close(got, want)
    assert numbers.keys() == other_numbers.keys()
    for name, number in numbers.items():
        assert other_numbers[name] == pytest.approx(number, rel=1e-4, abs=1e-6), name
    for got, want, first in zip(other_weights, weights, start, strict=True):
        assert np.abs(want - first).max() > 5e-4  # much further than what is allowed
        close(got, want, 1e-4)
    assert model.device == "cuda"


def stacked():
    return LSTM(3, return_sequences=True, dropout=0.3, seed=1), Dropout(0.4, seed=5), LSTM(4, seed=2), Dense(2, seed=3)


def both_ways():
    return Bidirectional(GRU(3, return_sequences=True, seed=1)), Dense(2, "tanh", seed=2)


MODELS = {
    "a stack with dropout": (stacked, {"clip_norm": 0.1}, {}),
    "ragged, both ways, at each step": (both_ways, {"optimizer": lambda: RMSprop(0.01)}, {"lengths": LENGTHS}),
    "exponential gates, backwards": (
        lambda: (SLSTM(3, go_backwards=True, use_bias=False, seed=1), Dense(2, use_bias=False, seed=2)),
        {"optimizer": lambda: SGD(0.1, 0.9, clipnorm=0.05), "loss": Huber(0.5)},
        {"lengths": LENGTHS},
    ),
    "stateful, with options": (
        lambda: (
            LSTM(3, stateful=True, recurrent_dropout=0.3, zoneout=(0.2, 0.1), cell_clip=0.2, seed=1),
            Dense(2, seed=2),
        ),
        {"optimizer": lambda: AdamW(0.01), "clip_value": 0.01},
        {"batch_size": N, "shuffle": False},
    ),
    "gates that see gates, and two sets of them": (
        lambda: (LSTM(3, variant="fgr", return_sequences=True, seed=1), LSTM(3, variant="ltms", seed=2), Dense(2, seed=3)),
        {"accumulate": 2},
        {"epochs": 1},
    ),
    "a second product, and h before it": (
        lambda: (GRU(3, reset_after=False, return_sequences=True, seed=1), LSTM(4, projection=2, seed=2), Dense(2, seed=3)),
        {"accumulate": 2},
        {"lengths": LENGTHS},
    ),
    "projected, stateful, with options": (
        lambda: (
            LSTM(4, projection=2, stateful=True, recurrent_dropout=0.3, zoneout=(0.2, 0.1), cell_clip=0.2, seed=1),
            Dense(2, seed=2),
        ),
        {"optimizer": lambda: AdamW(0.01)},
        {"batch_size": N, "shuffle": False},
    ),
    "normalised products, both ways": (
        lambda: (
            Bidirectional(GRU(3, layer_norm=True, use_bias=False, seed=1)),
            Dense(2, seed=3),
        ),
        {"accumulate": 2, "clip_norm": 1.0},
        {"lengths": LENGTHS},
    ),
    "recomputed, with random masks": (
        lambda: (
            LSTM(3, recompute="gates", recurrent_dropout=0.3, zoneout=(0.2, 0.1), return_sequences=True, seed=1),
            GRU(3, recompute="states", go_backwards=True, zoneout=0.2, seed=2),
            Dense(2, seed=3),
        ),
        {"accumulate": 2},
        {"lengths": LENGTHS},
    ),
    "recomputed, truncated, at each step": (
        lambda: (LSTM(4, projection=2, recompute="states", return_sequences=True, seed=1), Dense(2, seed=2)),
        {"truncate": 2},
        {},
    ),
    "a cell of one's own, accumulated": (
        lambda: (RNN(3, OWN["mgu"], seed=1), Dense(2, seed=2)),
        {"accumulate": 2, "loss": Quantile((0.1, 0.9)), "metrics": ["rmse"]},
        {"sample_weight": np.arange(N)},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_training_is_that_of_the_cpu(rng, anywhere, name):
    make, trainer, fit = MODELS[name]
    by_step = name.endswith("step")
    x, y = rng.standard_normal((N, T, F)), rng.standard_normal((N, T, 2) if by_step else (N, 2))
    same(make, x, y, fit, **trainer)


def test_recomputation_keeps_less(gpu):
    taken = []
    for recompute in (None, "states"):
        arena, layer = (device := cuda.open_device()).Arena(), LSTM(8, recompute=recompute, input_shape=(None, 2))
        sizes = (4, 400, 2, layer.units)
        device.Recurrent(device.kind_of(layer.spec.name), sizes, np.dtype(np.float32), True, arena.take, recompute)
        taken.append(arena.taken)
    assert taken[1] < taken[0] / 8


@pytest.mark.parametrize("mode", ["sum", "mul", "ave"])
def test_both_directions_are_merged_as_on_the_cpu(rng, anywhere, mode):
    x, y = rng.standard_normal((3, 2, F)), rng.standard_normal((3, 2))
    same(lambda: (Bidirectional(SimpleRNN(2, seed=1), mode),), x, y, {"epochs": 1})


@pytest.mark.parametrize("ragged", [False, True])
def test_truncated_sequences(rng, anywhere, ragged):
    x, y = rng.standard_normal((N, T, F)), rng.standard_normal((N, T, 2) if ragged else (N, 2))
    make = lambda: (LSTM(3, return_sequences=ragged, seed=1), Dense(2, seed=2))  # noqa: E731
    same(make, x, y, {"lengths": LENGTHS} if ragged else {}, truncate=2)


def test_classes_of_words(rng, anywhere):
    words, y = rng.integers(1, 6, (N, T)), rng.integers(0, 3, N)
    words[np.arange(T) >= LENGTHS[:, np.newaxis]] = 0
    make = lambda: (Embedding(6, 4, mask_zero=True, seed=1), GRU(3, seed=2), Dense(3, "softmax", seed=3))  # noqa: E731
    same(make, words, y, loss=SparseCategoricalCrossentropy(), metrics=["accuracy"])


def test_float64(rng, anywhere):
    x, y = rng.standard_normal((N, T, F)), rng.integers(0, 2, N)
    for device in ("cpu", "cuda"):
        model = Sequential([LSTM(3, seed=1), Dense(1, "sigmoid", seed=2)], dtype="float64").to(device)
        model.compile(Adam(0.01), "binary_crossentropy", ["accuracy"])
        model.fit(x, y, epochs=2, verbose=0, shuffle=False)
        if device == "cpu":
            want = model.predict(x)
    close(model.predict(x), want, 1e-12)


def lstm():
    return Sequential([LSTM(3, return_state=False, seed=1, input_shape=(T, F)), Dense(2, seed=2)])


def data(rng):
    return rng.standard_normal((N, T, F)), rng.standard_normal((N, 2))


def test_states_come_back(rng, anywhere):
    x, _ = data(rng)
    models = [Sequential([LSTM(3, return_sequences=True, return_state=True, seed=1)]) for _ in range(2)]
    for got, want in zip(models[1].to("cuda").predict(x), models[0].predict(x), strict=True):
        close(got, want)


def test_training_goes_on_wherever_the_model_is(rng, anywhere, tmp_path):
    x, y = data(rng)
    fit = {"batch_size": 3, "verbose": 0}
    stays, moves, resumes = (Trainer(lstm(), seed=1) for _ in range(3))
    stays.fit(x, y, epochs=3, **fit)
    moves.fit(x, y, epochs=1, **fit)
    moves.model.to("cuda")
    moves.epoch = 1
    moves.fit(x, y, epochs=2, initial_epoch=1, **fit)
    moves.save_checkpoint(tmp_path / "checkpoint")
    resumes.resume(tmp_path / "checkpoint")
    assert resumes.model.device == "cpu"
    resumes.fit(x, y, epochs=3, **fit)
    moves.model.to("cpu")
    moves.fit(x, y, epochs=3, initial_epoch=2, **fit)
    for trainer in (moves, resumes):
        for got, want in zip(trainer.model.get_weights(), stays.model.get_weights(), strict=True):
            close(got, want)
    close(load(tmp_path / "checkpoint").predict(x), resumes.model.predict(x), 0.1)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
def test_samples_go_there_once_and_a_step_brings_nothing_back(rng, gpu, monkeypatch, lengths):
    x, y = data(rng)
    model = lstm().to("cuda")
    sent, send = [], gpu.DeviceArray.copy_to_device
    copied, copy_back = [], gpu.DeviceArray.copy_to_host
    monkeypatch.setattr(
        gpu.DeviceArray, "copy_to_device", lambda self, a, stream=None: sent.append(a.shape) or send(self, a, stream)
    )
    monkeypatch.setattr(gpu.DeviceArray, "copy_to_host", lambda self, stream=None: copied.append(self) or copy_back(self))
    trainer = Trainer(model, metrics=["mae"], clip_norm=1.0, truncate=2)
    trainer.fit(x, y, batch_size=2, epochs=3, verbose=0, lengths=lengths)
    assert [array.shape for array in copied] == [(2,)] * 3  # the totals, once an epoch
    assert [shape for shape in sent if len(shape) > 1] == [x.shape, y.shape]
    assert {shape for shape in sent if len(shape) == 1} <= {(1,), (2,)}  # which rows, from where on, and lengths


def test_samples_that_do_not_fit_go_there_batch_by_batch(rng, gpu, monkeypatch):
    x, y = data(rng)
    models = [lstm().to("cuda") for _ in range(2)]
    for share, model in zip((0.5, 0.0), models, strict=True):
        monkeypatch.setattr(feed, "_SHARE", share)
        model.compile("adam", "mse")
        model.fit(x.astype(np.float16), y, batch_size=2, epochs=2, verbose=0, shuffle=False)
    for got, want in zip(*(model.get_weights() for model in models), strict=True):
        assert np.array_equal(got, want)
    monkeypatch.setattr(feed, "_MOST", 3)
    for size in (5, 4, 3):
        model.fit(x, y, batch_size=size, verbose=0)
    assert 0 < len(model.trainer._step.feed._pinned) <= 3
    with pytest.raises(ValueError, match="read-only"):  # the test can fail: the simulator finds what does not wait
        monkeypatch.setattr(gpu.Event, "synchronize", lambda self: None)
        model.fit(x, y, batch_size=1, epochs=1, verbose=0)


@pytest.mark.parametrize(
    ("use", "what"),
    [
        (lambda model: model.jit(), "made a function of its steps"),
        (lambda model: model.stream(), "run as a stream"),
        (lambda model: model.trace(np.zeros((1, T, F))), "traced"),
        (lambda model: model.gradient_by_lag(np.zeros((1, T, F))), "looked into"),
        (copy.deepcopy, "copied or pickled"),
    ],
)
def test_what_needs_the_cpu_says_so(gpu, use, what):
    with pytest.raises(DeviceError, match=rf"a model on a GPU cannot be {what}: call its to\('cpu'\) before"):
        use(lstm().to("cuda"))


def test_a_layer_on_a_gpu_is_no_function_of_arrays(gpu):
    model = lstm().to("cuda")
    with pytest.raises(DeviceError, match="layer lstm is on a GPU, where only whole models run"):
        model.layers[0](np.zeros((1, T, F)))


def test_layers_and_data_may_come_later(rng, anywhere):
    x, _ = data(rng)
    on_gpu = Sequential().to("cuda")
    for layer in (LSTM(3, seed=1), Dense(2, seed=2)):
        on_gpu.add(layer)
    close(on_gpu.predict(x), lstm().predict(x))
    weights = on_gpu.get_weights()
    on_gpu.set_weights([weight * 2 for weight in weights])
    close(on_gpu.get_weights()[0], weights[0] * 2)
    assert type(on_gpu.to("cpu").layers[0].parameters["W_ih"]) is np.ndarray


def test_both_backends_have_the_same_names():
    from numlstm import backend

    only_cpu = {"Kind", "LOSSES", "Parameters", "RULES", "SLOTS", "States", "batch_step", "chain_step", "dense_step"}
    only_cpu |= {"describe", "embedding_step", "norm", "recurrent_step", "run_loss", "shrink", "step", "work_sizes"}
    only_cpu |= {"numbers_of_step"}
    assert {name for name in backend.__all__ if not hasattr(cuda.Cuda, name)} == only_cpu
