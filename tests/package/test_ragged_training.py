"""Training on sequences of different lengths: losses, ways to give them, pieces, states, memory."""

import math

import numpy as np
import pytest
from ragged import LENGTHS, built, filled, make_sequences
from support import assert_same_bits
from training import Problem, relative_error

import numlstm
from numlstm import (
    GRU,
    LSTM,
    Bidirectional,
    Dense,
    Dropout,
    Sequential,
    SimpleRNN,
    Trainer,
    _validate,
    data,
)
from numlstm.optimizers import SGD
from numlstm.utils import set_random_seed

MODELS = {
    "each step": (lambda o: [LSTM(4, return_sequences=True, **o), Dropout(0.3), Dense(2)], "mse"),
    "classes": (
        lambda o: [Bidirectional(GRU(3, return_sequences=True, **o)), Dense(3, "softmax")],
        "sparse_categorical_crossentropy",
    ),
    "last state": (
        lambda o: [Dense(4, "tanh"), LSTM(4, return_sequences=True, **o), SimpleRNN(3, go_backwards=True), Dense(2)],
        "mae",
    ),
}


def _targets(rng, name, count, steps):
    shape = (count, 2) if name == "last state" else (count, steps)
    return (
        rng.integers(0, 3, shape)
        if name == "classes"
        else rng.standard_normal((*shape, 2) if name == "each step" else shape)
    )


@pytest.mark.parametrize("recompute", [None, "gates", "states"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_models(rng, name, recompute, weighted):
    layers, loss = MODELS[name]
    lengths = np.array([20, 33, 1, 17])
    x, y = rng.standard_normal((4, 33, 3)), _targets(rng, name, 4, 33)
    weights = rng.random(y.shape[: 1 if name == "last state" else 2]) if weighted else None
    set_random_seed(3)
    problem = Problem(layers({"recompute": recompute, "dropout": 0.2}), loss, x, y, weights, lengths=lengths)
    assert relative_error(problem.gradient(), problem.differences()) < 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_ways_to_give_sequences(rng, name):
    """As a list, and as one array, whatever lies past the ends: the same bits after training."""
    sequences = make_sequences(rng, rng.integers(1, 10, 24))
    x, lengths = data.pad(sequences)
    steps = x.shape[1]
    y = _targets(rng, name, 24, steps)
    by_step = name != "last state"
    weights = rng.random((24, steps) if by_step else 24)
    y_list, weight_list = (data.unpad(array, lengths) if by_step else array for array in (y, weights))
    y_else = filled(y, lengths, -1 if name == "classes" else np.nan) if by_step else y
    weights_else = filled(weights, lengths) if by_step else weights
    results = []
    for one in (
        {"x": sequences, "y": y_list, "sample_weight": weight_list},
        {"x": x, "y": y, "sample_weight": weights, "lengths": lengths},
        {"x": filled(x, lengths), "y": y_else, "sample_weight": weights_else, "lengths": lengths.tolist()},
        {"x": np.array([*sequences, None], object)[:-1], "y": y_list, "sample_weight": weight_list},
    ):
        set_random_seed(5)
        model = Sequential(MODELS[name][0]({"dropout": 0.2}), dtype="float64")
        model.compile("adam", MODELS[name][1], ["accuracy"] if name == "classes" else ["mse"])
        part = {key: value[:6] for key, value in one.items()}
        validation = tuple(part.get(key) for key in ("x", "y", "sample_weight", "lengths"))
        first = model.fit(**one, epochs=2, batch_size=5, verbose=0, validation_data=validation)
        second = model.fit(**one, epochs=2, batch_size=5, verbose=0, validation_split=0.25)
        results.append((model.get_weights(), [first.history, second.history, model.evaluate(**one, return_dict=True)]))
    for weights, logs in results[1:]:
        assert_same_bits(tuple(weights), tuple(results[0][0]))
        assert logs == results[0][1]


def test_means_are_over_the_steps_within_the_lengths(rng):
    sequences = make_sequences(rng)
    labels = [rng.integers(0, 3, steps) for steps in LENGTHS]
    model = built(LSTM(5, return_sequences=True), Dense(3, "softmax"))
    model.compile(SGD(0.0), "sparse_categorical_crossentropy", metrics=["accuracy"])
    p = np.concatenate([model.predict(sequence[np.newaxis])[0] for sequence in sequences])
    right = np.concatenate(labels)
    surprise = -np.log(p[np.arange(len(right)), right])
    history = model.fit(sequences, labels, batch_size=2, verbose=0).history
    assert history["loss"] == pytest.approx([surprise.mean()], rel=1e-12)
    assert history["accuracy"] == pytest.approx([(p.argmax(axis=1) == right).mean()], rel=1e-12)
    weights = rng.random(5)
    weighted = model.evaluate(sequences, labels, sample_weight=weights)
    assert weighted[0] == pytest.approx((surprise * np.repeat(weights, LENGTHS)).mean(), rel=1e-12)
    assert weighted[1] == history["accuracy"][0]

    errors = built(LSTM(5, return_sequences=True), Dense(2))
    targets = make_sequences(rng, features=2)
    errors.compile("sgd", "mse")
    each = [(errors.predict(x[np.newaxis])[0] - y) ** 2 for x, y in zip(sequences, targets, strict=True)]
    assert errors.evaluate(sequences, targets) == pytest.approx(np.concatenate(each).mean(), rel=1e-12)


def test_large_arrays_and_batches_of_them(rng, monkeypatch, tmp_path):
    """What is converted batch by batch, and what a file holds."""
    x, lengths = data.pad(make_sequences(rng, rng.integers(1, 10, 24)), value=np.nan)
    y = rng.standard_normal((24, 2))
    results = []
    for large in (_validate.LARGE, 1):
        monkeypatch.setattr(_validate, "LARGE", large)
        np.save(tmp_path / "x.npy", x)
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        for given in ((x, y), (data.Batches(mapped, y, batch_size=5, seed=2),)):
            set_random_seed(5)
            model = Sequential([LSTM(4, return_sequences=True), GRU(3), Dense(2)])
            losses = Trainer(model, "adam", "mse", seed=1).fit(*given, epochs=2, verbose=0, lengths=lengths).history["loss"]
            results.append((*model.get_weights(), np.array(losses), model.predict(x, lengths=lengths)))
    assert_same_bits(results[0], results[2])
    assert_same_bits(results[1], results[3])
    assert np.isfinite(results[1][-1]).all() and not np.array_equal(results[0][0], results[1][0])


def test_lengths_of_all_steps_are_no_lengths(rng):
    x, y = rng.standard_normal((12, 6, 3)), rng.standard_normal((12, 6, 2))
    results = []
    for lengths in (None, [6] * 12):
        model = built(
            Bidirectional(LSTM(4, return_sequences=True, dropout=0.2)), Dropout(0.2), GRU(3, return_sequences=True), Dense(2)
        )
        trainer = Trainer(model, "adam", seed=1)
        trainer.fit(x, y, batch_size=5, epochs=2, verbose=0, lengths=lengths)
        results.append((*model.get_weights(), model.predict(x, lengths=lengths)))
    assert_same_bits(*results)


def test_the_same_bits_at_any_thread_count(rng, all_dealt_out):
    sequences = make_sequences(rng, rng.integers(1, 30, 40))
    results = []
    for threads in (1, 2, 3):
        numlstm.set_num_threads(threads)
        model = built(Bidirectional(LSTM(20, return_sequences=True, dropout=0.2)), GRU(17), Dense(2))
        trainer = Trainer(model, "adam", "mse", seed=1)
        trainer.fit(sequences, np.ones((40, 2)), batch_size=16, verbose=0)
        results.append(tuple(model.get_weights()))
    assert_same_bits(results[0], results[1])
    assert_same_bits(results[0], results[2])


# --- truncated backpropagation ---


def _stack(by_step, **options):
    return built(LSTM(4, return_sequences=True, **options), GRU(5, return_sequences=by_step, **options), Dense(2))


def _step(model, x, y, truncate, **options):
    trainer = Trainer(model, SGD(0.1), "mse", truncate=truncate, seed=1)
    loss = trainer.step(x, y, **options)
    return np.concatenate([weight.ravel() for weight in model.get_weights()]), loss


@pytest.mark.parametrize("by_step", [False, True])
def test_what_is_not_cut_is_whole(rng, by_step):
    x, lengths = data.pad(make_sequences(rng), steps=12)
    y = rng.standard_normal((5, 12, 2) if by_step else (5, 2))
    whole = _step(_stack(by_step, dropout=0.2), x, y, None, lengths=lengths)
    for truncate in (9, 100):
        weights, loss = _step(_stack(by_step, dropout=0.2), x, y, truncate, lengths=lengths)
        np.testing.assert_allclose(weights, whole[0], rtol=1e-13)
        assert loss == pytest.approx(whole[1], rel=1e-14)


@pytest.mark.parametrize("truncate", [1, 3, 4])
def test_with_one_target_each_sequence_is_cut_from_its_own_end(rng, truncate):
    """So that it is learnt from as it is alone."""
    sequences, y = make_sequences(rng), rng.standard_normal((5, 2))
    before = np.concatenate([weight.ravel() for weight in _stack(False).get_weights()])
    together, loss = _step(_stack(False), sequences, y, truncate)
    alone = [_step(_stack(False), x[np.newaxis], y[n : n + 1], truncate) for n, x in enumerate(sequences)]
    np.testing.assert_allclose(together - before, np.mean([weights - before for weights, _ in alone], axis=0), atol=1e-15)
    assert loss == pytest.approx(np.mean([loss for _, loss in alone]), rel=1e-14)


def test_with_targets_for_each_step_a_sequence_that_has_ended_has_no_part_in_later_pieces(rng):
    """As a loop over the pieces through a model that keeps its states, with those sequences alone that have steps left."""
    (x, lengths), (y, _) = (data.pad(make_sequences(rng, features=features)) for features in (3, 2))
    cut, _ = _step(_stack(True), x, y, 4, lengths=lengths)
    model = _stack(True, stateful=True)
    trainer = Trainer(model, SGD(0.1), "mse")
    for start in (0, 4, 8):
        there = lengths > start
        for layer in model.layers:
            if layer.states is not None:
                layer.states = tuple(
                    state[(lengths > start - 4).nonzero()[0].searchsorted(there.nonzero()[0])] for state in layer.states
                )
        part = slice(start, start + 4)
        trainer.step(x[there, part], y[there, part], lengths=(lengths[there] - start).clip(max=min(4, 9 - start)))
    np.testing.assert_allclose(cut, np.concatenate([weight.ravel() for weight in model.get_weights()]), rtol=1e-12)


def test_states_of_stateful_layers_are_those_after_the_last_step_of_each(rng):
    sequences = make_sequences(rng)
    model, whole = _stack(True, stateful=True), _stack(True)
    halves = [
        [sequence[: (len(sequence) + 1) // 2] for sequence in sequences],
        [sequence[-(len(sequence) // 2 or 1) :] for sequence in sequences],
    ]
    sequences = [np.concatenate(pair) for pair in zip(*halves, strict=True)]
    got = [data.unpad(model.predict(half), list(map(len, half))) for half in halves]
    want = data.unpad(whole.predict(sequences), list(map(len, sequences)))
    for first, second, both in zip(*got, want, strict=True):
        assert_same_bits(np.concatenate([first, second]), both)


# --- memory and compilation ---


@pytest.mark.parametrize("truncate", [None, 4])
def test_other_lengths_take_no_other_memory_and_compile_nothing(rng, truncate):
    from numlstm.kernels import parallel

    model = built(LSTM(16, return_sequences=True, dropout=0.1), Dropout(0.1), LSTM(8), Dense(1))
    trainer = Trainer(model, "adam", "mse", truncate=truncate, clip_norm=1.0)
    seen = set()
    for i in range(30):
        lengths = rng.integers(1, 11, 16) if i > 0 else None
        trainer.step(rng.standard_normal((16, 10, 3)), np.ones((16, 1)), lengths=lengths)
        step = trainer._step
        compiled = [len(getattr(parallel, name).signatures) for name in ("forward", "backward", "weight_gradients", "loss")]
        if i == 0:
            before = compiled
        elif i > 1:
            seen.add((step._arena.nbytes, step._arena.taken, len(step._shapes), len(step.feed._buffers)))
        assert compiled == before
    assert len(seen) == 1


@pytest.mark.parametrize("truncate", [None, 4])
@pytest.mark.parametrize("name", MODELS)
def test_what_memory_held_before_does_not_matter(rng, monkeypatch, name, truncate):
    lengths = rng.integers(1, 10, 12)
    x, y = rng.standard_normal((12, 10, 3)), _targets(rng, name, 12, 10)
    by_step, size = name != "last state", 3 if name == "classes" else 2
    results = []
    for poisoned in (False, True):
        if poisoned:
            for module in ("backend.feed", "_workspace"):
                monkeypatch.setattr(f"numlstm.{module}.aligned_empty", _not_a_number)
            monkeypatch.setattr("numlstm._workspace.borrow", lambda key: None)
        set_random_seed(5)
        cut = [Dense(4, "tanh"), LSTM(4, return_sequences=by_step), Dense(size, "softmax")]
        layers = MODELS[name][0]({}) if truncate is None else cut
        model = Sequential(layers, dtype="float64")
        trainer = Trainer(model, "adam", MODELS[name][1], truncate=truncate, seed=1)
        losses = [trainer.step(x, y, lengths=lengths) for _ in range(3)]
        results.append((*model.get_weights(), np.array(losses), model.predict(x, lengths=lengths)))
    assert np.isfinite(results[0][-1]).all()
    assert_same_bits(*results)


def _not_a_number(shape, dtype):
    """Return memory that is NaN, as whatever it is looked at."""
    return np.full(math.prod(shape) * np.dtype(dtype).itemsize, 0xFF, np.uint8).view(dtype).reshape(shape)
