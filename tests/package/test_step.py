"""One step of training: clipping, accumulation, truncated backpropagation, states, and memory that is taken once."""

import gc
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support import assert_same_bits
from training import Problem

from numlstm import LSTM, Bidirectional, Dense, Dropout, Embedding, Input, Sequential, Trainer, _step
from numlstm._samples import Data
from numlstm.callbacks import Callback
from numlstm.optimizers import SGD, Adam, schedules
from numlstm.utils import set_random_seed


def _data(rng, steps=10, by_step=True):
    x = rng.standard_normal((4, steps, 3))
    return x, rng.standard_normal((4, steps, 2) if by_step else (4, 2))


def _model(by_step=True, **options):
    set_random_seed(8)
    lower, upper = LSTM(5, return_sequences=True, **options), LSTM(6, return_sequences=by_step, **options)
    return Sequential([Input((None, 3)), lower, upper, Dense(2)], dtype="float64")


def _after(model, x, y, steps=1, **options):
    """Return weights after some training steps on the same batch, and the last loss."""
    trainer = Trainer(model, **{"optimizer": SGD(0.1), "seed": 3, **options})
    losses = [trainer.step(x, y) for _ in range(steps)]
    return tuple(model.get_weights()), losses[-1]


@pytest.mark.parametrize("recompute", ["gates", "states"])
@pytest.mark.parametrize("by_step", [True, False])
@pytest.mark.parametrize("truncate", [None, 20])
def test_recomputing_changes_no_bit(rng, recompute, by_step, truncate):
    x, y = _data(rng, 50, by_step)
    options = {"stateful": True, "dropout": 0.2, "go_backwards": truncate is None}
    plain = _after(_model(by_step, **options), x, y, 3, truncate=truncate)
    assert_same_bits(_after(_model(by_step, recompute=recompute, **options), x, y, 3, truncate=truncate)[0], plain[0])


LONG = """
import re
import numpy as np
from numlstm import LSTM, Bidirectional, Dense, Sequential
x = np.zeros((1, 100_000, 2), np.float32)
model = Sequential([LSTM(64, recompute=RECOMPUTE), Dense(1)])
model.compile("adam", "mse")
model.fit(x, np.ones((1, 1)), epochs=2, verbose=0)
print(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory otherwise")
@pytest.mark.parametrize(("recompute", "most"), [(None, 1000), ("gates", 260), ("states", 230)])
def test_memory_of_a_hundred_thousand_steps(run_python, recompute, most):
    megabytes = int(run_python(f"RECOMPUTE = {recompute!r}" + LONG).stdout) / 1000
    assert megabytes < most


# --- clipping ---


@pytest.mark.parametrize("limit", [0.01, 1e3])
@pytest.mark.parametrize("way", ["clip_norm", "clip_value", "global_clipnorm", "clipnorm", "clipvalue"])
def test_clipping(rng, way, limit):
    x, y = _data(rng)
    problem = Problem([LSTM(5, return_sequences=True), Dense(2)], "mse", x, y)
    gradient, before = problem.gradient(), np.concatenate(problem.parameters)
    if way in ("clip_norm", "global_clipnorm"):
        want = gradient * min(1, limit / np.linalg.norm(gradient))
    elif way == "clipnorm":
        parts = np.split(gradient, np.cumsum([p.size for p in problem.parameters])[:-1])
        want = np.concatenate([part * min(1, limit / np.linalg.norm(part)) for part in parts])
    else:
        want = np.clip(gradient, -limit, limit)
    to_trainer = way.startswith("clip_")
    optimizer = SGD(1.0) if to_trainer else SGD(1.0, **{way: limit})
    Trainer(problem.model, optimizer, "mse", **({way: limit} if to_trainer else {})).step(x, y)
    np.testing.assert_allclose(before - np.concatenate(problem.parameters), want, rtol=1e-9, atol=1e-14)
    assert (limit > 1) == np.allclose(want, gradient)


# --- rates and masks ---


def test_each_update_has_its_rate():
    """The slope of an absolute error is 1, and so the weight moves by the rate."""
    model = Sequential([Input((1,)), Dense(1, use_bias=False, kernel_initializer="zeros")], dtype="float64")
    trainer = Trainer(model, SGD(schedules.PiecewiseConstantDecay([0, 2], [1.0, 0.25, 0.0625])), "mae", accumulate=2)
    weights = []
    for _ in range(8):
        trainer.step([[1]], [[100]])
        weights.append(model.get_weights()[0].item())
    assert weights == [0, 1, 1, 1.25, 1.25, 1.5, 1.5, 1.5625]


def test_each_layer_and_batch_has_masks_of_its_own():
    """Of two layers that drop half a quarter is left, and grows to 4: a mean square of 4, were masks the same of 8."""
    trainer = Trainer(Sequential([Dropout(0.5), Dropout(0.5)]), "sgd", "mse", seed=3)
    ones = np.ones((100, 100))
    squares = [trainer.step(ones, 0 * ones) for _ in range(5)]
    assert len(set(squares)) == 5
    assert np.abs(np.array(squares) - 4).max() < 5 * 16 * np.sqrt(0.25 * 0.75 / ones.size)


# --- weights and accumulation ---


def test_weights_are_as_rows_that_come_several_times(rng):
    x, y = _data(rng)
    counts = np.array([2, 0, 1, 3])
    layers = _model().layers
    weighted = Problem(layers, "mse", x, y, counts)
    repeated = Problem(layers, "mse", np.repeat(x, counts, axis=0), np.repeat(y, counts, axis=0))
    assert weighted.loss() * 4 == pytest.approx(repeated.loss() * counts.sum(), rel=1e-12)
    np.testing.assert_allclose(weighted.gradient() * 4, repeated.gradient() * counts.sum(), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.05}])
def test_accumulated_batches_are_one_batch(rng, options):
    """To rounding: sums are taken in another order."""
    x, y = rng.standard_normal((12, 5, 3)), rng.standard_normal((12, 2))
    weights = []
    for size, accumulate in ((12, 1), (4, 3), (1, 12)):
        set_random_seed(8)
        layers = [Dense(7, "tanh"), LSTM(5), Dense(2)]
        model = Sequential(layers, dtype="float64")
        trainer = Trainer(model, Adam(0.01), accumulate=accumulate, **options)
        trainer.fit(x, y, batch_size=size, epochs=3, shuffle=False, verbose=0)
        assert trainer.updates == 3
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(weights[2], weights[0], rtol=1e-8, atol=1e-12)


def test_accumulation_of_an_embedding(rng):
    x, y = rng.integers(0, 5, (6, 4)), rng.standard_normal((6, 1))
    tables = []
    for size, accumulate in ((6, 1), (2, 3)):
        set_random_seed(8)
        model = Sequential([Embedding(5, 3), LSTM(2), Dense(1)], dtype="float64")
        Trainer(model, SGD(0.5), accumulate=accumulate).fit(x, y, batch_size=size, shuffle=False, verbose=0)
        tables.append(model.get_weights()[0])
    np.testing.assert_allclose(tables[1], tables[0], rtol=1e-12)


def test_what_waits_at_the_end_of_an_epoch_is_not_left_over(rng):
    """Three batches by twos: an update by the mean of the first two, and one by the third."""
    x, y = rng.standard_normal((9, 3)), rng.standard_normal((9, 2))
    set_random_seed(8)
    model = Sequential([Dense(2)], dtype="float64")
    trainer = Trainer(model, SGD(0.1), accumulate=2)
    model.predict(x)
    W = model.get_weights()[0]

    def gradient(W, part):
        return x[part].T @ (x[part] @ W - y[part]) * 2 / (2 * len(x[part]))

    trainer.fit(x, y, batch_size=3, shuffle=False, verbose=0)
    # The bias, which begins at 0, moves after the first update: so it enters the second.
    b = -0.1 * (x[:6] @ W - y[:6]).sum(axis=0) / 6
    W = W - 0.1 * (gradient(W, slice(0, 3)) + gradient(W, slice(3, 6))) / 2
    error = x[6:] @ W + b - y[6:]
    np.testing.assert_allclose(model.get_weights()[0], W - 0.1 * x[6:].T @ error / 3, rtol=1e-12)
    assert trainer.updates == 2


class _Stop(Callback):
    def on_train_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt


def test_what_an_interruption_leaves_does_not_reach_the_next_training(rng, tmp_path):
    x, y = rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    made = []
    for interrupted in (False, True):
        set_random_seed(8)
        model = Sequential([Dense(2)], dtype="float64")
        trainer = Trainer(model, SGD(0.1), accumulate=2, seed=1)
        if interrupted:
            with pytest.raises(KeyboardInterrupt):
                trainer.fit(x, y, batch_size=2, shuffle=False, verbose=0, callbacks=[_Stop()])
        trainer.fit(x, y, batch_size=2, shuffle=False, verbose=0)
        if not interrupted:
            trainer.save_checkpoint(tmp_path / "model")
        made.append(tuple(model.get_weights()))
    assert_same_bits(*made)

    trainer.step(x, y)  # waits
    trainer.resume(tmp_path / "model")
    assert_same_bits(tuple(model.get_weights()), made[0])
    for _ in range(2):
        trainer.step(x, y)
    np.testing.assert_allclose(model.get_weights()[1] - made[0][1], -0.1 * (x @ made[0][0] + made[0][1] - y).mean(axis=0))


# --- truncated backpropagation ---


@pytest.mark.parametrize("by_step", [False, True])
def test_short_sequences_are_not_cut(rng, by_step):
    x, y = _data(rng, by_step=by_step)
    whole = _after(_model(by_step), x, y, steps=3)
    for truncate in (10, 11, 1000):
        cut = _after(_model(by_step), x, y, steps=3, truncate=truncate)
        assert_same_bits(cut[0], whole[0])
        assert cut[1] == whole[1]
    assert not np.array_equal(_after(_model(by_step), x, y, steps=3, truncate=9)[0][0], whole[0][0])


def test_with_targets_for_each_step_there_is_an_update_after_each_piece(rng):
    """As a loop over the pieces through a model that keeps its states: twice, from zeros."""
    x, y = _data(rng)
    optimizer = SGD(0.1, momentum=0.9)
    cut, loss = _after(_model(), x, y, steps=2, truncate=4, optimizer=optimizer)
    by_hand = _model(stateful=True)
    trainer = Trainer(by_hand, optimizer)
    for _ in range(2):
        by_hand.reset_states()
        losses = [trainer.step(x[:, start : start + 4], y[:, start : start + 4]) for start in (0, 4, 8)]
    assert_same_bits(cut, tuple(by_hand.get_weights()))
    assert loss == pytest.approx(np.average(losses, weights=[4, 4, 2]), rel=1e-12)


@pytest.mark.parametrize("steps", [10, 8])
def test_with_one_target_the_last_piece_is_learnt_from(rng, steps):
    """As if the states that the steps before it lead to were given."""
    x, y = _data(rng, steps, by_step=False)
    cut, loss = _after(_model(by_step=False), x, y, truncate=4)
    by_hand = _model(by_step=False, stateful=True)
    by_hand.predict(x[:, :-4])
    want, want_loss = _after(by_hand, x[:, -4:], y)
    assert_same_bits(cut, want)
    assert loss == want_loss == pytest.approx(((_model(by_step=False).predict(x) - y) ** 2).mean(), rel=1e-12)


def test_classes_and_weights_are_cut_with_the_steps(rng):
    x, y, weights = rng.standard_normal((4, 10, 3)), rng.integers(0, 3, (4, 10)), rng.random((4, 10))
    results = []
    for stateful in (False, True):
        set_random_seed(8)
        model = Sequential([LSTM(5, return_sequences=True, stateful=stateful), Dense(3, "softmax")], dtype="float64")
        loss = "sparse_categorical_crossentropy"
        trainer = Trainer(model, SGD(0.1), loss, truncate=None if stateful else 4, metrics=["accuracy"])
        for start in (0, 4, 8) if stateful else (0,):
            part = slice(start, start + 4) if stateful else slice(None)
            trainer.step(x[:, part], y[:, part], weights[:, part])
        results.append(tuple(model.get_weights()))
    assert_same_bits(*results)


def test_one_mask_for_all_pieces_of_a_sequence(rng):
    """The forward pass of a cut sequence is that of the whole one."""
    x, y = _data(rng, by_step=False)
    losses = [_after(_model(by_step=False, dropout=0.5), x, y, truncate=truncate)[1] for truncate in (None, 4)]
    assert losses[0] == losses[1]
    assert losses[0] != _after(_model(by_step=False), x, y)[1]


def test_pieces_accumulate(rng):
    x, y = _data(rng)
    trainer = Trainer(_model(), SGD(0.1), truncate=5, accumulate=2)
    trainer.step(x, y)
    assert trainer.updates == 1
    trainer.fit(x, y, batch_size=4, epochs=3, verbose=0)
    assert trainer.updates == 4


@pytest.mark.parametrize("layers", [[Dense(2)], [Dropout(0.5)], [LSTM(2, go_backwards=True)], [Bidirectional(LSTM(1))]])
def test_where_nothing_can_be_cut(layers):
    model = Sequential(layers)
    trainer = Trainer(model, truncate=2)
    x = np.ones((2, 4, 2)) if isinstance(layers[0], (LSTM, Bidirectional)) else np.ones((2, 2))
    with pytest.raises(ValueError, match=r"needs a model with a recurrent layer|cannot be used with go_backwards"):
        trainer.step(x, np.ones((2, 2)))


# --- states ---


def test_states_go_from_batch_to_batch_and_evaluation_leaves_them(rng):
    x, y = rng.standard_normal((8, 5, 3)), rng.standard_normal((8, 2))
    model, same = _model(by_step=False, stateful=True), _model(by_step=False, stateful=True)
    trainer = Trainer(model, SGD(0.0))  # which leaves the weights as they are
    trainer.fit(x, y, batch_size=4, shuffle=False, verbose=0, validation_data=(x[:4], y[:4]))
    same.predict(x, batch_size=4)
    states = [layer.states for layer in same.layers[:2]]
    for layer, want in zip(model.layers[:2], states, strict=True):
        assert_same_bits(layer.states, want)
    fresh = _model(by_step=False)
    loss = trainer.evaluate(x[:4], y[:4], batch_size=4)["loss"]
    assert loss == pytest.approx(((fresh.predict(x[:4]) - y[:4]) ** 2).mean(), rel=1e-12)
    with pytest.raises(ValueError, match=r"carries the states of 5 sequences, but a batch has 3"):
        trainer.evaluate(x, y, batch_size=5)
    for layer, want in zip(model.layers[:2], states, strict=True):
        assert_same_bits(layer.states, want)
    assert_same_bits(model.predict(x[:4]), same.predict(x[:4]))


# --- memory ---


class _Watch(Callback):
    """Measures a thousand batches, after those in which Python fills its own lists of free objects."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 100:
            tracemalloc.start()
        if batch == 2000:
            self.before = self._alive()
            tracemalloc.reset_peak()
            self.start = tracemalloc.get_traced_memory()[0]
        if batch == 3000:
            self.peak = tracemalloc.get_traced_memory()[1] - self.start
            self.after = self._alive()
            tracemalloc.stop()

    def _alive(self):
        """Return the bytes of arrays made since batch 100, and how many of Python's memory blocks are in use."""
        gc.collect()
        arrays = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
        statistics = tracemalloc.take_snapshot().filter_traces([arrays]).statistics("filename")
        size = sum(statistic.size for statistic in statistics)
        del statistics
        gc.collect()
        return np.array([size, sys.getallocatedblocks()])


@pytest.mark.parametrize("truncate", [None, 4])
def test_a_thousand_steps_allocate_nothing_new(rng, truncate):
    """The gates of one piece alone take 393 kB; one object kept from each step would be a thousand blocks.

    Python itself holds freed tuples, some 200 kB of them, until it collects garbage.
    """
    x, y = rng.standard_normal((16 * 3001, 10, 1)), rng.standard_normal((16 * 3001, 1))
    model = Sequential([LSTM(384, return_sequences=True, dropout=0.1), Dropout(0.1), LSTM(8), Dense(1)])
    watch = _Watch()
    trainer = Trainer(model, Adam(1e-3), clip_norm=1.0, truncate=truncate, metrics=["mae"])
    trainer.fit(x, y, batch_size=16, verbose=0, callbacks=[watch])
    size, blocks = watch.after - watch.before
    assert size < 1000 and blocks < 500 and watch.peak < 350_000


def test_sequences_that_grow_do_not_pile_up_memory(rng, monkeypatch):
    monkeypatch.setattr(_step, "_SLACK", 1 << 20)
    model = Sequential([LSTM(64, return_sequences=True, seed=1), LSTM(2, seed=2)])
    trainer = Trainer(model, SGD(0.0))
    for steps in range(60, 200, 10):
        x, y = rng.standard_normal((64, steps, 3)), rng.standard_normal((64, 2))
        loss = trainer.step(x, y)
        assert trainer._step._arena.nbytes <= 3 * trainer._step._arena.taken + (2 << 20)
        assert loss == pytest.approx(np.mean((model.predict(x) - y) ** 2), rel=1e-5)


# --- what must not be shared ---


def test_threads_that_evaluate_at_once_do_not_disturb_each_other(rng):
    x, y = _data(rng)
    trainer = Trainer(_model())
    data = [(x * scale, y) for scale in (1, 2, 3)]
    want = [trainer.evaluate(*pair)["loss"] for pair in data]
    with ThreadPoolExecutor(3) as pool:
        got = list(pool.map(lambda pair: trainer.evaluate(*pair)["loss"], data * 30))
    assert got == want * 30


def test_a_dropout_layer_has_other_masks_in_each_piece():
    """Ones go in, and their masks come out: in training, as the loss of an absolute error from zero."""
    model = Sequential([LSTM(1, seed=1, return_sequences=True), Dropout(0.5)])
    model.build((None, None, 40))
    masks = []
    for piece in (0, 1):
        step = Trainer(model, seed=3)._ready()
        data = Data(np.ones((9, 4, 40), np.float32), np.zeros((9, 4, 1), np.float32), np.zeros((9, 0), np.float32))
        step.learn(data, 0, False, step.meter(), piece)
        masks.append(step._shapes[data.x.shape, True, False].plan.runs[1].y == 0)
    assert 0.2 < masks[0].mean() < 0.8
    assert (masks[0] != masks[1]).any()


def test_whole_sequences_after_pieces_begin_with_zeros_again(rng):
    x, y = _data(rng, steps=4)
    trainer = Trainer(_model(), SGD(0.0), truncate=4)
    first = trainer.step(x, y)
    trainer.truncate = None
    assert [trainer.step(x, y) for _ in range(2)] == [first, first]


def test_a_layer_that_the_model_got_since_is_trained(rng):
    x, y = _data(rng)
    model = _model()
    trainer = Trainer(model, SGD(0.1))
    trainer.step(x, y)
    model.add(Dense(2))
    before = model.get_weights()
    trainer.step(x, y)
    assert all((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))
