"""ONNX models for tests: of nodes, of PyTorch's exporter, and what ONNX Runtime makes of them."""

import io
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper


def model_of(nodes, inputs, outputs, arrays=None, opset=18):
    """Return a model; inputs are arrays by name, outputs names with their dtypes."""
    value, dtype = helper.make_tensor_value_info, helper.np_dtype_to_tensor_dtype
    graph = helper.make_graph(
        nodes,
        "graph",
        [value(name, dtype(a.dtype), a.shape) for name, a in inputs.items()],
        [value(name, dtype(np.dtype(kind)), None) for name, kind in outputs.items()],
        [onnx.numpy_helper.from_array(a, name) for name, a in (arrays or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def by_runtime(model, inputs):
    """Return ONNX Runtime's outputs, and note their shapes in the model, which has to have them to be valid."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(None, inputs)
    for value, array in zip(model.graph.output, outputs, strict=True):
        value.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, array.shape))
    return outputs


def exported(kind, both, batch_first):
    """Return a PyTorch module, data for it, and what PyTorch's exporter makes of it."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `torch`)")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(9, 4)
            self.rnn = getattr(torch.nn, kind)(4, 5, 2, batch_first=batch_first, bidirectional=both)
            self.fc = torch.nn.Linear(5 * (1 + both), 3)

        def forward(self, x):
            y, state = self.rnn(self.embedding(x if batch_first else x.T))
            h = state[0] if kind == "LSTM" else state
            last = torch.cat((h[-2], h[-1]), dim=1) if both else y[:, -1] if batch_first else y[-1]
            return torch.sigmoid(self.fc(last))

    torch.manual_seed(0)
    module, x, file = Net(), torch.arange(18).reshape(3, 6) % 9, io.BytesIO()
    axes = {"x": {0: "N", 1: "T"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is the old one, which needs no further package
        torch.onnx.export(module, (x,), file, dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=axes)
    return module, x, onnx.load_from_string(file.getvalue())
