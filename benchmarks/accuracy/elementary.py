"""Try exp, sigmoid, tanh and log_sigmoid on every float32: ``python benchmarks/accuracy/elementary.py`` (some minutes).

Prints the largest error of each in units in the last place, against float64, and where it is. Exit status 1 if one is
above what tests/kernels/test_elementary.py allows.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "kernels"))

from test_elementary import FUNCTIONS, ULPS, evaluate, exact

BITS_AT_ONCE = 1 << 22


def errors(name, x):
    """Return the error of each value in ulp; subnormal results of those that flush them to zero count as zero."""
    got = evaluate(name, x)
    tiny = np.finfo(np.float32).tiny
    with np.errstate(all="ignore"):
        wide = exact(name, x.astype(np.float64))
        rounded = wide.astype(np.float32)
        ulp = np.spacing(np.maximum(np.abs(rounded), tiny)).astype(np.float64)
        error = np.abs(got - wide) / ulp
    error[got == rounded] = 0
    if "sigmoid" in name:
        error[(got == 0) & (np.abs(wide) <= tiny)] = 0
    wrong_nan = np.isnan(x) != np.isnan(got)
    error[np.isnan(x)] = 0
    error[wrong_nan] = np.inf
    return error


def main():
    """Print a line for each function."""
    worst = {name: (0.0, np.float32(0)) for name in FUNCTIONS}
    for start in range(0, 1 << 32, BITS_AT_ONCE):
        x = np.arange(start, start + BITS_AT_ONCE, dtype=np.uint32).view(np.float32)
        for name in FUNCTIONS:
            error = errors(name, x)
            place = int(error.argmax())
            if error[place] > worst[name][0]:
                worst[name] = float(error[place]), x[place]
    for name, (error, where) in worst.items():
        print(f"{name:8} largest error {error:.3f} ulp at {where!r} of all {1 << 32} float32 values")
    return any(error > ULPS[name] for name, (error, _) in worst.items())


if __name__ == "__main__":
    sys.exit(main())
