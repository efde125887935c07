"""Every cell in numlstm, as a loop over time in PyTorch, and in torch.nn where it is there; what one costs in flops."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from problem import SEED, Shape
from worker import Task

from numlstm import Cell
from numlstm.cells import VARIANTS, CellSpec, GRUSpec, RNNSpec, SLSTMSpec, Spec, gates

sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "docs" / "examples"))
from minimal_gated_unit import mgu

CELLS: dict[str, Spec] = {
    **VARIANTS,
    "lstm, hard_sigmoid": CellSpec(recurrent_activation="hard_sigmoid"),
    "lstm, relu": CellSpec(input_activation="relu", output_activation="relu"),
    "gru": GRUSpec(),
    "gru, hard_sigmoid": GRUSpec(recurrent_activation="hard_sigmoid"),
    "gru, reset before": GRUSpec(reset_after=False),
    "rnn": RNNSpec(),
    "rnn, relu": RNNSpec("relu"),
    "mgu": mgu,
    "slstm": SLSTMSpec(),
    "slstm, sigmoid": SLSTMSpec("sigmoid"),
    "lstm, layer norm": CellSpec(layer_norm=True),
    "gru, layer norm": GRUSpec(layer_norm=True),
}
OPTIONS: dict[str, dict[str, Any]] = {  # of the vanilla LSTM
    "lstm, cell clip": {"cell_clip": 0.3},
    "lstm, recurrent dropout": {"rate": 0.3},
    "lstm, zoneout": {"zoneout": (0.05, 0.5), "seed": SEED},
}
CELLS |= dict.fromkeys(OPTIONS, CellSpec())
IN_TORCH = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN", "rnn, relu": "RNN"}


# --- flops, as the kernels write them; a comparison counts as one, a multiply-add as two ---

VALUE = {"sigmoid": 22, "tanh": 25, "hard_sigmoid": 4, "relu": 1, "linear": 0, "exp": 22, "log_sigmoid": 37}
SLOPE = {"sigmoid": 2, "tanh": 2, "hard_sigmoid": 2, "relu": 1, "linear": 0}


class Flops(NamedTuple):
    """Of one unit and step: products of a forward pass, and element-wise ones forward and backward."""

    products: int
    forward: int
    backward: int

    def of(self, quantity: str) -> int:
        both = quantity == "forward_backward"
        return self.products * (3 if both else 1) + self.forward + both * self.backward


OF_OPTIONS = {"lstm, cell clip": (4, 5), "lstm, recurrent dropout": (1, 1), "lstm, zoneout": (8, 9)}  # forward, backward


def flops(cell: str, shape: Shape) -> Flops:
    """Count what one unit and step of a cell costs; whole numbers, of which masks are made, do not count."""
    counted, more = _flops(CELLS[cell], shape), OF_OPTIONS.get(cell, (0, 0))
    if CELLS[cell].layer_norm:  # kernels/norm.py
        weights = CELLS[cell].weights
        rows, biases = weights["W_ih"][0] + weights["W_hh"][0], sum(n for name, (n, _) in weights.items() if name[0] == "b")
        more = 8 * rows + 12, 11 * rows + 4 + biases
    return counted._replace(forward=counted.forward + more[0], backward=counted.backward + more[1])


def _flops(spec: Spec, shape: Shape) -> Flops:
    products = 2 * (spec.weights["W_ih"][0] * shape.I + spec.weights["W_hh"][0] * shape.H)
    products += 2 * spec.weights["R"][0] ** 2 * shape.H if "R" in spec.weights else 0
    if spec == mgu:
        return Flops(products, VALUE["sigmoid"] + VALUE["tanh"] + 6, 13)
    if isinstance(spec, RNNSpec):
        return Flops(products, VALUE[spec.activation], 2 + SLOPE[spec.activation])
    gate, slope = VALUE[spec.recurrent_activation], SLOPE[spec.recurrent_activation]
    if isinstance(spec, GRUSpec):
        forward, backward = (5, 14) if spec.reset_after else (4, 15)
        return Flops(products, 2 * gate + VALUE[spec.activation] + forward, 2 * slope + SLOPE[spec.activation] + backward)
    if isinstance(spec, SLSTMSpec):
        of_f = spec.forget_gate == "sigmoid"
        forward = 2 * VALUE["exp"] + VALUE[spec.activation] + gate + of_f * VALUE["log_sigmoid"] + 14
        return Flops(products, forward, SLOPE[spec.activation] + slope + of_f * (VALUE["exp"] + 5) + 19)
    count = len(gates(spec)) - 1
    more = 2 * count * spec.peepholes + (spec.forget_gate == "coupled")
    values = VALUE[spec.input_activation] + VALUE[spec.output_activation]
    slopes = SLOPE[spec.input_activation] + SLOPE[spec.output_activation]
    forward = count * gate + values + 4 + more
    more += 3 * spec.gate_recurrence  # of the gates' gradients as states
    if spec.gate_sets == 2:  # differences, their mean, and the share
        forward, more = forward + VALUE["sigmoid"] + 9, more + 14
    return Flops(products, forward, count * (2 + slope) + slopes + VALUE[spec.output_activation] + 7 + more)


# --- the problem ---


class CellProblem(NamedTuple):
    """float32: x (N, T, I), the weights by name as numlstm.functional.rnn takes them, and dy (N, T, H).

    clip : of c; mask : (N, H) that h is multiplied by; keeps : (N, T, H) each, which h and c stay as they were; or None
    """

    cell: str
    x: np.ndarray
    weights: dict[str, np.ndarray]
    dy: np.ndarray
    clip: float | None
    mask: np.ndarray | None
    keeps: tuple[np.ndarray, np.ndarray] | None

    @property
    def spec(self) -> Spec:
        return CELLS[self.cell]


def cell_problem(shape: Shape, cell: str) -> CellProblem:
    """Return the same data in every process."""
    rng = np.random.default_rng(SEED)
    N, T, I, H = shape  # noqa: E741
    bound, columns = 1 / np.sqrt(H), {"W_ih": (I,), "W_hh": (H,), "R": (3 * H,)}
    x, dy = (rng.standard_normal((N, T, size)).astype(np.float32) for size in (I, H))
    weights = {
        name: rng.uniform(-bound, bound, (blocks * H, *columns.get(name, ()))).astype(np.float32)
        for name, (blocks, _) in CELLS[cell].weights.items()
    }
    options = OPTIONS.get(cell, {})
    rate, keeps = options.get("rate"), None
    mask = None if rate is None else ((rng.random((N, H)) >= rate) / (1 - rate)).astype(np.float32)
    if "zoneout" in options:
        from numlstm.kernels import dropout

        words = dropout.random_word.py_func(np.uint64(SEED), np.arange(N * T * H))  # which kernels.options draws from
        halves = words >> np.uint64(32), words & np.uint64(0xFFFFFFFF)
        limits = [np.uint64(float(np.float32(probability)) * 2**32) for probability in options["zoneout"]]
        keeps = tuple((half < limit).reshape(N, T, H).astype(np.float32) for half, limit in zip(halves, limits, strict=True))
    return CellProblem(cell, x, weights, dy, options.get("cell_clip"), mask, keeps)


# --- the engines ---


class Numlstm:
    packages = ("numlstm", "numba", "llvmlite")

    def __init__(self, threads: int) -> None:
        import numlstm

        numlstm.set_num_threads(threads)
        self._functional = numlstm.functional

    def forward(self, given: CellProblem) -> Task:
        spec, rnn, options = given.spec, self._functional.rnn, self._options(given)
        packed = self._functional.pack(tuple(given.weights.values()), spec)
        return Task(lambda: rnn(given.x, packed, cell=spec, tape=False, options=options), lambda out: {"y": out.y})

    def _options(self, given: CellProblem) -> Any:
        if given.cell not in OPTIONS:
            return None
        chosen = {name: value for name, value in OPTIONS[given.cell].items() if name != "rate"}
        return self._functional.RNNOptions(recurrent_mask=given.mask, **chosen)

    def forward_backward(self, given: CellProblem) -> Task:
        spec, rnn, backward = given.spec, self._functional.rnn, self._functional.rnn_backward
        weights, options = tuple(given.weights.values()), self._options(given)

        def run():
            out = rnn(given.x, weights, cell=spec, options=options)
            return out.y, backward(out.tape, given.dy)

        def arrays(result):
            y, gradients = result
            return {"y": y, "x": gradients.x, **dict(zip(given.weights, gradients.weights, strict=True))}

        return Task(run, arrays)


class _Torch:
    packages = ("torch",)

    def __init__(self, threads: int) -> None:
        self._torch = importlib.import_module("torch")
        self._torch.set_num_threads(threads)

    def _call(self, given: CellProblem, leaves: dict[str, Any]) -> Callable[[], Any]:
        """Return what computes y from the leaves, which are x and the weights by name."""
        raise NotImplementedError

    def _leaves(self, given: CellProblem) -> dict[str, Any]:
        return {name: self._torch.from_numpy(array) for name, array in [("x", given.x), *given.weights.items()]}

    def forward(self, given: CellProblem) -> Task:
        self._torch.set_grad_enabled(False)
        return Task(self._call(given, self._leaves(given)), lambda y: {"y": y.numpy()})

    def forward_backward(self, given: CellProblem) -> Task:
        self._torch.set_grad_enabled(True)
        leaves, dy = self._leaves(given), self._torch.from_numpy(given.dy)
        for leaf in leaves.values():
            leaf.requires_grad_()
        call = self._call(given, leaves)

        def run():
            y = call()
            y.backward(dy)
            return y

        def reset():
            for leaf in leaves.values():
                leaf.grad = None

        return Task(run, lambda y: {"y": y.detach().numpy(), **self._gradients(given, leaves)}, reset)

    def _gradients(self, given: CellProblem, leaves: dict[str, Any]) -> dict[str, np.ndarray]:
        return {name: leaf.grad.numpy() for name, leaf in leaves.items()}


class Loop(_Torch):
    """A loop in Python over the steps, the product with x before it, all gates in one product."""

    def _call(self, given: CellProblem, leaves: dict[str, Any]) -> Callable[[], Any]:
        spec = given.spec
        step = _LOOPS[type(spec)]
        if given.cell not in OPTIONS:
            return lambda: step(self._torch, spec, **leaves)
        mask, keeps = (None if a is None else self._torch.from_numpy(np.asarray(a)) for a in (given.mask, given.keeps))
        return lambda: step(self._torch, spec, **leaves, clip=given.clip, mask=mask, keeps=keeps)


class Layer(_Torch):
    """torch.nn's own layer."""

    def _call(self, given: CellProblem, leaves: dict[str, Any]) -> Callable[[], Any]:
        torch, hidden = self._torch, given.dy.shape[2]
        more = {"nonlinearity": given.spec.activation} if given.cell.startswith("rnn") else {}
        layer = getattr(torch.nn, IN_TORCH[given.cell])(given.x.shape[2], hidden, batch_first=True, **more)
        second = np.zeros_like(given.weights["b"])
        if "b_hn" in given.weights:
            second[-hidden:] = given.weights["b_hn"]
        values = [*(given.weights[name] for name in ("W_ih", "W_hh", "b")), second]
        for name, value in zip(_NAMES, values, strict=True):
            parameter = torch.nn.Parameter(torch.from_numpy(value), requires_grad=torch.is_grad_enabled())
            setattr(layer, name, parameter)
            leaves[name] = parameter
        layer.flatten_parameters()
        return lambda: layer(leaves["x"])[0]

    def _gradients(self, given: CellProblem, leaves: dict[str, Any]) -> dict[str, np.ndarray]:
        names = dict(zip(("x", "W_ih", "W_hh", "b"), ("x", *_NAMES), strict=False))
        found = {name: leaves[own].grad.numpy() for name, own in names.items()}
        if "b_hn" in given.weights:
            found["b_hn"] = leaves[_NAMES[3]].grad.numpy()[-given.dy.shape[2] :]
        return found


_NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def _activation(torch, name):
    known = {"hard_sigmoid": torch.nn.functional.hardsigmoid, "linear": lambda z: z}
    return known[name] if name in known else getattr(torch, name)


def _product(torch, x, W, gain):
    """Return ``x W'``, normalised if there is a gain."""
    return x @ W.T if gain is None else torch.nn.functional.layer_norm(x @ W.T, W.shape[:1], gain)


def _lstm(torch, spec, x, W_ih, W_hh, b, p=None, R=None, gain_ih=None, gain_hh=None, clip=None, mask=None, keeps=None):
    names, hidden = gates(spec), W_hh.shape[1]
    gate, squash, out = (
        _activation(torch, name) for name in (spec.recurrent_activation, spec.input_activation, spec.output_activation)
    )
    if spec.cell_input == "h only":  # no weights of x for g
        g = names.index("g") * hidden
        W_ih = torch.cat([W_ih[:g], torch.zeros(hidden, W_ih.shape[1]), W_ih[g:]])
    peepholes = {} if p is None else dict(zip(names.replace("g", ""), p.split(hidden), strict=True))
    if R is not None:  # one product with [h i f o], in which g sees no gates
        beside = torch.cat([R[: 2 * hidden], torch.zeros(hidden, 3 * hidden), R[2 * hidden :]])
        W_hh = torch.cat([W_hh, beside], 1)
    projected, U = _product(torch, x, W_ih, gain_ih) + b, W_hh.T
    h = c = torch.zeros(x.shape[0], hidden)
    others = [] if R is None else [h, h, h]
    ys = []

    def recurrent(t, h):
        if gain_hh is None:
            return torch.addmm(projected[:, t], h, U)
        return projected[:, t] + _product(torch, h, W_hh, gain_hh)

    def value(name, z, c):
        return gate(z[name] + peepholes[name] * c) if name in peepholes else gate(z[name])

    for t in range(x.shape[1]):
        seen = h if mask is None else h * mask
        seen = torch.cat([seen, *others], 1) if others else seen
        z = recurrent(t, seen).split(hidden, 1)
        if spec.gate_sets == 2:
            share, second = torch.sigmoid(z[7]), {0: z[4], 1: z[5], 3: z[6]}
            z = [torch.lerp(second[k], z[k], share) if k in second else z[k] for k in range(4)]
        z = dict(zip(names, z, strict=True))
        before = h, c
        new = squash(z["g"])
        if "i" in z:
            i = value("i", z, c)
            new = i * new
        if "f" in z:
            f = value("f", z, c)
        kept = f * c if "f" in z else (1 - i) * c if spec.forget_gate == "coupled" else c
        c = kept + new
        if clip is not None:
            c = c.clamp(-clip, clip)
        h = out(c)
        if "o" in z:
            o = value("o", z, c)
            h = o * h
        if R is not None:
            others = [i, f, o]
        if keeps is not None:
            h, c = (torch.where(keep[:, t] > 0, old, new) for keep, old, new in zip(keeps, before, (h, c), strict=True))
        ys.append(h)
    return torch.stack(ys, 1)


def _gru(torch, spec, x, W_ih, W_hh, b, b_hn=None, gain_ih=None, gain_hh=None):
    hidden = W_hh.shape[1]
    gate, squash = (_activation(torch, name) for name in (spec.recurrent_activation, spec.activation))
    projected, U = _product(torch, x, W_ih, gain_ih) + b, W_hh.T
    biases = None if b_hn is None else torch.cat([torch.zeros(2 * hidden), b_hn])
    gates, new = U.split((2 * hidden, hidden), 1)
    h = torch.zeros(x.shape[0], hidden)
    ys = []
    for t in range(x.shape[1]):
        of_gates, of_new = projected[:, t].split((2 * hidden, hidden), 1)
        if spec.reset_after:
            of_h = torch.addmm(biases, h, U) if gain_hh is None else _product(torch, h, W_hh, gain_hh) + biases
            of_h, v = of_h.split((2 * hidden, hidden), 1)
            r, z = gate(of_gates + of_h).split(hidden, 1)
            n = squash(of_new + r * v)
        else:
            r, z = gate(torch.addmm(of_gates, h, gates)).split(hidden, 1)
            n = squash(torch.addmm(of_new, r * h, new))
        h = n + z * (h - n)
        ys.append(h)
    return torch.stack(ys, 1)


def _rnn(torch, spec, x, W_ih, W_hh, b):
    squash = _activation(torch, spec.activation)
    projected, U = x @ W_ih.T + b, W_hh.T
    h = torch.zeros(x.shape[0], W_hh.shape[1])
    ys = []
    for t in range(x.shape[1]):
        h = squash(torch.addmm(projected[:, t], h, U))
        ys.append(h)
    return torch.stack(ys, 1)


def _slstm(torch, spec, x, W_ih, W_hh, b):
    hidden = W_hh.shape[1]
    squash, gate = (_activation(torch, name) for name in (spec.activation, spec.recurrent_activation))
    log_f = torch.nn.functional.logsigmoid if spec.forget_gate == "sigmoid" else lambda z: z
    projected, U = x @ W_ih.T + b, W_hh.T
    h = c = n = m = torch.zeros(x.shape[0], hidden)
    ys = []
    for t in range(x.shape[1]):
        z_i, z_f, z_g, z_o = torch.addmm(projected[:, t], h, U).split(hidden, 1)
        left = log_f(z_f) + m
        m = z_i.detach() if t == 0 else torch.maximum(left, z_i).detach()
        i, f = torch.exp(z_i - m), torch.exp(left - m)
        c, n = f * c + i * squash(z_g), f * n + i
        h = gate(z_o) * c / n
        ys.append(h)
    return torch.stack(ys, 1)


def _mgu(torch, spec, x, W_ih, W_hh, b, b_h):
    hidden = W_hh.shape[1]
    projected, U = x @ W_ih.T + b, W_hh.T
    biases = torch.cat([torch.zeros(hidden), b_h])
    h = torch.zeros(x.shape[0], hidden)
    ys = []
    for t in range(x.shape[1]):
        (x_f, x_n), (h_f, h_n) = projected[:, t].split(hidden, 1), torch.addmm(biases, h, U).split(hidden, 1)
        f = torch.sigmoid(x_f + h_f)
        n = torch.tanh(x_n + f * h_n)
        h = h + f * (n - h)
        ys.append(h)
    return torch.stack(ys, 1)


_LOOPS = {Cell: _mgu, CellSpec: _lstm, GRUSpec: _gru, RNNSpec: _rnn, SLSTMSpec: _slstm}
ENGINES = {"numlstm cells": Numlstm, "torch loop": Loop, "torch.nn": Layer}
