"""The operators around recurrent nodes: as in ONNX Runtime."""

import numpy as np
import pytest

from numlstm import interop

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra `onnx`)")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed; .ci/run installs it")
onnx_models = pytest.importorskip("onnx_models")

A, B = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 10 - 1, np.linspace(-1, 1, 20, dtype=np.float32).reshape(4, 5)


def _i(*values):
    return np.array(values, np.int64)


OPERATORS = {
    "Gemm": ("Gemm", {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}, [B, B[:3, :4].copy(), B[0, :3].copy()]),
    "Gemm two": ("Gemm", {}, [B.T.copy(), B]),
    "MatMul": ("MatMul", {}, [A, B]),
    "Add": ("Add", {}, [A, A[0, 0].copy()]),
    "Sub": ("Sub", {}, [A, A[0].copy()]),
    "Mul": ("Mul", {}, [A, A]),
    "Div": ("Div", {}, [A, A + 5]),
    "Div whole": ("Div", {}, [_i(7, -8), _i(2, 2)]),
    "Softmax": ("Softmax", {"axis": 1}, [A]),
    "Softmax before 13": ("Softmax", {}, [A], 11),
    "Gather": ("Gather", {"axis": 1}, [A, _i(-1, 0)]),
    "Gather one": ("Gather", {}, [A, np.array(1)]),
    "Squeeze": ("Squeeze", {}, [A[:, :1].copy(), _i(1)]),
    "Squeeze all": ("Squeeze", {}, [A[:1, :1].copy()]),
    "Squeeze before 13": ("Squeeze", {"axes": [1]}, [A[:, :1].copy()], 11),
    "Unsqueeze": ("Unsqueeze", {}, [A, _i(0, -1)]),
    "Unsqueeze before 13": ("Unsqueeze", {"axes": [0, 4]}, [A], 11),
    "Transpose": ("Transpose", {"perm": [2, 0, 1]}, [A]),
    "Transpose all": ("Transpose", {}, [A]),
    "Reshape": ("Reshape", {}, [A, _i(0, -1)]),
    "Reshape allowzero": ("Reshape", {"allowzero": 1}, [A[:0].copy(), _i(3, 0)]),
    "Concat": ("Concat", {"axis": -1}, [A, A]),
    "Shape": ("Shape", {"start": 1}, [A]),
    "Expand": ("Expand", {}, [A[:, :1].copy(), _i(2, 3, 1)]),
    "ConstantOfShape": ("ConstantOfShape", {}, [_i(2, 3)]),
    "Slice": ("Slice", {}, [A, _i(0, 1), _i(1, 100), _i(0, -1)]),
    "Slice back": ("Slice", {}, [A, _i(-1), _i(-(2**62)), _i(1), _i(-2)]),
    "Slice before 10": ("Slice", {"starts": [1], "ends": [3], "axes": [2]}, [A], 9),
    "Cast": ("Cast", {"to": onnx.TensorProto.INT64}, [10 * A]),
    "ReduceSum": ("ReduceSum", {}, [A, _i(0, -1)]),
    "ReduceMean": ("ReduceMean", {"keepdims": 0}, [A, _i(1)]),
    "ReduceProd": ("ReduceProd", {}, [A]),
    "ReduceProd before 18": ("ReduceProd", {"axes": [1], "keepdims": 0}, [A], 13),
    "Dropout": ("Dropout", {}, [A]),
    "HardSigmoid": ("HardSigmoid", {"alpha": 0.4}, [A]),
    **{name: (name, {}, [A]) for name in ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "Elu", "Softplus", "Softsign")},
    "Identity": ("Identity", {}, [A]),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_those_of_onnx_runtime(name):
    kind, attributes, arrays, *opset = OPERATORS[name]
    inputs = {f"in{i}": array for i, array in enumerate(arrays)}
    output = {"Shape": "int64", "Cast": "int64", "Div whole": "int64"}.get(name, "float32")
    model = onnx_models.model_of(
        [onnx.helper.make_node(kind, list(inputs), ["out"], **attributes)], inputs, {"out": output}, None, *opset
    )
    (want,) = onnx_models.by_runtime(model, inputs)
    (got,) = interop.onnx.Backend.run_model(model, inputs)
    assert got.dtype == want.dtype and got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)
