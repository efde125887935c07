"""Anomalies in a signal, tick by tick: an LSTM expects the next value, and what is far from it is reported at once.

A million ticks go through a compiled loop that holds nothing but the model's state and a running mean of squared errors.
"""

import time

import numba
import numpy as np

from numlstm import LSTM, Dense, Sequential, utils

LIMIT = 8.0  # times the usual error
MEMORY = 0.001  # weight of one tick in the usual error


def signal(rng, ticks):
    """Return a machine's vibration, two tones and noise."""
    t = np.arange(ticks)
    return (np.sin(t / 7) + 0.5 * np.sin(t / 2.9) + rng.normal(0, 0.05, ticks)).astype(np.float32)


def trained(values, epochs):
    """Return a model of the next value from those so far."""
    windows = values[: len(values) // 101 * 101].reshape(-1, 101, 1)
    utils.set_random_seed(0)
    model = Sequential([LSTM(16, return_sequences=True, input_shape=(None, 1)), Dense(1)])
    model.compile("adam", "mse")
    model.fit(windows[:, :-1], windows[:, 1:], batch_size=8, epochs=epochs, verbose=0)
    return model


def make_detector(step):
    """Return a compiled function: `step` is the same for all models, so it can be compiled in."""

    @numba.njit(nogil=True)
    def detect(params, state, ticks, usual, found):
        """Write the ticks that are anomalies to `found`; return how many there are, and the usual squared error."""
        x, expected, count = np.empty(1, np.float32), np.zeros(1, np.float32), 0
        for t in range(len(ticks)):
            x[0] = ticks[t]
            error = (x[0] - expected[0]) ** 2
            if t > 100:  # by then the state has seen enough
                if error > LIMIT**2 * usual:
                    if count < len(found):
                        found[count] = t
                    count += 1
                    x[0] = expected[0]  # what goes on is the signal as it should have been
                else:
                    usual += MEMORY * (error - usual)
            step(params, state, x, expected)
        return count, usual

    return detect


def main(epochs=30, ticks=1_000_000):
    """Train, put in some anomalies, find them; return where they are and where they were found."""
    rng = np.random.default_rng(0)
    model = trained(signal(rng, 20_000), epochs)
    step, params, state = model.jit()
    detect, found = make_detector(step), np.empty(1000, np.int64)
    values = signal(rng, ticks)
    planted = np.sort(rng.choice(np.arange(1000, ticks - 1000, 500), 10, replace=False))
    values[planted] += rng.choice([-2, 2], 10)
    _, usual = detect(params, state.copy(), values[:200], 0.01, found)  # compiles
    start = time.perf_counter()
    count, usual = detect(params, state, values, usual, found)
    seconds = time.perf_counter() - start
    print(f"{ticks:,} ticks in {seconds:.2f} s, {1e9 * seconds / ticks:.0f} ns each; usual error {usual**0.5:.3f}")
    print(f"planted: {planted.tolist()}\nfound:   {found[:count].tolist()}")
    return planted, found[:count]


if __name__ == "__main__":
    main()
