"""Users' own compiled code around `step`: scripts for processes of their own."""

# Defines check(params, state, x, y): steps allocate nothing, and what this counts would have been seen.
ALLOCATIONS = """
import numba
import numpy as np
from numba.core.runtime import rtsys
from numlstm.functional import step

@numba.njit
def run(params, state, x, y, steps, allocate):
    for _ in range(steps):
        step(params, state, x, y)
        if allocate:
            y[0] = np.zeros(2)[1]

def allocations(*arguments):
    before = rtsys.get_allocation_stats()
    run(*arguments)
    after = rtsys.get_allocation_stats()
    assert after.free - before.free == after.alloc - before.alloc
    return after.alloc - before.alloc

def check(*arguments):
    allocations(*arguments, 1, False)
    once, often, seen = (allocations(*arguments, *how) for how in ((1, False), (1000, False), (1000, True)))
    assert once == often and seen == once + 1000, (once, often, seen)
"""

# A module whose main prints what steps give, as bytes, and how often the user's cache had their code.
USER = """
import pickle
import numba
import numpy as np
from numlstm.functional import step

@numba.njit(cache=True)
def run(params, state, x, y):
    for t in range(x.shape[0]):
        step(params, state, x[t], y[t])

def make(step):
    @numba.njit(cache=True)
    def run(params, state, x, y):
        for t in range(x.shape[0]):
            step(params, state, x[t], y[t])
    return run

def main(file, outputs, *others):
    with open(file, "rb") as stream:
        params, state, x = pickle.load(stream)
    y = np.empty((len(x), outputs), np.float32)
    for function in (run, *others):
        function(params, state.copy(), x, y)
        print(y.tobytes().hex(), sum(function.stats.cache_hits.values()))
"""


def user_script(folder, outputs, others=""):
    """Write the module and return a script that calls its main with a pickle of the arguments and more such functions."""
    (folder / "user.py").write_text(USER)
    return f"import sys; sys.path.insert(0, {str(folder)!r}); import user; user.main('arguments', {outputs}, {others})"
