"""Checkpoints: training that goes on from one gives the same bits as training that never stopped."""

import copy
import json

import numpy as np
import pytest
from support import assert_same_bits

import numlstm
from numlstm import GRU, LSTM, Bidirectional, Dense, Dropout, FileFormatError, Sequential, Trainer, files
from numlstm.callbacks import Callback, CSVLogger, EarlyStopping, ModelCheckpoint
from numlstm.optimizers import SGD, Adam, RMSprop, schedules
from numlstm.utils import set_random_seed

# Targets of noise alone: the validation's loss goes up and down, so that the rate is reduced and the best epoch is not the
# last. The checkpoint stands first among the callbacks, and yet holds what the others made of its epoch.
TRAIN = """
import numpy as np
from numlstm import GRU, LSTM, Bidirectional, Dense, Dropout, Sequential, Trainer
from numlstm.callbacks import CSVLogger, EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from numlstm.optimizers import Adam

rng = np.random.default_rng(5)
x, y = rng.standard_normal((60, 8, 3)), rng.standard_normal((60, 2))

def train(folder, epochs, checkpoint=None):
    model = Sequential([LSTM(9, return_sequences=True, dropout=0.2), Dropout(0.3), LSTM(7), Dense(2)])
    callbacks = [
        ModelCheckpoint(f"{folder}/{{epoch}}"),
        EarlyStopping(patience=9, restore_best_weights=True),
        ReduceLROnPlateau(factor=0.5, patience=2, min_delta=0.0),
        CSVLogger(f"{folder}/log.csv"),
    ]
    trainer = Trainer(model, Adam(0.02, clipnorm=1.0), "mse", metrics=["mae"], accumulate=2)
    if checkpoint is not None:
        assert trainer.resume(checkpoint) == 5
    trainer.fit(x, y, batch_size=8, epochs=epochs, validation_split=0.25, callbacks=callbacks, verbose=0)
    trainer.save_checkpoint(f"{folder}/last")
    return callbacks
"""


def test_ten_epochs_are_five_a_new_process_and_five_more(run_python, tmp_path):
    scope = {}
    exec(TRAIN, scope)
    for name, epochs in (("whole", 10), ("parts", 5)):
        (tmp_path / name).mkdir()
        set_random_seed(9)
        callbacks = scope["train"](tmp_path / name, epochs)
        if name == "whole":
            best = callbacks[1].best_epoch
    run_python(TRAIN + "import sys\ntrain(sys.argv[1], 10, sys.argv[2])", tmp_path / "parts", tmp_path / "parts" / "5")
    for name in [*map(str, range(1, 11)), "last", "log.csv"]:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name

    rates = [files.read(tmp_path / "whole" / f"{epoch}")[1]["training"]["learning_rate"] for epoch in range(1, 11)]
    assert rates[0] > rates[4] > rates[9] and best < 9  # the callbacks were at work before and after
    last, tenth = (numlstm.load(tmp_path / "whole" / name).get_weights()[0] for name in ("last", "10"))
    assert not np.array_equal(last, tenth)
    assert_same_bits(last, numlstm.load(tmp_path / "whole" / f"{best + 1}").get_weights()[0])


def _stateful():
    return [LSTM(5, stateful=True, dropout=0.2, return_sequences=True), LSTM(4), Dense(2)]


KINDS = {
    "stateful": (_stateful, SGD(schedules.CosineDecay(0.1, 30), momentum=0.9, nesterov=True), {}),
    "truncated": (lambda: [LSTM(5, dropout=0.3), Dense(2)], RMSprop(0.01), {"truncate": 3, "clip_norm": 0.1}),
    "both directions": (
        lambda: [Bidirectional(GRU(5, stateful=True, dropout=0.2)), Dense(2)],
        Adam(0.01),
        {"accumulate": 2},
    ),
    "plain": (lambda: [Dropout(0.2), LSTM(5), Dense(2)], SGD(0.1), {}),
}


@pytest.mark.parametrize("name", KINDS)
def test_other_trainings_go_on_too(rng, tmp_path, name):
    layers, optimizer, options = KINDS[name]
    x, y = rng.standard_normal((8, 7, 3)), rng.standard_normal((8, 2))
    results = []
    for stops in ((6,), (2, 3, 6)):
        set_random_seed(9)
        for part, epochs in enumerate(stops):
            trainer = Trainer(Sequential(layers()), optimizer, "mse", **options)
            if part:
                trainer.resume(tmp_path / "checkpoint")
                set_random_seed(1)
            history = trainer.fit(x, y, batch_size=4, epochs=epochs, verbose=0)
            trainer.save_checkpoint(tmp_path / "checkpoint")
        results.append(((tmp_path / "checkpoint").read_bytes(), history.history["loss"][-3:]))
    assert results[0] == results[1]


def test_a_checkpoint_is_a_model_and_a_second_training_begins_anew(rng, tmp_path):
    x, y = rng.standard_normal((8, 7, 3)), rng.standard_normal((8, 2))
    model = Sequential([LSTM(5), Dense(2)])
    model.compile("adam", "mse")
    model.fit(x, y, epochs=2, verbose=0, callbacks=[ModelCheckpoint(tmp_path / "checkpoint")])
    loaded = numlstm.load(tmp_path / "checkpoint")
    assert_same_bits(loaded.predict(x), model.predict(x))
    assert loaded.trainer.resume(tmp_path / "checkpoint") == 2
    assert loaded.fit(x, y, epochs=3, verbose=0).epoch == [2]
    assert loaded.fit(x, y, epochs=3, verbose=0).epoch == [0, 1, 2]


class _Counter(Callback):
    """Keeps numbers and an array of its own."""

    def __init__(self):
        self.epochs, self.sums = 0, np.zeros(2)

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1
        self.sums += logs["loss"]

    def state(self):
        return {"epochs": self.epochs, "sums": self.sums}

    def set_state(self, state):
        self.epochs, self.sums = state["epochs"], state["sums"].copy()


def test_callbacks_of_ones_own_go_on(rng, tmp_path):
    x, y = rng.standard_normal((8, 3)), rng.standard_normal((8, 2))
    first, second = _Counter(), _Counter()
    trainer = Trainer(Sequential([Dense(2)]), callbacks=[EarlyStopping("loss", patience=9), first])
    trainer.fit(x, y, epochs=2, verbose=0)
    trainer.save_checkpoint(tmp_path / "checkpoint")
    after = Trainer(Sequential([Dense(2)]), callbacks=[EarlyStopping("loss", patience=9), second])
    after.resume(tmp_path / "checkpoint")
    after.fit(x, y, epochs=3, verbose=0)
    trainer.fit(x, y, epochs=3, initial_epoch=2, verbose=0)
    assert first.epochs == second.epochs == 3
    assert_same_bits(first.sums, second.sums)


# --- what is refused ---


def _trainer(*layers, optimizer=None):
    return Trainer(Sequential(layers or [LSTM(3), Dense(2)]), Adam(0.01) if optimizer is None else optimizer)


@pytest.fixture
def checkpoint(rng, tmp_path):
    trainer = _trainer()
    trainer.step(rng.standard_normal((4, 5, 3)), rng.standard_normal((4, 2)))
    trainer.save_checkpoint(tmp_path / "checkpoint")
    trainer.model.save(tmp_path / "model")
    return tmp_path / "checkpoint"


@pytest.mark.parametrize(
    "trainer, error, says",
    [
        (_trainer(LSTM(3), Dense(2), Dense(2)), ValueError, r"a model with the layers \['LSTM', 'Dense'\], but this one"),
        (_trainer(LSTM(4), Dense(2)), ValueError, "weights must have the shapes"),
        (_trainer(optimizer=RMSprop()), ValueError, "was trained with Adam, not RMSprop"),
    ],
)
def test_a_checkpoint_of_something_else(checkpoint, trainer, error, says):
    with pytest.raises(error, match=says) as caught:
        trainer.resume(checkpoint)
    assert not isinstance(caught.value, FileFormatError)


def test_other_numbers_in_the_optimizer(rng, tmp_path):
    trainer = _trainer(optimizer=SGD(0.1))
    trainer.step(rng.standard_normal((4, 5, 3)), rng.standard_normal((4, 2)))
    trainer.save_checkpoint(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=r"checkpoint does not fit this trainer: .* optimiser keeps \(0, 36\) numbers"):
        _trainer(optimizer=SGD(0.1, momentum=0.9)).resume(tmp_path / "checkpoint")


def test_a_model_is_no_checkpoint(checkpoint):
    with pytest.raises(FileFormatError, match="is a model without training state"):
        _trainer().resume(checkpoint.with_name("model"))
    with pytest.raises(ValueError, match="no weights yet"):
        _trainer().save_checkpoint(checkpoint)


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda tensors, training: training.pop("seed"), "'seed' is missing"),
        (lambda tensors, training: training.pop("callbacks"), "'callbacks' is missing"),
        (lambda tensors, training: training.update(epoch="two"), "epoch must be an integer"),
        (lambda tensors, training: training.update(learning_rate="high"), "learning_rate must be a number"),
        (lambda tensors, training: training.update(callbacks=3), "not iterable"),
        (lambda tensors, training: training.update(callbacks=[{"class": "EarlyStopping"}]), "'state' is missing"),
        (lambda tensors, training: tensors.pop("training.slots.1"), "'slots.1' is missing"),
    ],
)
def test_nonsense_in_the_training_state(checkpoint, change, says):
    tensors, header = files.read(checkpoint)
    header = copy.deepcopy(header)
    change(tensors, header["training"])
    files.write(checkpoint, tensors, json.loads(json.dumps(header)))
    with pytest.raises(FileFormatError, match=f"has a training state that cannot be read: .*{says}"):
        _trainer().resume(checkpoint)
    assert numlstm.load(checkpoint).predict(np.ones((1, 5, 3))).shape == (1, 2)


def test_a_refused_checkpoint_leaves_the_model_as_it_was(checkpoint):
    set_random_seed(77)
    model = Sequential([LSTM(3, return_sequences=True, input_shape=(None, 2)), Dropout(0.2), LSTM(3), Dense(1)])
    for optimizer in ("rmsprop", SGD(momentum=0.5)):
        trainer = Trainer(model, optimizer)
        before = tuple(model.get_weights())
        with pytest.raises(ValueError, match=r"does not fit this trainer|is of a model with the layers"):
            trainer.resume(checkpoint)
        assert_same_bits(tuple(model.get_weights()), before)


def test_gradients_that_wait_are_in_the_checkpoint(rng, tmp_path):
    batches = [(rng.standard_normal((4, 2)), rng.standard_normal((4, 1))) for _ in range(2)]
    results = []
    for stop in (False, True):
        set_random_seed(1)
        model = Sequential([Dense(1)])
        trainer = Trainer(model, "adam", accumulate=2)
        trainer.step(*batches[0])
        if stop:
            trainer.save_checkpoint(tmp_path / "half")
            model = numlstm.load(tmp_path / "half")
            trainer = Trainer(model, "adam", accumulate=2)
            trainer.resume(tmp_path / "half")
        trainer.step(*batches[1])
        results.append(tuple(model.get_weights()))
    assert_same_bits(*results)


def test_a_log_has_each_epoch_once_behind_a_crash(rng, tmp_path):
    x, y = rng.standard_normal((8, 2)), rng.standard_normal((8, 1))
    model = Sequential([Dense(1)])
    log, saved = CSVLogger(tmp_path / "log.csv"), tmp_path / "{epoch}"
    Trainer(model).fit(x, y, epochs=4, callbacks=[log, ModelCheckpoint(saved)], verbose=0)
    trainer = Trainer(model)
    assert trainer.resume(tmp_path / "2") == 2
    trainer.fit(x, y, epochs=5, callbacks=[log], verbose=0)
    epochs = [line.split(",")[0] for line in (tmp_path / "log.csv").read_text().splitlines()]
    assert epochs == ["epoch", "0", "1", "2", "3", "4"]
