"""exp, sigmoid, tanh and log_sigmoid over vectors, written as formulas on LLVM values.

All rest on ``exp(x) = 2**n * (1 + q)``, where ``n = round(x / ln 2)``, ``r = x - n ln 2`` with ln 2 in two parts, and
``q = expm1(r) = r + r**2 * P(r)`` on ``|r| <= ln(2)/2``. P interpolates ``(expm1(r) - r) / r**2`` at the Chebyshev nodes;
its error is below 0.1 ulp of the result, and so is that of log_sigmoid's polynomial, made in the same way. Clamps are
written as ``select(x < bound, bound, x)``, which hands a NaN on.
"""

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from .simd import Vec, fmuladd


class _Format:
    """What the formulas need to know about a floating format."""

    def __init__(self, bits, mantissa, ln2_high, ln2_low, polynomial, exp_range, smallest_log, atanh):
        self.bits = bits
        self.mantissa = mantissa
        self.bias = (1 << (bits - mantissa - 2)) - 1
        self.ln2_high, self.ln2_low = ln2_high, ln2_low
        self.polynomial = polynomial
        self.exp_range = exp_range  # outside of it exp is 0 or infinity
        self.smallest_log = smallest_log  # of the smallest normal number
        self.atanh = atanh  # coefficients of (atanh(s) / s - 1) / s**2 in powers of s**2, for s from 0 to 1/3
        self.round_magic = 1.5 * 2.0**mantissa  # adding it leaves the rounded value in the lowest bits


_FORMATS = {
    types.float32: _Format(
        32,
        23,
        0.693145751953125,
        1.428606820309417e-06,
        (0.5, 0.16666576666119928, 0.04166655421298415, 0.008363232883682618, 0.0013926250831497611),
        (-104.0, 89.0),
        -87.33654475,
        (0.3333333366026371, 0.1999985316596486, 0.14296178997151418, 0.10853287900440187, 0.11612164612011674),
    ),
    types.float64: _Format(
        64,
        52,
        0.6931471803691238,
        1.9082149292705877e-10,
        (
            0.5000000000000001,
            0.16666666666666669,
            0.041666666666623824,
            0.008333333333330039,
            0.0013888888917367081,
            0.00019841269863171557,
            2.4801521057868204e-05,
            2.7557268276905696e-06,
            2.7620201591031547e-07,
            2.5100472505694996e-08,
        ),
        (-746.0, 710.0),
        -708.3964185322641,
        (
            0.3333333333333333,
            0.19999999999999762,
            0.1428571428580005,
            0.11111111099118386,
            0.09090909948981357,
            0.07692271982430275,
            0.06667589315724629,
            0.05867139530651599,
            0.05422589197440007,
            0.03746071897775383,
            0.07815288900461426,
        ),
    ),
}
_LOG2_E = 1.4426950408889634


class _Lanes:
    """An LLVM vector with arithmetic operators; plain numbers become constants of its type."""

    def __init__(self, builder, kind, value):
        self.builder, self.kind, self.value = builder, kind, value
        self.format = _FORMATS[kind.scalar]
        self.int_type = ir.VectorType(ir.IntType(self.format.bits), kind.lanes)

    def make(self, value):
        return _Lanes(self.builder, self.kind, value)

    def constant(self, number):
        return self.make(ir.Constant(self.kind.ir_type, [float(number)] * self.kind.lanes))

    def _other(self, other):
        return other if isinstance(other, _Lanes) else self.constant(other)

    def _binary(name, swap=False):  # a factory for the operators below, gone when the class is complete
        def method(self, other):
            pair = self.value, self._other(other).value
            return self.make(getattr(self.builder, name)(*(reversed(pair) if swap else pair)))

        return method

    __add__, __sub__, __mul__, __truediv__ = _binary("fadd"), _binary("fsub"), _binary("fmul"), _binary("fdiv")
    __rsub__ = _binary("fsub", swap=True)
    del _binary

    def fma(self, factor, term):
        """Return ``self * factor + term``."""
        return self.make(fmuladd(self.builder, self.value, self._other(factor).value, self._other(term).value))

    def where(self, relation, bound, if_true, if_false):
        """Return `if_true` where ``self relation bound`` holds, else `if_false` (for a NaN too)."""
        condition = self.builder.fcmp_ordered(relation, self.value, self._other(bound).value)
        return self.make(self.builder.select(condition, self._other(if_true).value, self._other(if_false).value))

    def at_least(self, bound):
        return self.where("<", bound, bound, self)

    def at_most(self, bound):
        return self.where(">", bound, bound, self)

    def bits(self):
        return self.builder.bitcast(self.value, self.int_type)

    def from_bits(self, bits):
        return self.make(self.builder.bitcast(bits, self.kind.ir_type))

    def integers(self, number):
        return ir.Constant(self.int_type, [number] * self.kind.lanes)

    def sign_mask(self):
        return self.integers(-(1 << (self.format.bits - 1)))

    def minus_abs(self):
        return self.from_bits(self.builder.or_(self.bits(), self.sign_mask()))

    def with_sign_of(self, other):
        """Return self, which is not negative, with the sign of `other`."""
        return self.from_bits(self.builder.or_(self.bits(), self.builder.and_(other.bits(), self.sign_mask())))

    def power_of_two(self, exponent):
        """Return 2**exponent from integer lanes that hold the biased exponent in their lowest bits."""
        return self.from_bits(self.builder.shl(exponent, self.integers(self.format.mantissa)))


def _reduce(x):
    """Return (t, q): the lowest bits of t hold n plus the exponent's bias, and ``exp(x) = 2**n * (1 + q)``."""
    magic = x.format.round_magic + x.format.bias
    t = x.fma(_LOG2_E, magic)
    n = t - magic
    r = n.fma(-x.format.ln2_low, n.fma(-x.format.ln2_high, x))
    return t, _polynomial(x.format.polynomial, r).fma(r * r, r)


def _polynomial(coefficients, x):
    """Return the polynomial with these coefficients, the constant one first, at x."""
    p = x.constant(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        p = p.fma(x, coefficient)
    return p


def _exp(x):
    """exp(x), subnormal results included; 0 and infinity past the ends of the range."""
    low, high = x.format.exp_range
    t, q = _reduce(x.at_least(low).at_most(high))
    # 2**n does not always fit: scale in two steps of half the exponent.
    builder = x.builder
    n = builder.sub(t.bits(), x.constant(x.format.round_magic + x.format.bias).bits())
    half = builder.ashr(n, x.integers(1))
    bias = x.integers(x.format.bias)
    first = x.power_of_two(builder.add(half, bias))
    second = x.power_of_two(builder.add(builder.sub(n, half), bias))
    return q.fma(first, first) * second


def _exp_of_minus_abs(x):
    """exp(-|x|); below the smallest normal number it is flushed to 0."""
    negative_abs = x.minus_abs()
    t, q = _reduce(negative_abs)
    scale = x.power_of_two(t.bits())
    return negative_abs.where("<", x.format.smallest_log, 0.0, q.fma(scale, scale))


def _sigmoid(x):
    """1 / (1 + exp(-x)) from e = exp(-|x|), so that small results keep their relative accuracy; subnormal ones are 0."""
    e = _exp_of_minus_abs(x)
    return x.where("<", 0.0, e, 1.0) / (e + 1.0)


def _log_sigmoid(x):
    """min(x, 0) - log(1 + e) with e = exp(-|x|), as small ones are: log(1 + e) = 2 atanh(s), where s = e / (2 + e)."""
    e = _exp_of_minus_abs(x)
    s = e / (e + 2.0)
    square, double = s * s, s + s
    return x.at_most(0.0) - (double * square).fma(_polynomial(x.format.atanh, square), double)


def _tanh(x):
    """-expm1(-2|x|) / (2 + expm1(-2|x|)) with the sign of x: no cancellation for small arguments."""
    y = (x.minus_abs() * 2.0).at_least(-50.0)  # tanh is 1 long before, and 2**n stays normal
    t, q = _reduce(y)
    scale = x.power_of_two(t.bits())
    e = q.fma(scale, scale - 1.0)
    return ((0.0 - e) / (e + 2.0)).with_sign_of(x)  # 0 - e, for -e would be -0 at 0


def _hard_sigmoid(x):
    """min(max(x / 6 + 1/2, 0), 1)"""
    return x.fma(1 / 6, 0.5).at_least(0.0).at_most(1.0)


def _hard_sigmoid_slope(y):
    return y.where(">", 0.0, y.where("<", 1.0, 1 / 6, 0.0), 0.0)


def _elementary(formula, name, doc):
    def typed(typingctx, x):
        if not isinstance(x, Vec):
            return None

        def emit(context, builder, sig, args):
            return formula(_Lanes(builder, x, args[0])).value

        return signature(x, x), emit

    typed.__name__ = typed.__qualname__ = name
    typed.__doc__ = doc
    return intrinsic(typed)


exp = _elementary(_exp, "exp", "Return e**x of each lane.")
sigmoid = _elementary(_sigmoid, "sigmoid", "Return 1 / (1 + e**-x) of each lane.")
log_sigmoid = _elementary(_log_sigmoid, "log_sigmoid", "Return the logarithm of each lane's sigmoid.")
tanh = _elementary(_tanh, "tanh", "Return the hyperbolic tangent of each lane.")
relu = _elementary(lambda x: x.at_least(0.0), "relu", "Return max(x, 0) of each lane.")
positive = _elementary(lambda y: y.where(">", 0.0, 1.0, 0.0), "positive", "Return 1 where a lane is above 0, else 0.")
hard_sigmoid = _elementary(_hard_sigmoid, "hard_sigmoid", "Return min(max(x / 6 + 1/2, 0), 1) of each lane.")
hard_sigmoid_slope = _elementary(_hard_sigmoid_slope, "hard_sigmoid_slope", "Return hard_sigmoid's slope from its value.")
