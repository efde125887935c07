"""The cells that are no LSTM of 1997 to 2017: GRU, Elman's, and the sLSTM."""

from dataclasses import dataclass

import numpy as np

from reference.parts import activate, sigmoid, slope


def _plain_shapes(gates, inputs, hidden, outputs):
    return {"W_ih": (gates * hidden, inputs), "W_hh": (gates * hidden, outputs), "b": (gates * hidden,)}


@dataclass(frozen=True)
class SimpleRNN:
    """h = tanh(W_ih x + W_hh h_before + b), or another activation (Elman, 1990)."""

    has_cell_state = False

    def weight_shapes(self, inputs, hidden, outputs):
        return _plain_shapes(1, inputs, hidden, outputs)

    def state_widths(self, hidden, outputs):
        return (outputs,)

    def forward(self, w, options, x, seen, before):
        h = activate(options.activation, w.product("W_ih", x) + w.product("W_hh", seen) + w["b"])
        return (h,), {"h": h}

    def backward(self, w, options, x, seen, before, step, dstates):
        dz = dstates[0] * slope(options.activation, step["h"])
        w.add("b", dz.sum(axis=0))
        return w.product_backward("W_ih", x, dz), w.product_backward("W_hh", seen, dz), (np.zeros_like(seen),)


@dataclass(frozen=True)
class GRU:
    """h = (1 - z) n + z h_before (Cho et al., 2014), gates in the order r, z, n.

    reset_after: n = tanh(W_n x + b_n + r (U_n h_before + b_hn)), as in cuDNN, PyTorch and Keras; or before, as published:
    n = tanh(W_n x + b_n + U_n (r h_before)), without b_hn.
    """

    reset_after: bool = True

    has_cell_state = False

    def weight_shapes(self, inputs, hidden, outputs):
        shapes = _plain_shapes(3, inputs, hidden, outputs)
        return shapes | {"b_hn": (hidden,)} if self.reset_after else shapes

    def state_widths(self, hidden, outputs):
        return (hidden,)

    def forward(self, w, options, x, seen, before):
        h = before[0]
        gates, new = _rows_of_gru(h)
        x_r, x_z, x_n = np.split(w.product("W_ih", x) + w["b"], 3, axis=1)
        if self.reset_after:
            h_r, h_z, v = np.split(w.product("W_hh", seen), 3, axis=1)
        else:
            h_r, h_z = np.split(w.product("W_hh", seen, gates), 2, axis=1)
        r = activate(options.recurrent_activation, x_r + h_r)
        z = activate(options.recurrent_activation, x_z + h_z)
        v = v + w["b_hn"] if self.reset_after else w.product("W_hh", r * seen, new)
        n = activate(options.activation, x_n + (r * v if self.reset_after else v))
        return ((1 - z) * n + z * h,), {"r": r, "z": z, "n": n, "v": v}

    def backward(self, w, options, x, seen, before, step, dstates):
        (dh,), h = dstates, before[0]
        gates, new = _rows_of_gru(h)
        r, z, n, v = (step[k] for k in "rznv")
        dz_n = dh * (1 - z) * slope(options.activation, n)
        dz_z = dh * (h - n) * slope(options.recurrent_activation, z)
        if self.reset_after:
            dr, dv = dz_n * v, dz_n * r
            w.add("b_hn", dv.sum(axis=0))
        else:
            dreset = w.product_backward("W_hh", r * seen, dz_n, new)
            dr = dreset * seen
        dz_r = dr * slope(options.recurrent_activation, r)
        if self.reset_after:
            dseen = w.product_backward("W_hh", seen, np.hstack([dz_r, dz_z, dv]))
        else:
            dseen = dreset * r + w.product_backward("W_hh", seen, np.hstack([dz_r, dz_z]), gates)
        dz = np.hstack([dz_r, dz_z, dz_n])
        w.add("b", dz.sum(axis=0))
        return w.product_backward("W_ih", x, dz), dseen, (dh * z,)


@dataclass(frozen=True)
class MGU:
    """h = (1 - f) h_before + f n, n = tanh(W_n x + b_n + f (U_n h_before + b_h)) (Zhou et al., 2016); rows f, n."""

    has_cell_state = False

    def weight_shapes(self, inputs, hidden, outputs):
        return _plain_shapes(2, inputs, hidden, outputs) | {"b_h": (hidden,)}

    def state_widths(self, hidden, outputs):
        return (hidden,)

    def forward(self, w, options, x, seen, before):
        x_f, x_n = np.split(w.product("W_ih", x) + w["b"], 2, axis=1)
        h_f, v = np.split(w.product("W_hh", seen), 2, axis=1)
        f, v = sigmoid(x_f + h_f), v + w["b_h"]
        n = np.tanh(x_n + f * v)
        return ((1 - f) * before[0] + f * n,), {"f": f, "n": n, "v": v}

    def backward(self, w, options, x, seen, before, step, dstates):
        (dh,), (f, n, v) = dstates, (step[k] for k in "fnv")
        dz_n = dh * f * (1 - n**2)
        dz_f = (dh * (n - before[0]) + dz_n * v) * f * (1 - f)
        dz = np.hstack([dz_f, dz_n])
        w.add("b", dz.sum(axis=0))
        w.add("b_h", (dz_n * f).sum(axis=0))
        dseen = w.product_backward("W_hh", seen, np.hstack([dz_f, dz_n * f]))
        return w.product_backward("W_ih", x, dz), dseen, (dh * (1 - f),)


def _rows_of_gru(h):
    """Return the rows of r and z, and those of n."""
    split = 2 * h.shape[1]
    return slice(split), slice(split, None)


@dataclass(frozen=True)
class SLSTM:
    """Exponential gates with a normaliser n and a stabiliser m (Beck et al., "xLSTM", 2024, equations 8 to 17).

    States h, c, n, m; rows in the order i, f, g, o. With pre-activations marked ~:
    m = max(log f + m_before, i~), i = exp(i~ - m), f = exp(log f + m_before - m), where log f = f~, or log sigmoid(f~);
    c = f c_before + i tanh(g~), n = f n_before + i, h = sigmoid(o~) c / n.

    While n_before = 0 (the start), m = i~: nothing is remembered whose scale m would keep. So i = 1 and n = 1 after the
    first step, n >= 1 ever after, and c / n needs no guard. With m = max(f~ + 0, i~) there, i and n could underflow to
    0 / 0. The authors' code does so while all n of a batch are 0; here each unit of each row decides for itself.

    m changes the scale in which c and n are kept, never h. So the adjoint takes m as a constant; this is exact for a loss
    that depends on the states through h of this and later steps, and for such a loss dm = c dc + n dn, returned for m.
    """

    forget_gate: str = "exp"  # or "sigmoid"

    has_cell_state = False  # none that could be clipped or kept alone: memory is c e^m over n e^m

    def __post_init__(self):
        assert self.forget_gate in ("exp", "sigmoid"), "forget_gate is exp or sigmoid"

    def weight_shapes(self, inputs, hidden, outputs):
        return _plain_shapes(4, inputs, hidden, outputs)

    def state_widths(self, hidden, outputs):
        return (outputs, hidden, hidden, hidden)

    def forward(self, w, options, x, seen, before):
        _, c, n, m = before
        z = w.product("W_ih", x) + w.product("W_hh", seen) + w["b"]
        z_i, z_f, z_g, z_o = np.split(z, 4, axis=1)
        log_f = z_f if self.forget_gate == "exp" else -np.logaddexp(0, -z_f)
        new_m = np.where(n == 0, z_i, np.maximum(log_f + m, z_i))
        i, f = np.exp(z_i - new_m), np.exp(log_f + m - new_m)
        g, o = activate(options.activation, z_g), activate(options.recurrent_activation, z_o)
        c, n = f * c + i * g, f * n + i
        step = {"i": i, "f": f, "g": g, "o": o, "c": c, "n": n, "m": new_m, "z_f": z_f}
        return (o * c / n, c, n, new_m), step

    def backward(self, w, options, x, seen, before, step, dstates):
        dh, dc, dn, _ = dstates
        i, f, g, o, c, n = (step[k] for k in "ifgocn")
        _, c_before, n_before, _ = before
        dc, dn = dc + dh * o / n, dn - dh * o * c / n**2
        dlog_f = (dc * c_before + dn * n_before) * f
        dz = [
            (dc * g + dn) * i,
            dlog_f if self.forget_gate == "exp" else dlog_f * sigmoid(-step["z_f"]),
            dc * i * slope(options.activation, g),
            dh * c / n * slope(options.recurrent_activation, o),
        ]
        dz = np.hstack(dz)
        w.add("b", dz.sum(axis=0))
        dx, dseen = w.product_backward("W_ih", x, dz), w.product_backward("W_hh", seen, dz)
        return dx, dseen, (np.zeros_like(seen), dc * f, dn * f, dlog_f)
