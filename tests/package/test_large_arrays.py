"""Arrays that are too large to be copied in whole are converted batch by batch, to the same bits."""

import tracemalloc

import numpy as np
import pytest
from support import assert_same_bits

from numlstm import LSTM, Dense, Dropout, Embedding, Input, Sequential, Trainer, _validate, data
from numlstm.utils import set_random_seed

N, T, F = 50, 6, 3


def _windows(x):
    return data.sliding_windows(x.reshape(-1, F), T, T)


def _mapped(x, folder):
    mapped = np.memmap(folder / "x", np.float16, "w+", shape=x.shape)
    mapped[...] = x
    mapped.flush()
    return np.memmap(folder / "x", np.float16, "r", shape=x.shape)


KINDS = {
    "float64": lambda x, folder: x,
    "int16": lambda x, folder: (100 * x).astype(np.int16),
    "bool": lambda x, folder: x > 0,
    "byte-swapped": lambda x, folder: x.astype(">f4"),
    "windows": lambda x, folder: _windows(x.astype(np.float32)),
    "backwards": lambda x, folder: x.astype(np.float32)[:, ::-1],
    "Fortran": lambda x, folder: np.asfortranarray(x, np.float32),
    "mapped float16": _mapped,
}


@pytest.fixture(params=list(KINDS))
def x(rng, request, tmp_path):
    return KINDS[request.param](rng.standard_normal((N, T, F)), tmp_path)


def _model(steps=False):
    set_random_seed(6)
    return Sequential([Input((None, F)), LSTM(5, return_sequences=steps), Dropout(0.2), Dense(2)])


def _all(x, y, **options):
    """Return what training, evaluation and prediction give."""
    model = _model(y.ndim == 3)
    trainer = Trainer(model, "adam", "mse", seed=1, truncate=options.pop("truncate", None))
    history = trainer.fit(x, y, batch_size=8, epochs=2, verbose=0, **options).history
    numbers = [
        *history["loss"],
        *history.get("val_loss", ()),
        trainer.step(x[:9], y[:9]),
        trainer.evaluate(x, y, 16)["loss"],
    ]
    return *model.get_weights(), model.predict(x), model.predict(x, batch_size=7), np.array(numbers)


@pytest.mark.parametrize(
    "options", [{}, {"validation_split": 0.3, "shuffle": False}, {"sample_weight": np.arange(N)}, {"truncate": 4}], ids=str
)
def test_the_same_bits(x, rng, monkeypatch, options):
    y = rng.standard_normal((N, T, 2) if "truncate" in options else (N, 2))
    small = _all(x, y, **options)
    monkeypatch.setattr(_validate, "LARGE", 0)
    monkeypatch.setattr(_validate, "_PART", 1000)
    assert_same_bits(_all(x, y, **options), small)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_the_place_of_what_is_not_finite(rng, monkeypatch, bad):
    x = rng.standard_normal((N, T, F))
    x[41, 2, 1] = x[47, 0, 0] = bad
    messages = []
    for large in (_validate.LARGE, 0):
        monkeypatch.setattr(_validate, "LARGE", large)
        monkeypatch.setattr(_validate, "_PART", 1000)
        with pytest.raises(ValueError, match=r"^x must be finite, but x\[41, 2, 1\] is (nan|inf) \(2 such") as caught:
            Trainer(_model()).fit(x, np.zeros((N, 2)))
        messages.append(str(caught.value))
        y = _model().predict(x)
        assert np.isfinite(np.delete(y, [41, 47], axis=0)).all()
    assert messages[0] == messages[1]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_memory(rng, monkeypatch, tmp_path, dtype):
    """No copy of a mapped file is made, of the model's dtype or another."""
    monkeypatch.setattr(_validate, "LARGE", 1 << 20)
    monkeypatch.setattr(_validate, "_PART", 1 << 18)
    x = np.memmap(tmp_path / "x", dtype, "w+", shape=(4096, 128, 16))  # 32 MB as float32
    y = np.zeros((4096, 1), np.float32)
    model = Sequential([LSTM(2), Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x[:64], y[:64], verbose=0)  # compiles
    tracemalloc.start()
    try:
        model.fit(x, y, verbose=0)
        model.fit(data.Batches(x, y, block=1024), verbose=0)
        model.evaluate(x, y)
        model.predict(x, batch_size=64)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20, peak


def test_whole_numbers(rng, monkeypatch):
    x, y = rng.integers(0, 9, (N, T)).astype(np.int16), rng.standard_normal((N, 1))

    def run():
        set_random_seed(3)
        model = Sequential([Embedding(9, 4), LSTM(3), Dense(1)])
        model.compile("sgd", "mse")
        model.fit(x, y, verbose=0)
        return model.predict(x)

    small = run()
    monkeypatch.setattr(_validate, "LARGE", 0)
    assert_same_bits(run(), small)


# --- Batches ---


@pytest.mark.parametrize("block", [None, 10])
@pytest.mark.parametrize("weighted", [False, True])
def test_fit_on_batches_is_a_step_on_each(rng, block, weighted):
    x, y = rng.standard_normal((N, T, F)), rng.standard_normal((N, 2))
    weights = rng.uniform(size=N) if weighted else None

    def batches():
        return data.Batches(x, y, weights, 8, block=block, seed=3)

    whole, by_hand, in_two = (_model() for _ in range(3))
    history = Trainer(whole, seed=1).fit(batches(), epochs=2, verbose=0, validation_data=(x, y))
    trainer, given = Trainer(by_hand, seed=1), batches()
    for _ in range(2):
        for batch in given:
            trainer.step(*batch)
    assert_same_bits(tuple(by_hand.get_weights()), tuple(whole.get_weights()))
    assert history.history["val_loss"][-1] == trainer.evaluate(x, y, 8)["loss"]
    trainer = Trainer(in_two, seed=1)
    for epoch in range(2):
        trainer.fit(batches(), initial_epoch=epoch, epochs=epoch + 1, verbose=0)
    assert_same_bits(tuple(in_two.get_weights()), tuple(whole.get_weights()))


@pytest.mark.parametrize(
    "beside", [{"y": np.zeros((N, 2))}, {"batch_size": 8}, {"validation_split": 0.1}, {"sample_weight": np.ones(N)}], ids=str
)
def test_what_batches_have_already(beside):
    batches = data.Batches(np.zeros((N, T, F)), np.zeros((N, 2)))
    with pytest.raises(
        TypeError, match=r"^y, sample_weight, batch_size and validation_split cannot be given beside Batches"
    ):
        Trainer(_model()).fit(batches, **beside)


def test_batches_without_targets():
    with pytest.raises(TypeError, match=r"^y is missing"):
        Trainer(_model()).fit(data.Batches(np.zeros((N, T, F))))
