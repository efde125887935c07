"""What a layer or a model becomes for `numlstm.functional.step`: parameters and states.

The types of namedtuples select the code at compile time, so parameters hold arrays alone. All that changes from step to step
is in a state, also the places for what one layer hands to the next: threads with a state each share nothing that is written.
"""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _validate, devices
from ._validate import Array

if TYPE_CHECKING:
    from .cells import Spec
    from .layers import Layer
    from .models import Sequential

Step = Callable[[Any, Any, Any, Array], None]


class LSTMState(NamedTuple):
    """States of one sequence for `step`, zeros before its first: h, c (H,)."""

    h: Array
    c: Array

    def copy(self) -> "LSTMState":
        """Return another sequence that is at the same point."""
        return copy.deepcopy(self)


class RNNState(NamedTuple):
    """State of one sequence for `step`, of a GRU or simple RNN, zeros before its first: h (H,)."""

    h: Array

    def copy(self) -> "RNNState":
        """Return another sequence that is at the same point."""
        return copy.deepcopy(self)


class Work(NamedTuple):
    """What the first product of a step leaves to the second one: u (H,) and z, of each gate (H,), padded.

    With layer normalisation z is also the place for the products. A step overwrites it and reads nothing older.
    """

    u: Array
    z: Array


class GRUState(NamedTuple):
    """State of one sequence for `step`, zeros before its first: h, and work.

    Of a GRU with reset_after=False, h (H,), or of a projected simple RNN, h (P,).
    """

    h: Array
    work: Work

    def copy(self) -> "GRUState":
        """Return another sequence that is at the same point."""
        return copy.deepcopy(self)


class ProjectedState(NamedTuple):
    """States of one sequence for `step`, of a projected LSTM, zeros before its first: h (P,), c (H,), and work."""

    h: Array
    c: Array
    work: Work

    def copy(self) -> "ProjectedState":
        """Return another sequence that is at the same point."""
        return copy.deepcopy(self)


class ProjectedSLSTMState(NamedTuple):
    """States of one sequence for `step`, of a projected sLSTM, zeros before its first: h (P,), c, n, m (H,), and work."""

    h: Array
    c: Array
    n: Array
    m: Array
    work: Work

    def copy(self) -> "ProjectedSLSTMState":
        """Return another sequence that is at the same point."""
        return copy.deepcopy(self)


class SLSTMState(NamedTuple):
    """States of one sequence for `step`, of an sLSTM, zeros before its first: h, c, n, m (H,)."""

    h: Array
    c: Array
    n: Array
    m: Array

    def copy(self) -> "SLSTMState":
        """Return another sequence that is at the same point."""
        return copy.deepcopy(self)


class FGRState(NamedTuple):
    """States of one sequence for `step`, of an LSTM whose gates see each other, zeros before its first: h, c, i, f, o (H,).

    room : (3H,)  a step overwrites it and reads nothing older
    """

    h: Array
    c: Array
    i: Array
    f: Array
    o: Array
    room: Array

    def copy(self) -> "FGRState":
        """Return another sequence that is at the same point."""
        return copy.deepcopy(self)


class NormedState(NamedTuple):
    """State of one sequence for `step`, of a layer whose products are normalised.

    states : LSTMState, RNNState, SLSTMState or FGRState; cells with two products a step have none such, but a larger work
    products : a place for both products; a step overwrites it and reads nothing older
    """

    states: Any
    products: Array

    def copy(self) -> "NormedState":
        """Return another sequence that is at the same point."""
        return copy.deepcopy(self)


State = (
    LSTMState | RNNState | GRUState | ProjectedState | ProjectedSLSTMState | SLSTMState | FGRState | NormedState
)  # of a layer


class ModelState(NamedTuple):
    """State of one sequence for `step`, of a model.

    layers : tuple of the layers' states, `Dropout` left out: LSTMState, RNNState and the like, or () for none
    outputs : tuple of (C,)  what each of these layers but the last hands on; a step overwrites it and reads nothing older
    """

    layers: tuple[Any, ...]
    outputs: tuple[Array, ...]

    def copy(self) -> "ModelState":
        """Return another sequence that is at the same point."""
        return copy.deepcopy(self)


class SequenceState(NamedTuple):
    """State of one sequence of many for a `step` on a GPU, made where it is used: ``SequenceState(states, n)``.

    states : ModelState of all sequences, of arrays (units, N) on the GPU; n : which of them, in 0..N-1
    """

    states: Any
    n: Any


class Part(NamedTuple):
    """A layer for `step`.

    params : its parameters, for a GPU with the code that it needs
    units : size of its output; states, sizes : names and sizes of the arrays of its state
    work : sizes of the arrays of work of a cell with two products, () for others
    products : how many numbers its normalised products take
    """

    params: Any
    units: int
    states: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    work: tuple[int, ...] = ()
    products: int = 0


def zero_state(part: Part, dtype: np.dtype[Any], batch: tuple[int, ...] = (), after: tuple[int, ...] = ()) -> Any:
    """Return a layer's state before the first step; its arrays are (*batch, .., *after)."""
    if part.products:
        products = np.zeros((*batch, part.products, *after), dtype)
        return NormedState(zero_state(part._replace(products=0), dtype, batch, after), products)
    zeros: list[Any]
    zeros, work = ([np.zeros((*batch, size, *after), dtype) for size in sizes] for sizes in (part.sizes, part.work))
    if part.states == FGRState._fields[:5]:
        return FGRState._make([*zeros, np.zeros((*batch, 3 * part.units, *after), dtype)])
    kinds: dict[int, Any] = {1: RNNState, 2: LSTMState, 4: SLSTMState}
    if work:
        kinds, zeros = {1: GRUState, 2: ProjectedState, 4: ProjectedSLSTMState}, [*zeros, Work(*work)]
    count = len(part.states)
    if count and count not in kinds:
        raise ValueError(f"a cell with {count} states has no step: there is one for 1, 2 or 4, h among them")
    return kinds[count](*zeros) if count else ()


def map_arrays(function: Callable[[Array], Any], nested: Any) -> Any:
    """Return tuples within tuples with `function` of each array in them."""
    if isinstance(nested, tuple):
        return getattr(nested, "_make", tuple)(map_arrays(function, item) for item in nested)
    return function(nested)


def parts(model: "Sequential", maker: Any = None) -> list[Part]:
    """Return the layers of a model that do something, with copies of their weights.

    maker : of parameters: backend, or for a GPU backend.GpuSteps

    Raises
    ------
    ValueError
        For a layer that has no step, or a model without weights.
    """
    from .layers import Dropout, Embedding
    from .layers.base import sizes_text

    working = [layer for layer in model.layers if not isinstance(layer, Dropout)]
    if not working:
        raise ValueError("the model has no layers that do something: add some first")
    for layer in working:
        _check(layer)
    if not model.built:
        raise ValueError("the model has no weights yet: give the first layer an input_shape, or show it data, first")
    shape, axes = model.input_shape, 1 if isinstance(model.layers[0], Embedding) else 2
    assert shape is not None
    if len(shape) > axes:
        raise ValueError(
            f"the model reads data of shape {sizes_text(shape)}, of which a step is not a single vector or number"
        )
    if maker is None:
        from . import backend as maker
    return [_part(layer, maker) for layer in working]


def _check(layer: "Layer") -> None:
    from .layers import Bidirectional, Dense, Embedding
    from .layers.recurrent import Recurrent

    kind = type(layer).__name__
    if isinstance(layer, Bidirectional) or getattr(layer, "go_backwards", False):
        option = "" if isinstance(layer, Bidirectional) else " with go_backwards=True"
        raise ValueError(f"layer {layer.name}, a {kind}{option}, reads sequences from their end: it cannot go step by step")
    if not isinstance(layer, (Recurrent, Dense, Embedding)):
        raise ValueError(f"layer {layer.name}, a {kind}, has no step")


def _part(layer: Any, maker: Any) -> Part:
    from .layers import Dense, Embedding

    if isinstance(layer, Embedding):
        return Part(maker.embedding_step(layer.parameters["table"], int(layer.mask_zero)), layer.output_dim)
    if isinstance(layer, Dense):
        W, b = layer.parameters["W"], layer.parameters.get("b")
        return Part(maker.dense_step(W, b, layer.activation), layer.units)
    spec = layer.spec
    params = maker.recurrent_step(spec.name, layer.weights_inside(np.zeros), layer.cell_clip, layer.zoneouts)
    products = numbers_of_products(spec, layer.units, layer.parameters["W_hh"].dtype)
    return Part(params, layer.outputs, spec.state_names, layer.state_sizes, maker.work_sizes(params), products)


def numbers_of_products(spec: "Spec", units: int, dtype: np.dtype[Any]) -> int:
    """Return how many numbers normalised products take in a state, beside the work of a cell with two products."""
    from . import backend

    return backend.numbers_of_step(spec.name, units, dtype) if spec.layer_norm else 0


def state_of(parts: list[Part], dtype: np.dtype[Any], batch: tuple[int, ...] = ()) -> ModelState:
    """Return a model's state before the first step; with a batch, (N,), its arrays are (N, ..)."""
    return ModelState(
        tuple(zero_state(part, dtype, batch) for part in parts),
        tuple(np.zeros((*batch, part.units), dtype) for part in parts[:-1]),
    )


def jit(model: "Sequential", device: Any, sequences: int) -> tuple[Step, Any, ModelState]:
    """Return (step, params, state): see `numlstm.Sequential.jit`."""
    from . import backend

    sequences = _validate.whole("sequences", sequences, 1)
    if devices.choose(device) == "cuda":
        from .backend.cuda import steps

        step, params, states = jit_on_gpu(model, sequences, steps.of_gpu())
        return step, *map_arrays(steps.upload, (params, states))
    if sequences != 1:
        raise ValueError(f"sequences is for device='cuda', not {sequences}: here each has its own state, state.copy()")
    found = parts(model)
    return backend.step, backend.chain_step(part.params for part in found), state_of(found, model.dtype)


def jit_on_gpu(model: "Sequential", sequences: int, maker: Any) -> tuple[Any, Any, ModelState]:
    """Return (step, params, states) for kernels; the arrays are still the host's. maker : backend.cuda.steps.GpuSteps"""
    found = parts(model, maker)
    step, params = maker.chain_step(part.params for part in found)
    states = ModelState(
        tuple(zero_state(part, model.dtype, after=(sequences,)) for part in found),
        tuple(np.zeros((part.units, sequences), model.dtype) for part in found[:-1]),
    )
    return step, params, states
