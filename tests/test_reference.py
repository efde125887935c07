"""The reference against central differences: the one test in which it is not the oracle."""

from dataclasses import replace

import numpy as np
import pytest
import reference


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 5, 3, 4), (3, 4, 2, 7)])
@pytest.mark.parametrize("name", ["x", "W_ih", "W_hh", "b", "h0", "c0"])
def test_gradients_are_those_of_central_differences(make_layer, sizes, name):
    layer = make_layer(*sizes, dtype=np.float64)

    def loss(layer):
        out = reference.lstm(layer.x, layer.W_ih, layer.W_hh, layer.b, layer.h0, layer.c0)
        return (out.y * layer.dy).sum() + (out.h * layer.dh).sum() + (out.c * layer.dc).sum()

    _, gradients = layer.reference()
    value = getattr(layer, name)
    numeric = np.empty_like(value)
    step = 1e-5  # truncation error step**2, rounding error eps / step: both near 1e-10
    for place in np.ndindex(value.shape):
        ends = []
        for sign in (1, -1):
            moved = value.copy()
            moved[place] += sign * step
            ends.append(loss(replace(layer, **{name: moved})))
        numeric[place] = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(getattr(gradients, name), numeric, rtol=1e-7, atol=1e-8)
