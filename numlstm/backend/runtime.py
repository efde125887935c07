"""Into how many parts work falls, and what the entry points need to know of the process."""

import functools
from typing import Any

import numba
import numpy as np

from numlstm import _threads
from numlstm.kernels import compiling, parallel, target
from numlstm.kernels.tile import panel_product_address

# Multiply-adds for which another thread pays; waking one takes 5 to 10 microseconds.
WORTH_A_THREAD = 500_000
ELEMENT = 16  # multiply-adds that cost as much as reading, changing and writing one element


def parts(most: int, multiply_adds: int) -> int:
    """Return into how many parts, at most so many, work of so many multiply-adds falls."""
    return max(1, min(most, _threads.get_num_threads(), multiply_adds // WORTH_A_THREAD))


@functools.cache
def _serial(dtype: np.dtype[Any]) -> parallel.Runtime:
    return parallel.Runtime(panel_product_address(dtype), 0, 1, 1)


def runtime(parts: int, dtype: np.dtype[Any]) -> parallel.Runtime:
    """Return what an entry point of `parallel` needs to run in so many parts."""
    if parts == 1:
        return _serial(dtype)
    tile = _serial(dtype).tile
    if _threads.layer_may_harm():
        return parallel.Runtime(tile, _threads.pool_region_address(), parts, min(parts, _threads.available_cpus()))
    return parallel.Runtime(tile, parallel.region_address(), parts, min(parts, numba.config.NUMBA_NUM_THREADS))


def elementwise(most: int, elements: int, dtype: np.dtype[Any]) -> parallel.Runtime:
    """Return the runtime for work on so many elements, in at most so many parts."""
    return runtime(parts(most, elements * ELEMENT), dtype)


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
        "threads": f"{_threads.get_num_threads()} of {_threads.available_cpus()} CPUs",
        "threading_layer": f"{layer} (numlstm runs on its own threads)" if pool else layer,
        "cache_folder": str(compiling.cache_folder() or "none: compiled anew in each process"),
    }
