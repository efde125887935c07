"""Learning rates that depend on the number of updates so far; a plain number is a constant one."""

import math
from collections.abc import Sequence
from typing import Any

from numlstm import _registry, _validate

__all__ = ["CosineDecay", "ExponentialDecay", "PiecewiseConstantDecay", "Schedule"]


class Schedule:
    """A learning rate that depends on the number of updates so far."""

    def __call__(self, step: int) -> float:
        """Return the rate of update `step`, counted from 0."""
        raise NotImplementedError(f"{type(self).__name__} does not say the rate: define __call__(step)")

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a schedule like this one."""
        return _registry.config_of(self)

    def __repr__(self) -> str:
        try:
            config = self.get_config()
        except AttributeError:  # a user's own, which keeps its arguments elsewhere
            return super().__repr__()
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in config.items())})"


class PiecewiseConstantDecay(Schedule):
    """Steps: ``values[0]`` up to and with update ``boundaries[0]``, then ``values[1]``, and so on."""

    def __init__(self, boundaries: Sequence[int], values: Sequence[float]) -> None:
        self.boundaries = [_validate.whole("each of boundaries", boundary, 0) for boundary in boundaries]
        self.values = [_validate.real("each of values", value, least=0) for value in values]
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(f"values must be one more than boundaries, not {len(self.values)} and {len(self.boundaries)}")
        if self.boundaries != sorted(self.boundaries):
            raise ValueError(f"boundaries must ascend, not {self.boundaries}")

    def __call__(self, step: int) -> float:
        return self.values[sum(step > boundary for boundary in self.boundaries)]


class ExponentialDecay(Schedule):
    """``initial_learning_rate * decay_rate ** (step / decay_steps)``; with `staircase`, the exponent is rounded down."""

    def __init__(self, initial_learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False) -> None:
        self.initial_learning_rate = _validate.real("initial_learning_rate", initial_learning_rate, positive=True)
        self.decay_steps = _validate.whole("decay_steps", decay_steps)
        self.decay_rate = _validate.real("decay_rate", decay_rate, positive=True)
        self.staircase = _validate.flag("staircase", staircase)

    def __call__(self, step: int) -> float:
        exponent = step // self.decay_steps if self.staircase else step / self.decay_steps
        return float(self.initial_learning_rate * self.decay_rate**exponent)


class CosineDecay(Schedule):
    """Half a cosine from the initial rate to `alpha` times it, over `decay_steps` updates (Loshchilov and Hutter 2017).

    With `warmup_target`, a straight line leads first from the initial rate to that one, over `warmup_steps`.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        self.initial_learning_rate = _validate.real("initial_learning_rate", initial_learning_rate, least=0)
        self.decay_steps = _validate.whole("decay_steps", decay_steps)
        self.alpha = _validate.real("alpha", alpha, least=0)
        self.warmup_target = None if warmup_target is None else _validate.real("warmup_target", warmup_target, least=0)
        self.warmup_steps = _validate.whole("warmup_steps", warmup_steps, 0)

    def __call__(self, step: int) -> float:
        start = self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return start + (self.warmup_target - start) * step / self.warmup_steps
            start, step = self.warmup_target, step - self.warmup_steps
        progress = min(step / self.decay_steps, 1)
        return start * (self.alpha + (1 - self.alpha) * 0.5 * (1 + math.cos(math.pi * progress)))


KNOWN: dict[str, type[Schedule]] = {kind.__name__: kind for kind in (PiecewiseConstantDecay, ExponentialDecay, CosineDecay)}
