"""Elementwise functions. Layer 5. Names follow the Array API standard; semantics are NumPy's.

Each function that NumPy has as a ufunc is one row of `UFUNCS`; dtype rules are asked of that ufunc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.errors import DTypeError, OptionError, message
from graphc.frontend import context, pytree
from graphc.frontend.promotion import (
    as_tensor,
    broadcast_to,
    check_device,
    convert,
    describe,
    literal,
    op,
    promote,
    refusal,
    result_dtype,
    unify,
)
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, checked_dtype, default_dtype
from graphc.frontend.trace import Traced

__all__ = [
    "FUNCTIONS",
    "UFUNCS",
    "abs",
    "acos",
    "acosh",
    "add",
    "apply_ufunc",
    "asin",
    "asinh",
    "astype",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "cbrt",
    "ceil",
    "clip",
    "copied",
    "copysign",
    "cos",
    "cosh",
    "divide",
    "equal",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "floor_divide",
    "fmod",
    "gelu",
    "greater",
    "greater_equal",
    "hypot",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "nextafter",
    "not_equal",
    "positive",
    "power",
    "power_operator",
    "reciprocal",
    "relu",
    "remainder",
    "rint",
    "round",
    "sigmoid",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "softplus",
    "sqrt",
    "square",
    "stop_gradient",
    "subtract",
    "tan",
    "tanh",
    "trunc",
    "where",
]

#: Array API name: (NumPy ufunc, name of the op).
UFUNCS: dict[str, tuple[np.ufunc, str]] = {
    "add": (np.add, "add"),
    "subtract": (np.subtract, "subtract"),
    "multiply": (np.multiply, "multiply"),
    "divide": (np.divide, "divide"),
    "floor_divide": (np.floor_divide, "floor_divide"),
    "remainder": (np.remainder, "remainder"),
    "maximum": (np.maximum, "maximum"),
    "minimum": (np.minimum, "minimum"),
    "atan2": (np.arctan2, "atan2"),
    "negative": (np.negative, "negative"),
    "positive": (np.positive, ""),
    "abs": (np.absolute, "absolute"),
    "sign": (np.sign, "sign"),
    "sqrt": (np.sqrt, "sqrt"),
    "square": (np.square, "square"),
    "reciprocal": (np.reciprocal, "reciprocal"),
    "exp": (np.exp, "exp"),
    "exp2": (np.exp2, "exp2"),
    "expm1": (np.expm1, "expm1"),
    "log": (np.log, "log"),
    "log2": (np.log2, "log2"),
    "log10": (np.log10, "log10"),
    "log1p": (np.log1p, "log1p"),
    "sin": (np.sin, "sin"),
    "cos": (np.cos, "cos"),
    "tan": (np.tan, "tan"),
    "asin": (np.arcsin, "asin"),
    "acos": (np.arccos, "acos"),
    "atan": (np.arctan, "atan"),
    "sinh": (np.sinh, "sinh"),
    "cosh": (np.cosh, "cosh"),
    "tanh": (np.tanh, "tanh"),
    "asinh": (np.arcsinh, "asinh"),
    "acosh": (np.arccosh, "acosh"),
    "atanh": (np.arctanh, "atanh"),
    "floor": (np.floor, "floor"),
    "ceil": (np.ceil, "ceil"),
    "trunc": (np.trunc, "trunc"),
    "rint": (np.rint, "rint"),
    "copysign": (np.copysign, "copysign"),
    "equal": (np.equal, "equal"),
    "not_equal": (np.not_equal, "not_equal"),
    "less": (np.less, "less"),
    "less_equal": (np.less_equal, "less_equal"),
    "greater": (np.greater, "greater"),
    "greater_equal": (np.greater_equal, "greater_equal"),
    "isnan": (np.isnan, "isnan"),
    "isinf": (np.isinf, "isinf"),
    "isfinite": (np.isfinite, "isfinite"),
    "logical_and": (np.logical_and, "bitwise_and"),
    "logical_or": (np.logical_or, "bitwise_or"),
    "logical_xor": (np.logical_xor, "bitwise_xor"),
    "logical_not": (np.logical_not, "logical_not"),
    "bitwise_and": (np.bitwise_and, "bitwise_and"),
    "bitwise_or": (np.bitwise_or, "bitwise_or"),
    "bitwise_xor": (np.bitwise_xor, "bitwise_xor"),
    "bitwise_invert": (np.invert, "bitwise_invert"),
    "hypot": (np.hypot, "hypot"),
    "cbrt": (np.cbrt, "cbrt"),
    "fmod": (np.fmod, "fmod"),
    "nextafter": (np.nextafter, "nextafter"),
    "signbit": (np.signbit, "signbit"),
    "bitwise_left_shift": (np.left_shift, "left_shift"),
    "bitwise_right_shift": (np.right_shift, "right_shift"),
}

#: What NumPy's loops for bool do, by op.
_BOOL_OPS = {
    "add": "bitwise_or",
    "multiply": "bitwise_and",
    "maximum": "bitwise_or",
    "minimum": "bitwise_and",
    "bitwise_invert": "logical_not",
}
#: The comparisons, and each with its operands exchanged.
_MIRRORED = {
    "equal": "equal",
    "not_equal": "not_equal",
    "less": "greater",
    "less_equal": "greater_equal",
    "greater": "less",
    "greater_equal": "less_equal",
}
_ROUNDING = {"floor", "ceil", "trunc", "rint"}
_CLASSIFY = {"isnan", "isinf", "isfinite"}
_LOGICAL = {"logical_and", "logical_or", "logical_xor", "logical_not"}


def apply_ufunc(name: str, *operands: Any) -> Tensor:
    """Apply the function `name` of `UFUNCS` with NumPy's promotion and broadcasting."""
    ufunc, op_name = UFUNCS[name]
    if name in _MIRRORED and (decided := _compare_beyond(name, *operands)) is not None:
        return decided
    tensors = [_truth(as_tensor(x)) for x in operands] if name in _LOGICAL else promote(name, ufunc, operands)
    tensors = unify(name, tensors)
    dtype = tensors[0].type.dtype
    if len(tensors) == 2 and tensors[1].type.dtype is not dtype:
        return _compare_mixed(name, *tensors)
    if not dtype.is_inexact:
        if op_name in _CLASSIFY:
            return op("equal" if op_name == "isfinite" else "not_equal", tensors[0], tensors[0])
        if name == "reciprocal":
            raise DTypeError(
                message(
                    "reciprocal is defined for floating-point and complex tensors only",
                    operands=[("x", describe(tensors[0]))],
                    location=user_location(),
                    hint="Convert with astype first.",
                )
            )
        if op_name in _ROUNDING or (dtype.is_bool and op_name in ("absolute", "square")):
            return tensors[0]
    if dtype.is_bool:
        op_name = _BOOL_OPS.get(op_name, op_name)
    return op(op_name, *tensors) if op_name else tensors[0]


def _compare_mixed(name: str, x: Tensor, y: Tensor) -> Tensor:
    """NumPy compares int64 with uint64 by value: a negative number is below every unsigned one."""
    if x.type.dtype.kind == "u":
        return _compare_mixed(_MIRRORED[name], y, x)
    negative = apply_ufunc("less", x, 0)
    among_unsigned = apply_ufunc(name, convert(x, y.dtype), y)
    decided = as_tensor(np.asarray(name in ("less", "less_equal", "not_equal")))
    return where(negative, decided, among_unsigned)


def _compare_beyond(name: str, x: Any, y: Any) -> Tensor | None:
    """An integer tensor compared with a Python integer outside of its dtype's range, which is legal; None for others."""
    if type(x) is int and type(y) is not int:
        return _compare_beyond(_MIRRORED[name], y, x)
    if type(y) is not int or type(x) is int or not hasattr(x, "dtype"):
        return None
    tensor = as_tensor(x)
    if not tensor.type.dtype.is_integer:
        return None
    limits = np.iinfo(tensor.dtype)
    if limits.min <= y <= limits.max:
        return None
    always = ("not_equal", "less", "less_equal") if y > limits.max else ("not_equal", "greater", "greater_equal")
    return broadcast_to(as_tensor(np.asarray(name in always)), tensor.shape)


def _truth(x: Tensor) -> Tensor:
    return x if x.type.dtype.is_bool else apply_ufunc("not_equal", x, 0)


def _function(name: str) -> Callable[..., Tensor]:
    ufunc = UFUNCS[name][0]
    if ufunc.nin == 1:

        def unary(x: Any, /) -> Tensor:
            return apply_ufunc(name, x)

        function: Callable[..., Tensor] = unary
    else:

        def binary(x1: Any, x2: Any, /) -> Tensor:
            return apply_ufunc(name, x1, x2)

        function = binary
    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"Elementwise `numpy.{ufunc.__name__}`, with NumPy's promotion and broadcasting; returns a Tensor."
    )
    return function


# fmt: off
add = _function("add")
subtract = _function("subtract")
multiply = _function("multiply")
divide = _function("divide")
remainder = _function("remainder")
maximum = _function("maximum")
minimum = _function("minimum")
atan2 = _function("atan2")
negative = _function("negative")
positive = _function("positive")
abs = _function("abs")
sign = _function("sign")
sqrt = _function("sqrt")
square = _function("square")
reciprocal = _function("reciprocal")
exp = _function("exp")
exp2 = _function("exp2")
expm1 = _function("expm1")
log = _function("log")
log2 = _function("log2")
log10 = _function("log10")
log1p = _function("log1p")
sin = _function("sin")
cos = _function("cos")
tan = _function("tan")
asin = _function("asin")
acos = _function("acos")
atan = _function("atan")
sinh = _function("sinh")
cosh = _function("cosh")
tanh = _function("tanh")
asinh = _function("asinh")
acosh = _function("acosh")
atanh = _function("atanh")
floor = _function("floor")
ceil = _function("ceil")
trunc = _function("trunc")
rint = _function("rint")
copysign = _function("copysign")
equal = _function("equal")
not_equal = _function("not_equal")
less = _function("less")
less_equal = _function("less_equal")
greater = _function("greater")
greater_equal = _function("greater_equal")
isnan = _function("isnan")
isinf = _function("isinf")
isfinite = _function("isfinite")
logical_and = _function("logical_and")
logical_or = _function("logical_or")
logical_xor = _function("logical_xor")
logical_not = _function("logical_not")
bitwise_and = _function("bitwise_and")
bitwise_or = _function("bitwise_or")
bitwise_xor = _function("bitwise_xor")
bitwise_invert = _function("bitwise_invert")
hypot = _function("hypot")
cbrt = _function("cbrt")
fmod = _function("fmod")
nextafter = _function("nextafter")
signbit = _function("signbit")
bitwise_left_shift = _function("bitwise_left_shift")
bitwise_right_shift = _function("bitwise_right_shift")
# fmt: on


def floor_divide(x1: Any, x2: Any, /) -> Tensor:
    """The floor of x1 / x2 elementwise, with NumPy's promotion and broadcasting; integers by zero give 0.

    With an infinite operand the result is that of x1 / x2, as the Array API standard prefers; `numpy.floor_divide` and
    Python have NaN for inf // 2.0 and -1.0 for 1.0 // -inf, also when applied to tensors.

    >>> import graphc as gx
    >>> gx.floor_divide(gx.tensor([7.0, -7.0, gx.inf]), 2.0)
    Tensor([ 3., -4., inf], dtype=float32)
    """
    x, y = unify("floor_divide", promote("floor_divide", np.floor_divide, (x1, x2)))
    floored = op("floor_divide", x, y)
    if not x.type.dtype.is_float:
        return floored
    infinite = op("bitwise_or", op("isinf", x), op("isinf", y))
    return op("select", infinite, op("divide", x, y).detach(), floored)


#: The functions above by name.
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    f.__name__: f
    for f in (
        add,
        subtract,
        multiply,
        divide,
        floor_divide,
        remainder,
        maximum,
        minimum,
        atan2,
        negative,
        positive,
        abs,
        sign,
        sqrt,
        square,
        reciprocal,
        exp,
        exp2,
        expm1,
        log,
        log2,
        log10,
        log1p,
        sin,
        cos,
        tan,
        asin,
        acos,
        atan,
        sinh,
        cosh,
        tanh,
        asinh,
        acosh,
        atanh,
        floor,
        ceil,
        trunc,
        rint,
        copysign,
        equal,
        not_equal,
        less,
        less_equal,
        greater,
        greater_equal,
        isnan,
        isinf,
        isfinite,
        logical_and,
        logical_or,
        logical_xor,
        logical_not,
        bitwise_and,
        bitwise_or,
        bitwise_xor,
        bitwise_invert,
        hypot,
        cbrt,
        fmod,
        nextafter,
        signbit,
        bitwise_left_shift,
        bitwise_right_shift,
    )
}


def round(x: Any, /) -> Tensor:
    """Rounded to the nearest integer, ties to even; integers stay as they are (`rint` makes floats of them, as NumPy's); of
    complex numbers both parts are rounded."""
    tensor = as_tensor(x)
    if tensor.type.dtype.is_complex:
        return op("make_complex", *(op("rint", op(part, tensor)) for part in ("real", "imag")))
    return tensor if tensor.type.dtype.is_integer else apply_ufunc("rint", tensor)


def power(x1: Any, x2: Any, /) -> Tensor:
    """x1 ** x2 elementwise, as `numpy.power`.

    A Python exponent of -1, 0.5, 1, 2, 3 or 4 on floats and complex numbers becomes reciprocal, sqrt, or products, as
    NumPy's operator does for most of these; a product of n factors is within n - 1 half ulps of the exact power. To the
    power 0.5 -inf gives inf and -0.0 gives 0.0, where the operator `x ** 0.5`, here as in NumPy, is the square root and gives
    NaN and -0.0.
    """
    if not isinstance(x1, (bool, int, float)) and type(x2) is float and x2 == 0.5:
        x = as_tensor(x1)
        if x.type.dtype.is_float:
            return where(apply_ufunc("equal", x, -np.inf), np.inf, add(op("sqrt", x), 0.0))
    return power_operator(x1, x2)


def power_operator(x1: Any, x2: Any) -> Tensor:
    """`x1 ** x2`: `power`, with the square root for a Python exponent of 0.5."""
    if isinstance(x2, (int, float)) and not isinstance(x2, bool):
        x = as_tensor(x1)
        if x.type.dtype.is_inexact:
            special = _float_power(x, float(x2))
            if special is not None:
                return special
        elif x.type.dtype.is_integer and isinstance(x2, int) and x2 < 0:
            what = "integers to negative integer powers are not defined"
            raise refusal(OptionError, what, "Convert x1 to a float first.", x1=x1, x2=x2)
    return op("power", *unify("power", promote("power", np.power, (x1, x2))))


def _float_power(x: Tensor, exponent: float) -> Tensor | None:
    if exponent == 2.0:
        return op("square", x)
    if exponent == 1.0:
        return x
    if exponent == 0.5:
        return op("sqrt", x)
    if exponent == -1.0:
        return op("reciprocal", x)
    if exponent == 3.0:
        return op("multiply", op("square", x), x)
    if exponent == 4.0:
        return op("square", op("square", x))
    return None


def where(condition: Any, x1: Any, x2: Any, /) -> Tensor:
    """x1 where the condition holds, else x2; as `numpy.where` with three arguments.

    The gradient of the side that is not taken is exactly zero, even where its derivative is infinite.

    >>> import graphc as gx
    >>> x = gx.tensor([4.0, -1.0], requires_grad=True)
    >>> gx.where(x > 0, gx.sqrt(x), 0.0).sum().backward()
    >>> x.grad
    Tensor([0.25, 0.  ], dtype=float32)
    """
    dtype = result_dtype(x1, x2)
    sides = [as_tensor(x if isinstance(x, Tensor) else literal("where", x, dtype, (x1, x2))) for x in (x1, x2)]
    c, x, y = unify("where", [_truth(as_tensor(condition)), *(convert(s, dtype) for s in sides)])
    return op("select", c, x, y)


def clip(x: Any, /, min: Any = None, max: Any = None) -> Tensor:
    """Limit elements to [min, max]; None is no limit. NaN stays, and the upper limit wins if they cross, as in NumPy."""
    out = as_tensor(x)
    least, greatest = _limit(out, min), _limit(out, max)
    if least is not None:
        out = apply_ufunc("maximum", out, least)
    if greatest is not None:
        out = apply_ufunc("minimum", out, greatest)
    return out


def _limit(x: Tensor, limit: Any) -> Any:
    """A limit that a Python integer is beyond x's dtype stands for the dtype's own, as NumPy has it."""
    if type(limit) is not int or not x.type.dtype.is_integer:
        return limit
    info = np.iinfo(x.dtype)
    return max(int(info.min), min(limit, int(info.max)))


def copied(x: Any, /) -> Tensor:
    """A tensor of its own with the same elements: writing to one does not change the other; gradients flow through."""
    tensor = as_tensor(x)
    if context.trace.get() is None and not tensor.requires_grad:
        return Tensor(tensor.numpy().copy())
    kept = broadcast_to(as_tensor(np.asarray(True)), tensor.shape)
    return op("select", kept, tensor, tensor)


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """Convert elements as NumPy's `astype` does; x itself, for its own dtype, if `copy` is False."""
    check_device(device)
    tensor = as_tensor(x)
    target = checked_dtype(dtype)
    if target is tensor.type.dtype:
        return copied(tensor) if copy else tensor
    if target.is_bool:
        return _truth(tensor)
    return convert(tensor, target.numpy)


def stop_gradient(x: Any, /) -> Any:
    """`x`, an array or containers of arrays, as constants for differentiation; what is no Tensor is one anyway.

    >>> import numpy as np, graphc as gx
    >>> gx.grad(lambda x: x * gx.stop_gradient(x))(np.float64(3.0))
    np.float64(3.0)
    """
    leaves, _, structure = pytree.flatten(x)
    return pytree.unflatten(structure, [_stopped(leaf) for leaf in leaves])


def _stopped(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    out = x.detach()
    if isinstance(out, Traced) and isinstance(x, Traced):
        out.kind, out.weak = x.kind, x.weak
    return out


def _floating(x: Any) -> Tensor:
    tensor = as_tensor(x)
    return tensor if tensor.type.dtype.is_float else convert(tensor, default_dtype())


def erf(x: Any, /) -> Tensor:
    """Error function 2/sqrt(pi) * integral of exp(-t^2) from 0 to x."""
    return op("erf", _floating(x))


def erfc(x: Any, /) -> Tensor:
    """1 - erf(x) without cancellation for large x."""
    return op("erfc", _floating(x))


def sigmoid(x: Any, /) -> Tensor:
    """1 / (1 + exp(-x)); no overflow for any x."""
    return op("sigmoid", _floating(x))


def relu(x: Any, /) -> Tensor:
    """max(x, 0); NaN stays NaN, and the derivative at 0 is 0 as in PyTorch."""
    tensor = as_tensor(x)
    return where(less_equal(tensor, 0), 0, tensor)


def softplus(x: Any, /) -> Tensor:
    """log(1 + exp(x)) as max(x, 0) + log1p(exp(-|x|)); no overflow for any x."""
    tensor = _floating(x)
    # maximum shares its derivative at 0 in halves, which makes it 1/2 there, as it should be; relu would give 0.
    return add(maximum(tensor, 0), log1p(exp(op("negative", op("absolute", tensor)))))


def gelu(x: Any, /, *, approximate: str = "none") -> Tensor:
    """Gaussian error linear unit x * Phi(x) (Hendrycks and Gimpel, 2016).

    `approximate="tanh"` takes 0.5 * (1 + tanh(u)) = sigmoid(2u) with u = sqrt(2/pi) * (x + 0.044715 x^3).
    """
    tensor = _floating(x)
    if approximate == "tanh":
        inner = multiply(
            tensor, add(multiply(square(tensor), 2 * 0.7978845608028654 * 0.044715), 2 * 0.7978845608028654)
        )
        return multiply(tensor, sigmoid(inner))
    if approximate != "none":
        raise OptionError(
            message(
                f"gelu: there is no approximation {approximate!r}",
                location=user_location(),
                hint="approximate is 'none' or 'tanh'.",
            )
        )
    return multiply(multiply(tensor, 0.5), add(erf(multiply(tensor, 0.7071067811865476)), 1))
