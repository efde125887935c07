"""What a PyTorch module does to its input, followed by torch.fx, as layers one after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import nn

from numlstm._validate import Array
from numlstm.layers import GRU, LSTM, Dense, Dropout, Embedding, Recurrent, SimpleRNN

from ._parts import Part, both_ways, recurrent, refuse

_KINDS: dict[type[nn.Module], type[Recurrent]] = {nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: SimpleRNN}
_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.Softmax: "softmax"}


def read(module: nn.Module, return_sequences: bool) -> list[Part]:
    """Return the layers of a module; `place` is the module's prefix in its state dict and the layer's number in its stack.

    Raises
    ------
    ValueError
        Naming all that cannot be a layer.
    """
    what = f"numlstm cannot take over this {type(module).__name__}"
    wrapped = nn.Sequential(module)  # so that a layer alone is a step of it, and arguments with a default keep that
    try:
        graph = torch.fx.Tracer().trace(wrapped)
    except Exception as error:  # of whatever the user's forward does with what is no tensor
        raise ValueError(f"{what}: torch.fx cannot follow its forward: {error}") from error
    chain = _Chain(torch.fx.GraphModule(wrapped, graph))
    chain.return_sequences = return_sequences
    chain.run(None)
    if not chain.parts:
        chain.problems.append("it has no layers")
    refuse(what, chain.problems)
    return chain.parts


@dataclass(frozen=True)
class _Value:
    """What stands for a tensor, or a tuple of them.

    kind : "data", what the layers so far return; "pair", what a recurrent module returns; "states", its second part, (h, c);
        "h", the last h of all its layers and directions, and "h_k", one of them; "c"; "size", something of a shape; "zeros";
        "tensor", another one
    age : how many layers there were, and steps taken from sequences, when it arose
    of : the recurrent module; k : which layer and direction
    """

    kind: str
    age: int = -1
    of: Any = None
    k: int = 0


class _Chain(torch.fx.Interpreter):
    """Runs the graph on `_Value` s, and makes a list of layers of what it meets, and of problems."""

    return_sequences = True

    def __init__(self, module: torch.fx.GraphModule) -> None:
        super().__init__(module)
        self.parts: list[Part] = []
        self.problems: list[str] = []
        self.age = 0
        self.stack: Any = None  # the last recurrent module
        self.used: set[Any] = set()  # modules, by their names
        self.extra_traceback = False

    # --- nodes of the graph ---

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._now()

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = self.fetch_attr(target)
        return _Value("zeros" if isinstance(value, torch.Tensor) and not value.any() else "tensor")

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module: Any = self.fetch_attr(target)
        x, *more = list(args) + list(kwargs.values())
        label = f"{_name(target)} ({type(module).__name__})".removeprefix(" ")
        self._check_data(x, label)
        if target in self.used and next(module.parameters(), None) is not None:
            return self._problem(f"{label} used twice")
        self.used.add(target)
        prefix = f"{_name(target)}." if _name(target) else ""
        if type(module) in _KINDS:
            return self._recurrent(module, label, prefix, more)
        if type(module) in _ACTIVATIONS:
            return self._activate(_ACTIVATIONS[type(module)], getattr(module, "dim", -1), label)
        if isinstance(module, nn.Identity):
            return self._now()
        if isinstance(module, nn.Dropout):
            return self._add(Part(Dropout, {"rate": module.p}))
        if type(module) is nn.Linear:
            make = {"units": module.out_features, "use_bias": module.bias is not None}
            values = {"W": module.weight, "b": module.bias}
            return self._add(Part(Dense, make, module.in_features, _arrays(values), (prefix, 0)))
        if type(module) is nn.Embedding:
            return self._embedding(module, label, prefix)
        return self._problem(label)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._call(getattr(target, "__name__", str(target)), args, kwargs)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._call(str(target), args, kwargs)

    def output(self, target: Any, args: Any, kwargs: Any) -> Any:
        if isinstance(args[0], _Value):
            self._check_data(args[0], "the result")
        else:
            self.problems.append("a result that is no tensor: return one tensor alone")

    # --- functions and methods, by name ---

    def _call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        first: Any = args[0] if args else None
        kind = first.kind if isinstance(first, _Value) else None
        if name in ("zeros", "zeros_like", "new_zeros") or kind == "zeros":
            return _Value("zeros")
        if kind == "size" or name == "size" or (name == "getattr" and args[1] in ("shape", "device", "dtype")):
            return _Value("size")
        if name == "getitem":
            return self._item(first, args[1])
        if name in ("cat", "concat"):
            return self._both_ends(first, args[1] if len(args) > 1 else kwargs.get("dim", 0))
        if name == "squeeze" and kind == "h" and args[1:] == (0,):
            return self._item(first, 0) if _ends(first.of) == 1 else self._problem("squeeze of several states")
        if kind in ("data", "pair", "h_k"):
            if name in _ACTIVATIONS.values():
                self._check_data(first, name)
                return self._activate(name, args[1] if len(args) > 1 else kwargs.get("dim", -1), name)
            if name == "contiguous":
                return first
            if name == "dropout":
                self._check_data(first, name)
                return self._add(Part(Dropout, {"rate": args[1] if len(args) > 1 else kwargs.get("p", 0.5)}))
        return self._problem(f"{name}()")

    def _item(self, value: _Value, index: Any) -> Any:
        if value.kind == "pair" and index in (0, 1):
            after = "states" if isinstance(value.of, nn.LSTM) else "h"
            return _Value(after if index else "data", value.age, value.of)
        if value.kind == "states" and index in (0, 1):
            return _Value("hc"[index], value.age, value.of)
        if value.kind == "h" and isinstance(index, int):
            return _Value("h_k", value.age, value.of, index % _ends(value.of))
        if value.kind == "data" and self.stack is not None and _is_last_step(index, self.stack.batch_first):
            self._check_data(value, "the last step")
            return self._take_last("[:, -1]", self.stack.bidirectional)
        return self._problem(f"[{_text(index)}]")

    def _both_ends(self, items: Any, axis: Any) -> Any:
        """Return the last h of both directions, side by side."""
        if isinstance(items, (tuple, list)) and all(isinstance(i, _Value) and i.kind == "h_k" for i in items):
            module = items[0].of
            last = [_ends(module) - 2, _ends(module) - 1]
            if module.bidirectional and [i.k for i in items] == last and axis in (1, -1) and items[0].age == self.age:
                return self._take_last("cat()", False)
        return self._problem("cat() of other than the last two of h")

    # --- layers ---

    def _recurrent(self, module: Any, label: str, prefix: str, states: Sequence[Any]) -> Any:
        flat = [item for state in states for item in (state if isinstance(state, tuple) else (state,))]
        if not all(item is None or getattr(item, "kind", "") == "zeros" for item in flat):
            self.problems.append(f"{label} with first states other than zeros")
        if self.stack is not None and self.stack.batch_first != module.batch_first:
            self.problems.append(f"{label} with another batch_first than the recurrent module before it")
        kind, self.stack = _KINDS[type(module)], module
        for number in range(module.num_layers):
            if number and module.dropout:
                self._add(Part(Dropout, {"rate": module.dropout}))
            ends = ["", "_reverse"][: 1 + module.bidirectional]
            values = both_ways([_recurrent_arrays(module, f"_l{number}{end}") for end in ends])
            given = {"activation": module.nonlinearity} if kind is SimpleRNN else {}
            given |= {"projection": module.proj_size} if module.proj_size else {}
            make = recurrent(kind, module.hidden_size, module.bidirectional, use_bias=module.bias, **given)
            features = module.input_size if number == 0 else (module.proj_size or module.hidden_size) * len(ends)
            self._add(Part(make, {"return_sequences": True}, features, values, (prefix, number)))
        return _Value("pair", self.age, module)

    def _embedding(self, module: nn.Embedding, label: str, prefix: str) -> Any:
        if module.max_norm is not None:
            self.problems.append(f"{label} with max_norm={module.max_norm}")
        if self.parts:
            self.problems.append(f"{label} behind other layers")
        sizes = {"input_dim": module.num_embeddings, "output_dim": module.embedding_dim}
        return self._add(Part(Embedding, sizes, None, _arrays({"table": module.weight}), (prefix, 0)))

    def _activate(self, name: str, axis: Any, label: str) -> Any:
        part = self.parts[-1] if self.parts else None
        steps = self._steps()
        if name == "softmax" and axis != -1 and axis != 1 + (steps is not None and steps.options["return_sequences"]):
            return self._problem(f"{label} along axis {axis}")
        if part is None or part.make is not Dense or "activation" in part.options:
            return self._problem(f"{label} elsewhere than behind a linear layer")
        part.options["activation"] = name
        return self._now()

    def _take_last(self, label: str, wrong: bool) -> Any:
        steps = self._steps()
        if steps is None or wrong or not steps.options["return_sequences"]:
            hint = " of both directions: torch.cat((h[-2], h[-1]), dim=1) is the last step of each" if wrong else ""
            return self._problem(f"{label}{hint}")
        steps.options["return_sequences"] = False
        return self._now()

    def _steps(self) -> Part | None:
        """Return the last recurrent layer."""
        return next((part for part in reversed(self.parts) if "return_sequences" in part.options), None)

    # --- values ---

    def _add(self, part: Part) -> Any:
        self.parts.append(part)
        return self._now()

    def _now(self) -> Any:
        """Return the data as it is now; what is older cannot be used any more."""
        self.age += 1
        return _Value("data", self.age)

    def _problem(self, text: str) -> Any:
        self.problems.append(text)
        return self._now()

    def _check_data(self, value: Any, label: str) -> None:
        """Let a value be what the next layer takes."""
        if not isinstance(value, _Value) or value.kind not in ("data", "pair", "h_k"):
            self.problems.append(f"{label} of something else than one tensor")
        elif value.age != self.age:
            self.problems.append(f"{label} beside other layers: they must follow one another")
        elif value.kind == "pair" and not self.return_sequences:
            self._take_last("the last step", False)
        elif value.kind == "h_k":
            if value.of.bidirectional or value.k != _ends(value.of) - 1:
                self.problems.append(f"h[{value.k}]")
            self._take_last("h[-1]", False)


def _ends(module: Any) -> int:
    """Return how many layers and directions a recurrent module has."""
    return int(module.num_layers * (1 + module.bidirectional))


def _is_last_step(index: Any, batch_first: bool) -> bool:
    index = index if isinstance(index, tuple) else (index,)
    last = [slice(None), -1] if batch_first else [-1]
    return list(index) in (last, [*last, *[slice(None)] * (3 - len(last))], [*last, ...])


def _name(target: Any) -> str:
    """Return a module's name in the user's module, without that of the one around it."""
    return str(target).removeprefix("0").removeprefix(".")


def _text(index: Any) -> str:
    """Return an index as it is written."""
    if isinstance(index, tuple):
        return ", ".join(map(_text, index))
    if isinstance(index, slice):
        return ":".join("" if end is None else str(end) for end in (index.start, index.stop))
    return "..." if index is ... else str(index)


def _recurrent_arrays(module: Any, suffix: str) -> dict[str, Array]:
    """Return the weights of one layer and direction as the engine has them, the two biases added but for a GRU's n."""
    arrays = _arrays({"W_ih": getattr(module, f"weight_ih{suffix}"), "W_hh": getattr(module, f"weight_hh{suffix}")})
    if module.bias:
        b, b_h = _arrays({name: getattr(module, f"bias_{name}{suffix}") for name in ("ih", "hh")}).values()
        new = 2 * module.hidden_size if isinstance(module, nn.GRU) else len(b)
        arrays["b"] = np.concatenate([b[:new] + b_h[:new], b[new:], b_h[new:]])
    if module.proj_size:
        arrays |= _arrays({"W_p": getattr(module, f"weight_hr{suffix}")})
    return arrays


def _arrays(tensors: Mapping[str, Any]) -> dict[str, Array]:
    """Return tensors as arrays, without those that are None."""
    return {
        name: (tensor if tensor.dtype == torch.float64 else tensor.float()).detach().cpu().numpy()
        for name, tensor in tensors.items()
        if tensor is not None
    }
