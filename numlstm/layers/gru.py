"""The GRU layer."""

from collections.abc import Sequence

import numpy as np

from numlstm._validate import Array
from numlstm.cells import GAINS, GRUSpec
from numlstm.initializers import Initializer

from .recurrent import Recurrent


class GRU(Recurrent):
    """A layer of gated recurrent units (Cho et al. 2014) over sequences (N, T, F); the equations stand at `numlstm.GRUSpec`.

    `get_weights` and `set_weights` use Keras' layout: gates z, r, h and a bias (2, 3H), or (3H,) with the reset gate before
    the product. The engine needs no recurrent bias of z and r: it is added to the other.

    Parameters
    ----------
    units : int
        Number of hidden units H.
    activation : "tanh", "relu", "linear", "sigmoid" or "hard_sigmoid"
    recurrent_activation : "sigmoid" or "hard_sigmoid"
    reset_after : bool
        Whether the reset gate comes after the product with h, as Keras and cuDNN have it, or before it (`numlstm.GRUSpec`).
    projection : None
        Anything else is refused: h = (1 - z) n + z h is as wide as n.

    The other parameters are those of `numlstm.LSTM`.
    """

    def __init__(
        self,
        units: int,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        *,
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        recurrent_initializer: str | Initializer = "orthogonal",
        bias_initializer: str | Initializer = "zeros",
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        layer_norm: bool = False,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        reset_after: bool = True,
        projection: None = None,
        recompute: str | None = None,
        name: str | None = None,
        input_shape: Sequence[int | None] | None = None,
    ) -> None:
        if projection is not None:
            raise ValueError(
                "projection is not for a GRU: its h = (1 - z) n + z h is mixed with h of the step before unit by unit, "
                "so that it cannot be narrower than n"
            )
        super().__init__(
            units,
            GRUSpec(activation, recurrent_activation, reset_after, layer_norm),
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            seed=seed,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            recompute=recompute,
            name=name,
            input_shape=input_shape,
        )
        self.activation, self.recurrent_activation, self.reset_after = activation, recurrent_activation, reset_after
        self.layer_norm = layer_norm

    def to_keras(self, name: str, value: Array) -> Array:
        if name in GAINS:
            return _blocks(value, (1, 0, 2))
        if name == "b" and self.reset_after:
            r, z, n, n_h = value.reshape(4, -1)
            zero = np.zeros_like(r)
            return np.stack([np.concatenate([z, r, n]), np.concatenate([zero, zero, n_h])])
        r, z, n = np.split(value, 3)
        return np.concatenate([z, r, n]).T.copy()

    def from_keras(self, name: str, value: Array) -> Array:
        if name in GAINS:
            return _blocks(value, (1, 0, 2))
        if name == "b" and self.reset_after:
            (z, r, n), (z_h, r_h, n_h) = value.reshape(2, 3, -1)
            return np.concatenate([r + r_h, z + z_h, n, n_h])
        z, r, n = np.split(value.T, 3)
        return np.concatenate([r, z, n])


def _blocks(values: Array, order: tuple[int, int, int]) -> Array:
    """Return a copy of values (3H,) with their blocks in another order."""
    return values.reshape(3, -1)[list(order)].reshape(-1)
