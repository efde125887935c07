"""Comparisons of vectors, and the choice between two by what they say."""

import operator

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

from .simd import Vec, define_lowering, lane_types, number_as_vector


class Mask(types.Type):
    """A truth value for each lane of a vector of the type `compared`."""

    def __init__(self, compared: Vec) -> None:
        self.compared = compared
        super().__init__(name=f"Mask({compared})")

    @property
    def ir_type(self) -> ir.VectorType:
        return ir.VectorType(ir.IntType(1), self.compared.lanes)


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, fe_type.ir_type)


class _Compared(AbstractTemplate):
    def generic(self, args, kws):
        found = None if kws else lane_types(args)
        return found and signature(Mask(found[0]), *found[1])


def _define_comparison(function, relation):
    infer_global(function)(type(f"_Lanes_{function.__name__}", (_Compared,), {}))

    def lower(context, builder, sig, args):
        kinds, vector = zip(args, sig.args, strict=True), sig.return_type.compared
        # As in NumPy, nothing but `!=` holds for a NaN.
        compare = builder.fcmp_unordered if relation == "!=" else builder.fcmp_ordered
        return compare(relation, *(number_as_vector(context, builder, arg, kind, vector) for arg, kind in kinds))

    define_lowering(lower, function, 2)


for _function, _relation in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
    (operator.ne, "!="),
):
    _define_comparison(_function, _relation)


@intrinsic
def where(typingctx, condition, a, b):
    """Return the lanes of `a` where the condition holds, else those of `b`."""
    if not (isinstance(condition, Mask) and condition.compared == a == b):
        return None

    def emit(context, builder, sig, args):
        return builder.select(*args)

    return signature(a, condition, a, b), emit
