"""Models from and to PyTorch: ``pip install "numlstm[torch]"``.

Importing this module imports PyTorch.
"""

import numpy as np

try:
    import torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('numlstm.interop.torch needs PyTorch: pip install "numlstm[torch]"', name="torch") from error

from numlstm import cells
from numlstm._validate import Array
from numlstm.layers import Bidirectional, Dense, Dropout, Embedding, Layer, Recurrent
from numlstm.models import Sequential

from ._parts import changed_states, refuse, sequential
from ._torch_chain import read

__all__ = ["from_module", "to_state_dict"]


def from_module(module: torch.nn.Module, return_sequences: bool = True) -> Sequential:
    """Return a model with the layers and copies of the weights of a PyTorch module.

    Parameters
    ----------
    module : torch.nn.Module
        An ``nn.LSTM``, ``GRU``, ``RNN``, ``Linear`` or ``Embedding``, an ``nn.Sequential`` of them, or a module of your own,
        whose ``forward`` is followed by `torch.fx`. Such a forward passes one tensor through these layers, dropout and
        activations after linear layers, takes ``y, state = self.lstm(x)`` apart, and may go on with the last step,
        ``y[:, -1]``, with ``h[-1]``, or with ``torch.cat((h[-2], h[-1]), dim=1)`` of both directions. First states may be
        zeros.
    return_sequences : bool
        What stands for the pair (y, state) of a recurrent module where it is passed on as a whole, or returned: y at all
        steps, or at the last one, of each direction its own.

    Returns
    -------
    Sequential
        In float64 if the module's parameters are, else in float32. It takes and returns sequences batch-first, (N, T, F),
        whatever the module's ``batch_first``. PyTorch's two biases become one, their sum, but for that of a GRU's n.

    Raises
    ------
    TypeError
        If it is not a module.
    ValueError
        For what numlstm does not have; the message names all of it.
    """
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, not {type(module).__name__}")
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    return sequential(read(module, return_sequences), np.dtype("float64" if dtype == torch.float64 else "float32"))


def to_state_dict(model: Sequential, module: torch.nn.Module | None = None) -> dict[str, torch.Tensor]:
    """Return copies of a model's weights by PyTorch's names, for ``module.load_state_dict``.

    Parameters
    ----------
    model : Sequential
        Of `LSTM`, `GRU` and `SimpleRNN`, plain or in a `Bidirectional` with merge_mode "concat", `Dense`, `Embedding` and
        `Dropout`.
    module : torch.nn.Module, optional
        A module with these layers, that `from_module` could read: its names are used. Without one, the names are those of an
        ``nn.Sequential`` with a module for each layer.

    Raises
    ------
    ValueError
        If the model has no weights yet, has what PyTorch's layers have not, or other layers than the module; the message
        names all of it.
    """
    if not model.built:
        raise ValueError("the model has no weights yet: give the first layer an input_shape, or show it data, first")
    refuse("the model has what PyTorch's layers have not", [p for layer in model.layers for p in _missing_in_torch(layer)])
    if module is None:
        return {k: v for i, layer in enumerate(model.layers) for k, v in _tensors(layer, f"{i}.", 0).items()}
    parts = [part for part in read(module, True) if part.values]
    layers = [layer for layer in model.layers if layer.parameters]
    theirs, ours = [_described(part.make(**part.options)) for part in parts], [_described(layer) for layer in layers]
    if ours != theirs:
        raise ValueError(f"the module has the layers {', '.join(theirs)}, but the model {', '.join(ours)}")
    state = {k: v for layer, part in zip(layers, parts, strict=True) for k, v in _tensors(layer, *part.place).items()}
    _check_names(state, module)
    return state


def _check_names(state: dict[str, torch.Tensor], module: torch.nn.Module) -> None:
    has = module.state_dict()
    wrong = [f"{name} is missing in the model" for name in has if name not in state]
    wrong += [f"{name} is missing in the module" for name in state if name not in has]
    wrong += [
        f"{name} is {tuple(has[name].shape)} in the module, but {tuple(value.shape)} in the model"
        for name, value in state.items()
        if name in has and has[name].shape != value.shape
    ]
    refuse("the module's weights are others", wrong)


def _described(layer: Layer) -> str:
    """Return what must be the same of a layer of the model and one of the module."""
    if isinstance(layer, Bidirectional):
        return f"Bidirectional {_described(layer.forward_layer)}"
    activation = getattr(layer, "activation", "tanh" if isinstance(layer, Recurrent) else None)
    sizes = f"{layer.input_dim} to {layer.output_dim}" if isinstance(layer, Embedding) else f"{layer.units}, {activation}"  # type: ignore[attr-defined]
    if isinstance(layer, Recurrent) and layer.outputs != layer.units:
        sizes += f", projection={layer.outputs}"
    return f"{type(layer).__name__}({sizes})"


_CELLS = (cells.CellSpec(), cells.CellSpec(projected=True), cells.GRUSpec(), cells.RNNSpec(), cells.RNNSpec("relu"))


def _sizes_of(layer: Recurrent) -> tuple[int, int]:
    return layer.units, layer.outputs


def _missing_in_torch(layer: Layer) -> list[str]:
    label = f"{layer.name} ({type(layer).__name__})"
    if isinstance(layer, Bidirectional):
        ways = layer.forward_layer, layer.backward_layer
        problems = [] if layer.merge_mode == "concat" else [f"merge_mode={layer.merge_mode!r}"]
        if ways[0].go_backwards or ways[0].spec != ways[1].spec or _sizes_of(ways[0]) != _sizes_of(ways[1]):
            problems.append("two directions that differ")
        problems += [str(way.spec) for way in ways[:1] if way.spec not in _CELLS]
        problems += [option for way in ways for option in changed_states(way)]
    elif isinstance(layer, Recurrent):
        problems = ["go_backwards=True"] if layer.go_backwards else []
        problems += [str(layer.spec)] if layer.spec not in _CELLS else []
        problems += changed_states(layer)
    else:
        problems = [] if isinstance(layer, (Dense, Embedding, Dropout)) else ["such a layer"]
    return [f"{label} with {problem}" for problem in dict.fromkeys(problems)]


def _tensors(layer: Layer, prefix: str, number: int) -> dict[str, torch.Tensor]:
    """Return a layer's weights by the names of a module at `prefix`, in whose stack it has this number."""
    if isinstance(layer, Bidirectional):
        ways = ((layer.forward_layer, ""), (layer.backward_layer, "_reverse"))
        return {k: v for way, end in ways for k, v in _recurrent_tensors(way, prefix, f"_l{number}{end}").items()}
    if isinstance(layer, Recurrent):
        return _recurrent_tensors(layer, prefix, f"_l{number}")
    names = {"W": "weight", "b": "bias", "table": "weight"}
    return {prefix + names[name]: _tensor(value) for name, value in layer.parameters.items()}


def _recurrent_tensors(layer: Recurrent, prefix: str, suffix: str) -> dict[str, torch.Tensor]:
    parameters = layer.parameters
    arrays, rows = {"weight_ih": parameters["W_ih"], "weight_hh": parameters["W_hh"]}, len(parameters["W_hh"])
    if layer.use_bias:
        b = parameters["b"]
        arrays["bias_ih"], recurrent = b[:rows], np.zeros(rows, b.dtype)
        if isinstance(layer.spec, cells.GRUSpec):
            recurrent[2 * layer.units :] = b[rows:]
        arrays["bias_hh"] = recurrent
    if "W_p" in parameters:
        arrays["weight_hr"] = parameters["W_p"]
    return {prefix + name + suffix: _tensor(array) for name, array in arrays.items()}


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(array.copy())
