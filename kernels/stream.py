"""One step of a batch of sequences, for Python to call."""

from numba import types
from numba.core.errors import TypingError
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from .compiling import entry
from .memory import array_of, element_pointer
from .step import step


@entry
def stream(params, states, x, y):
    """Bring all sequences of a batch one step on.

    params : as for `step`; states : as its state, of arrays (N, ..)
    x : (N, F), or (N,) integers; y : (N, C)  written
    """
    for n in range(y.shape[0]):
        step(params, _state_of(states, n), x[n], y[n])


@intrinsic
def _state_of(typingctx, states, n):
    """Return the state of sequence `n`: nested tuples of rows of arrays (N, ..)."""

    def emit(context, builder, sig, args):
        return _rows(context, builder, sig.args[0], *args)

    return signature(_rows_type(states), states, types.intp), emit


def _rows_type(kind):
    if isinstance(kind, types.BaseTuple):
        return types.BaseTuple.from_types([_rows_type(part) for part in kind], getattr(kind, "instance_class", None))
    if not (isinstance(kind, types.Array) and kind.ndim == 2 and kind.layout == "C"):
        raise TypingError(f"states must be contiguous arrays (N, ..), not {kind}")
    return types.Array(kind.dtype, 1, "C")


def _rows(context, builder, kind, value, n):
    if isinstance(kind, types.BaseTuple):
        parts = [_rows(context, builder, part, builder.extract_value(value, i), n) for i, part in enumerate(kind)]
        return context.make_tuple(builder, _rows_type(kind), parts)
    length = builder.extract_value(context.make_array(kind)(context, builder, value).shape, 1)
    data = element_pointer(context, builder, kind, value, builder.mul(n, length))
    return array_of(context, builder, _rows_type(kind), data, length)
