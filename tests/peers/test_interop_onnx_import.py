"""Models from ONNX: `predict` gives what numlstm, PyTorch or ONNX Runtime gave for the graph."""

import numpy as np
import pytest

from numlstm import GRU, LSTM, Dense, Sequential, SimpleRNN, interop

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra `onnx`)")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed; .ci/run installs it")
onnx_models = pytest.importorskip("onnx_models")
helper = onnx.helper

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
N, T, F, H = onnx_models.N, onnx_models.T, onnx_models.F, onnx_models.H


@pytest.mark.parametrize("name", [name for name in onnx_models.STACKS if "state" not in name])
def test_a_model_comes_back(rng, name):
    model, x = onnx_models.stack(rng, name)
    back = interop.onnx.from_model(interop.onnx.to_model(model))
    np.testing.assert_allclose(back.predict(x), model.predict(x), rtol=1e-6, atol=1e-7)
    kept = [type(layer) for layer in model.layers if layer.parameters]
    assert [type(layer) for layer in back.layers] == kept


def test_double_precision_and_files(rng, tmp_path):
    model, x = onnx_models.stack(rng, "concat", np.float64)
    onnx.save(interop.onnx.to_model(model), tmp_path / "model.onnx")
    for path in (tmp_path / "model.onnx", str(tmp_path / "model.onnx")):
        got = interop.onnx.from_model(path).predict(x)
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, model.predict(x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("both", [True, False])
def test_models_that_pytorch_writes(both, batch_first, kind):
    module, x, proto = onnx_models.exported(kind, both, batch_first)
    model = interop.onnx.from_model(proto)
    np.testing.assert_allclose(model.predict(x.numpy()), module(x).detach().numpy(), **CLOSE)
    assert len(model.layers) == 4


# Graphs by hand: nodes, each as (operator, inputs, outputs, attributes), of x (T, N, F), or (N, T, F) by name.


def _arrays(rng, ways=1):
    shapes = {
        "W": (ways, 4 * H, F),
        "R": (ways, 4 * H, H),
        "B": (ways, 8 * H),
        "K": (ways * H, 3),
        "k": (3,),
        "P": (ways, 3 * H),
    }
    arrays = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {"W3": arrays["W"][:, : 3 * H], "R3": arrays["R"][:, : 3 * H], "B3": arrays["B"][:, : 6 * H]}
    arrays |= {"W1": arrays["W"][:, :H], "R1": arrays["R"][:, :H], "KT": arrays["K"].T, "row": arrays["k"][None]}
    whole = {
        "one": [1],
        "two": [2],
        "zero": [0],
        "shape": [0, 0, ways * H],
        "end": [-(2**62)],
        "minus": [-1],
        "some": [0, 1],
    }
    arrays |= {name: np.array(value, np.int64) for name, value in whole.items()}
    arrays |= {"last": np.array(-1), "first": np.array(0), "zeros": np.zeros((ways, N, H), np.float32)}
    arrays |= {"ones": np.ones((ways, N, H), np.float32), "lens": np.full(N, T, np.int32)}
    return {name: np.ascontiguousarray(array) if np.ndim(array) else array for name, array in arrays.items()}


LSTM_NODE = ("LSTM", "x W R B", "Y Yh Yc", {})
SQUEEZED = [LSTM_NODE, ("Squeeze", "Y one", "y", {})]
GRAPHS = {
    "steps first": SQUEEZED,
    "steps first, last": [LSTM_NODE, ("Squeeze", "Yh zero", "y", {})],
    "zeros": [("LSTM", "x W R B _ zeros zeros", "Y Yh", {}), ("Squeeze", "Yh zero", "y", {})],
    "dense": [
        *SQUEEZED[:1],
        ("Squeeze", "Y one", "a", {}),
        ("MatMul", "a K", "b", {}),
        ("Add", "k b", "c", {}),
        ("Relu", "c", "y", {}),
    ],
    "gemm": [
        LSTM_NODE,
        ("Gather", "Yh first", "a", {}),
        ("Gemm", "a KT row", "b", {"transB": 1}),
        ("Softmax", "b", "y", {}),
    ],
    "last step": [LSTM_NODE, ("Squeeze", "Y one", "a", {}), ("Gather", "a last", "b", {}), ("MatMul", "b K", "y", {})],
    "late last step": [
        *SQUEEZED[:1],
        ("Squeeze", "Y one", "a", {}),
        ("MatMul", "a K", "b", {}),
        ("Gather", "b last", "y", {}),
    ],
    "peepholes": [("LSTM", "x W R B _ _ _ P", "Y Yh", {}), ("Gather", "Yh last", "y", {})],
    "gru": [("GRU", "x W3 R3 B3", "Y Yh", {"linear_before_reset": 1}), ("Squeeze", "Y one", "y", {})],
    "gru before": [("GRU", "x W3 R3 B3", "Y Yh", {}), ("Squeeze", "Y one", "y", {})],
    "rnn": [("RNN", "x W1 R1", "Y Yh", {"activations": ["Relu"]}), ("Squeeze", "Y one", "y", {})],
    "reverse": [("LSTM", "x W R B", "Y Yh", {"direction": "reverse"}), ("Squeeze", "Yh zero", "y", {})],
}
BOTH = {
    "both": [("Transpose", "Y", "a", {"perm": [0, 2, 1, 3]}), ("Reshape", "a shape", "y", {})],
    "both last": [("Gather", "Yh first", "a", {}), ("Gather", "Yh last", "b", {}), ("Concat", "a b", "y", {"axis": -1})],
}


def _graph(rng, nodes, ways=1):
    """Return a model, and data for it (T, N, F)."""
    x, arrays = rng.standard_normal((T, N, F)).astype(np.float32), _arrays(rng, ways)
    made = []
    for kind, inputs, outputs, attributes in nodes:
        more = {"hidden_size": H} if kind in ("LSTM", "GRU", "RNN") else {}
        names = ["" if name == "_" else name for name in inputs.split()]
        made.append(helper.make_node(kind, names, outputs.split(), **attributes, **more))
    used = {name for node in made for name in node.input}
    arrays = {name: array for name, array in arrays.items() if name in used}
    return onnx_models.model_of(made, {"x": x}, {"y": "float32"}, arrays), x


@pytest.mark.parametrize("name", [*GRAPHS, *BOTH])
def test_graphs_of_other_tools(rng, name):
    nodes = GRAPHS.get(name) or [("LSTM", "x W R B", "Y Yh", {"direction": "bidirectional"}), *BOTH[name]]
    proto, x = _graph(rng, nodes, 1 + (name in BOTH))
    (want,) = onnx_models.by_runtime(proto, {"x": x})
    got = interop.onnx.from_model(proto).predict(x.swapaxes(0, 1))
    np.testing.assert_allclose(got, want.swapaxes(0, 1) if want.ndim == 3 else want, **CLOSE)


def test_batch_first_nodes(rng):
    """layout=1, which ONNX Runtime does not have: against the backend."""
    nodes = [("LSTM", "x W R B", "Y Yh", {"layout": 1}), ("Squeeze", "Y two", "y", {})]
    proto, x = _graph(rng, nodes)
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", "T", H]))
    (want,) = interop.onnx.Backend.run_model(proto, [x])
    np.testing.assert_allclose(interop.onnx.from_model(proto).predict(x), want, **CLOSE)


def test_layers_are_what_they_are_called():
    layers = [LSTM(H, return_sequences=True), GRU(3, return_sequences=True), SimpleRNN(2), Dense(1, activation="tanh")]
    model = Sequential(layers)
    model.build((None, None, F))
    back = interop.onnx.from_model(interop.onnx.to_model(model))
    assert [type(layer) for layer in back.layers] == [LSTM, GRU, SimpleRNN, Dense]
    assert back.layers[0].variant == "lstm" and back.layers[3].activation == "tanh"
    assert back.input_shape == (None, F) and back.output_shape == (1,)


REFUSED = {
    "everything": (
        [
            ("LSTM", "x W R B lens ones ones", "Y Yh", {}),
            ("Squeeze", "Y one", "a", {}),
            ("Erf", "a", "b", {}),
            ("GRU", "b W3 R3 B3", "c d", {"clip": 1.0}),
            ("Relu", "c", "e", {}),
            ("MaxPool", "e", "y", {"kernel_shape": [1]}),
        ],
        "LSTM with other sequence_lens than an input of the graph for all of its kind; "
        "LSTM with first states other than zeros; Erf; GRU with a cell that numlstm does not have, "
        "or two of them; MaxPool",
    ),
    "clip": (
        [("LSTM", "x W R B", "Y", {"clip": 1.0}), ("Squeeze", "Y one", "y", {})],
        "LSTM with a cell that numlstm does not",
    ),
    "computed weights": (
        [("Relu", "x", "w", {}), ("LSTM", "x w R B", "y", {})],
        "Relu elsewhere than behind a MatMul or Gemm",
    ),
    "activation": (
        [*SQUEEZED[:1], ("Squeeze", "Y one", "a", {}), ("Tanh", "a", "y", {})],
        "Tanh elsewhere than behind a MatMul",
    ),
    "branch": (
        [*SQUEEZED[:1], ("Squeeze", "Y one", "a", {}), ("MatMul", "a K", "b", {}), ("Add", "b b", "y", {})],
        "this ONNX model: Add",
    ),
    "skip": (
        [("Gemm", "x KT", "a", {}), ("MatMul", "x K", "y", {})],
        "MatMul beside other layers: they must follow one another",
    ),
    "directions left": ([LSTM_NODE, ("Identity", "Y", "y", {})], "an output whose axes are T, D, N, F"),
    "one direction": (
        [("LSTM", "x W R B", "Y Yh", {"direction": "bidirectional"}), ("Gather", "Yh first", "y", {})],
        "the output of other than all directions of the layer before it",
    ),
    "first step": (
        [*SQUEEZED[:1], ("Squeeze", "Y one", "a", {}), ("Gather", "a first", "y", {})],
        "this ONNX model: Gather",
    ),
    "reversed steps": (
        [("LSTM", "x W R B", "Y", {"direction": "reverse"}), ("Squeeze", "Y one", "y", {})],
        "the output of a reversed sequence in the order of its steps: numlstm returns them as they arise",
    ),
    "axis": (
        [*SQUEEZED[:1], ("Squeeze", "Y one", "a", {}), ("MatMul", "a K", "b", {}), ("Softmax", "b", "y", {"axis": 1})],
        "Softmax along another axis than the last",
    ),
    "size": ([("Shape", "x", "y", {})], "the output of something else than what the layers return"),
    "cell state": ([LSTM_NODE, ("Squeeze", "Yc zero", "y", {})], "Squeeze of something else than what the layers return"),
    "axes": ([*SQUEEZED[:1], ("Transpose", "Y", "y", {})], "an output whose axes are F, N, D, T"),
    "no layers": ([("Identity", "x", "y", {})], "this ONNX model: it has no layers"),
    "bad activation": ([("RNN", "x W1 R1", "y", {"activations": ["Swish"]})], "RNN with activation Swish"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_all_that_is_unsupported_is_named(rng, name):
    nodes, message = REFUSED[name]
    proto, _ = _graph(rng, nodes, 1 + (name == "one direction"))
    with pytest.raises(ValueError) as error:
        interop.onnx.from_model(proto)
    text = str(error.value)
    assert text.startswith("numlstm cannot take over this ONNX model: ") and message in text, text


def test_several_inputs_or_outputs(rng):
    model, _ = onnx_models.stack(rng, "states")
    with pytest.raises(ValueError, match="1 inputs and 5 outputs, where a model has one of each"):
        interop.onnx.from_model(interop.onnx.to_model(model, sequence_lens=True))
    with pytest.raises(TypeError, match=r"model must be an onnx.ModelProto or the path of a file, not Sequential"):
        interop.onnx.from_model(model)
