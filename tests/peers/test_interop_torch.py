"""Models from PyTorch and to it: the same input gives the same output on both sides."""

import runpy
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from numlstm import GRU, LSTM, RNN, Bidirectional, Dense, Dropout, Embedding, Sequential, SimpleRNN, interop
from numlstm.inspection import Passes

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `torch`)")
nn = torch.nn
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "torch_autograd.py"
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
N, T, F, H = 3, 7, 4, 5


class Net(nn.Module):
    """Layers by their names, and what forward does with them."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._does = forward

    def forward(self, x, state=None):
        return self._does(self, x, state)


def _last_step(self, x, state):
    y, _ = self.lstm(x, state)
    return self.fc(y[:, -1, :])


def _zeros_and_last_h(self, x, state):
    h0 = torch.zeros(2, x.size(0), H).to(x.device)
    _, (h, _) = self.lstm(x, (h0, torch.zeros_like(h0)))
    return torch.sigmoid(self.fc(self.dropout(h[-1])))


def _both_ends(self, x, state):
    h = self.gru(self.embedding(x))[1]
    return self.head(torch.cat((h[-2], h[-1]), dim=1)).softmax(-1)


def _time_first(self, x, state):
    y, _ = self.rnn(x, torch.zeros(1, N, H))
    return self.fc(y)[-1].relu()


def _squeezed(self, x, state):
    return self.fc(self.rnn(x)[1].squeeze(0))


def _unpacked_sizes(self, x, state):
    batch, _steps, _features = x.shape
    zeros = torch.zeros(1, batch, H, device=x.device, dtype=x.dtype).requires_grad_()
    self.lstm.flatten_parameters()
    y, _ = self.lstm(x, (zeros.detach(), zeros.detach()))
    return self.fc(nn.functional.dropout(nn.functional.dropout(y, 0.3, self.training)[:, -1], training=self.training))


def _steps(self, x, state):
    return self.tail(self.lstm(x)[0].contiguous())


NETS = {
    "last step": lambda: Net(_last_step, lstm=nn.LSTM(F, H, 2, batch_first=True, dropout=0.5), fc=nn.Linear(H, 2)),
    "last h": lambda: Net(
        _zeros_and_last_h, lstm=nn.LSTM(F, H, 2, batch_first=True), dropout=nn.Dropout(0.1), fc=nn.Linear(H, 2)
    ),
    "both ends": lambda: Net(
        _both_ends,
        embedding=nn.Embedding(9, F),
        gru=nn.GRU(F, H, 2, batch_first=True, bidirectional=True),
        head=nn.Sequential(nn.Linear(2 * H, 6), nn.Tanh(), nn.Identity(), nn.Linear(6, 3)),
    ),
    "sizes": lambda: Net(_unpacked_sizes, lstm=nn.LSTM(F, H, batch_first=True), fc=nn.Linear(H, 2)),
    "squeezed": lambda: Net(_squeezed, rnn=nn.RNN(F, H, batch_first=True), fc=nn.Linear(H, 2)),
    "time first": lambda: Net(_time_first, rnn=nn.RNN(F, H, nonlinearity="relu"), fc=nn.Linear(H, 2, bias=False)),
    "steps": lambda: Net(
        _steps, lstm=nn.LSTM(F, H, batch_first=True), tail=nn.Sequential(nn.Linear(H, 3), nn.Softmax(dim=2))
    ),
}

PROJECTED = partial(nn.LSTM, proj_size=2)
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


@pytest.fixture(autouse=True)
def _the_same_weights_each_time():
    """Of some a stack of modules makes ten times what rounding is."""
    torch.manual_seed(1)


def _data(rng, module, dtype=np.float32):
    if any(isinstance(child, nn.Embedding) for child in module.modules()):
        return rng.integers(0, 9, (N, T))
    return rng.standard_normal((N, T, F)).astype(dtype)


def _output(module, x):
    """Return the module's output for x (N, T, ..), y of a pair; sequences batch-first."""
    time_first = any(not getattr(child, "batch_first", True) for child in module.modules())
    with torch.no_grad():
        y = module.eval()(torch.from_numpy(x.swapaxes(0, 1) if time_first else x))
    y = (y[0] if isinstance(y, tuple) else y).numpy()
    return y.swapaxes(0, 1) if time_first and y.ndim == 3 else y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("ends", [{}, {"bidirectional": True}], ids=["one way", "both ways"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize(
    "kind", [nn.LSTM, nn.GRU, nn.RNN, partial(nn.LSTM, proj_size=2)], ids="LSTM GRU RNN projected".split()
)
def test_a_recurrent_module(rng, kind, layers, ends, options, dtype):
    module = kind(F, H, layers, **ends, **options, dtype=torch.float64 if dtype is np.float64 else None)
    x = _data(rng, module, dtype)
    model = interop.torch.from_module(module)
    got = model.predict(x)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, _output(module, x), **CLOSE)
    last = interop.torch.from_module(module, return_sequences=False).predict(x)
    h = module(torch.from_numpy(x if module.batch_first else x.swapaxes(0, 1)))[1]
    h = (h[0] if isinstance(h, tuple) else h).detach().numpy()[-1 - len(ends) :]
    np.testing.assert_allclose(last, np.concatenate(list(h), axis=1), **CLOSE)
    _assert_back(model, module)


def _assert_back(model, module):
    """Bring a model's weights, changed, to another such module, and compare."""
    changed = [value + 0.25 for value in model.get_weights()]
    model.set_weights(changed)
    state = interop.torch.to_state_dict(model, module)
    x = _data(np.random.default_rng(1), module, model.dtype)
    before = _output(module, x)
    module.load_state_dict(state)
    after = _output(module, x)
    assert np.abs(after - before).max() > 1e-3
    want = model.predict(x)
    np.testing.assert_allclose(after, want, **CLOSE)


def test_gradients_of_a_projected_stack(rng):
    """Outputs and all gradients of two layers in both directions."""
    module = nn.LSTM(F, H, 2, batch_first=True, bidirectional=True, proj_size=2, dtype=torch.float64)
    x, dy = rng.standard_normal((N, T, F)), rng.standard_normal((N, T, 4))
    passes = Passes(interop.torch.from_module(module).layers, x, np.dtype(np.float64))
    got, dx = passes.forward().copy(), passes.backward(dy)
    inputs = torch.from_numpy(x).requires_grad_()
    y = module(inputs)[0]
    y.backward(torch.from_numpy(dy))
    close = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(got, y.detach().numpy(), **close)
    np.testing.assert_allclose(dx, inputs.grad.numpy(), **close)
    theirs = {"W_ih": "weight_ih", "W_hh": "weight_hh", "b": "bias_ih", "W_p": "weight_hr"}
    for number, gradients in enumerate(passes.gradients):
        assert len(gradients) == 2 * len(theirs)
        for name, gradient in gradients.items():
            way, own = name.split(".")
            want = getattr(module, f"{theirs[own]}_l{number}{'_reverse' if way == 'backward' else ''}").grad
            np.testing.assert_allclose(gradient, want.numpy(), **close, err_msg=name)


@pytest.mark.parametrize("name", NETS)
def test_a_module_of_the_users_own(rng, name):
    torch.manual_seed(3)
    module = NETS[name]()
    x = _data(rng, module)
    model = interop.torch.from_module(module)
    np.testing.assert_allclose(model.predict(x), _output(module, x), **CLOSE)
    _assert_back(model, module)


@pytest.mark.parametrize("return_sequences", [True, False])
def test_a_sequence_of_modules_passes_y_on(rng, return_sequences):
    parts = nn.Embedding(9, F), nn.LSTM(F, H, batch_first=True), nn.Dropout(0.5), nn.Linear(H, 3), nn.ReLU()
    model = interop.torch.from_module(nn.Sequential(*parts), return_sequences)
    x = rng.integers(0, 9, (N, T))
    y = parts[1](parts[0](torch.from_numpy(x)))[0]
    want = torch.relu(parts[3](y if return_sequences else y[:, -1])).detach().numpy()
    np.testing.assert_allclose(model.predict(x), want, **CLOSE)
    assert [type(layer) for layer in model.layers] == [Embedding, LSTM, Dropout, Dense]


def test_dropout_between_layers_is_a_layer():
    model = interop.torch.from_module(nn.LSTM(F, H, 2, dropout=0.3))
    assert [type(layer) for layer in model.layers] == [LSTM, Dropout, LSTM] and model.layers[1].rate == 0.3


def test_a_linear_module_and_the_training_of_copies(rng):
    module = nn.Linear(F, 2)
    model = interop.torch.from_module(module)
    x = rng.standard_normal((20, F)).astype(np.float32)
    before = module.weight.detach().clone()
    model.compile("adam", "mse")
    model.fit(x, x[:, :2], epochs=1, verbose=0)
    assert torch.equal(module.weight, before)
    assert not np.allclose(model.get_weights()[0].T, before)


MODELS = {
    "lstm": lambda: [LSTM(H, return_sequences=True, input_shape=(None, F)), Dropout(0.2), LSTM(6)],
    "gru": lambda: [GRU(H, input_shape=(None, F))],
    "simple": lambda: [SimpleRNN(H, activation="relu", input_shape=(None, F))],
    "by its cell": lambda: [RNN(H, "gru", input_shape=(None, F))],
    "both": lambda: [Bidirectional(GRU(H), input_shape=(None, F))],
    "no bias": lambda: [Bidirectional(LSTM(H, use_bias=False), input_shape=(None, F))],
}


@pytest.mark.parametrize("name", MODELS)
def test_names_of_a_sequence_of_modules(rng, name):
    """Without a module the names are those of nn.Sequential, here put together by hand."""
    model = Sequential([*MODELS[name](), Dense(2)])
    model.set_weights([rng.standard_normal(w.shape) / 3 for w in model.get_weights()])
    kinds = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
    parts, width = [], F
    for layer in model.layers:
        if isinstance(layer, (Dense, Dropout)):
            parts.append(nn.Linear(width, 2) if isinstance(layer, Dense) else nn.Dropout(0.2))
            continue
        one = getattr(layer, "forward_layer", layer)
        more = {"nonlinearity": "relu"} if one.spec.kind == "RNN" else {}
        ways = 1 + (one is not layer)
        parts.append(
            kinds[one.spec.kind](width, one.units, bias=one.use_bias, batch_first=True, bidirectional=ways > 1, **more)
        )
        width = one.units * ways
    nn.Sequential(*parts).load_state_dict(interop.torch.to_state_dict(model))
    x = rng.standard_normal((N, T, F)).astype(np.float32)
    y = torch.from_numpy(x)
    for part in parts[:-1]:
        y, state = (part.eval()(y), None) if isinstance(part, nn.Dropout) else part(y)
    h = state[0] if isinstance(state, tuple) else state
    want = parts[-1](torch.cat(list(h), dim=1)).detach().numpy()
    np.testing.assert_allclose(model.predict(x), want, **CLOSE)


class Loop(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def _everything(self, x, state):
    y, _ = self.lstm(self.conv(x).transpose(1, 2), (torch.ones(1, 3, 2), torch.randn(1, 3, 5)))
    return self.norm(self.fc(y[:, 3]) + self.scale)


UNSUPPORTED = {
    "everything": (
        lambda: Net(
            _everything,
            lstm=nn.LSTM(3, 5, proj_size=2),
            conv=nn.Conv1d(3, 3, 1),
            fc=nn.Linear(2, 3),
            norm=nn.LayerNorm(3),
            scale=nn.Parameter(torch.ones(3)),
        ),
        "this Net: conv (Conv1d); transpose(); lstm (LSTM) with first states other than "
        "zeros; [:, 3]; add(); norm (LayerNorm)",
    ),
    "alone": (lambda: nn.Conv1d(3, 3, 1), "this Conv1d: (Conv1d)"),
    "no layers": (lambda: nn.Identity(), "this Identity: it has no layers"),
    "control flow": (lambda: Loop(), "this Loop: torch.fx cannot follow its forward: symbolically traced variables"),
    "several results": (
        lambda: Net(lambda self, x, state: self.lstm(x)[1], lstm=nn.LSTM(F, H)),
        "the result of something else than one tensor",
    ),
    "a tuple": (
        lambda: Net(lambda self, x, state: (self.fc(x), x), fc=nn.Linear(F, H)),
        "a result that is no tensor: return one tensor alone",
    ),
    "branch": (
        lambda: Net(lambda self, x, state: self.b(x) + self.a(x), a=nn.Linear(F, H), b=nn.Linear(F, H)),
        "this Net: a (Linear) beside other layers: they must follow one another; add()",
    ),
    "last step of both ways": (
        lambda: Net(_last_step, lstm=nn.LSTM(F, H, batch_first=True, bidirectional=True), fc=nn.Linear(2 * H, 1)),
        "[:, -1] of both directions: torch.cat((h[-2], h[-1]), dim=1) is the last step of each",
    ),
    "last step of the wrong axis": (lambda: Net(_last_step, lstm=nn.LSTM(F, H), fc=nn.Linear(H, 1)), "this Net: [:, -1, :]"),
    "activation": (lambda: nn.Sequential(nn.ReLU(), nn.GELU()), "0 (ReLU) elsewhere than behind a linear layer; 1 (GELU)"),
    "first layer's h": (
        lambda: Net(lambda self, x, state: self.lstm(x)[1][0][0], lstm=nn.LSTM(F, H, 2)),
        "this Net: h[0]",
    ),
    "one direction's h": (
        lambda: Net(lambda self, x, state: self.rnn(x)[1][-1], rnn=nn.RNN(F, H, bidirectional=True)),
        "this Net: h[1]",
    ),
    "twice": (
        lambda: Net(lambda self, x, state: self.fc(self.fc(x)), fc=nn.Linear(F, F)),
        "this Net: fc (Linear) used twice",
    ),
    "max_norm": (lambda: nn.Embedding(3, 2, max_norm=1.0), "(Embedding) with max_norm=1.0"),
    "axis": (lambda: nn.Sequential(nn.RNN(F, H), nn.Linear(H, 2), nn.Softmax(1)), "2 (Softmax) along axis 1"),
    "axes": (
        lambda: nn.Sequential(nn.RNN(F, H), nn.RNN(H, H, batch_first=True)),
        "1 (RNN) with another batch_first than the recurrent module before it",
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_all_that_is_unsupported_is_named(name):
    make, message = UNSUPPORTED[name]
    with pytest.raises(ValueError) as error:
        interop.torch.from_module(make())
    text = str(error.value)
    assert text.startswith("numlstm cannot take over ") and message in text, text


def test_what_is_no_module():
    with pytest.raises(TypeError, match=r"module must be a torch.nn.Module, not Sequential$"):
        interop.torch.from_module(Sequential())


def test_what_pytorch_does_not_have():
    model = Sequential([LSTM(H, variant="peephole", return_sequences=True, input_shape=(None, F), name="first")])
    model.add(Bidirectional(GRU(3, activation="relu"), merge_mode="sum", name="second"))
    with pytest.raises(
        ValueError, match=r"first \(LSTM\) with CellSpec\(.*\); second .* with merge_mode='sum'; second .*relu"
    ):
        interop.torch.to_state_dict(model)
    with pytest.raises(ValueError, match="no weights yet"):
        interop.torch.to_state_dict(Sequential([LSTM(3)]))


def test_options_that_change_states_are_refused():
    layers = [LSTM(3, cell_clip=1.0, zoneout=(0.1, 0.2), return_sequences=True, input_shape=(None, F))]
    layers.append(GRU(3, zoneout=0.1, return_sequences=True))
    layers.append(LSTM(3, layer_norm=True))
    says = r"cell_clip=1.0.*zoneout=\(0.1, 0.2\).*gru \(GRU\) with zoneout=0.1;.* \(LSTM\) with layer_norm=True$"
    with pytest.raises(ValueError, match=says):
        interop.torch.to_state_dict(Sequential(layers))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.GRU(F, H), r"the layers GRU\(5, tanh\), but the model LSTM\(5, tanh\)$"),
        (nn.LSTM(F, H, 2), r"the layers LSTM\(5, tanh\), LSTM\(5, tanh\), but the model LSTM\(5, tanh\)$"),
        (nn.LSTM(F + 1, H), r"weight_ih_l0 is \(20, 5\) in the module, but \(20, 4\) in the model$"),
        (nn.LSTM(F, H, bias=False), r"bias_ih_l0 is missing in the module; bias_hh_l0 is missing in the module$"),
    ],
)
def test_a_module_that_does_not_match(module, message):
    with pytest.raises(ValueError, match=message):
        interop.torch.to_state_dict(Sequential([LSTM(H, input_shape=(None, F))]), module)


def test_the_example_of_automatic_differentiation():
    lstm = runpy.run_path(str(EXAMPLE))["lstm"]
    torch.manual_seed(0)
    shapes = (N, T, F), (4 * H, F), (4 * H, H), (4 * H,), (N, H), (N, H)
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lstm, tensors)


def test_the_example_learns(run_python):
    done = run_python(EXAMPLE.read_text(encoding="utf-8"))
    losses = [float(line.rpartition(" ")[2]) for line in done.stdout.splitlines()]
    assert len(losses) == 5 and losses[-1] < losses[0] / 2


def test_without_pytorch_the_error_names_the_extra(run_python):
    done = run_python("import sys; sys.modules['torch'] = None; import numlstm.interop.torch", check=False)
    assert 'ModuleNotFoundError: numlstm.interop.torch needs PyTorch: pip install "numlstm[torch]"' in done.stderr
