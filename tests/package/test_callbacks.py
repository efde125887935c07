"""Callbacks and progress: what they do when a number goes up and down as it is told to."""

import csv

import numpy as np
import pytest

import numlstm
from numlstm import Dense, Input, Sequential, Trainer
from numlstm.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from numlstm.optimizers import SGD, schedules

X, Y = np.ones((4, 1)), np.ones((4, 1))


class Told(Callback):
    """Replaces the validation's loss by the next of some values, and sets the one weight to the epoch's number."""

    def __init__(self, values):
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = logs["val_acc"] = self.values[epoch]
        self.model.set_weights([np.full((1, 1), epoch)])


def _trainer(optimizer=None, **options):
    model = Sequential([Input((1,)), Dense(1, use_bias=False)])
    return Trainer(model, SGD(0.5) if optimizer is None else optimizer, "mse", **options)


def _fit(values, *callbacks, **options):
    """Train through so many epochs, without changes to the weights; return the trainer and the history."""
    trainer = _trainer(SGD(0.0)) if "trainer" not in options else options.pop("trainer")
    history = trainer.fit(X, Y, epochs=len(values), verbose=0, callbacks=[Told(values), *callbacks], **options)
    return trainer, history


# --- early stopping ---


@pytest.mark.parametrize(
    "values, options, epochs",
    [
        ([5, 4, 3, 2, 1], {}, 5),
        ([5, 4, 4, 3, 2], {}, 3),
        ([5, 4, 4, 3, 2], {"patience": 1}, 3),
        ([5, 4, 4, 3, 3, 3, 1], {"patience": 2}, 6),
        ([5, 4.9, 4.8, 4.7, 3], {"min_delta": 0.5, "patience": 3}, 4),
        ([5, 4.9, 4.8, 4.4, 3], {"min_delta": 0.5, "patience": 3}, 5),
        ([1, 2, 3, 4, 2], {"mode": "max"}, 5),
        ([1, 2, 3, 2, 4], {"monitor": "val_acc"}, 4),
        ([1, 2, 3, 0.5, 0.6], {"start_from_epoch": 3}, 5),
        ([3, np.nan, np.nan, 1], {"patience": 2}, 3),
    ],
)
def test_early_stopping(values, options, epochs):
    _, history = _fit(values, EarlyStopping(**options))
    assert history.epoch == list(range(epochs))


@pytest.mark.parametrize("restore", [False, True])
def test_the_best_weights_come_back(restore, capsys):
    stopping = EarlyStopping(patience=2, restore_best_weights=restore, verbose=1)
    for values, last, best in (([5, 3, 4, 4, 1], 3, 1), ([5, 4, 3, 2, 9], 4, 3)):  # stops, and does not
        trainer, history = _fit(values, stopping)
        assert history.epoch[-1] == last and stopping.best_epoch == best
        assert trainer.model.get_weights()[0] == (best if restore else last)
    assert capsys.readouterr().out == "Epoch 4: val_loss has not improved since epoch 2: stopping\n"


def test_what_was_stopped_stays_stopped(tmp_path):
    callbacks = [EarlyStopping(patience=1, restore_best_weights=True), ModelCheckpoint(tmp_path / "{epoch}")]
    _fit([2, 3, 1], *callbacks)
    trainer = _trainer()
    trainer.resume(tmp_path / "2")
    _, history = _fit([2, 3, 1], *callbacks, trainer=trainer)
    assert history.epoch == [] and trainer.model.get_weights()[0] == 0
    trainer.resume(tmp_path / "2")
    assert _fit([2, 3, 1], EarlyStopping(patience=5), trainer=trainer)[1].epoch == [2]


@pytest.mark.parametrize("kind", [EarlyStopping, ReduceLROnPlateau])
def test_a_number_that_is_not_there(kind):
    with pytest.raises(ValueError, match="watches 'val_loss', but there are only loss: give fit validation data"):
        _trainer().fit(X, Y, callbacks=[kind()], verbose=0)
    with pytest.raises(ValueError, match=r"watches 'los', but there are only loss: did you mean 'loss'\?"):
        _trainer().fit(X, Y, callbacks=[kind("los")], verbose=0)


# --- learning rates ---


@pytest.mark.parametrize(
    "values, options, rates",
    [
        ([4, 3, 2, 1], {"patience": 1}, [1, 1, 1, 1]),
        ([4, 4, 4, 4], {"patience": 1}, [1, 0.5, 0.25, 0.125]),
        ([4, 4, 4, 4, 4], {"patience": 2}, [1, 1, 0.5, 0.5, 0.25]),
        ([4, 4, 4, 4, 4], {"patience": 1, "min_lr": 0.3}, [1, 0.5, 0.3, 0.3, 0.3]),
        ([4, 4, 4, 4, 4, 4], {"patience": 1, "cooldown": 2}, [1, 0.5, 0.5, 0.25, 0.25, 0.125]),
        ([4, 3.95, 3.92, 3.91], {"patience": 1, "min_delta": 0.1}, [1, 0.5, 0.25, 0.125]),
        ([1, 2, 2, 3], {"patience": 1, "mode": "max"}, [1, 1, 0.5, 0.5]),
    ],
)
def test_reduce_on_plateau(values, options, rates):
    """By Keras' rule: the epoch in which a cooldown ends counts again."""
    seen = []

    class Look(Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.trainer.optimizer.learning_rate)

    _fit(values, ReduceLROnPlateau(factor=0.5, **options), Look(), trainer=_trainer(SGD(1.0)))
    assert seen == rates


def test_waiting_and_cooling_go_on_from_a_checkpoint(tmp_path):
    values = [4, 4, 4, 4, 4, 4, 4, 4]
    for options in ({"patience": 3}, {"patience": 1, "cooldown": 3}):
        plateau = ReduceLROnPlateau(factor=0.5, **options)
        whole, _ = _fit(values, plateau, ModelCheckpoint(tmp_path / "{epoch}"), trainer=_trainer(SGD(1.0)))
        for epoch in (2, 3, 5):
            trainer = _trainer(SGD(1.0))
            trainer.resume(tmp_path / f"{epoch}")
            _fit(values, ReduceLROnPlateau(factor=0.5, **options), trainer=trainer)
            assert trainer.optimizer.learning_rate == whole.optimizer.learning_rate < 1


def test_learning_rate_scheduler():
    """Each epoch moves the weight by the rate: the slope of an absolute error is 1."""
    trainer = Trainer(_trainer().model, SGD(1.0), "mae")
    trainer.model.set_weights([np.zeros((1, 1))])
    rates = []

    def schedule(epoch, rate):
        rates.append(rate)
        return [0.5, 0.25, 0.125][epoch]

    trainer.fit(X, 100 * Y, epochs=3, verbose=0, callbacks=[LearningRateScheduler(schedule)])
    assert rates == [1.0, 0.5, 0.25]
    assert trainer.model.get_weights()[0] == 0.875


def test_a_rate_that_cannot_be_set():
    with pytest.raises(ValueError, match="needs a learning rate that is a number, not a schedule"):
        _fit([1], ReduceLROnPlateau(), trainer=_trainer(SGD(schedules.ExponentialDecay(0.1, 1, 0.5))))
    with pytest.raises(ValueError, match="learning_rate must be at least 0"):
        _fit([1], LearningRateScheduler(lambda epoch, rate: -1.0))


# --- files ---


def test_checkpoints_of_each_epoch(tmp_path, capsys):
    _fit([3, 2, 4], ModelCheckpoint(tmp_path / "{epoch:02d}-{val_loss:.1f}", verbose=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["01-3.0", "02-2.0", "03-4.0"]
    assert [numlstm.load(path).get_weights()[0].item() for path in sorted(tmp_path.iterdir())] == [0, 1, 2]
    assert capsys.readouterr().out.splitlines()[1] == f"Epoch 2: saved {tmp_path / '02-2.0'}"


@pytest.mark.parametrize("values, mode, saved", [([3, 2, 4, 1], "auto", [0, 1, 3]), ([3, 2, 4, 1], "max", [0, 2])])
def test_checkpoints_of_the_best_epochs(tmp_path, values, mode, saved):
    _fit(values, ModelCheckpoint(tmp_path / "{epoch}", save_best_only=True, mode=mode))
    assert sorted(int(path.name) - 1 for path in tmp_path.iterdir()) == saved
    _fit(values, ModelCheckpoint(str(tmp_path / "best"), save_best_only=True, mode=mode))
    assert numlstm.load(tmp_path / "best").get_weights()[0] == saved[-1]


def test_checkpoints_that_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be filled in: there are only epoch, loss$"):
        _trainer().fit(X, Y, verbose=0, callbacks=[ModelCheckpoint(tmp_path / "{val_loss}")])
    with pytest.raises(FileNotFoundError):
        _fit([1], ModelCheckpoint(tmp_path / "none" / "model"))


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    _, history = _fit([3, 2.5], CSVLogger(path))
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    for name, values in history.history.items():
        assert [float(row[name]) for row in rows] == values
    _fit([7], CSVLogger(path, append=True))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[-1] for line in lines] == ["val_acc", "3.0", "2.5", "7.0"]
    _fit([7], CSVLogger(path, separator=";"))
    assert path.read_text(encoding="utf-8").startswith("epoch;loss;val_loss;val_acc\n0;")
    assert path.read_bytes().count(b"\n") == 2 and b"\r" not in path.read_bytes()


# --- of one's own, and nonsense ---


def test_callbacks_are_called_in_order():
    calls = []

    class All(Callback):
        def __init__(self, name):
            self.name = name

        def on_train_begin(self, logs=None):
            calls.append((self.name, "begin"))

        def on_epoch_begin(self, epoch, logs=None):
            calls.append((self.name, "epoch", epoch))

        def on_train_batch_end(self, batch, logs=None):
            calls.append((self.name, "batch", batch, sorted(logs)))

        def on_epoch_end(self, epoch, logs=None):
            calls.append((self.name, "end of epoch", epoch, sorted(logs)))

        def on_train_end(self, logs=None):
            calls.append((self.name, "end"))
            assert self.model is self.trainer.model

    trainer = _trainer(callbacks=All("a"), metrics=["mae"])
    trainer.fit(X, Y, batch_size=2, verbose=0, callbacks=All("b"), validation_split=0.25)
    logs = ["loss", "mae"]
    steps = [("begin",), ("epoch", 0), ("batch", 0, logs), ("batch", 1, logs)]
    steps += [("end of epoch", 0, [*logs, "val_loss", "val_mae"]), ("end",)]
    assert calls == [(name, *step) for step in steps for name in "ab"]


def test_training_stops_after_the_batch_that_says_so():
    class Stop(Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    trainer = _trainer()
    assert trainer.fit(X, Y, batch_size=1, epochs=9, verbose=0, callbacks=[Stop()]).epoch == [0]
    assert trainer.batches == trainer.updates == 2
    assert trainer.fit(X, Y, batch_size=4, epochs=2, verbose=0).epoch == [0, 1]


def test_terminate_on_nan(capsys):
    trainer = _trainer(SGD(1e30))
    history = trainer.fit(X, 2 * Y, batch_size=1, epochs=5, verbose=0, callbacks=[TerminateOnNaN()])
    assert history.epoch == [0] and not np.isfinite(history.history["loss"][0])
    assert capsys.readouterr().out.startswith("Batch ") and trainer.batches < 4


@pytest.mark.parametrize(
    "make, error, says",
    [
        (lambda: EarlyStopping(patience=-1), ValueError, "patience must be at least 0"),
        (lambda: EarlyStopping(mode="least"), ValueError, "mode must be one of 'auto', 'min', 'max', not 'least'"),
        (lambda: EarlyStopping(min_delta="a"), TypeError, "min_delta must be a number"),
        (lambda: ReduceLROnPlateau(factor=1.0), ValueError, "factor must be positive and below 1, not 1"),
        (lambda: ReduceLROnPlateau(factor=0.0), ValueError, "factor must be positive"),
        (lambda: ReduceLROnPlateau(cooldown=1.5), TypeError, "cooldown must be an integer"),
        (lambda: ModelCheckpoint(None), TypeError, "PathLike"),
    ],
)
def test_what_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()


# --- progress ---


def test_a_bar_shows_loss_and_sequences_a_second(capsys):
    _trainer().fit(X, Y, epochs=3, verbose=1, validation_split=0.25)
    out, err = capsys.readouterr()
    assert out == "" and err.endswith("\n")
    last = err.rstrip().split("\r")[-1]
    assert last.startswith("Epoch 3/3 |")
    assert " sequences/s" in last and "loss: " in last and "val_loss: " in last


def test_a_line_for_each_epoch(capsys):
    history = _trainer().fit(X, Y, epochs=2, verbose=2, validation_split=0.25).history
    out, err = capsys.readouterr()
    assert err == "" and len(out.splitlines()) == 2
    for epoch, line in enumerate(out.splitlines()):
        count, seconds, loss, validation = line.split(" - ")
        assert count == f"Epoch {epoch + 1}/2" and seconds.endswith("s")
        assert loss == f"loss: {history['loss'][epoch]:.4g}"
        assert validation == f"val_loss: {history['val_loss'][epoch]:.4g}"


@pytest.mark.parametrize("options", [{"verbose": 0}, {"verbose": False}, {"verbose": 1, "epochs": 0}])
def test_silence(capsys, options):
    _trainer().fit(X, Y, **options)
    assert capsys.readouterr() == ("", "")


def test_the_bar_is_closed_when_training_fails(capsys):
    class Fail(Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("as told")

    with pytest.raises(RuntimeError, match="as told"):
        _trainer().fit(X, Y, callbacks=[Fail()])
    assert capsys.readouterr().err.endswith("\n")


def test_hooks_of_batches():
    calls = []

    class Hooks(Callback):
        def on_train_batch_begin(self, batch, logs=None):
            calls.append(("begin", batch))

        def on_train_batch_end(self, batch, logs=None):
            calls.append(("end", batch, sorted(logs)))

    Trainer(Sequential([Dense(1)])).fit(np.ones((3, 2)), np.ones((3, 1)), batch_size=2, verbose=0, callbacks=[Hooks()])
    assert calls == [("begin", 0), ("end", 0, ["loss"]), ("begin", 1), ("end", 1, ["loss"])]
