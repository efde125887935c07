"""Models as files: what is saved is there again, and what is wrong with a file is said."""

import copy
import json
import threading

import numpy as np
import pytest
from support import assert_same_bits

import numlstm
from numlstm import (
    GRU,
    LSTM,
    Bidirectional,
    CellSpec,
    Dense,
    Dropout,
    Embedding,
    FileFormatError,
    Input,
    Sequential,
    SimpleRNN,
    Trainer,
    files,
    initializers,
    losses,
)
from numlstm.optimizers import SGD, Adam, schedules

EVERY_KIND = {
    "numbers": lambda: [
        Input((None, 3), batch_size=5),
        Dropout(0.1, seed=4),
        LSTM(5, dropout=0.3, use_bias=False, return_sequences=True, go_backwards=True, name="first"),
        LSTM(4, stateful=True, kernel_initializer=initializers.RandomUniform(-1, 1), recurrent_initializer="glorot_normal"),
        Dense(3, "relu", bias_initializer=initializers.Constant(0.5)),
        Dense(2, "softmax", use_bias=False),
    ],
    "both directions": lambda: [
        Bidirectional(GRU(4, return_sequences=True, dropout=0.2, seed=3), "mul", input_shape=(None, 3)),
        Bidirectional(
            LSTM(3, variant=CellSpec(output_gate=False), stateful=True, kernel_initializer=initializers.Constant(0.1)),
            backward_layer=SimpleRNN(2, "relu", go_backwards=True, stateful=True),
            name="last",
        ),
    ],
    "words": lambda: [Embedding(9, 4, input_shape=(6,)), LSTM(3, return_sequences=True, unit_forget_bias=False), Dense(1)],
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def _config(model):
    """Return a model's config as a file holds it."""
    return json.loads(json.dumps(model.get_config()))


# --- there and back ---


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_layer_comes_back(path, rng, kind, dtype):
    model = Sequential(EVERY_KIND[kind](), name="mine", dtype=dtype)
    model.metadata = {"columns": ["tmax", "Größe"], "mean": 3.25, "none": None}
    model.save(path)
    loaded = numlstm.load(str(path))
    assert _config(loaded) == _config(model) and loaded.metadata == model.metadata
    for got, want in zip(loaded.get_weights(), model.get_weights(), strict=True):
        assert_same_bits(got, want)
    x = rng.integers(0, 9, (5, 6)) if kind == "words" else rng.standard_normal((5, 6, 3))
    assert_same_bits(loaded.predict(x), model.predict(x))
    with pytest.raises(ValueError, match="not compiled"):
        loaded.fit(x, x)
    first = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == first


def test_a_model_built_by_its_first_data_takes_any_number_of_steps(path, rng):
    model = Sequential([LSTM(4), Dense(1)])
    model.predict(rng.standard_normal((2, 5, 3)))
    model.save(path)
    x = rng.standard_normal((2, 8, 3))
    assert_same_bits(numlstm.load(path).predict(x), model.predict(x))


CHOICES = [
    ("adam", "mse", []),
    (Adam(0.25, clipnorm=2.0), losses.Huber(0.5), ["mae", "rmse"]),
    (SGD(schedules.CosineDecay(0.1, 50, alpha=0.1), momentum=0.9, nesterov=True), losses.Quantile([0.1, 0.9]), ["mse"]),
    (SGD(schedules.PiecewiseConstantDecay([3], [1.0, 0.5])), "mae", [losses.Huber(0.25), losses.Quantile([0.2, 0.8])]),
]


@pytest.mark.parametrize("optimizer, loss, metrics", CHOICES)
def test_what_compile_chose_comes_back(path, rng, optimizer, loss, metrics):
    x, y = rng.standard_normal((6, 4)), rng.standard_normal((6, 2))
    model = Sequential([Dense(2)])
    model.compile(optimizer, loss, metrics)
    model.fit(x, y, verbose=0)
    model.save(path)
    loaded = numlstm.load(path)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert loaded.evaluate(x, y, return_dict=True) == model.evaluate(x, y, return_dict=True)


def test_something_of_ones_own_does_not_make_a_file_unreadable(path):
    class Slower(schedules.Schedule):
        def __init__(self, start):
            self._first = start

        def __call__(self, step):
            return self._first / (step + 1)

    model = Sequential([Dense(2, input_shape=(3,))])
    model.compile(SGD(Slower(0.5)), "mse")
    model.save(path)
    loaded = numlstm.load(path)
    assert_same_bits(loaded.get_weights()[0], model.get_weights()[0])
    with pytest.raises(ValueError, match="not compiled"):
        loaded.evaluate(np.ones((2, 3)), np.ones((2, 2)))

    class Sevens(initializers.Initializer):
        def __call__(self, shape, rng):
            return np.full(shape, 7.0)

    model = Sequential([Dense(2, kernel_initializer=Sevens(), input_shape=(3,))])
    assert (model.get_weights()[0] == 7).all()
    with pytest.raises(ValueError, match="of your own cannot be saved: kernel_initializer 'Sevens' is unknown"):
        model.save(path)
    numlstm.load(path)  # the file before


def test_saving_and_loading_from_several_threads(path, rng):
    models = [Sequential(EVERY_KIND["words"]()) for _ in range(4)]
    x = rng.integers(0, 9, (5, 6))
    want = [model.predict(x) for model in models]
    got = []

    def work(i):
        for _ in range(5):
            models[i].save(path.with_name(f"{i}"))
            models[i].save(path)
            numlstm.load(path)
            got.append(np.array_equal(numlstm.load(path.with_name(f"{i}")).predict(x), want[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [True] * 20


@pytest.mark.parametrize(
    "model, metadata, says",
    [
        (Sequential([Dense(2)]), {}, "no weights yet"),
        (Sequential(), {}, "no weights yet"),
        (Sequential([Dense(2, input_shape=(3,))]), {"array": np.ones(2)}, "nothing that JSON can hold"),
    ],
)
def test_what_cannot_be_saved(path, model, metadata, says):
    model.metadata = metadata
    with pytest.raises(ValueError, match=says):
        model.save(path)
    assert not path.exists()


# --- what is wrong with a file ---


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return tensors and header of a checkpoint of a model with all kinds of things in it."""
    path = tmp_path_factory.mktemp("saved") / "model"
    model = Sequential([LSTM(3, return_sequences=True, input_shape=(5, 2)), Dropout(0.5), Dense(2, "tanh")])
    model.compile(Adam(schedules.ExponentialDecay(0.1, 5, 0.5)), losses.Huber(0.5), ["mae", losses.Quantile(0.5)])
    model.trainer.step(np.ones((4, 5, 2)), np.ones((4, 5, 2)))
    model.trainer.save_checkpoint(path)
    return files.read(path)


def _changed(header, place, value):
    """Return a copy of the header with something else at a place, such as "model.layers.0.class"; None deletes."""
    header = copy.deepcopy(header)
    *way, last = (int(key) if key.isdecimal() else key for key in place.split("."))
    inner = header
    for key in way:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return header


NONSENSE = [
    ("model", None, "'model' is missing"),
    ("metadata", None, "'metadata' is missing"),
    ("compile", None, "'compile' is missing"),
    ("model", [1, 2], "."),
    ("model", "LSTM", "."),
    ("metadata", 5, "."),
    ("metadata", "ab", "."),
    ("model.dtype", "float16", "dtype must be 'float32' or 'float64'"),
    ("model.dtype", "float64", r"layers.0.W_ih is float32 \(12, 2\), but must be float64 \(12, 2\)"),
    ("model.dtype", ["f4", "f4"], "."),
    ("model.name", None, "'name' is missing"),
    ("model.name", ["a"], "name must be a string"),
    ("model.batch_size", "many", "batch_size must be an integer"),
    ("model.batch_size", -1, "batch_size must be at least 1"),
    ("model.input_shape", [5], r"an LSTM takes sequences"),
    ("model.input_shape", [5, 7], r"layers.0.W_ih is float32 \(12, 2\), but must be float32 \(12, 7\)"),
    ("model.input_shape", [5, 2.0], "each size in shape must be an integer"),
    ("model.input_shape", [5, -2], "each size in shape must be at least 1"),
    ("model.input_shape", 5, "shape must be a tuple"),
    ("model.input_shape", [], "an LSTM takes sequences"),
    ("model.input_shape", "ab", "shape must be a tuple"),
    ("model.layers", [], "which no layer has"),
    ("model.layers", {}, "which no layer has"),
    ("model.layers", 3, "."),
    ("model.layers.0", None, "."),  # what is now the first layer needs other weights
    ("model.layers.0", "LSTM", "."),
    ("model.layers.0", ["LSTM", {}], "layer must be a name"),
    (
        "model.layers.0.class",
        "LSMT",
        "layer 'LSMT' is unknown; known are Bidirectional, Dense, Dropout, Embedding, GRU, LSTM, RNN, SLSTM, SimpleRNN",
    ),
    ("model.layers.0.class", ["LSTM"], "."),
    ("model.layers.0.class", "Dense", "unexpected keyword"),
    ("model.layers.0.config", None, "."),
    ("model.layers.0.config", [], "."),
    ("model.layers.0.config.units", 2**50, "but must be float32"),
    ("model.layers.0.config.units", 3.0, "units must be an integer"),
    ("model.layers.0.config.units", None, "units"),
    ("model.layers.0.config.surprise", 1, "surprise"),
    ("model.layers.0.config.kernel_initializer", {"class": "os", "config": {}}, "kernel_initializer 'os' is unknown"),
    ("model.layers.0.config.name", 5, "name must be a string"),
    ("model.layers.0.config.name", "dropout", "names must differ"),
    ("model.layers.0.config.use_bias", False, "the tensor layers.0.b, which no layer has"),
    ("model.layers.0.config.return_state", True, "only the last layer"),
    ("model.layers.1.config.rate", 10**400, "rate must be at least 0 and below 1"),
    ("model.layers.2.class", "Embedding", "."),
    ("compile.optimizer", {"class": "Adam", "config": {"learning_rate": 10**400}}, "learning_rate must be"),
    ("compile.optimizer", "adamm", "optimizer 'adamm' is unknown"),
    ("compile.loss", {"class": "Quantile", "config": {"quantiles": "ab"}}, "."),
    ("compile.loss", {"class": "Quantile", "config": {"quantiles": [[0.1]]}}, "quantiles must be one number or several"),
    ("compile.metrics", ["accuracy"], "goes with a cross-entropy"),
    ("compile.metrics", 3, "metric must be a name"),
    ("compile", [], "."),
]


@pytest.mark.parametrize("place, value, says", NONSENSE)
def test_nonsense_in_the_header(path, saved, place, value, says):
    tensors, header = saved
    files.write(path, tensors, _changed(header, place, value))
    for read in (numlstm.load, Trainer(Sequential([Dense(1)])).resume):
        with pytest.raises(FileFormatError, match=says) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path} is not a model that this version can read: ")


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda tensors: tensors.pop("layers.0.W_hh"), "'layers.0.W_hh' is missing"),
        (lambda tensors: tensors.update({"layers.2.W": np.zeros((3, 2), np.float32)}), r"\(3, 2\), but must be .* \(2, 3\)"),
        (lambda tensors: tensors.update({"layers.2.b": np.zeros(2)}), "layers.2.b is float64"),
        (lambda tensors: tensors.update({"layers.2.b": np.zeros(2, np.int64)}), "layers.2.b is int64"),
        (lambda tensors: tensors.update({"layers.1.W": np.zeros(2)}), "it holds the tensor layers.1.W, which no layer has"),
        (lambda tensors: tensors.update({"extra": np.zeros(2)}), "it holds the tensor extra, which no layer has"),
    ],
)
def test_other_tensors(path, saved, change, says):
    tensors, header = dict(saved[0]), saved[1]
    change(tensors)
    files.write(path, tensors, header)
    with pytest.raises(FileFormatError, match=says):
        numlstm.load(path)


def test_the_file_it_began_with_is_read(path, saved):
    files.write(path, *saved)
    assert numlstm.load(path).predict(np.ones((1, 5, 2))).shape == (1, 5, 2)
    assert numlstm.models.load_model is numlstm.load
    with pytest.raises(FileNotFoundError):
        numlstm.load(path.with_name("none"))
