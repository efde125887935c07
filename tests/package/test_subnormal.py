"""Gradients that fade over many steps: some CPUs are slow with numbers too small for a normal float."""

import platform

import numpy as np
import pytest

import numlstm
from numlstm import functional

pytestmark = pytest.mark.skipif(
    platform.machine().lower() not in {"x86_64", "amd64", "arm64", "aarch64"}, reason="other CPUs' modes are left alone"
)


@pytest.mark.usefixtures("all_dealt_out")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("recompute", [None, "gates", "states"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_they_end_as_zeros_and_the_callers_arithmetic_is_left_alone(rng, dtype, recompute, threads):
    numlstm.set_num_threads(threads)
    batch, steps, inputs, hidden = 4, 150, 3, 20
    x = rng.standard_normal((batch, steps, inputs)).astype(dtype)
    weights = tuple(
        (scale * rng.uniform(-1, 1, shape)).astype(dtype)
        for scale, shape in [(1, (hidden, inputs)), (1e-3, (hidden, hidden)), (1, (hidden,))]
    )
    dy = np.zeros((batch, steps, hidden), dtype)
    dy[:, -1] = 1
    out = functional.rnn(x, weights, cell="rnn", recompute=recompute)
    gradients = functional.rnn_backward(out.tape, dy)
    least = np.finfo(dtype).smallest_normal
    sizes = np.abs(gradients.x)
    assert ((sizes == 0) | (sizes >= least)).all()
    assert (sizes[:, -5:].max(axis=2) > 0).all() and (sizes[:, 0] == 0).all()
    assert (np.full(64, least / 8, dtype) * dtype(0.5) > 0).all()
