"""What a user waits for before the first result: import, and the first call without and with compiled code on disk."""

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

_TIMES = 2  # the best of them is reported
_KERNELS = [
    *("panel_product", "region", "pack_cell", "forward", "backward", "weight_gradients"),
    *(
        "pack_dense",
        "dense",
        "dense_gradient",
        "activate",
        "differentiate",
        "drop",
        "gather",
        "scatter",
        "loss",
        "update",
        "sum_of_squares",
    ),
]
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


# What `numlstm warm` does, and the parallel wrappers of all kernels.
_WARM = """
import importlib, json, pkgutil
import numlstm, numlstm.kernels
from numba.core.dispatcher import Dispatcher
specialisations = [kernel._asdict() for kernel in numlstm.warm(verbose=0)]
names = [found.name for found in pkgutil.iter_modules(numlstm.kernels.__path__)]
modules = [importlib.import_module(f"numlstm.kernels.{name}") for name in names]
functions = {value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)}
wrappers = sum(len(function.signatures) for function in functions if function.targetoptions.get("parallel"))
print(json.dumps({"specialisations": specialisations, "wrappers": wrappers}))
"""


def _output(script: str, cache: str) -> str:
    """Run a script in a fresh process, with its kernels cached in a folder, and return what it prints."""
    environment = {**os.environ, "NUMLSTM_CACHE_DIR": cache}
    done = subprocess.run([sys.executable, "-c", script], cwd=cache, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


class Startup:
    """Seconds until the first result, in a fresh process each."""

    unit = "s"
    timeout = 600

    def setup_cache(self) -> dict[str, float]:
        """Return the best time of each; what is warm finds what the cold one before it has compiled."""
        times: dict[str, list[float]] = {}
        for _ in range(_TIMES):
            with tempfile.TemporaryDirectory() as calls, tempfile.TemporaryDirectory() as fits:
                for name, script, cache in [
                    ("import", _IMPORT, calls),
                    ("first call, cold", _FIRST_CALL, calls),
                    ("first call, warm", _FIRST_CALL, calls),
                    ("first fit, cold", _FIT, fits),
                    ("first fit, warm", _FIT, fits),
                    ("first predict, warm", _PREDICT, fits),
                ]:
                    times.setdefault(name, []).append(float(_output(script, cache)))
        return {name: min(seconds) for name, seconds in times.items()}

    def track_import(self, times: dict[str, float]) -> float:
        return times["import"]

    def track_first_call_cold(self, times: dict[str, float]) -> float:
        return times["first call, cold"]

    def track_first_call_warm(self, times: dict[str, float]) -> float:
        return times["first call, warm"]

    def track_first_fit_cold(self, times: dict[str, float]) -> float:
        return times["first fit, cold"]

    def track_first_fit_warm(self, times: dict[str, float]) -> float:
        return times["first fit, warm"]

    def track_first_predict_warm(self, times: dict[str, float]) -> float:
        return times["first predict, warm"]


class _Warmed:
    """What `numlstm warm` does for float32, once for all that is tracked of it."""

    timeout = 600

    def setup_cache(self) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as cache:
            return json.loads(_output(_WARM, cache))


class Compilation(_Warmed):
    params = _KERNELS
    param_names = ("kernel",)
    unit = "s"

    def track_seconds(self, done: dict[str, Any], kernel: str) -> float:
        """Of a kernel with several specialisations, the first one."""
        return next(each["seconds"] for each in done["specialisations"] if each["kernel"] == kernel)


class Specialisations(_Warmed):
    def track_count(self, done: dict[str, Any]) -> int:
        return len(done["specialisations"])

    def track_parallel_wrappers(self, done: dict[str, Any]) -> int:
        return done["wrappers"]
