"""What this machine's vector units look like: lanes of a vector and the shape of the register tile."""

import os
from typing import NamedTuple

import llvmlite.binding as llvm
import numba
import numpy as np

ENV_WIDTH = "NUMLSTM_VECTOR_WIDTH"


class Tile(NamedTuple):
    """The register tile: ``rows x vectors`` accumulators are held over the whole loop over k."""

    rows: int
    vectors: int


# By float32 lanes of a vector. Four vectors are the gates i, f, g, o of one group of hidden units. The accumulators, a row
# of four operands and the broadcasts must fit the register file: 32 registers for AVX-512 and NEON, 16 for AVX2 and SSE.
TILES = {16: Tile(6, 4), 8: Tile(3, 4), 4: Tile(6, 4)}
_SSE_TILE = Tile(2, 4)


def host_features() -> dict[str, bool]:
    """Return the features of the CPU that Numba compiles for, by LLVM's names."""
    if numba.config.CPU_FEATURES is not None:
        words = numba.config.CPU_FEATURES.split(",")
        return {word[1:]: word[0] == "+" for word in words if word}
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:  # LLVM cannot tell on every platform; the narrowest vector is right everywhere
        return {}
    return {name: has and (numba.config.ENABLE_AVX or not name.startswith("avx")) for name, has in features.items()}


def _width() -> int:
    """Return the float32 lanes of a vector: 16 for AVX-512, 8 for AVX2, 4 for everything else."""
    forced = os.environ.get(ENV_WIDTH)
    if forced:
        if forced not in {"4", "8", "16"}:
            raise ValueError(f"{ENV_WIDTH} must be 4, 8 or 16 (float32 lanes of a vector), not {forced!r}")
        return int(forced)
    features = host_features()
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx2") else 4


def tile_for(width: int, architecture: str) -> Tile:
    """Return the tile for vectors of `width` float32 lanes on an LLVM `architecture`."""
    return _SSE_TILE if width == 4 and architecture.startswith("x86") else TILES[width]


WIDTH = _width()
ARCHITECTURE = llvm.get_process_triple().split("-")[0]
TILE = tile_for(WIDTH, ARCHITECTURE)


def lanes(dtype: np.typing.DTypeLike) -> int:
    """Return how many elements of `dtype` one vector holds."""
    return WIDTH * 4 // np.dtype(dtype).itemsize
