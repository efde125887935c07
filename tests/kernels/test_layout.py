"""Packing, against the definition in its docstring."""

import numpy as np
import pytest
from numlstm.kernels import layout, target
from support import callable_from_python


@pytest.mark.parametrize(("order", "spread"), [((0, 1, 2, 3), 1), ((2, 0, 1), 1), ((0,), 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("units", "inputs"), [(1, 1), (5, 3), (16, 16), (17, 33), (48, 20), (70, 64)])
def test_pack_gates(rng, units, inputs, dtype, order, spread):
    weights = rng.standard_normal((len(order) * units, inputs)).astype(dtype)
    panels = np.full(layout.gate_panels_shape(units, inputs, len(order), spread, dtype), np.nan, dtype)
    callable_from_python(layout.pack_gates)(0, weights, np.array(order), spread, panels, 0, panels.shape[0])
    width = target.lanes(dtype)
    padded = np.zeros((len(order), panels.shape[0] * spread * width, inputs), dtype)
    padded[:, :units] = weights.reshape(len(order), units, inputs)[list(order)]
    want = padded.reshape(len(order), -1, spread * width, inputs).transpose(1, 3, 0, 2).reshape(panels.shape)
    np.testing.assert_array_equal(panels, want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("units", "inputs"), [(1, 1), (5, 3), (16, 16), (65, 33), (130, 64)])
def test_pack_rows(rng, units, inputs, dtype):
    weights = rng.standard_normal((units, inputs)).astype(dtype)
    panels = np.full(layout.column_panels_shape(inputs, units, dtype), np.nan, dtype)
    callable_from_python(layout.pack_rows)(0, weights, panels, 0, panels.shape[0])
    padded = np.zeros((panels.shape[0] * panels.shape[2], inputs), dtype)
    padded[:units] = weights
    np.testing.assert_array_equal(panels, padded.reshape(panels.shape[0], -1, inputs).transpose(0, 2, 1))


@pytest.mark.parametrize(("order", "sets"), [((0,), 1), ((2, 0, 1), 1), ((2, 0, 1), 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "columns"), [(3, 1), (6, 3), (21, 16), (9, 65), (12, 130)])
def test_pack_columns(rng, rows, columns, dtype, order, sets):
    matrix = rng.standard_normal((rows, sets * columns)).astype(dtype)
    of_set, *panel = layout.column_panels_shape(rows, columns, dtype)
    panels = np.full((sets * of_set, *panel), np.nan, dtype)
    callable_from_python(layout.pack_columns)(0, matrix, np.array(order), sets, panels, 0, len(panels))
    padded = np.zeros((rows, sets, of_set * panels.shape[2]), dtype)
    padded[:, :, :columns] = matrix.reshape(len(order), -1, sets, columns)[list(order)].reshape(rows, sets, columns)
    np.testing.assert_array_equal(panels, padded.reshape(rows, len(panels), -1).transpose(1, 0, 2))
