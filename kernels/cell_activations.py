"""Activations that cells are made of, and their slopes as functions of their values."""

from numba.extending import register_jitable

from .elementary import hard_sigmoid, hard_sigmoid_slope, positive, relu, sigmoid, tanh
from .simd import constant


@register_jitable
def _linear(x):
    return x


@register_jitable
def _sigmoid_slope(y):
    return y * (constant(y, 1) - y)


@register_jitable
def _tanh_slope(y):
    return constant(y, 1) - y * y


@register_jitable
def _linear_slope(y):
    return constant(y, 1)


ACTIVATIONS = {
    "sigmoid": (sigmoid, _sigmoid_slope),
    "hard_sigmoid": (hard_sigmoid, hard_sigmoid_slope),
    "tanh": (tanh, _tanh_slope),
    "relu": (relu, positive),
    "linear": (_linear, _linear_slope),
}
