"""A jitted simulation: an LSTM learns a pendulum from noisy readings, then goes on alone, its outputs fed back in as inputs.

Prints how far a thousand such futures, each from a start that is a little different, are from the true pendulum.
"""

import numba
import numpy as np

from numlstm import LSTM, Dense, Sequential, utils

STEP, DAMPING = 0.1, 0.02  # seconds; per second


@numba.njit
def pendulum(angle, speed, steps):
    """Return the angle, in radians, at each of so many steps of 0.1 s."""
    found = np.empty(steps, np.float32)
    for t in range(steps):
        for _ in range(10):
            speed -= STEP / 10 * (np.sin(angle) + DAMPING * speed)
            angle += STEP / 10 * speed
        found[t] = angle
    return found


def trained(rng, epochs):
    """Return a model of the next angle from the angles so far."""
    angles = np.stack([pendulum(rng.uniform(0.5, 2), 0.0, 201) for _ in range(200)])[:, :, np.newaxis]
    utils.set_random_seed(0)
    model = Sequential([LSTM(32, return_sequences=True, input_shape=(None, 1)), Dense(1)])
    model.compile("adam", "mse")
    readings = angles + rng.normal(0, 0.01, angles.shape)
    model.fit(readings[:, :-1], angles[:, 1:], batch_size=20, epochs=epochs, verbose=0)
    return model


def make_simulation(step):
    """Return a compiled function: `step` is the same for all models, so it can be compiled in."""

    @numba.njit(nogil=True)
    def simulate(params, state, seen, futures):
        """Read what was seen of each sequence (N, S), then write what comes (N, T); each sequence begins with zeros."""
        x, y = np.empty(1, np.float32), np.empty(1, np.float32)
        for n in range(len(futures)):
            for array in state.layers[0]:
                array[:] = 0
            for value in seen[n]:
                x[0] = value
                step(params, state, x, y)
            for t in range(futures.shape[1]):
                futures[n, t] = y[0]
                x, y = y, x
                step(params, state, x, y)

    return simulate


def main(epochs=100, sequences=1000):
    """Train, simulate, print; return the root mean square error in radians over time."""
    rng = np.random.default_rng(0)
    step, params, state = trained(rng, epochs).jit()
    truth = np.stack([pendulum(rng.uniform(1, 1.2), 0.0, 150) for _ in range(sequences)])
    futures = np.empty((sequences, 100), np.float32)
    make_simulation(step)(params, state, truth[:, :50], futures)
    error = np.sqrt(((futures - truth[:, 50:]) ** 2).mean(axis=0))
    for t in (0, 9, 49, 99):
        print(f"{(t + 1) * STEP:4.1f} s ahead: off by {error[t]:.3f} rad")
    return error


if __name__ == "__main__":
    main()
