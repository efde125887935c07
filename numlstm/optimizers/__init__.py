"""Optimisers and learning-rate schedules, with the names, arguments, defaults and formulas of Keras 3.

The gradient may be clipped before it is used, in one of three ways: ``clipvalue`` limits each element, ``clipnorm`` the norm
of each parameter's gradient, ``global_clipnorm`` that of all together (Pascanu, Mikolov and Bengio 2013).
"""

import functools
import math
from typing import Any

from numlstm import _registry, _validate

from . import schedules
from .schedules import Schedule

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "get", "schedules"]


@functools.cache
def _rules() -> Any:
    from numlstm.backend import RULES

    return RULES


class Optimizer:
    """How parameters move against their gradient: the base of all optimisers.

    learning_rate : a number, which may be set at any time, or a schedule
    """

    def __init__(
        self,
        learning_rate: Any,
        clipnorm: float | None,
        clipvalue: float | None,
        global_clipnorm: float | None,
    ) -> None:
        self.learning_rate = learning_rate
        self.clipnorm, self.clipvalue, self.global_clipnorm = (
            None if value is None else _validate.real(name, value, positive=True)
            for name, value in (("clipnorm", clipnorm), ("clipvalue", clipvalue), ("global_clipnorm", global_clipnorm))
        )
        if sum(value is not None for value in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise ValueError("only one of clipnorm, clipvalue and global_clipnorm can be given")

    @property
    def learning_rate(self) -> float | Schedule:
        """The learning rate: a number or a schedule."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        if isinstance(value, dict):
            value = _registry.make("learning_rate", Schedule, schedules.KNOWN, value)
        self._learning_rate = value if isinstance(value, Schedule) else _validate.real("learning_rate", value, least=0)

    def rate(self, step: int) -> float:
        """Return the learning rate of update `step`, counted from 0."""
        value = self._learning_rate
        return _validate.real("the schedule's rate", value(step), least=0) if isinstance(value, Schedule) else value

    def rule(self, step: int) -> Any:
        """Return the compiled rule of update `step`, counted from 0."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an optimiser like this one."""
        return _registry.config_of(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_config().items() if v is not None)})"


class SGD(Optimizer):
    """Gradient descent, with momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013)."""

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clipnorm, clipvalue, global_clipnorm)
        self.momentum = _validate.real("momentum", momentum, least=0, below=1)
        self.nesterov = _validate.flag("nesterov", nesterov)

    def rule(self, step: int) -> Any:
        rate = self.rate(step)
        return _rules().Momentum(rate, self.momentum, float(self.nesterov)) if self.momentum else _rules().SGD(rate)


class RMSprop(Optimizer):
    """Steps divided by a running root mean square of the gradient (Tieleman and Hinton 2012)."""

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        rho: float = 0.9,
        epsilon: float = 1e-7,
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clipnorm, clipvalue, global_clipnorm)
        self.rho = _validate.real("rho", rho, least=0, below=1)
        self.epsilon = _validate.real("epsilon", epsilon, positive=True)

    def rule(self, step: int) -> Any:
        return _rules().RMSprop(self.rate(step), self.rho, self.epsilon)


class Adam(Optimizer):
    """Steps of a running mean of the gradient, divided by its running root mean square (Kingma and Ba 2015)."""

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clipnorm, clipvalue, global_clipnorm)
        self.beta_1 = _validate.real("beta_1", beta_1, least=0, below=1)
        self.beta_2 = _validate.real("beta_2", beta_2, least=0, below=1)
        self.epsilon = _validate.real("epsilon", epsilon, positive=True)

    def _decay(self) -> float:
        return 0.0

    def rule(self, step: int) -> Any:
        rate = self.rate(step)
        corrected = rate * math.sqrt(1 - self.beta_2 ** (step + 1)) / (1 - self.beta_1 ** (step + 1))
        return _rules().Adam(corrected, self.beta_1, self.beta_2, self.epsilon, rate * self._decay())


class AdamW(Adam):
    """Adam that also shrinks the parameters, by the learning rate times `weight_decay` (Loshchilov and Hutter 2019)."""

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        clips = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **clips)
        self.weight_decay = _validate.real("weight_decay", weight_decay, least=0)

    def _decay(self) -> float:
        return self.weight_decay


_KNOWN: dict[str, type[Optimizer]] = {"sgd": SGD, "rmsprop": RMSprop, "adam": Adam, "adamw": AdamW}


def get(value: Any) -> Optimizer:
    """Return an optimiser from its name in any case, class or description.

    Raises
    ------
    ValueError
        For an unknown name; the message lists the known ones.
    """
    return _registry.make("optimizer", Optimizer, _KNOWN, value)
