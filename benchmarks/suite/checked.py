"""Tasks that have given the textbook's results once."""

import functools

import problem
import worker

_TOLERANCE = {"float32": 5e-6, "float64": 1e-13}  # in units of the largest value


@functools.cache
def _textbook(quantity: str, shape: str, dtype: str):
    sizes, _, kind = shape.partition(" ")
    given = problem.problem(problem.Shape(*map(int, sizes.split(","))), dtype, ragged=kind == "ragged")
    return given, getattr(problem, quantity)(given)


@functools.cache  # asv calls setup before every sample
def task(quantity: str, shape: str, dtype: str, threads: int) -> worker.Task:
    """Return what computes a quantity of the worker's. It ran, so that its memory is touched.

    shape : "N,T,I,H", with " ragged" behind it for sequences of 1 to T steps
    """
    given, expected = _textbook(quantity, shape, dtype)
    made = getattr(worker.Numlstm(threads), quantity)(given)
    for name, array in made.arrays(made.run()).items():
        error = problem.relative_error(array, expected[name])
        assert error < _TOLERANCE[dtype], f"{name} is off by {error:.1e}"
    return made
