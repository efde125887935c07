"""The sLSTM layer."""

from collections.abc import Sequence

from numlstm.cells import SLSTMSpec
from numlstm.initializers import Initializer

from .recurrent import Recurrent


class SLSTM(Recurrent):
    """A layer of sLSTM units (Beck et al. 2024) over sequences (N, T, F), with exponential gates.

    The equations stand at `numlstm.SLSTMSpec`. One head: every unit sees all of h. States h, c, n, m.

    Parameters
    ----------
    units : int
        Number of hidden units H.
    activation : "tanh", "relu", "linear", "sigmoid" or "hard_sigmoid"
    recurrent_activation : "sigmoid" or "hard_sigmoid"
        Of the output gate.
    forget_gate : "exp" or "sigmoid"

    The other parameters are those of `numlstm.LSTM`; the bias begins with zeros in all gates.
    """

    def __init__(
        self,
        units: int,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        *,
        forget_gate: str = "exp",
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
        projection: int | None = None,
        recompute: str | None = None,
        name: str | None = None,
        input_shape: Sequence[int | None] | None = None,
    ) -> None:
        super().__init__(
            units,
            SLSTMSpec(forget_gate, activation, recurrent_activation, projection is not None, layer_norm),
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
        self.activation, self.recurrent_activation, self.forget_gate = activation, recurrent_activation, forget_gate
        self.layer_norm = layer_norm
