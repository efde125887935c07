"""Compiled kernels of numlstm: the cell, the register tile, the products and the sweeps over time.

Imported as ``numlstm.kernels`` and by ``numlstm.backend`` alone. Kernels check nothing, allocate nothing and convert
nothing: callers hand them C-contiguous arrays of one dtype, outputs and workspace included.
"""

if __name__ != "numlstm.kernels":
    raise ImportError(f"these modules are numlstm.kernels; import numlstm instead of {__name__!r}")
