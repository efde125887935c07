"""Models to ONNX: ONNX Runtime, and numlstm's own backend, give what `predict` gives."""

import numpy as np
import pytest

from numlstm import GRU, LSTM, Bidirectional, CellSpec, Dense, Dropout, Embedding, Sequential, SimpleRNN, interop

pytest.importorskip("onnx", reason="onnx is not installed (extra `onnx`)")
runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed; .ci/run installs it")

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
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
    "gru state": lambda: [Bidirectional(GRU(H, return_state=True))],
    "embedding": lambda: [Embedding(9, F), GRU(H), Dense(3)],
    "dense": lambda: [Dense(3, activation="tanh"), Dense(2)],
    **{name: lambda name=name: [LSTM(H, variant=name)] for name in ("peephole", "cifg", "niaf", "noaf", "elysium")},
    "cifg without peepholes": lambda: [LSTM(H, variant=CellSpec(forget_gate="coupled"))],
}
OUTPUTS = {"state": ["y", "h", "c"], "gru state": ["y", "forward_h", "backward_h"]}
OUTPUTS["states"] = ["y", "forward_h", "forward_c", "backward_h", "backward_c"]


def _model(rng, name, dtype=np.float32):
    model = Sequential(STACKS[name](), dtype=dtype)
    x = rng.integers(0, 9, (N, T)) if name == "embedding" else rng.standard_normal((N, T, F)).astype(dtype)
    model.build((None, *({"embedding": (None,), "dense": (None, F)}.get(name, (None, F)))))
    for layer in model.layers:
        for parameter in layer.parameters.values():
            parameter[...] = rng.normal(size=parameter.shape) / 2
    return model, x


def _run(proto, **inputs):
    session = runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs), strict=True))


@pytest.mark.parametrize("name", STACKS)
def test_onnx_runtime_gives_the_same(rng, name):
    model, x = _model(rng, name)
    proto = interop.onnx.to_model(model)
    want = model.predict(x)
    want = want if isinstance(want, list) else [want]
    got = _run(proto, x=x)
    assert list(got) == OUTPUTS.get(name, ["y"])
    for ours, theirs in zip(want, got.values(), strict=True):
        np.testing.assert_allclose(theirs, ours, **CLOSE)
    shorter = model.predict(x[:2, :3])
    theirs = _run(proto, x=x[:2, :3])["y"]  # any number of sequences and steps
    np.testing.assert_allclose(theirs, shorter[0] if isinstance(shorter, list) else shorter, **CLOSE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", STACKS)
def test_numlstms_backend_gives_the_same(rng, name, dtype):
    model, x = _model(rng, name, dtype)
    want = model.predict(x)
    got = interop.onnx.Backend.run_model(interop.onnx.to_model(model), [x])
    close = {"rtol": 1e-6, "atol": 1e-6} if dtype is np.float32 else {"rtol": 1e-7, "atol": 1e-8}  # 1/6 is a float32 in ONNX
    for ours, theirs in zip(want if isinstance(want, list) else [want], got, strict=True):
        assert theirs.dtype == dtype
        np.testing.assert_allclose(theirs, ours, **close)


RAGGED = ("lstm", "gru", "simple", "concat", "sum", "states", "embedding", "cifg")


@pytest.mark.parametrize("name", RAGGED)
def test_sequence_lens(rng, name):
    """A sequence with its length gives what it gives cut, and zeros past it where recurrent layers come last."""
    model, x = _model(rng, name)
    proto = interop.onnx.to_model(model, sequence_lens=True)
    lengths = np.array([T, 1, 4], np.int32)
    results = [_run(proto, x=x, sequence_lens=lengths), interop.onnx.Backend.run_model(proto, [x, lengths])._asdict()]
    for got in results:
        for i, length in enumerate(lengths):
            want = model.predict(x[i : i + 1, :length])
            for ours, theirs in zip(want if isinstance(want, list) else [want], got.values(), strict=True):
                np.testing.assert_allclose(theirs[i, :length] if ours.ndim == 3 else theirs[i], ours[0], **CLOSE)


def test_sequence_lens_leave_zeros(rng):
    model, x = _model(rng, "mul")
    got = _run(interop.onnx.to_model(model, sequence_lens=True), x=x, sequence_lens=np.array([T, 1, 4], np.int32))["y"]
    assert got[0].all() and got[1, :1].all() and not got[1, 1:].any() and not got[2, 4:].any()


def test_the_graph_says_its_shapes():
    model = Sequential([LSTM(H, return_sequences=True, input_shape=(T, F)), Dense(2)], name="forecaster")
    proto = interop.onnx.to_model(model)
    assert proto.graph.name == "forecaster" and proto.producer_name == "numlstm"
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    ]
    assert shapes == [["N", T, F], ["N", T, 2]]
    assert [node.op_type for node in proto.graph.node] == [
        *["Transpose", "LSTM", "Transpose", "Reshape", "MatMul", "Add", "Identity"]
    ]


def test_all_that_onnx_does_not_have_is_named():
    both = Bidirectional(LSTM(3, return_sequences=True), backward_layer=GRU(3, go_backwards=True, return_sequences=True))
    first = LSTM(H, stateful=True, return_sequences=True, go_backwards=True, name="first", input_shape=(None, F))
    model = Sequential([first, both, LSTM(2, variant="nog", return_sequences=True, name="third"), LSTM(2, variant="1997")])
    with pytest.raises(ValueError) as error:
        interop.onnx.to_model(model, sequence_lens=True)
    assert str(error.value) == (
        "ONNX cannot take over the model sequential: first (LSTM) with stateful=True; first (LSTM) with go_backwards=True, "
        "return_sequences=True and sequence_lens; bidirectional (Bidirectional) with two layers that are more than two "
        "directions of one; third (LSTM) with a cell without an input or output gate; lstm (LSTM) with a cell without a "
        "forget gate"
    )
    with pytest.raises(ValueError, match="no weights yet"):
        interop.onnx.to_model(Sequential([LSTM(3)]))


def test_without_onnx_the_error_names_the_extra(run_python):
    done = run_python("import sys; sys.modules['onnx'] = None; import numlstm.interop.onnx", check=False)
    assert 'ModuleNotFoundError: numlstm.interop.onnx needs onnx: pip install "numlstm[onnx]"' in done.stderr
