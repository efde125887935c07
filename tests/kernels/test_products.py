"""The dense layer's product, whole vectors and tails, against NumPy in float64."""

import numpy as np
import pytest
from numlstm.kernels import layout, parallel
from numlstm.kernels.tile import panel_product_address
from support import callable_from_python


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "inputs", "columns"), [(1, 1, 1), (7, 5, 3), (13, 64, 16), (6, 33, 65), (40, 600, 130)])
def test_dense(rng, rows, inputs, columns, dtype, parts):
    x, weights = rng.standard_normal((rows, inputs)).astype(dtype), rng.standard_normal((inputs, columns)).astype(dtype)
    panels = np.empty(layout.column_panels_shape(inputs, columns, dtype), dtype)
    callable_from_python(layout.pack_columns)(0, weights, np.zeros(1, np.int64), 1, panels, 0, panels.shape[0])
    bias = np.zeros(panels.shape[0] * panels.shape[2], dtype)
    bias[:columns] = rng.standard_normal(columns)
    memory = np.full(rows * columns + 64, 7, dtype)
    y = memory[: rows * columns].reshape(rows, columns)
    region = parallel.region_address() if parts > 1 else 0
    runtime = parallel.new_runtime(panel_product_address(dtype), region, 1, parts)
    parallel.dense(runtime, x, panels, bias, y)
    want = x.astype(np.float64) @ weights.astype(np.float64) + bias[:columns]
    scale = np.abs(x).astype(np.float64) @ np.abs(weights).astype(np.float64) + 1  # of the terms of each sum
    assert (np.abs(y - want) / scale).max() < 4 * np.finfo(dtype).eps
    assert (memory[rows * columns :] == 7).all()


def test_parts_of_the_weight_gradients_never_share_a_place():
    """gradient_tasks finds its part's place by arithmetic on `start`; here for every small number of tasks and parts."""
    for total in range(1, 120):
        for parts in range(1, 40):
            starts = [total * i // parts for i in range(parts) if total * i // parts < total * (i + 1) // parts]
            places = [-(-start * parts // total) for start in starts]
            assert len(set(places)) == len(places) and max(places) < parts, (total, parts)
