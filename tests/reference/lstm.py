"""The LSTM and its variants: one cell, whose fields say what it has."""

from dataclasses import dataclass

import numpy as np

from reference.parts import activate, normalise, normalise_backward, sigmoid, slope


@dataclass(frozen=True)
class LSTM:
    """c = f c_before + i g, h = o tanh(c), with i, f, o = sigmoid(.) and g = tanh(.) of W_ih x + W_hh h_before + b.

    States: h, c and, with gate_recurrence, each of the gates. A gate that is absent has no rows in the weights.
    Peepholes are Gers's (2000): i and f also see p c_before, o sees p c. Variants: Greff et al., "LSTM: a search space
    odyssey" (2017); elysium (`cell_input`) and ltms (`gate_sets`) are our reading of one sentence each.
    """

    input_gate: bool = True  # or i = 1
    forget_gate: str = "learned"  # or "one": f = 1; "coupled": f = 1 - i
    output_gate: bool = True  # or o = 1
    input_activation: str = "tanh"  # which stands for the layer's activation; or "linear"
    output_activation: str = "tanh"  # the same
    peepholes: bool = False
    gate_recurrence: bool = False  # gates also see those of the step before, through R
    cell_input: str = "x and h"  # what g sees; or "h"
    gate_sets: int = 1  # or 2 of weights of i, f and o, of which the first counts a = sigmoid(W x + U h + b), with rows a

    has_cell_state = True

    def __post_init__(self):
        for name, known in {
            "forget_gate": ("learned", "one", "coupled"),
            "input_activation": ("tanh", "linear"),
            "output_activation": ("tanh", "linear"),
            "cell_input": ("x and h", "h"),
        }.items():
            assert getattr(self, name) in known, f"{name} is one of {known}"
        assert self.input_gate or self.forget_gate != "coupled", "f = 1 - i with i = 1 remembers nothing"
        needs_gates = self.peepholes or self.gate_recurrence or self.gate_sets > 1 or self.cell_input == "h"
        assert self.gates or not needs_gates, "without a gate, nothing has peepholes, recurrence, weight sets or the input x"

    @property
    def gates(self):
        """The letters of those of i, f, o that have weights of their own."""
        return "i" * self.input_gate + "f" * (self.forget_gate == "learned") + "o" * self.output_gate

    @property
    def rows(self):
        """The rows of W_hh and b, H for a letter: the first set in the order i f g o, then gates of the second, and a."""
        return "".join(k for k in "ifgo" if k in self.gates + "g") + (self.gates + "a" if self.gate_sets == 2 else "")

    def weight_shapes(self, inputs, hidden, outputs):
        shapes = {
            "W_ih": (hidden * len(self._rows_of_x), inputs),
            "W_hh": (hidden * len(self.rows), outputs),
            "b": (hidden * len(self.rows),),
        }
        gates = hidden * len(self.gates)
        if self.peepholes:
            shapes["p"] = (gates,)
        if self.gate_recurrence:
            shapes["R"] = (gates, gates)
        return shapes

    def state_widths(self, hidden, outputs):
        return (outputs, hidden, *[hidden for _ in self.gates if self.gate_recurrence])

    @property
    def _rows_of_x(self):
        return self.rows if self.cell_input == "x and h" else self.rows.replace("g", "")

    def _columns_of_x(self, z):
        """Return which columns of z (N, rows * H) are from the product with x too."""
        return np.repeat([k in self._rows_of_x for k in self.rows], z.shape[1] // len(self.rows))

    def _shares(self, a):
        """Return by how much each block of rows counts for its letter: g, which has one set, whole."""
        first = len(self.gates) + 1
        shares = [a] * first + [1 - a] * (len(self.rows) - first)
        return [{"g": 1.0, "a": 0.0}.get(k, share) for k, share in zip(self.rows, shares, strict=True)]

    def _activations(self, options):
        of = {"tanh": options.activation, "linear": "linear"}
        return options.recurrent_activation, of[self.input_activation], of[self.output_activation]

    def _peepholes(self, w):
        """Return the peepholes of i, f and o, 0 where there is none."""
        present = zip(self.gates, np.split(w["p"], len(self.gates)), strict=True) if self.peepholes else ()
        return dict.fromkeys("ifo", 0.0) | dict(present)

    def _recurrent_product(self, w, seen, gates):
        """Return W_hh h (N, rows * H); R adds what it makes of the gates of the step before in the rows of the gates."""
        z = seen @ w["W_hh"].T
        if self.gate_recurrence:
            z[:, self._columns_of_gates(z)] += np.hstack(gates) @ w["R"].T
        return z

    def _columns_of_gates(self, z):
        """Return which columns of z (N, rows * H) are of gates."""
        return np.repeat([k in self.gates for k in self.rows], z.shape[1] // len(self.rows))

    def _products(self, w, x, seen, gates):
        """Return what the gates and g get from the products, by letter, and what mixed the sets: blocks and their shares."""
        z = w.with_gain("W_hh", self._recurrent_product(w, seen, gates)) + w["b"]
        z[:, self._columns_of_x(z)] += w.product("W_ih", x)
        blocks = np.split(z, len(self.rows), axis=1)
        a = sigmoid(blocks[-1]) if self.gate_sets == 2 else 1.0

        pre = dict.fromkeys("ifgoa", 0.0)
        for k, block, share in zip(self.rows, blocks, self._shares(a), strict=True):
            pre[k] = pre[k] + share * block
        return pre, {"a": a, "blocks": blocks}

    def _products_backward(self, w, x, seen, gates, mixed, dpre):
        """Return the gradients of x, of h, and of the gates of the step before, none without gate recurrence."""
        a, dpre = mixed["a"], dpre | {"a": np.zeros_like(dpre["g"])}
        dz = [share * dpre[k] for k, share in zip(self.rows, self._shares(a), strict=True)]
        if self.gate_sets == 2:
            of_gates = [k not in "ga" for k in self.rows]
            signs = [(2 * first - 1) * gate for first, gate in zip(self._shares(1.0), of_gates, strict=True)]
            da = sum(sign * block * dpre[k] for sign, block, k in zip(signs, mixed["blocks"], self.rows, strict=True))
            dz[-1] = da * a * (1 - a)
        dz = np.hstack(dz)
        w.add("b", dz.sum(axis=0))
        dx = w.product_backward("W_ih", x, dz[:, self._columns_of_x(dz)])
        dz = w.with_gain_backward("W_hh", self._recurrent_product(w, seen, gates), dz)
        w.add("W_hh", dz.T @ seen)
        dseen, dgates = dz @ w["W_hh"], []
        if self.gate_recurrence:
            of_gates = dz[:, self._columns_of_gates(dz)]
            w.add("R", of_gates.T @ np.hstack(gates))
            dgates = np.split(of_gates @ w["R"], len(self.gates), axis=1)
        return dx, dseen, dgates

    def forward(self, w, options, x, seen, before):
        gate, into, out = self._activations(options)
        _, c, *gates = before
        p = self._peepholes(w)
        pre, mixed = self._products(w, x, seen, gates)
        one = np.ones_like(c)
        i = activate(gate, pre["i"] + p["i"] * c) if self.input_gate else one
        f = {"one": one, "coupled": 1 - i}.get(self.forget_gate)
        f = activate(gate, pre["f"] + p["f"] * c) if f is None else f
        g = activate(into, pre["g"])
        unclipped = f * c + i * g
        c = unclipped if options.cell_clip is None else np.clip(unclipped, -options.cell_clip, options.cell_clip)
        o = activate(gate, pre["o"] + p["o"] * c) if self.output_gate else one
        u = w["gain_c"] * normalise(c, w.epsilon) + w["b_c"] if "gain_c" in w else c
        q = activate(out, u)

        step = {"i": i, "f": f, "g": g, "o": o, "c": c, "q": q, "unclipped": unclipped, **mixed}
        return (o * q, c, *(step[k] for k in self.gates if self.gate_recurrence)), step

    def backward(self, w, options, x, seen, before, step, dstates):
        gate, into, out = self._activations(options)
        _, c_before, *gates = before
        p = self._peepholes(w)
        i, f, g, o, c, q = (step[k] for k in "ifgocq")
        dh, dc, *dgates = dstates
        d = dict.fromkeys("ifo", 0.0)  # of the gates
        if self.gate_recurrence:
            d |= zip(self.gates, dgates, strict=True)
        dpre = {}

        du = dh * o * slope(out, q)
        if "gain_c" in w:
            w.add("gain_c", (du * normalise(c, w.epsilon)).sum(axis=0))
            w.add("b_c", du.sum(axis=0))
            du = normalise_backward(c, du * w["gain_c"], w.epsilon)
        dpre["o"] = (d["o"] + dh * q) * slope(gate, o)
        dc = dc + du + p["o"] * dpre["o"]
        if options.cell_clip is not None:
            dc = dc * (np.abs(step["unclipped"]) <= options.cell_clip)
        di, df = d["i"] + dc * g, d["f"] + dc * c_before
        dpre["i"] = (di - df if self.forget_gate == "coupled" else di) * slope(gate, i)
        dpre["f"] = df * slope(gate, f)
        dpre["g"] = dc * i * slope(into, g)
        dc_before = dc * f + p["i"] * dpre["i"] + p["f"] * dpre["f"]
        if self.peepholes:
            saw = {"i": c_before, "f": c_before, "o": c}
            w.add("p", np.hstack([(dpre[k] * saw[k]).sum(axis=0) for k in self.gates]))
        dx, dseen, dgates = self._products_backward(w, x, seen, gates, step, dpre)
        return dx, dseen, (np.zeros_like(seen), dc_before, *dgates)


PRESETS = {
    "lstm": LSTM(),
    "peephole": LSTM(peepholes=True),
    "nig": LSTM(peepholes=True, input_gate=False),
    "nfg": LSTM(peepholes=True, forget_gate="one"),
    "nog": LSTM(peepholes=True, output_gate=False),
    "niaf": LSTM(peepholes=True, input_activation="linear"),
    "noaf": LSTM(peepholes=True, output_activation="linear"),
    "cifg": LSTM(peepholes=True, forget_gate="coupled"),
    "fgr": LSTM(peepholes=True, gate_recurrence=True),
    "1997": LSTM(forget_gate="one"),
    "elysium": LSTM(cell_input="h"),
    "ltms": LSTM(gate_sets=2),
}
