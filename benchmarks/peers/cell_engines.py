"""Every cell in numlstm, as a loop over time in PyTorch, and in torch.nn where it is there."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cell_loops import LOOPS
from problem import SEED, Shape
from worker import Task

from numlstm.cells import VARIANTS, CellSpec, GRUSpec, RNNSpec, SLSTMSpec, Spec

sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "docs" / "examples"))
from minimal_gated_unit import mgu

CELLS: dict[str, Spec] = {
    **VARIANTS,
    "lstm, hard_sigmoid": CellSpec(recurrent_activation="hard_sigmoid"),
    "lstm, relu": CellSpec(input_activation="relu", output_activation="relu"),
    "lstm, projected": CellSpec(projected=True),  # to half as many
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
IN_TORCH = {"lstm": "LSTM", "lstm, projected": "LSTM", "gru": "GRU", "rnn": "RNN", "rnn, relu": "RNN"}


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


def outputs_of(spec: Spec, hidden: int) -> int:
    """Return how many outputs a layer of so many units has."""
    return hidden // 2 if "W_p" in spec.weights else hidden


def cell_problem(shape: Shape, cell: str) -> CellProblem:
    """Return the same data in every process."""
    rng = np.random.default_rng(SEED)
    N, T, I, H = shape  # noqa: E741
    P = outputs_of(CELLS[cell], H)
    bound, columns = 1 / np.sqrt(H), {"W_ih": (I,), "W_hh": (P,), "R": (3 * H,)}
    x, dy = (rng.standard_normal((N, T, size)).astype(np.float32) for size in (I, P))
    shapes = {name: (blocks * H, *columns.get(name, ())) for name, (blocks, _) in CELLS[cell].weights.items()}
    shapes |= {"W_p": (P, H)} if "W_p" in shapes else {}
    weights = {name: rng.uniform(-bound, bound, size).astype(np.float32) for name, size in shapes.items()}
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
        step = LOOPS[type(spec)]
        if given.cell not in OPTIONS:
            return lambda: step(self._torch, spec, **leaves)
        mask, keeps = (None if a is None else self._torch.from_numpy(np.asarray(a)) for a in (given.mask, given.keeps))
        return lambda: step(self._torch, spec, **leaves, clip=given.clip, mask=mask, keeps=keeps)


class Layer(_Torch):
    """torch.nn's own layer."""

    def _call(self, given: CellProblem, leaves: dict[str, Any]) -> Callable[[], Any]:
        torch, hidden, W_p = self._torch, given.dy.shape[2], given.weights.get("W_p")
        more: dict[str, Any] = {"nonlinearity": given.spec.activation} if given.cell.startswith("rnn") else {}
        if W_p is not None:
            more, hidden = {"proj_size": hidden}, W_p.shape[1]
        layer = getattr(torch.nn, IN_TORCH[given.cell])(given.x.shape[2], hidden, batch_first=True, **more)
        second = np.zeros_like(given.weights["b"])
        if "b_hn" in given.weights:
            second[-hidden:] = given.weights["b_hn"]
        values = [*(given.weights[name] for name in ("W_ih", "W_hh", "b")), second]
        values += [] if W_p is None else [W_p]
        for name, value in zip(_NAMES, values, strict=False):
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
        if "W_p" in given.weights:
            found["W_p"] = leaves[_NAMES[4]].grad.numpy()
        return found


_NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l0")


ENGINES = {"numlstm cells": Numlstm, "torch loop": Loop, "torch.nn": Layer}
