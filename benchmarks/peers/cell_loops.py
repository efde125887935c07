"""Cells as loops over time in PyTorch: of x (N, T, I) and the weights, y (N, T, H)."""

from numlstm import Cell
from numlstm.cells import CellSpec, GRUSpec, RNNSpec, SLSTMSpec, gates


def _activation(torch, name):
    known = {"hard_sigmoid": torch.nn.functional.hardsigmoid, "linear": lambda z: z}
    return known[name] if name in known else getattr(torch, name)


def _product(torch, x, W, gain):
    """Return ``x W'``, normalised if there is a gain."""
    return x @ W.T if gain is None else torch.nn.functional.layer_norm(x @ W.T, W.shape[:1], gain)


def _lstm(
    torch, spec, x, W_ih, W_hh, b, p=None, R=None, gain_ih=None, gain_hh=None, W_p=None, clip=None, mask=None, keeps=None
):
    names, hidden = gates(spec), W_hh.shape[1] if W_p is None else W_p.shape[1]
    gate, squash, out = (
        _activation(torch, name) for name in (spec.recurrent_activation, spec.input_activation, spec.output_activation)
    )
    if spec.cell_input == "h only":  # no weights of x for g
        g = names.index("g") * hidden
        W_ih = torch.cat([W_ih[:g], torch.zeros(hidden, W_ih.shape[1]), W_ih[g:]])
    peepholes = {} if p is None else dict(zip(names.replace("g", ""), p.split(hidden), strict=True))
    if R is not None:  # one product with [h i f o], in which g sees no gates
        beside = torch.cat([R[: 2 * hidden], torch.zeros(hidden, 3 * hidden), R[2 * hidden :]])
        W_hh = torch.cat([W_hh, beside], 1)
    projected, U = _product(torch, x, W_ih, gain_ih) + b, W_hh.T
    c = torch.zeros(x.shape[0], hidden)
    h = c if W_p is None else torch.zeros(x.shape[0], len(W_p))
    others = [] if R is None else [h, h, h]
    ys = []

    def recurrent(t, h):
        if gain_hh is None:
            return torch.addmm(projected[:, t], h, U)
        return projected[:, t] + _product(torch, h, W_hh, gain_hh)

    def value(name, z, c):
        return gate(z[name] + peepholes[name] * c) if name in peepholes else gate(z[name])

    for t in range(x.shape[1]):
        seen = h if mask is None else h * mask
        seen = torch.cat([seen, *others], 1) if others else seen
        z = recurrent(t, seen).split(hidden, 1)
        if spec.gate_sets == 2:
            share, second = torch.sigmoid(z[7]), {0: z[4], 1: z[5], 3: z[6]}
            z = [torch.lerp(second[k], z[k], share) if k in second else z[k] for k in range(4)]
        z = dict(zip(names, z, strict=True))
        before = h, c
        new = squash(z["g"])
        if "i" in z:
            i = value("i", z, c)
            new = i * new
        if "f" in z:
            f = value("f", z, c)
        kept = f * c if "f" in z else (1 - i) * c if spec.forget_gate == "coupled" else c
        c = kept + new
        if clip is not None:
            c = c.clamp(-clip, clip)
        h = out(c)
        if "o" in z:
            o = value("o", z, c)
            h = o * h
        if W_p is not None:
            h = h @ W_p.T
        if R is not None:
            others = [i, f, o]
        if keeps is not None:
            h, c = (torch.where(keep[:, t] > 0, old, new) for keep, old, new in zip(keeps, before, (h, c), strict=True))
        ys.append(h)
    return torch.stack(ys, 1)


def _gru(torch, spec, x, W_ih, W_hh, b, b_hn=None, gain_ih=None, gain_hh=None):
    hidden = W_hh.shape[1]
    gate, squash = (_activation(torch, name) for name in (spec.recurrent_activation, spec.activation))
    projected, U = _product(torch, x, W_ih, gain_ih) + b, W_hh.T
    biases = None if b_hn is None else torch.cat([torch.zeros(2 * hidden), b_hn])
    gates, new = U.split((2 * hidden, hidden), 1)
    h = torch.zeros(x.shape[0], hidden)
    ys = []
    for t in range(x.shape[1]):
        of_gates, of_new = projected[:, t].split((2 * hidden, hidden), 1)
        if spec.reset_after:
            of_h = torch.addmm(biases, h, U) if gain_hh is None else _product(torch, h, W_hh, gain_hh) + biases
            of_h, v = of_h.split((2 * hidden, hidden), 1)
            r, z = gate(of_gates + of_h).split(hidden, 1)
            n = squash(of_new + r * v)
        else:
            r, z = gate(torch.addmm(of_gates, h, gates)).split(hidden, 1)
            n = squash(torch.addmm(of_new, r * h, new))
        h = n + z * (h - n)
        ys.append(h)
    return torch.stack(ys, 1)


def _rnn(torch, spec, x, W_ih, W_hh, b):
    squash = _activation(torch, spec.activation)
    projected, U = x @ W_ih.T + b, W_hh.T
    h = torch.zeros(x.shape[0], W_hh.shape[1])
    ys = []
    for t in range(x.shape[1]):
        h = squash(torch.addmm(projected[:, t], h, U))
        ys.append(h)
    return torch.stack(ys, 1)


def _slstm(torch, spec, x, W_ih, W_hh, b):
    hidden = W_hh.shape[1]
    squash, gate = (_activation(torch, name) for name in (spec.activation, spec.recurrent_activation))
    log_f = torch.nn.functional.logsigmoid if spec.forget_gate == "sigmoid" else lambda z: z
    projected, U = x @ W_ih.T + b, W_hh.T
    h = c = n = m = torch.zeros(x.shape[0], hidden)
    ys = []
    for t in range(x.shape[1]):
        z_i, z_f, z_g, z_o = torch.addmm(projected[:, t], h, U).split(hidden, 1)
        left = log_f(z_f) + m
        m = z_i.detach() if t == 0 else torch.maximum(left, z_i).detach()
        i, f = torch.exp(z_i - m), torch.exp(left - m)
        c, n = f * c + i * squash(z_g), f * n + i
        h = gate(z_o) * c / n
        ys.append(h)
    return torch.stack(ys, 1)


def _mgu(torch, spec, x, W_ih, W_hh, b, b_h):
    hidden = W_hh.shape[1]
    projected, U = x @ W_ih.T + b, W_hh.T
    biases = torch.cat([torch.zeros(hidden), b_h])
    h = torch.zeros(x.shape[0], hidden)
    ys = []
    for t in range(x.shape[1]):
        (x_f, x_n), (h_f, h_n) = projected[:, t].split(hidden, 1), torch.addmm(biases, h, U).split(hidden, 1)
        f = torch.sigmoid(x_f + h_f)
        n = torch.tanh(x_n + f * h_n)
        h = h + f * (n - h)
        ys.append(h)
    return torch.stack(ys, 1)


LOOPS = {Cell: _mgu, CellSpec: _lstm, GRUSpec: _gru, RNNSpec: _rnn, SLSTMSpec: _slstm}
