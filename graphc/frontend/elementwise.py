"""Elementwise functions. Layer 5. Names follow the Array API standard; semantics are NumPy's.

Each function that NumPy has as a ufunc is one row of `UFUNCS`; dtype rules are asked of that ufunc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import DTypeError, message
from graphc.frontend.promotion import as_tensor, convert, describe, op, promote, result_dtype, unify
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, default_dtype

__all__ = [
    "UFUNCS",
    "astype",
    "clip",
    "erf",
    "erfc",
    "gelu",
    "power",
    "relu",
    "sigmoid",
    "softplus",
    "stop_gradient",
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
    "round": (np.rint, "rint"),
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
}

#: What NumPy's loops for bool do, by op.
_BOOL_OPS = {
    "add": "bitwise_or",
    "multiply": "bitwise_and",
    "maximum": "bitwise_or",
    "minimum": "bitwise_and",
    "bitwise_invert": "logical_not",
    "absolute": "",
    "square": "bitwise_and",
}
_ROUNDING = {"floor", "ceil", "trunc", "rint"}
_LOGICAL = {"logical_and", "logical_or", "logical_xor", "logical_not"}


def apply_ufunc(name: str, *operands: Any) -> Tensor:
    """Apply the function `name` of `UFUNCS` with NumPy's promotion and broadcasting."""
    ufunc, op_name = UFUNCS[name]
    tensors = [_truth(as_tensor(x)) for x in operands] if name in _LOGICAL else promote(name, ufunc, operands)
    tensors = unify(name, tensors)
    dtype = tensors[0].type.dtype
    if dtype.is_bool:
        op_name = _BOOL_OPS.get(op_name, op_name)
        if op_name == "bitwise_and" and len(tensors) == 1:
            op_name = ""
    elif dtype.is_integer and op_name in _ROUNDING:
        op_name = ""
    elif dtype.is_integer and op_name in ("isnan", "isinf", "isfinite"):
        return op("equal" if op_name == "isfinite" else "not_equal", tensors[0], tensors[0])
    if not op_name:
        return tensors[0]
    return op(op_name, *tensors)


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


FUNCTIONS: dict[str, Callable[..., Tensor]] = {name: _function(name) for name in UFUNCS}

add, subtract, multiply, divide = (FUNCTIONS[n] for n in ("add", "subtract", "multiply", "divide"))
square, sqrt, exp, log1p, maximum, minimum = (
    FUNCTIONS[n] for n in ("square", "sqrt", "exp", "log1p", "maximum", "minimum")
)
tanh, less_equal, less, greater, isnan = (FUNCTIONS[n] for n in ("tanh", "less_equal", "less", "greater", "isnan"))


def power(x1: Any, x2: Any, /) -> Tensor:
    """x1 ** x2 elementwise, as `numpy.power`.

    A Python exponent of -1, 0.5, 1, 2, 3 or 4 on floats becomes reciprocal, sqrt, or products, as NumPy's operator does
    for most of these; a product of n factors is within n - 1 half ulps of the exact power.
    """
    if isinstance(x2, (int, float)) and not isinstance(x2, bool):
        x = as_tensor(x1)
        if x.type.dtype.is_float:
            special = _float_power(x, float(x2))
            if special is not None:
                return special
        elif x.type.dtype.is_integer and isinstance(x2, int) and x2 < 0:
            raise DTypeError(
                message(
                    "integers to negative integer powers are not defined",
                    operands=[("x1", describe(x1)), ("x2", describe(x2))],
                    location=user_location(),
                    hint="Convert x1 to a float first.",
                )
            )
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
    """
    dtype = result_dtype(x1, x2)
    sides = [as_tensor(x) if isinstance(x, Tensor) else as_tensor(np.asarray(x, dtype=dtype)) for x in (x1, x2)]
    c, x, y = unify("where", [_truth(as_tensor(condition)), *(convert(s, dtype) for s in sides)])
    return op("select", c, x, y)


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:  # noqa: A002
    """Limit elements to [min, max]; None is no limit. NaN stays, and the upper limit wins if they cross, as in NumPy."""
    out = as_tensor(x)
    if min is not None:
        out = apply_ufunc("maximum", out, min)
    if max is not None:
        out = apply_ufunc("minimum", out, max)
    return out


def astype(x: Any, dtype: Any, /, *, copy: bool = True) -> Tensor:
    """Convert elements as NumPy's `astype` does."""
    tensor = as_tensor(x)
    target = dtypes.from_numpy(dtype)
    if target.is_bool:
        return _truth(tensor)
    return convert(tensor, target.numpy)


def stop_gradient(x: Any, /) -> Tensor:
    """`x` as a constant for differentiation."""
    return as_tensor(x).detach()


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
    return add(relu(tensor), log1p(exp(op("negative", op("absolute", tensor)))))


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
        raise ValueError(f"approximate is 'none' or 'tanh', not {approximate!r}")
    return multiply(multiply(tensor, 0.5), add(erf(multiply(tensor, 0.7071067811865476)), 1))
