"""Into how many parts work falls, and what the entry points need to know of the process."""

import functools
import os
from typing import Any

import numba
import numpy as np

from numlstm import _threads
from numlstm._cpus import available_cpus
from numlstm._validate import Array
from numlstm.kernels import compiling, parallel, target
from numlstm.kernels.tile import panel_product_address

from . import helpers

# Multiply-adds for which another thread pays. Two threads pay from 10 microseconds of work on if the second is awake, and
# from 75 if it sleeps: this is between the two (benchmarks/README.md).
WORTH_A_THREAD = 2_000_000
ELEMENT = 16  # multiply-adds that cost as much as reading, changing and writing one element


def parts(most: int, multiply_adds: int) -> int:
    """Return into how many parts, at most so many, work of so many multiply-adds falls."""
    if multiply_adds < 2 * WORTH_A_THREAD:  # at once, for small work is what this must not slow down
        return 1
    return max(1, min(most, _threads.get_num_threads(), multiply_adds // WORTH_A_THREAD))


@functools.cache
def runtime(dtype: np.dtype[Any], *parts: int) -> Array:
    """Return what an entry point of `parallel` needs to run, its works in so many parts; the same array at each call."""
    region, threads = 0, 1
    if max(parts) > 1:
        threads = available_cpus()  # a team of more would wait for the scheduler at every step
        if _threads.layer_may_harm():
            region = helpers.region_address()
        else:
            region, threads = parallel.region_address(), min(threads, numba.config.NUMBA_NUM_THREADS)
    words: Array = parallel.new_runtime(panel_product_address(dtype), region, threads, *parts)
    return words


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=runtime.cache_clear)  # there the layer may harm


_compiled: dict[Any, Any] = {}


def compiled_for(kernel: Any, kinds: tuple[Any, ...], *arguments: Any) -> Any:
    """Return an entry point compiled for arguments of these types.

    That is the function behind Numba's dispatcher, which would look at the types of arguments at every call: half the time
    of one with namedtuples. Whoever calls it sees to it that they stay the same, each array's dtype and C order too: nothing
    is checked any more, and other numbers would be misread.

    kinds : what tells the types of this kernel's arguments, so that these are looked at once for all that are alike
    """
    key = kernel, kinds
    if key not in _compiled:
        signature = tuple(numba.typeof(argument) for argument in arguments)
        kernel.compile(signature)
        _compiled[key] = kernel.overloads[signature].entry_point
    return _compiled[key]


def elementwise(most: int, elements: int, dtype: np.dtype[Any]) -> Array:
    """Return the runtime for work on so many elements, in at most so many parts."""
    return runtime(dtype, parts(most, elements * ELEMENT))


def describe() -> dict[str, str]:
    """Return what the engine found on this machine: cpu, features, vector, threads, threading_layer, cache_folder."""
    features = sorted(name for name, has in target.host_features().items() if has)
    pool = _threads.layer_may_harm()
    try:
        layer = str(numba.threading_layer())
    except ValueError:
        layer = "none"
    return {
        "cpu": f"{target.ARCHITECTURE} {numba.config.CPU_NAME or numba.core.codegen.ll.get_host_cpu_name()}",
        "features": " ".join(features),
        "vector": f"{target.WIDTH * 32} bits",
        "threads": f"{_threads.get_num_threads()} of {available_cpus()} CPUs",
        "threading_layer": f"{layer} (numlstm runs on its own threads)" if pool else layer,
        "cache_folder": str(compiling.cache_folder() or "none: compiled anew in each process"),
    }
