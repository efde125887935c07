"""What a recurrent layer's cell is made of: the LSTM family by its parts, GRU, simple RNN, sLSTM, and names of presets."""

import functools
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from . import _validate

__all__ = ["VARIANTS", "CellSpec", "GRUSpec", "RNNSpec", "SLSTMSpec"]

SQUASHERS = ("tanh", "relu", "linear", "sigmoid", "hard_sigmoid")
GATES = ("sigmoid", "hard_sigmoid")
NORMED, PROJECTED = "Normed_of_", "Projected_of_"
GAINS = "gain_ih", "gain_hh"


class Spec:
    """What all specs have. `name` is the engine's name of the cell: its kind and its fields.

    layer_norm : whether both products are normalised: `CellSpec` says how
    """

    kind: ClassVar[str]
    layer_norm: bool

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states, h first."""
        raise NotImplementedError

    @functools.cached_property
    def states(self) -> int:
        """How many states there are, h among them."""
        return len(self.state_names)

    @property
    def weights(self) -> dict[str, tuple[int, int]]:
        """By name, of how many blocks of H rows each of the weights is made, and how many dimensions it has.

        A projection W_p (P, H) is made of none.
        """
        raise NotImplementedError

    def state_sizes(self, hidden: int, outputs: int) -> tuple[int, ...]:
        """Return the last axis of each state, for H hidden units and P outputs."""
        return outputs, *(hidden,) * (self.states - 1)

    def and_options(self, weights: dict[str, tuple[int, int]], projected: bool = False) -> dict[str, tuple[int, int]]:
        """Return `weights` followed by W_p of a projected cell and, where products are normalised, a gain for each row."""
        gains = {gain: (weights[matrix][0], 1) for gain, matrix in zip(GAINS, ("W_ih", "W_hh"), strict=True)}
        return weights | ({"W_p": (0, 2)} if projected else {}) | (gains if self.layer_norm else {})

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a spec like this one."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @functools.cached_property
    def name(self) -> str:
        names = (each.name for each in fields(self))  # type: ignore[arg-type]
        words = (getattr(self, name) for name in names if name not in ("layer_norm", "projected"))
        plain = "_of_".join([self.kind, *(str(word).replace(" ", "_") for word in words)])
        return NORMED * self.layer_norm + PROJECTED * ("W_p" in self.weights) + plain


@dataclass(frozen=True)
class CellSpec(Spec):
    """A member of the LSTM family, by its parts.

    ``c = f c + i g`` and ``h = o a(c)``, with the gates i, f, o and the input g of ``W x + U h + b``. The names and most of
    the combinations are those of Greff et al. 2017, "LSTM: A Search Space Odyssey".

    Parameters
    ----------
    input_gate, output_gate : bool
        Without a gate, i = 1 or o = 1, and it has no weights.
    forget_gate : "learned", "one" or "coupled"
        f of its own; f = 1; or f = 1 - i.
    recurrent_activation : "sigmoid" or "hard_sigmoid"
        Of the gates.
    input_activation, output_activation : "tanh", "relu", "linear", "sigmoid" or "hard_sigmoid"
        Of g, and a.
    peepholes : bool
        Whether i and f also see p c of the step before, and o sees p c of this one (Gers and Schmidhuber 2000).
    cell_input : "x and h" or "h only"
        What g sees.
    gate_recurrence : bool
        Whether i, f and o also see R times i, f and o of the step before, with a full matrix R (3H, 3H): then these are
        states as h and c are, zero before the first step. For cells with all three gates.
    gate_sets : 1 or 2
        2: i, f and o have two sets of weights, of which each unit takes a mean at each step: the first set counts
        a = sigmoid of A x + B h + b_a, which stands behind the others in W_ih, W_hh and b (rows i, f, g, o, i, f, o, a), and
        the second 1 - a. For cells with all three gates, without peepholes and gate recurrence, whose g sees x and h. This
        is our reading of "ltms", which came with one sentence: gate weights vary, adapting to time steps and inputs.
    projected : bool
        Whether h is W_p times what it was, (P, H) with P < H (Sak et al. 2014): y, h and what gates see of it are (P,).
    layer_norm : bool
        Layer normalisation (Ba, Kiros and Hinton 2016, equation 20): ``gain_ih n(W x) + gain_hh n(U h) + b`` instead of
        ``W x + U h + b``. n takes the mean from all rows of a product together, of all gates, and divides by the square root
        of their variance + 1e-5. c is not normalised, unlike in their equation 22: every step would wait for one more mean
        over all units. Peepholes are added behind it. With gate_recurrence U h is the whole recurrent product, what R adds
        included; with gate_sets=2 both products have all blocks, a too. W_p is applied as it is.
    """

    input_gate: bool = True
    forget_gate: str = "learned"
    output_gate: bool = True
    recurrent_activation: str = "sigmoid"
    input_activation: str = "tanh"
    output_activation: str = "tanh"
    peepholes: bool = False
    cell_input: str = "x and h"
    gate_recurrence: bool = False
    gate_sets: int = 1
    projected: bool = False
    layer_norm: bool = False

    kind: ClassVar[str] = "LSTM"

    def __post_init__(self) -> None:
        for name in ("input_gate", "output_gate", "peepholes", "gate_recurrence", "projected", "layer_norm"):
            _validate.flag(name, getattr(self, name))
        _validate.choice("forget_gate", self.forget_gate, ("learned", "one", "coupled"))
        _validate.choice("recurrent_activation", self.recurrent_activation, GATES)
        _validate.choice("input_activation", self.input_activation, SQUASHERS)
        _validate.choice("output_activation", self.output_activation, SQUASHERS)
        _validate.choice("cell_input", self.cell_input, ("x and h", "h only"))
        if self.forget_gate == "coupled" and not self.input_gate:
            raise ValueError("forget_gate='coupled' is 1 - i, which needs an input gate: f would always be 0")
        if self.peepholes and not (self.input_gate or self.output_gate or self.forget_gate == "learned"):
            raise ValueError("peepholes=True is for gates, of which this cell has none")
        if self.cell_input == "h only" and not (self.input_gate or self.output_gate or self.forget_gate == "learned"):
            raise ValueError("cell_input='h only' lets x pass through the gates alone, of which this cell has none")
        every_gate = self.input_gate and self.output_gate and self.forget_gate == "learned"
        if self.gate_recurrence and not every_gate:
            raise ValueError("gate_recurrence=True is for cells with an input, a forget and an output gate of their own")
        if self.gate_recurrence and self.projected:
            raise ValueError(
                "gate_recurrence=True and a projection do not go together yet: one product takes h and gates, of one size"
            )
        if _validate.whole("gate_sets", self.gate_sets) > 2:
            raise ValueError(f"gate_sets must be 1 or 2, not {self.gate_sets}")
        others = self.peepholes or self.gate_recurrence or self.cell_input != "x and h"
        if self.gate_sets == 2 and (others or not every_gate):
            raise ValueError(
                "gate_sets=2 is for cells with an input, a forget and an output gate of their own, of which nothing says to "
                "which set peepholes, gate_recurrence or cell_input='h only' would belong"
            )

    @functools.cached_property
    def state_names(self) -> tuple[str, ...]:
        return ("h", "c", "i", "f", "o") if self.gate_recurrence else ("h", "c")

    @functools.cached_property
    def weights(self) -> dict[str, tuple[int, int]]:
        count, others = len(blocks(self)), len(gates(self)) - 1
        weights = {"W_ih": (count - (self.cell_input == "h only"), 2), "W_hh": (count, 2), "b": (count, 1)}
        if self.peepholes:
            weights["p"] = (others, 1)
        if self.gate_recurrence:
            weights["R"] = (others, 2)
        return self.and_options(weights, self.projected)


@dataclass(frozen=True)
class GRUSpec(Spec):
    """A gated recurrent unit (Cho et al. 2014): ``r, z = gates of W x + U h + b``, ``h = (1 - z) n + z h``; blocks r, z, n.

    reset_after : bool
        Whether r comes after the product, as in cuDNN and Keras: ``n = a(W x + b + r (U h + b_hn))``; or before it, as it
        was published: ``n = a(W x + b + U (r h))``, without b_hn. Then a step has two products, the second of which waits
        for the first.
    activation : of n, as CellSpec's input_activation; recurrent_activation : of r and z
    layer_norm : as for CellSpec; b_hn comes after the gain. With reset_after=False there are three products, each normalised
        over what it yields: W x over all rows, U h over those of r and z, and U (r h) over those of n,
        ``n = a(gain_ih n(W x) + b + gain_hh n(U (r h)))``. r is known only behind the second, so that no mean can be over
        all rows of U at once.

    There is no projection of a GRU: h is mixed with n unit by unit, and is as wide.
    """

    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    reset_after: bool = True
    layer_norm: bool = False

    kind: ClassVar[str] = "GRU"
    state_names: ClassVar[tuple[str, ...]] = ("h",)

    def __post_init__(self) -> None:
        _validate.flag("layer_norm", self.layer_norm)
        _validate.choice("activation", self.activation, SQUASHERS)
        _validate.choice("recurrent_activation", self.recurrent_activation, GATES)
        _validate.flag("reset_after", self.reset_after)

    @functools.cached_property
    def weights(self) -> dict[str, tuple[int, int]]:
        weights = {"W_ih": (3, 2), "W_hh": (3, 2), "b": (3, 1)}
        return self.and_options({**weights, "b_hn": (1, 1)} if self.reset_after else weights)


@dataclass(frozen=True)
class RNNSpec(Spec):
    """A simple recurrent network (Elman 1990): ``h = a(W x + U h + b)``.

    activation : as CellSpec's input_activation; projected, layer_norm : as for CellSpec
    """

    activation: str = "tanh"
    projected: bool = False
    layer_norm: bool = False

    kind: ClassVar[str] = "RNN"
    state_names: ClassVar[tuple[str, ...]] = ("h",)

    @functools.cached_property
    def weights(self) -> dict[str, tuple[int, int]]:
        return self.and_options({"W_ih": (1, 2), "W_hh": (1, 2), "b": (1, 1)}, self.projected)

    def __post_init__(self) -> None:
        _validate.flag("projected", self.projected)
        _validate.flag("layer_norm", self.layer_norm)
        _validate.choice("activation", self.activation, SQUASHERS)


@dataclass(frozen=True)
class SLSTMSpec(Spec):
    """The sLSTM of the xLSTM (Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory", equations 8 to 17), one head.

    Exponential gates: with i~, f~, g~, o~ of ``W x + U h + b`` and log f = f~, or log sigmoid(f~),
    ``m = max(log f + m, i~)``, ``i = exp(i~ - m)``, ``f = exp(log f + m_before - m)``, ``c = f c + i a(g~)``,
    ``n = f n + i``, ``h = sigmoid(o~) c / n``. Where n = 0, before the first step, m = i~.

    m is the scale in which c and n are kept; h does not depend on it. Gradients take it as a constant, which is exact for
    losses of h and of what states say without their scale, c / n and log n + m; of the last m none is taken.

    forget_gate : "exp" or "sigmoid"; activation : of g, as CellSpec's input_activation; recurrent_activation : of o
    projected, layer_norm : as for CellSpec
    """

    forget_gate: str = "exp"
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    projected: bool = False
    layer_norm: bool = False

    kind: ClassVar[str] = "SLSTM"
    state_names: ClassVar[tuple[str, ...]] = ("h", "c", "n", "m")

    @functools.cached_property
    def weights(self) -> dict[str, tuple[int, int]]:
        return self.and_options({"W_ih": (4, 2), "W_hh": (4, 2), "b": (4, 1)}, self.projected)

    def __post_init__(self) -> None:
        _validate.flag("projected", self.projected)
        _validate.flag("layer_norm", self.layer_norm)
        _validate.choice("forget_gate", self.forget_gate, ("exp", "sigmoid"))
        _validate.choice("activation", self.activation, SQUASHERS)
        _validate.choice("recurrent_activation", self.recurrent_activation, GATES)


# Greff et al. 2017 take parts away from the LSTM with peepholes; "lstm" is without (their NP), "1997" without a forget gate
# too (Hochreiter and Schmidhuber). "elysium" and "ltms" are our readings of names that came with a sentence each: x passes
# through the gates alone, and gate weights that vary with time steps and inputs.
VARIANTS = {
    "lstm": CellSpec(),
    "peephole": CellSpec(peepholes=True),
    "nig": CellSpec(peepholes=True, input_gate=False),
    "nfg": CellSpec(peepholes=True, forget_gate="one"),
    "nog": CellSpec(peepholes=True, output_gate=False),
    "niaf": CellSpec(peepholes=True, input_activation="linear"),
    "noaf": CellSpec(peepholes=True, output_activation="linear"),
    "cifg": CellSpec(peepholes=True, forget_gate="coupled"),
    "fgr": CellSpec(peepholes=True, gate_recurrence=True),
    "1997": CellSpec(forget_gate="one"),
    "elysium": CellSpec(cell_input="h only"),
    "ltms": CellSpec(gate_sets=2),
}


_KINDS = {kind.__name__: kind for kind in (CellSpec, GRUSpec, RNNSpec, SLSTMSpec)}
_BY_NAME: dict[str, Spec] = {**VARIANTS, "gru": GRUSpec(), "rnn": RNNSpec(), "slstm": SLSTMSpec()}
NAMES = tuple(_BY_NAME)


def spec(cell: Any, name: str = "cell") -> Spec:
    """Return a spec as it is, or the one of a name."""
    if isinstance(cell, Spec):
        return cell
    if isinstance(cell, str) or cell is None:
        return _BY_NAME[_validate.choice(name, cell, _BY_NAME)]
    raise TypeError(f"{name} must be a name or a CellSpec, GRUSpec, RNNSpec, SLSTMSpec or Cell, not {type(cell).__name__}")


def described(name: str, description: dict[str, Any]) -> Spec:
    """Return the spec that a file describes."""
    kind, config = description["class"], description["config"]
    if kind == "Cell":
        if config["name"] not in _BY_NAME:
            known = f"make the Cell and call numlstm.cells.register({config['name']!r}, cell) before"
            raise ValueError(
                f"{name} is a cell of your own, {config['name']!r}, of which this process knows nothing: {known}"
            )
        return _BY_NAME[config["name"]]
    return _KINDS[_validate.choice(name, kind, _KINDS)](**config)


def register(name: str, cell: Spec) -> None:
    """Let a cell be known by a name: to ``cell=`` of layers and functions, and to the files of models that have it.

    A process that loads such a model registers the same cell before. A name that is registered again changes its meaning.

    Raises
    ------
    TypeError
        If the name is no string, or the cell none.
    ValueError
        For a name that numlstm has itself.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, not {type(name).__name__}")
    if name in NAMES:
        raise ValueError(f"{name!r} is a cell of numlstm's: choose another name")
    _BY_NAME[name] = spec(cell)


def registered_name(cell: Spec) -> str | None:
    """Return the name by which a cell is registered, if it is."""
    return next((name for name, known in reversed(_BY_NAME.items()) if known == cell), None)


# Cells of the user's own that this process has made, by their names as specs.
OWN: dict[str, Any] = {}


def checked_options(spec: Spec, cell_clip: Any, zoneout: Any) -> tuple[float | None, tuple[float, float]]:
    """Return the bound of c and the probabilities of zoneout for h and c; ValueError where the cell has no c."""
    has_c = isinstance(spec, CellSpec)
    if cell_clip is not None:
        cell_clip = _validate.real("cell_clip", cell_clip, positive=True)
        if not has_c:
            raise ValueError(f"cell_clip is for cells with a state c, not for {spec}")
    both = zoneout if isinstance(zoneout, (tuple, list)) else (zoneout, zoneout if has_c else 0.0)
    if len(both) != 2:
        raise ValueError(f"zoneout must be a probability or a pair, for h and for c, not {zoneout!r}")
    h, c = (_validate.real("zoneout", value, least=0, below=1) for value in both)
    if c and not has_c:
        raise ValueError(f"zoneout of c is for cells with such a state, not for {spec}")
    return cell_clip, (h, c)


def gates(spec: CellSpec) -> str:
    """Return the gates and the input that have weights, of i, f, g, o, in the order of their blocks."""
    has = {"i": spec.input_gate, "f": spec.forget_gate == "learned", "g": True, "o": spec.output_gate}
    return "".join(name for name in "ifgo" if has[name])


def blocks(spec: CellSpec) -> str:
    """Return what each block of W_hh and b is of: the gates, those of a second set behind them, and a, how the sets mix."""
    return gates(spec) + ("ifoa" if spec.gate_sets == 2 else "")
