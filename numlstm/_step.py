"""One training step: forward, loss, backward and update in compiled code, on memory that is taken once.

After the first batch of each shape a step allocates nothing but a few numbers.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _random, _threads, losses, metrics, passes
from ._pieces import pieces
from ._plan import Plan
from ._samples import Data
from ._validate import Array
from .layers import Dense, Layer, Recurrent
from .losses import Loss
from .metrics import Meter, Metric

if TYPE_CHECKING:
    from .models import Sequential


_MOST_SHAPES = 64
_SLACK = 64 << 20  # bytes


class _Shape(NamedTuple):
    """What there is for batches of one shape."""

    plan: Plan
    gradient: Array  # (R, C) of the output, (0, C) without training
    values: Array  # (R,) workspace of losses


class Step:
    """A model's parameters, their gradients and what the optimiser keeps of them, and the passes that change them.

    backend : what computes; feed : what takes batches from data; updates : what moves the parameters
    """

    def __init__(self, model: "Sequential", loss: Loss, metrics: Sequence[Metric], slots: int, seed: int) -> None:
        self._model, self._loss, self._metrics, self._seed = model, loss, metrics, seed
        self._raw = is_fused(model.layers, loss)
        self.backend = backend = model.backend
        self.feed = backend.Feed(model.x_dtype)
        self.layers = tuple(model.layers)
        self.lock = threading.Lock()  # of what passes share
        self._threads = _threads.get_num_threads()
        self._arena, self._largest = backend.Arena(), 0
        self._shapes: dict[Any, _Shape] = {}
        self._states: dict[int, tuple[Array, ...]] = {}  # by layer, what a piece of a batch leaves to the next
        parameters = [p for layer in model.layers for p in layer.parameters.values()]
        self.updates = backend.Updates(parameters, slots, model.dtype)
        views = iter(self.updates.gradients)
        self._by_layer = [{n: next(views).reshape(p.shape) for n, p in layer.parameters.items()} for layer in model.layers]

    def pieces(self, batch: Data, length: int) -> Iterator[tuple[Data, bool]]:
        """Cut a batch into pieces (`_pieces.pieces`); states go from piece to piece and begin with zeros."""
        self._states = {}
        return pieces(batch, length, self._has_steps(batch), self.feed.buffer, self.backend.cut)

    def _has_steps(self, batch: Data) -> bool:
        """Return whether the model has an output for each step."""
        output = self._model.output_shape_for(batch.x.shape[1:])
        return len(output) == 2 and output[0] == batch.x.shape[1]

    def meter(self) -> Meter:
        """Return a meter of nothing yet, whose totals are where the passes are."""
        return Meter(self._metrics, self.backend.zeros(1 + len(self._metrics), np.float64), self.backend.host)

    def _shape(self, batch: Data, training: bool, carried: bool) -> _Shape:
        if self._threads != _threads.get_num_threads():  # what is taken depends on how many there are
            self._threads = _threads.get_num_threads()
            self._shapes.clear()
        x, ragged = batch.x, batch.lengths is not None
        key = x.shape, training, ragged
        if key not in self._shapes:
            _make_room(self._shapes)
            self._begin_anew_if_wasteful()
            plan = Plan(self.layers, x.shape, self._model.dtype, self._arena.take, training, self._raw, ragged, self.backend)
            rows, columns = int(np.prod(plan.output_shape[:-1])), plan.output_shape[-1]
            gradient = self._arena.take((rows if training else 0, columns), self._model.dtype)
            self._shapes[key] = _Shape(plan, gradient, self._arena.take((rows,), np.dtype(np.float64)))
        shape = self._shapes[key]
        if carried or shape.plan.carried:
            self._carry(shape.plan, carried)
        return shape

    def _begin_anew_if_wasteful(self) -> None:
        """Begin at the start of the arena, or with a new one where plans that grew have left gaps in it."""
        self._largest = max(self._largest, self._arena.taken)
        if self._arena.nbytes > 2 * self._largest + _SLACK:
            self._arena.release()
            self._shapes.clear()
        self._arena.restart()

    def _carry(self, plan: Plan, carried: bool) -> None:
        """Let the recurrent layers go on with the states of the piece before, or not."""
        plan.carried = carried
        for i, (layer, run) in enumerate(zip(self.layers, plan.runs, strict=True)):
            if isinstance(layer, Recurrent) and isinstance(run, passes.RecurrentRun) and not layer.stateful:
                run.states = None
                if carried:
                    if i not in self._states:
                        self._states[i] = layer.new_states(plan.output_shape[0], self._model.dtype, self.backend.zeros)
                    run.states = self._states[i]

    def learn(
        self, batch: Data, draw: int, add: bool, meter: Meter, piece: int | None = None, with_loss: bool = True
    ) -> None:
        """Write the gradients of a batch's loss, or add to them.

        draw : number of the batch's random masks; piece : number of the piece that this is of a batch
        """
        plan, gradient, values = self._shape(batch, True, piece is not None)
        for i, layer in enumerate(self.layers):
            if layer.random:
                seed = self._seed if layer.seed is None else layer.seed
                # A recurrent layer's mask of dropout is that of whole sequences, so of all their pieces.
                plan.keys[i] = _random.stream_key(seed, i, draw, 0 if isinstance(layer, Recurrent) else piece or 0)
                plan.runs[i].piece = piece or 0
        plan.load()
        output = plan.forward(batch.x, batch.lengths)
        if with_loss:
            self._measure(plan, output, batch, gradient, values, meter)
            plan.backward(gradient.reshape(output.shape), self._by_layer, add)

    def measure(self, batch: Data, meter: Meter) -> None:
        """Add a batch's loss and metrics to the meter."""
        plan, gradient, values = self._shape(batch, False, False)
        plan.load()
        self._measure(plan, plan.forward(batch.x, batch.lengths), batch, gradient, values, meter)

    def _measure(self, plan: Plan, output: Array, batch: Data, gradient: Array, values: Array, meter: Meter) -> None:
        rows, weights = losses.flat(output), batch.weights
        target = losses.flat_target(batch.y, rows)
        lengths = batch.lengths if output.ndim == 3 else None
        count = metrics.count_of(self._loss, rows, lengths)
        kernel = self._loss.kernel(self._raw)
        add_loss, totals = self.backend.add_loss, meter.totals
        add_loss(totals, 0, kernel, rows, target, weights, lengths, 1 / count, gradient, values)
        meter.count(0, count)
        if self._metrics:
            final = losses.flat(plan.activated(output))
            for place, metric in enumerate(self._metrics, 1):
                kernel = metric.loss.kernel(raw=False)
                add_loss(totals, place, kernel, final, target, weights[:0], lengths, 0.0, gradient[:0], values)
                meter.count(place, metrics.count_of(metric, final, lengths))


def _make_room(kept: dict[Any, Any]) -> None:
    """Forget all that is kept for shapes where there are too many of them."""
    if len(kept) >= _MOST_SHAPES:
        kept.clear()


def is_fused(layers: Sequence[Layer], loss: Loss) -> bool:
    """Return whether the last layer's activation is left to the loss, which is more exact with it within."""
    last = layers[-1]
    within = isinstance(last, Dense) and last.activation == loss.fused
    return within and not getattr(loss, "from_logits", False)
