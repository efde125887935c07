"""A recurrent layer of any cell."""

from collections.abc import Sequence

from numlstm import cells
from numlstm.initializers import Initializer

from .recurrent import Recurrent


class RNN(Recurrent):
    """A recurrent layer over sequences (N, T, F) of any cell: one of the user's own (`numlstm.Cell`), or one of numlstm's.

    Weights in `get_weights` and `set_weights` are as Keras has them, (inputs, outputs), with the gates in the cell's order.
    A file of a model holds the name by which the cell is registered (`numlstm.cells.register`).

    Parameters
    ----------
    units : int
        Number of hidden units H.
    cell : `numlstm.Cell`, a spec such as `numlstm.GRUSpec`, or a name
        As `numlstm.functional.rnn` takes it; with projection= one that is `projected`.

    The other parameters are those of `numlstm.LSTM`; the bias begins with zeros in all gates.
    """

    def __init__(
        self,
        units: int,
        cell: str | cells.Spec,
        *,
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        recurrent_initializer: str | Initializer = "orthogonal",
        bias_initializer: str | Initializer = "zeros",
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float | tuple[float, float] = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        projection: int | None = None,
        recompute: str | None = None,
        name: str | None = None,
        input_shape: Sequence[int | None] | None = None,
    ) -> None:
        super().__init__(
            units,
            cells.described("cell", cell) if isinstance(cell, dict) else cells.spec(cell),
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            projection=projection,
            seed=seed,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            recompute=recompute,
            name=name,
            input_shape=input_shape,
        )
        self.cell = cell if isinstance(cell, str) and cell in cells.NAMES else self.spec
