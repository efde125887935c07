"""The newcomer's model: one training step, one epoch, and predict."""

import functools

import numpy as np

_SEQUENCES, _STEPS, _BATCH = 1024, 60, 32
_LARGEST_LOSS = 0.5  # after 20 epochs; guessing the mean gives 1


@functools.cache  # asv calls setup before every sample
def _learnt():
    """Return a trainer that has learnt something, and data. All its memory is taken and touched."""
    from numlstm import LSTM, Dense, Sequential, Trainer, utils

    utils.set_random_seed(1997)
    rng = np.random.default_rng(1997)
    x = rng.standard_normal((_SEQUENCES, _STEPS, 1)).astype(np.float32)
    y = x[:, -5:].sum(1) / np.sqrt(5).astype(np.float32)
    model = Sequential([LSTM(50, return_sequences=True, input_shape=(_STEPS, 1)), LSTM(50), Dense(1)])
    trainer = Trainer(model, "adam", "mse")
    loss = trainer.fit(x, y, epochs=20, verbose=0).history["loss"][-1]
    assert loss < _LARGEST_LOSS, f"the loss is {loss:.3f} after 20 epochs"
    assert abs(np.mean((model.predict(x) - y) ** 2) / loss - 1) < 0.5, "predict and fit do not agree"
    return trainer, x, y


class Newcomer:
    def setup(self) -> None:
        self.trainer, self.x, self.y = _learnt()

    def time_step(self) -> None:
        self.trainer.step(self.x[:_BATCH], self.y[:_BATCH])

    def time_epoch(self) -> None:
        self.trainer.fit(self.x, self.y, batch_size=_BATCH, verbose=0)

    def time_predict(self) -> None:
        self.trainer.model.predict(self.x)

    def time_predict_one(self) -> None:
        self.trainer.model.predict(self.x[:1])
