"""What a user waits for before the first result: import, and the first call without and with compiled code on disk."""

import os
import subprocess
import sys
import tempfile

_TIMES = 3  # the best of them is reported
_IMPORT = """
import time
start = time.perf_counter()
import numlstm
print(time.perf_counter() - start)
"""
# With all weights 0.1 and all x 1 a step is the same for every sequence and unit, and so easily checked.
_FIRST_CALL = """
import time
start = time.perf_counter()
import numpy as np
from numlstm import functional
x = np.ones((2, 3, 4), np.float32)
weights = [np.full(shape, 0.1, np.float32) for shape in [(20, 4), (20, 5), (20,)]]
y = functional.lstm(x, weights, tape=False).y
print(time.perf_counter() - start)
h = c = 0.0
for t in range(3):
    z = 0.1 * (4 + 5 * h + 1)
    gate = 1 / (1 + np.exp(-z))
    c = gate * c + gate * np.tanh(z)
    h = gate * np.tanh(c)
    assert np.abs(y[:, t] - h).max() < 1e-6, f"step {t} of the first result is wrong"
"""
# The newcomer's script, on zeros.
_FIT = """
import time
start = time.perf_counter()
import numpy as np
from numlstm import LSTM, Dense, Sequential
x, y = np.zeros((64, 60, 1), np.float32), np.zeros((64, 1), np.float32)
model = Sequential()
model.add(LSTM(units=50, return_sequences=True, input_shape=(60, 1)))
model.add(LSTM(units=50))
model.add(Dense(units=1))
model.compile(optimizer="adam", loss="mean_squared_error")
loss = model.fit(x, y, epochs=2, batch_size=32, validation_split=0.2, verbose=0).history["loss"]
print(time.perf_counter() - start)
assert np.isfinite(loss).all(), loss
"""
_PREDICT = """
import time
start = time.perf_counter()
import numpy as np
from numlstm import LSTM, Dense, Sequential
model = Sequential([LSTM(50, return_sequences=True, input_shape=(60, 1)), LSTM(50), Dense(1)])
y = model.predict(np.ones((2, 60, 1), np.float32))
print(time.perf_counter() - start)
assert y.shape == (2, 1) and np.isfinite(y).all() and y[0] == y[1] != 0, y
"""


def _seconds(script: str, cache: str) -> float:
    """Run a script in a fresh process, with its kernels cached in a folder, and return the seconds that it prints."""
    environment = {**os.environ, "NUMLSTM_CACHE_DIR": cache}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout)


def _best(script: str, warm: bool) -> float:
    times = []
    for _ in range(_TIMES):
        with tempfile.TemporaryDirectory() as cache:
            if warm:
                _seconds(script, cache)
            times.append(_seconds(script, cache))
    return min(times)


class Startup:
    unit = "s"
    timeout = 300

    def setup(self) -> None:
        """Check the first result, and read the libraries' files from disk once."""
        with tempfile.TemporaryDirectory() as cache:
            _seconds(_FIRST_CALL, cache)

    def track_import_seconds(self) -> float:
        return _best(_IMPORT, warm=False)

    def track_first_call_cold(self) -> float:
        return _best(_FIRST_CALL, warm=False)

    def track_first_call_warm(self) -> float:
        return _best(_FIRST_CALL, warm=True)

    def track_first_fit_cold(self) -> float:
        return _best(_FIT, warm=False)

    def track_first_fit_warm(self) -> float:
        return _best(_FIT, warm=True)

    def track_first_predict_warm(self) -> float:
        return _best(_PREDICT, warm=True)
