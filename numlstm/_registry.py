"""Objects by name: how layers, losses, optimisers and initialisers are named in arguments and written to files."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

Made = TypeVar("Made")


def config_of(thing: object) -> dict[str, Any]:
    """Return the arguments that make a thing like this one; each is kept under its own name, as an attribute."""
    parameters = inspect.signature(type(thing)).parameters
    return {name: _plain(getattr(thing, name)) for name in parameters}


def _plain(value: Any) -> Any:
    if hasattr(value, "get_config"):
        return {"class": type(value).__name__, "config": value.get_config()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def describe(thing: Any) -> dict[str, Any]:
    """Return a thing as what JSON can hold, for `make`."""
    description: dict[str, Any] = _plain(thing)
    return description


def make(name: str, kind: type[Made], known: Mapping[str, type[Made]], value: Any) -> Made:
    """Return `value` if it is such a thing, else make one from a class, a name or a description.

    Raises
    ------
    ValueError
        For an unknown name; the message lists the known ones.
    TypeError
        For anything else, or arguments that the class does not take.
    """
    if isinstance(value, kind):
        return value
    if isinstance(value, type) and issubclass(value, kind):
        return value()
    if isinstance(value, str):
        spelt = {**{made.__name__.lower(): made for made in known.values()}, **known}
        if value.lower() in spelt:
            return spelt[value.lower()]()
        raise ValueError(f"{name} {value!r} is unknown{_similar(value, known)}; known are {', '.join(sorted(known))}")
    if isinstance(value, dict) and set(value) == {"class", "config"} and isinstance(value["config"], dict):
        classes = {made.__name__: made for made in known.values()}
        if value["class"] not in classes:
            raise ValueError(f"{name} {value['class']!r} is unknown; known are {', '.join(sorted(classes))}")
        return classes[value["class"]](**value["config"])
    raise TypeError(f"{name} must be a name or an instance of {kind.__name__}, not {type(value).__name__}")


def _similar(value: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(value, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
