"""Kernels for NVIDIA GPUs: the twins of the CPU's, with the same cells, names and layouts.

Only `machine` knows Numba's CUDA target; another module in its place runs the same kernels elsewhere, as the tests do where
there is no GPU. As on the CPU, kernels check nothing, allocate nothing and convert nothing: callers hand them C-contiguous
device arrays of one dtype, outputs and workspace included.
"""
