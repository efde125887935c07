"""The LSTM layer."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from numlstm import _validate, cells
from numlstm._validate import Array
from numlstm.cells import CellSpec
from numlstm.functional import LSTMWeights
from numlstm.initializers import Initializer

from .recurrent import Recurrent


class LSTM(Recurrent):
    """A layer of long short-term memory units over sequences (N, T, F).

    Hochreiter and Schmidhuber 1997, with the forget gate of Gers, Schmidhuber and Cummins 2000; the equations stand at
    `numlstm.functional.lstm`.

    Parameters
    ----------
    units : int
        Number of hidden units H.
    activation : "tanh", "relu", "linear", "sigmoid" or "hard_sigmoid"
        Of the cell's input and output.
    recurrent_activation : "sigmoid" or "hard_sigmoid"
        Of the gates.
    use_bias : bool
        Whether there is a bias.
    kernel_initializer, recurrent_initializer, bias_initializer
        Names or `numlstm.initializers`, of the input weights, the recurrent weights and the bias.
    unit_forget_bias : bool
        Whether the forget gate's bias begins at 1 (Jozefowicz, Zaremba and Sutskever 2015).
    dropout : float in 0..1
        Fraction of the input features that is left out in training, the same ones at every step of a sequence (Gal and
        Ghahramani 2016).
    recurrent_dropout : float in 0..1
        The same for h, before every product with it.
    zoneout : float in 0..1 or a pair of them
        Fraction of the units whose h and c stay as they were before a step, or one of h and one of c (Krueger et al. 2017);
        without training the states are mixed by it.
    cell_clip : float, optional
        c is limited to -cell_clip..cell_clip before h is made of it, and has no gradient at that bound.
    layer_norm : bool
        Whether both products are normalised, ``gain_ih n(W x) + gain_hh n(U h) + b``, as `numlstm.CellSpec` says; c is not.
        Gains begin at 1.
    seed : int, optional
        Of the first weights and of what is left out. Without it they follow from `numlstm.utils.set_random_seed` and the
        training's seed, or differ each time.
    return_sequences : bool
        Whether y is the output of every step (N, T, H) or of the last one (N, H).
    return_state : bool
        Whether a call of the layer, or `predict` of a model that ends with it, also returns the last h and c (N, H), and of
        the variant "fgr" the last i, f and o.
    go_backwards : bool
        Whether sequences are read from their end; the outputs stand in the order in which they arise.
    stateful : bool
        Whether a batch begins with the states that the batch before it ended with, row by row, until `reset_states`.
    variant : str or `numlstm.CellSpec`
        A name of `numlstm.cells.VARIANTS`, such as "peephole", "cifg" or "1997", or a cell by its parts, which also says its
        activations. Peepholes begin with zeros, the matrix R of "fgr" as the recurrent weights do; in `get_weights` they
        stand behind the bias, in this order.
    projection : int, optional
        P, less than units: what the layer returns and its gates see of h is W_p times h, (N, T, P) or (N, P), with weights
        W_p (P, H) (Sak et al. 2014; ``proj_size`` of PyTorch); h of the states is (N, P) then, c is (N, H).
    recompute : None, "gates" or "states"
        What training does not keep in memory but computes again, with the same bits: nothing; the gates and cell states of
        each step; or also its output, unless the layer returns it. For long sequences. On a GPU gradients of weights are the
        same to rounding.
    name : str, optional
    input_shape : (T, F), optional
        Shape of one sequence, None for any T; without it, it is taken from the first data.
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
        unit_forget_bias: bool = True,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float | tuple[float, float] = 0.0,
        cell_clip: float | None = None,
        layer_norm: bool = False,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        variant: str | CellSpec = "lstm",
        projection: int | None = None,
        recompute: str | None = None,
        name: str | None = None,
        input_shape: Sequence[int | None] | None = None,
    ) -> None:
        spec = _spec(variant, activation, recurrent_activation, layer_norm)
        super().__init__(
            units,
            spec if projection is None else dataclasses.replace(spec, projected=True),
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            cell_clip=cell_clip,
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
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self.unit_forget_bias = _validate.flag("unit_forget_bias", unit_forget_bias)
        self.variant = variant if isinstance(variant, str) else spec
        self.layer_norm = spec.layer_norm

    @property
    def params(self) -> tuple[Array, ...]:
        """The weights as `numlstm.functional` takes them: views, not copies."""
        params = super().params
        return LSTMWeights(*params) if tuple(self.spec.weights) == LSTMWeights._fields else params

    def _initializers(self) -> dict[str, Initializer]:
        assert isinstance(self.spec, CellSpec)
        all_of_them, blocks = super()._initializers(), cells.blocks(self.spec)
        if self.unit_forget_bias and "f" in blocks:
            all_of_them["b"] = _ForgetBias(self.bias_initializer, blocks)
        return all_of_them


def _spec(variant: str | CellSpec, activation: str, recurrent_activation: str, layer_norm: bool) -> CellSpec:
    """Return the cell of a variant; activations are for those of its parts that the variant does not change."""
    if isinstance(variant, dict):  # from a file
        variant = CellSpec(**variant.get("config", {}))
    if isinstance(variant, CellSpec):
        if (activation, recurrent_activation) != ("tanh", "sigmoid"):
            raise ValueError("variant is a CellSpec, which says its activations: give no activation beside it")
        return dataclasses.replace(variant, layer_norm=layer_norm) if layer_norm else variant
    if not isinstance(variant, str):
        raise TypeError(f"variant must be a name or a CellSpec, not {type(variant).__name__}")
    spec = cells.VARIANTS[_validate.choice("variant", variant, cells.VARIANTS)]
    _validate.choice("activation", activation, cells.SQUASHERS)
    _validate.choice("recurrent_activation", recurrent_activation, cells.GATES)
    squash_in = activation if spec.input_activation == "tanh" else spec.input_activation
    squash_out = activation if spec.output_activation == "tanh" else spec.output_activation
    return dataclasses.replace(
        spec,
        recurrent_activation=recurrent_activation,
        input_activation=squash_in,
        output_activation=squash_out,
        layer_norm=layer_norm,
    )


class _ForgetBias(Initializer):
    """A bias whose blocks of the forget gate begin at 1."""

    def __init__(self, others: Initializer, blocks: str) -> None:
        self._others, self._forget = others, [name == "f" for name in blocks]

    def __call__(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        values = np.array(self._others(shape, rng))
        values.reshape(len(self._forget), -1)[self._forget] = 1
        return values
