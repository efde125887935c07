"""ONNX models for tests: of layers, of nodes, and of PyTorch's exporter, and what ONNX Runtime makes of them."""

import io
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from numlstm import GRU, LSTM, Bidirectional, CellSpec, Dense, Dropout, Embedding, Sequential, SimpleRNN

N, T, F, H = 3, 7, 4, 5
STACKS = {
    "lstm": lambda: [LSTM(H, return_sequences=True), Dropout(0.2), LSTM(6), Dense(2, activation="softmax")],
    "gru": lambda: [GRU(H, return_sequences=True), GRU(3, use_bias=False), Dense(3, activation="relu", use_bias=False)],
    "simple": lambda: [SimpleRNN(H, return_sequences=True), Dense(2, activation="sigmoid"), SimpleRNN(3, activation="relu")],
    "activations": lambda: [
        LSTM(H, activation="relu", recurrent_activation="hard_sigmoid", return_sequences=True),
        GRU(4, activation="sigmoid", recurrent_activation="hard_sigmoid", return_sequences=True),
        SimpleRNN(3, activation="linear"),
    ],
    "backwards": lambda: [LSTM(H, go_backwards=True, return_sequences=True), GRU(3, go_backwards=True)],
    "concat": lambda: [Bidirectional(LSTM(H, return_sequences=True)), Bidirectional(GRU(3)), Dense(1, activation="tanh")],
    "sum": lambda: [Bidirectional(GRU(H, return_sequences=True), merge_mode="sum"), Bidirectional(GRU(2), merge_mode="sum")],
    "mul": lambda: [Bidirectional(LSTM(H, return_sequences=True), merge_mode="mul")],
    "ave": lambda: [Bidirectional(SimpleRNN(H, activation="sigmoid"), merge_mode="ave")],
    "hard both": lambda: [Bidirectional(LSTM(H, activation="linear", recurrent_activation="hard_sigmoid"))],
    "state": lambda: [LSTM(H, return_state=True, return_sequences=True)],
    "states": lambda: [Bidirectional(LSTM(H, return_state=True))],
    "gru before": lambda: [Bidirectional(GRU(3, reset_after=False, return_sequences=True)), GRU(3, reset_after=False)],
    "gru state": lambda: [Bidirectional(GRU(H, return_state=True))],
    "embedding": lambda: [Embedding(9, F), GRU(H), Dense(3)],
    "dense": lambda: [Dense(3, activation="tanh"), Dense(2)],
    **{name: lambda name=name: [LSTM(H, variant=name)] for name in ("peephole", "cifg", "niaf", "noaf", "elysium")},
    "cifg without peepholes": lambda: [LSTM(H, variant=CellSpec(forget_gate="coupled"))],
}


def stack(rng, name, dtype=np.float32):
    """Return a model of one of STACKS with random weights, and data for it."""
    model = Sequential(STACKS[name](), dtype=dtype)
    x = rng.integers(0, 9, (N, T)) if name == "embedding" else rng.standard_normal((N, T, F)).astype(dtype)
    model.build((None, *({"embedding": (None,), "dense": (None, F)}.get(name, (None, F)))))
    for layer in model.layers:
        for parameter in layer.parameters.values():
            parameter[...] = rng.normal(size=parameter.shape) / 2
    return model, x


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
