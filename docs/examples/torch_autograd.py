"""numlstm's LSTM as a step of PyTorch's automatic differentiation, beside layers and optimisers of PyTorch.

`lstm(x, W_ih, W_hh, b, h0, c0)` takes and returns tensors on the CPU, float32 or float64, as `numlstm.functional.lstm` does
arrays; gradients reach all six. Run as a script, it learns to say whether more ones than zeros have come.
"""

import torch

from numlstm import functional


class LSTM(torch.autograd.Function):
    """y (N, T, H), h and c (N, H) from x (N, T, I), W_ih (4H, I), W_hh (4H, H), b (4H,), h0 and c0 (N, H)."""

    @staticmethod
    def forward(ctx, *tensors):
        """Run the layer; its tape waits for the backward pass."""
        ctx.save_for_backward(*tensors)
        ctx.tape, *outputs = run(tensors)
        return tuple(outputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy, dh, dc):
        """Return the six gradients; a second backward pass (retain_graph=True) runs the layer again for its tape."""
        tape, ctx.tape = ctx.tape, None
        if tape is None:
            tape, *_ = run(ctx.saved_tensors)
        gradients = functional.lstm_backward(tape, *(d.numpy() for d in (dy, dh, dc)))
        return tuple(map(torch.from_numpy, gradients))


def run(tensors):
    """Return the tape, y, h and c."""
    x, W_ih, W_hh, b, h0, c0 = (tensor.detach().numpy() for tensor in tensors)
    out = functional.lstm(x, (W_ih, W_hh, b), h0, c0)
    return out.tape, torch.from_numpy(out.y.copy()), torch.from_numpy(out.h), torch.from_numpy(out.c)  # the tape needs its y


def lstm(x, W_ih, W_hh, b, h0, c0):
    """Return y, h and c of an LSTM layer."""
    return LSTM.apply(x, W_ih, W_hh, b, h0, c0)


def main():
    """Train a layer of numlstm and one of PyTorch with PyTorch's Adam."""
    torch.manual_seed(0)
    hidden = 16
    shapes = (4 * hidden, 1), (4 * hidden, hidden), (4 * hidden,)
    weights = [torch.nn.Parameter(0.2 * torch.randn(shape)) for shape in shapes]
    head = torch.nn.Linear(hidden, 1)
    optimizer = torch.optim.Adam([*weights, *head.parameters()], lr=0.02)
    zeros = torch.zeros(64, hidden)
    for step in range(101):
        x = torch.randint(0, 2, (64, 25, 1)).float()
        more_ones = (x.mean(dim=1) > 0.5).float()
        _, h, _ = lstm(x, *weights, zeros, zeros)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(head(h), more_ones)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0:
            print(f"step {step}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
