"""Learning from batches, one after the other, and measuring on them."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import _random, _validate, losses, metrics, optimizers
from ._samples import Data, checked
from ._validate import Array
from .callbacks import Logs
from .layers import Bidirectional, Recurrent
from .losses import Loss
from .metrics import Meter
from .optimizers import Optimizer

if TYPE_CHECKING:
    from ._step import Step
    from .models import Sequential

BATCH_SIZE = 32  # Keras' default


class Learner:
    """What moves a model's parameters: the arguments are those of `Trainer`."""

    def __init__(
        self,
        model: "Sequential",
        optimizer: Any,
        loss: Any,
        metrics: Sequence[Any],
        clip_norm: float | None,
        clip_value: float | None,
        truncate: int | None,
        accumulate: int,
        seed: int | None,
    ) -> None:
        self.model = model
        self.optimizer: Optimizer = optimizers.get(optimizer)
        self.loss: Loss = losses.get(loss)
        self.metrics = _metrics(metrics, self.loss)
        self._clip = _clipping(self.optimizer, clip_norm, clip_value)
        self.truncate = None if truncate is None else _validate.whole("truncate", truncate)
        self.accumulate = _validate.whole("accumulate", accumulate)
        self.seed = _random.new_seed() if seed is None else _validate.whole("seed", seed, 0)
        self.batches = 0  # batches and updates so far
        self.updates = 0
        self._step: Step | None = None
        self._slots: list[Array] | None = None  # of a copied or unpickled trainer, until it is ready
        self._waiting = 0  # batches whose gradients wait for an update

    def begin_anew(self) -> None:
        """Forget what the optimiser remembers and what gradients wait."""
        self._step, self._slots, self._waiting, self.updates = None, None, 0, 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the memory of training, which refers to the weights in place: a copy has other ones."""
        slots = self._slots if self._step is None else self._step.updates.kept()
        return {**self.__dict__, "_step": None, "_slots": slots, "_waiting": 0}

    def _data(self, x: Any, y: Any, weights: Any, lengths: Any = None, whole: bool = False) -> Data:
        return checked(self.model, self.loss, x, y, weights, lengths, whole=whole)

    def step(self, x: Any, y: Any, sample_weight: Any = None, lengths: Any = None) -> float:
        """Train on one batch and return its loss, before the update.

        x, y, sample_weight, lengths : as for `Trainer.fit`
        """
        data = self._data(x, y, sample_weight, lengths, whole=True)
        step = self._ready()
        meter = step.meter()
        self._learn(step, step.feed.place(data), meter)
        return meter.loss()

    def _ready(self) -> "Step":
        """Return the memory of training, made at first use."""
        if self._step is not None and self._step.layers != tuple(self.model.layers):
            self.begin_anew()
        if self._step is not None and self._step.backend is not self.model.backend:  # what the optimiser keeps comes along
            self._slots, self._step = self._step.updates.kept(), None
        if self._step is None:
            from ._step import Step
            from .backend import SLOTS

            recurrent = [layer for layer in self.model.layers if isinstance(layer, (Recurrent, Bidirectional))]
            if self.truncate is not None and not recurrent:
                raise ValueError("truncate cuts sequences into pieces: it needs a model with a recurrent layer")
            if self.truncate is not None and any(getattr(layer, "go_backwards", True) for layer in recurrent):
                raise ValueError(
                    "truncate goes forwards through the steps, piece by piece: it cannot be used with go_backwards or "
                    "Bidirectional, which begin at the end"
                )
            slots = SLOTS[type(self.optimizer.rule(0))]
            self._step = Step(self.model, self.loss, self.metrics, slots, self.seed)
            if self._slots is not None:
                self._step.updates.take(self._slots)
            self._slots = None
        return self._step

    def _learn(self, step: "Step", batch: Data, meter: Meter) -> None:
        draw = self.batches
        self.batches += 1
        with step.lock:
            if self.truncate is None:
                step.learn(batch, draw, self._waiting > 0, meter)
                self._count(step)
                return
            for number, (piece, with_loss) in enumerate(step.pieces(batch, self.truncate)):
                step.learn(piece, draw, self._waiting > 0, meter, number, with_loss)
                if with_loss:
                    self._count(step)

    def _count(self, step: "Step") -> None:
        self._waiting += 1
        if self._waiting >= self.accumulate:
            self._flush(step)

    def _flush(self, step: "Step") -> None:
        """Update the parameters by the gradients that wait."""
        if self._waiting:
            step.updates.apply(self.optimizer.rule(self.updates), 1 / self._waiting, *self._clip)
            self.updates += 1
            self._waiting = 0

    def evaluate(
        self, x: Any, y: Any, batch_size: int | None = None, sample_weight: Any = None, lengths: Any = None
    ) -> Logs:
        """Return the loss and the metrics on data, by name. Stateful layers begin with zeros, and keep what they had.

        x, y, sample_weight, lengths : as for `Trainer.fit`
        """
        data = self._data(x, y, sample_weight, lengths)
        step = self._ready()
        return self._measure(step, step.feed.place(data), batch_size_of(batch_size))

    def _measure(self, step: "Step", data: Data, size: int) -> Logs:
        meter = step.meter()
        with step.lock:
            states = [layer.states for layer in self.model.layers]
            self.model.reset_states()
            try:
                for start in range(0, len(data.x), size):
                    step.measure(step.feed.part(data, start, start + size), meter)
            finally:
                for layer, kept in zip(self.model.layers, states, strict=True):
                    layer.states = kept
        return meter.logs()


def _metrics(names: Any, loss: Loss) -> list[metrics.Metric]:
    if names is None:
        return []
    if isinstance(names, str) or not isinstance(names, Iterable):
        names = [names]
    return [metrics.get(name, loss) for name in names]


def batch_size_of(given: Any) -> int:
    return BATCH_SIZE if given is None else _validate.whole("batch_size", given)


def _clipping(
    optimizer: Optimizer, clip_norm: float | None, clip_value: float | None
) -> tuple[float | None, float | None, float | None]:
    """Return the limits of the norm of all gradients, of each one's norm, and of their elements."""
    own = optimizer.global_clipnorm, optimizer.clipnorm, optimizer.clipvalue
    if clip_norm is None and clip_value is None:
        return own
    if any(limit is not None for limit in own):
        raise ValueError(
            "the optimizer clips already: give clip_norm and clip_value to the trainer, or limits to the optimizer"
        )
    norm = None if clip_norm is None else _validate.real("clip_norm", clip_norm, positive=True)
    return norm, None, None if clip_value is None else _validate.real("clip_value", clip_value, positive=True)
