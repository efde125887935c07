"""The bridge to the kernels for NVIDIA GPUs."""
