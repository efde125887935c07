"""Kernels for NVIDIA GPUs: the twins of the CPU's, with the same cells, names and layouts.

Only `machine` and `memory` know Numba's CUDA target; other modules in their places run the same kernels elsewhere, as the
tests do where there is no GPU. As on the CPU, kernels check nothing, allocate nothing and convert nothing: callers hand them
C-contiguous device arrays of one dtype, outputs and workspace included.
"""
