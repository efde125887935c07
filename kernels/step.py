"""One step of one sequence, for a user's own compiled code: no allocation, no Python object, no address kept anywhere.

What is asked for is checked here, by types when a caller is compiled, and by sizes at each call; cell_step.py does it.
"""

from numba import typeof, types
from numba.core.errors import TypingError

from .cell_step import cell_step, normed_step, two_products_step
from .cells import places, type_of
from .compiling import entry, jit, overload, source_hash
from .norm import numbers_of_step
from .simd import is_float_array


def step(params, state, x, y):
    """Bring one sequence one step on: ``y`` and the states become those after the input ``x``.

    For calls from ``@njit`` functions: nothing is allocated, no Python object is touched and the GIL is not needed, so that
    ``nogil=True`` functions may call it from many threads, each with a state of its own. Functions with ``cache=True`` are
    found on disk by the next process. Plain Python may call it too, to look at it: `numlstm.Sequential.stream` is for that.

    Parameters
    ----------
    params : namedtuple of arrays
        Of a model, from `numlstm.Sequential.jit`, or of one layer, from `numlstm.functional.jit`.
    state : namedtuple of arrays
        What came with the params: overwritten. A copy is another sequence.
    x : (I,), or an integer for a model that begins with an `numlstm.Embedding`
        The step's input, contiguous, of the params' dtype.
    y : (H,), or (C,) for C outputs of a model
        Written: the output after this step. It may not overlap with x or the state.

    Raises
    ------
    ValueError
        For sizes that do not fit together, or an integer that the embedding does not know.
    numba.core.errors.TypingError
        For other types, and parameters that another version of numlstm made or another width of vectors needed: when the
        calling function is compiled.
    """
    try:
        _call(params, state, x, y)
    except TypingError:
        choose_step(*map(typeof, (params, state, x, y)))  # says what is wrong, without pages of Numba's own around it
        raise


@overload(step, forceinline=True)
def choose_step(params, state, x, y):
    """Return the code for arguments of these types; TypingError if there is none."""
    kind = getattr(params, "instance_class", None)
    stamp = getattr(kind, "stamp", None)
    if stamp is None:
        raise TypingError(f"params must be what the method jit of a model or numlstm.functional.jit returned, not {params}")
    if stamp != source_hash():
        raise TypingError("params were made by another version of numlstm, or for other vectors: call jit again")
    choose = _choose_recurrent if type_of(params) is not None else kind.choose_step
    return choose(params, state, x, y)


@entry
def _call(params, state, x, y):
    step(params, state, x, y)


def check_array(name, array, dtype, written=True):
    """Refuse, by a TypingError, the type of an argument that is not an array as `step` needs it."""
    if not (is_float_array(array) and array.ndim == 1 and array.dtype == dtype and (array.mutable or not written)):
        kind = "contiguous, writable" if written else "contiguous"
        raise TypingError(f"{name} must be a {kind} 1-D array of {dtype}, not {array}")


def _choose_recurrent(params, state, x, y):
    cell, dtype = type_of(params), params[2].dtype
    check_array("x", x, dtype, written=False)
    check_array("y", y, dtype)
    if cell.base is None or cell.second_product:
        _check_state(cell, state, dtype)
        return _two_products if cell.second_product else _step_with_room if cell.seen else _step
    if not isinstance(state, types.BaseNamedTuple) or state.fields != ("states", "products"):
        raise TypingError(f"state must be what came with params, a namedtuple of states and products, not {state}")
    _check_state(cell, state[0], dtype)
    check_array("state.products", state[1], dtype)
    return _normed_step_with_room if cell.seen else _normed_step


def _check_state(cell, state, dtype):
    """Refuse, by a TypingError, the type of a state that the cell does not have."""
    two = bool(cell.second_product)
    count = cell.states + (not cell.h_is_state) + (cell.seen > 0) + two
    if not isinstance(state, types.BaseNamedTuple) or len(state) != count or state.fields[0] != "h":
        raise TypingError(f"state must be what came with params, a namedtuple of {count} with h first, not {state}")
    for name, array in zip(state.fields, state, strict=True):
        if name == "work":
            for part, of_work in zip(("u", "z"), array, strict=True):
                check_array(f"state.work.{part}", of_work, dtype)
        else:
            check_array(f"state.{name}", array, dtype)


def _step(params, state, x, y):
    _check_sizes(params, state, x, y)
    cell_step(params, state.h, state[1:], None, x, y)


def _step_with_room(params, state, x, y):
    _check_sizes(params, state[:-1], x, y)
    if state.room.shape[0] != places(params).seen * y.shape[0]:
        raise ValueError("state.room must have as many elements as the states that the products see beside h")
    cell_step(params, state.h, state[1:-1], state.room, x, y)


def _normed_step(params, state, x, y):
    _check_products(params, state.products)
    _check_sizes(params, state.states, x, y)
    normed_step(params, state.states.h, state.states[1:], x, y, state.products)


def _normed_step_with_room(params, state, x, y):  # which it does not need: all products are there before a state changes
    _check_products(params, state.products)
    _check_sizes(params, state.states[:-1], x, y)
    normed_step(params, state.states.h, state.states[1:-1], x, y, state.products)


@jit
def _check_products(params, products):
    if products.shape[0] != numbers_of_step(params.b.shape[0], params.b.shape[1]):
        raise ValueError("state.products must have the size that came with params")


@jit
def _check_sizes(params, state, x, y):
    hidden = params.h.shape[1] // (1 + places(params).seen)
    if x.shape[0] != params.x.shape[1]:
        raise ValueError("x must have shape (I,), I the inputs of the weights")
    for array in state:
        if array.shape[0] != hidden:
            raise ValueError("the arrays of state must have shape (H,), H the hidden units of the weights")
    if y.shape[0] != hidden:
        raise ValueError("y must have shape (H,), H the hidden units of the weights")


def _two_products(params, state, x, y):
    hidden, outputs = params.second.shape[1], params.h.shape[1]
    if x.shape[0] != params.x.shape[1]:
        raise ValueError("x must have shape (I,), I the inputs of the weights")
    if y.shape[0] != outputs:
        raise ValueError("y must have shape (P,), P the outputs of the weights")
    numbers = params.b.size + 4 * params.b.shape[1] * places(params).normed
    fits = state.h.shape[0] == outputs and state.work.u.shape[0] == hidden and state.work.z.shape[0] == numbers
    if not (fits and _all_of_size(state[1:-1], hidden)):
        raise ValueError("state must have the sizes of the one that came with params")
    two_products_step(params, state.h, state[1:-1], state.work, x, y)


def _all_of_size(arrays, size):
    """Return whether all arrays of a tuple have so many elements."""


@overload(_all_of_size, forceinline=True)
def _choose_all_of_size(arrays, size):
    if len(arrays) == 0:
        return lambda arrays, size: True
    return lambda arrays, size: arrays[0].shape[0] == size and _all_of_size(arrays[1:], size)
