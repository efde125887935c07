"""Python's share: what calls cost that have next to nothing to compute. Best of many, on one thread."""

import timeit

import numpy as np

from . import checked

_CALLS, _TIMES = 200, 25
_SMALLEST = "1,2,1,1"  # with one step there is no gradient of W_hh to check


def _microseconds(call) -> float:
    call()
    return 1e6 * min(timeit.repeat(call, number=_CALLS, repeat=_TIMES)) / _CALLS


class Python:
    unit = "us"

    def track_functional_forward(self) -> float:
        """Packed weights, no tape."""
        return _microseconds(checked.task("forward", _SMALLEST, "float32", 1).run)

    def track_functional_forward_backward(self) -> float:
        return _microseconds(checked.task("forward_backward", _SMALLEST, "float32", 1).run)

    def track_step_of_one_layer(self) -> float:
        return _microseconds(checked.task("training_step", _SMALLEST, "float32", 1).run)

    def track_stream(self) -> float:
        """A step of a small model as data arrives."""
        from numlstm import LSTM, Dense, Sequential

        model = Sequential([LSTM(32, return_sequences=True, input_shape=(None, 5)), Dense(1)])
        x = np.random.default_rng(0).standard_normal((1, 20, 5)).astype(np.float32)
        stream = model.stream()
        assert [float(stream(x_t)[0]) for x_t in x[0]] == model.predict(x).ravel().tolist(), "it is not the whole's"
        x_t = x[0, 0]
        return _microseconds(lambda: stream(x_t))

    def track_step_of_three_layers(self) -> float:
        """The newcomer's layers, with one unit each, and Adam."""
        import numlstm
        from numlstm import LSTM, Dense, Sequential, Trainer

        numlstm.set_num_threads(1)
        model = Sequential([LSTM(1, return_sequences=True, input_shape=(1, 1)), LSTM(1), Dense(1)])
        trainer = Trainer(model, "adam", "mse")
        x, y = np.ones((1, 1, 1), np.float32), np.ones((1, 1), np.float32)
        first = trainer.step(x, y)
        cost = _microseconds(lambda: trainer.step(x, y))
        assert trainer.step(x, y) < first, "it does not learn"
        return cost
