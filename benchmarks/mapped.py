"""`fit` on a mapped file, which may be larger than memory: seconds, and the memory of the process itself (Linux).

The file is a hole, which takes no room on the disk; its pages are read all the same.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from numlstm import LSTM, Dense, Sequential, data
from numlstm.callbacks import Callback

STEPS, FEATURES, UNITS = 128, 64, 4


class StopAfter(Callback):
    """Ends training after some batches, and notes when the first began."""

    def __init__(self, batches):
        self.batches = batches

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = batch + 1 >= self.batches


def own_megabytes():
    """Return the memory of this process that is no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=2.0, help="size of the file")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batches", type=int, default=30, help="after how many to stop")
    args = parser.parse_args()
    count = int(args.gb * 2**30 / (STEPS * FEATURES * np.dtype(args.dtype).itemsize))
    model = Sequential([LSTM(UNITS), Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.zeros((64, STEPS, FEATURES), np.float32), np.zeros(64), verbose=0)  # compiles
    with tempfile.TemporaryDirectory() as folder:
        x = np.memmap(Path(folder) / "x", args.dtype, "w+", shape=(count, STEPS, FEATURES))
        stop, before, start = StopAfter(args.batches), own_megabytes(), time.perf_counter()
        model.fit(data.Batches(x, np.zeros(count), block=4096), callbacks=[stop], verbose=0)
        end, after = time.perf_counter(), own_megabytes()
        print(f"{args.gb:g} GB of {args.dtype}: {before:.0f} MB before, {after:.0f} MB after")
        print(f"{stop.began - start:.2f} s to check that all is finite, {end - stop.began:.2f} s for {args.batches} batches")


if __name__ == "__main__":
    main()
