"""Functions as they are now, and a hash of all that they compute: machine code on disk goes by it.

A function refers to others and to numbers by names, which may mean something else when the compiler comes. So it gets a copy
with the meanings of now, of which the hash is made.
"""

import builtins
import dis
import hashlib
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

from . import lanes

Function = Callable[..., Any]
_NUMBERS = (bool, int, float)


def of_text(text: str) -> str:
    """Return a hash as a word."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def freeze(*functions: Function) -> tuple[str, tuple[Function, ...]]:
    """Return a hash of functions, and copies of these and of all others that they call, those of `numlstm.lanes` excepted.

    Raises
    ------
    TypeError
        If one refers to something else than numbers, tuples of numbers, and functions.
    """
    found: dict[Function, tuple[Function, str]] = {}
    for function in functions:
        _freeze(function, found)
    copies = [found[each][0] for each in (*functions, *(each for each in found if each not in functions))]
    order = [list(found).index(each) for each in functions]
    return of_text(repr((order, [words for _, words in found.values()]))), tuple(copies)


def _freeze(function: Any, found: dict[Function, tuple[Function, str]]) -> Function:
    if function not in found:
        code, names = function.__code__, {"__builtins__": builtins, "__name__": function.__module__}
        free = tuple(types.CellType() for _ in code.co_freevars)
        copy = types.FunctionType(code, names, function.__name__, None, free)
        found[function] = copy, ""
        values = _values(function)
        words = [f"{name}={_word(value, name, function, found)}" for name, value in _referred(function, values)]
        for name, value in values.items():
            kept = found[value][0] if inspect.isfunction(value) and value in found else value
            if name in code.co_freevars:
                free[code.co_freevars.index(name)].cell_contents = kept
            else:
                names[name] = kept
        found[function] = copy, repr((_code(code), words))
    return found[function][0]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a function's code and that of what is defined within."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _code(code: types.CodeType) -> str:
    constants = [_code(each) if isinstance(each, types.CodeType) else repr(each) for each in code.co_consts]
    return repr((code.co_code.hex(), code.co_names, code.co_argcount, code.co_flags, constants))


def _values(function: Any) -> dict[str, Any]:
    """Return what the names that a function takes from outside mean."""
    names = [name for code in _codes(function.__code__) for name in code.co_names]
    outer = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    known = {name: function.__globals__[name] for name in names if name in function.__globals__}
    return {**known, **{name: cell.cell_contents for name, cell in outer}}


def _referred(function: Any, values: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what a function takes from outside, by name; of modules what it takes from them."""
    found: list[tuple[str, Any]] = []
    for code in _codes(function.__code__):
        for instruction in dis.get_instructions(code):
            name, does = instruction.argval, instruction.opname
            if does.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")) and name in values:
                found.append((name, values[name]))
            elif does.startswith(("LOAD_ATTR", "LOAD_METHOD")) and found and isinstance(found[-1][1], types.ModuleType):
                module_name, module = found.pop()
                if module is not lanes:  # what lies in another may change before the function is compiled
                    where = f"from {module.__name__} import {name}"
                    raise TypeError(
                        f"{function.__qualname__} refers to {module_name}.{name}: take it by its own name, {where}"
                    )
                found.append((f"{module_name}.{name}", getattr(module, name, None)))
            elif does.startswith("LOAD_GLOBAL") and not hasattr(builtins, name):
                raise TypeError(f"{function.__qualname__} refers to {name}, which is not defined")
    return found


def _word(value: Any, name: str, function: Any, found: dict[Function, tuple[Function, str]]) -> str:
    """Return what stands for a value in the hash; functions are frozen too."""
    if isinstance(value, _NUMBERS):
        return repr(value)
    if isinstance(value, tuple):
        return repr([_word(item, name, function, found) for item in value])
    if inspect.isfunction(value):
        called = str(value.__name__)
        if called in lanes.__all__ and getattr(lanes, called) is value:
            return f"lanes.{called}"
        if value.__defaults__ or value.__kwdefaults__:
            raise TypeError(f"{function.__qualname__} calls {called}, whose arguments must have no defaults")
        _freeze(value, found)
        return f"function {list(found).index(value)}"
    what = "which does not compute on lanes" if callable(value) else f"which is a {type(value).__name__}"
    raise TypeError(
        f"{function.__qualname__} refers to {name}, {what}: a cell's functions may refer to numbers, tuples of numbers, "
        f"functions like themselves, and those of numlstm.lanes: {', '.join(lanes.__all__)}"
    )
