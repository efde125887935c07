"""Many simulated worlds on a GPU, one a thread: the model of simulation.py inside of a kernel, its outputs fed back in.

Prints how far ten thousand such futures, each from a start that is a little different, are from the true pendulum. It needs
an NVIDIA GPU and ``pip install "numlstm[cuda13]"``, or ``[cuda12]``.
"""

import numpy as np
import simulation

from numlstm.functional import SequenceState


def make_simulation(step, cuda):
    """Return a kernel for models with these layers, whatever their weights."""

    @cuda.jit
    def simulate(params, states, seen, futures):
        """Read what was seen of each world (S, N, 1), then write what comes (T, N, 1)."""
        n = cuda.grid(1)
        if n < futures.shape[1]:
            state = SequenceState(states, n)
            for t in range(seen.shape[0]):
                step(params, state, seen[t, n], futures[0, n])
            for t in range(1, futures.shape[0]):
                step(params, state, futures[t - 1, n], futures[t, n])

    return simulate


def main(epochs=100, worlds=10_000):
    """Train, simulate, print; return the root mean square error in radians over time."""
    from numba import cuda

    rng = np.random.default_rng(0)
    step, params, states = simulation.trained(rng, epochs).jit(device="cuda", sequences=worlds)
    truth = np.stack([simulation.pendulum(rng.uniform(1, 1.2), 0.0, 150) for _ in range(worlds)], axis=1)[..., np.newaxis]
    futures = cuda.device_array((100, worlds, 1), np.float32)
    make_simulation(step, cuda)[-(-worlds // 128), 128](params, states, cuda.to_device(truth[:50]), futures)
    error = np.sqrt(((futures.copy_to_host() - truth[50:]) ** 2).mean(axis=(1, 2)))
    for t in (0, 9, 49, 99):
        print(f"{(t + 1) * simulation.STEP:4.1f} s ahead: off by {error[t]:.3f} rad")
    return error


if __name__ == "__main__":
    main()
