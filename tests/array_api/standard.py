"""The Python array API standard, version 2025.12, as tables: what exists, how it is called, and for which dtypes.

The tests of this folder read everything from here. `SIGNATURES` has one line for each function that is not elementwise,
`UNARY` and `BINARY` have the elementwise ones with the kinds of dtypes that each takes, `METHODS` and `ATTRIBUTES` those of
arrays.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import graphc as gx

VERSION = "2025.12"


def words(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


SIGNATURES = """
arange(start, /, stop=None, step=1, *, dtype=None, device=None)
asarray(obj, /, *, dtype=None, device=None, copy=None)
empty(shape, *, dtype=None, device=None)
empty_like(x, /, *, dtype=None, device=None)
eye(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)
from_dlpack(x, /, *, device=None, copy=None)
full(shape, fill_value, *, dtype=None, device=None)
full_like(x, /, fill_value, *, dtype=None, device=None)
linspace(start, stop, /, num, *, dtype=None, device=None, endpoint=True)
meshgrid(*arrays, indexing="xy")
ones(shape, *, dtype=None, device=None)
ones_like(x, /, *, dtype=None, device=None)
tril(x, /, *, k=0)
triu(x, /, *, k=0)
zeros(shape, *, dtype=None, device=None)
zeros_like(x, /, *, dtype=None, device=None)
astype(x, dtype, /, *, copy=True, device=None)
can_cast(from_, to, /)
finfo(type, /)
iinfo(type, /)
isdtype(dtype, kind)
result_type(*arrays_and_dtypes)
clip(x, /, min=None, max=None)
take(x, indices, /, *, axis=None)
take_along_axis(x, indices, /, *, axis=-1)
__array_namespace_info__()
matmul(x1, x2, /)
matrix_transpose(x, /)
tensordot(x1, x2, /, *, axes=2)
vecdot(x1, x2, /, *, axis=-1)
broadcast_arrays(*arrays)
broadcast_shapes(*shapes)
broadcast_to(x, /, shape)
concat(arrays, /, *, axis=0)
expand_dims(x, /, axis)
flip(x, /, *, axis=None)
moveaxis(x, source, destination, /)
permute_dims(x, /, axes)
repeat(x, repeats, /, *, axis=None)
reshape(x, /, shape, *, copy=None)
roll(x, /, shift, *, axis=None)
squeeze(x, /, axis)
stack(arrays, /, *, axis=0)
tile(x, repetitions, /)
unstack(x, /, *, axis=0)
argmax(x, /, *, axis=None, keepdims=False)
argmin(x, /, *, axis=None, keepdims=False)
count_nonzero(x, /, *, axis=None, keepdims=False)
nonzero(x, /)
searchsorted(x1, x2, /, *, side="left", sorter=None)
where(condition, x1, x2, /)
isin(x1, x2, /, *, invert=False)
unique_all(x, /)
unique_counts(x, /)
unique_inverse(x, /)
unique_values(x, /)
argsort(x, /, *, axis=-1, descending=False, stable=True)
sort(x, /, *, axis=-1, descending=False, stable=True)
cumulative_prod(x, /, *, axis=None, dtype=None, include_initial=False)
cumulative_sum(x, /, *, axis=None, dtype=None, include_initial=False)
max(x, /, *, axis=None, keepdims=False)
mean(x, /, *, axis=None, keepdims=False)
min(x, /, *, axis=None, keepdims=False)
prod(x, /, *, axis=None, dtype=None, keepdims=False)
std(x, /, *, axis=None, correction=0.0, keepdims=False)
sum(x, /, *, axis=None, dtype=None, keepdims=False)
var(x, /, *, axis=None, correction=0.0, keepdims=False)
all(x, /, *, axis=None, keepdims=False)
any(x, /, *, axis=None, keepdims=False)
diff(x, /, *, axis=-1, n=1, prepend=None, append=None)
linalg.cholesky(x, /, *, upper=False)
linalg.cross(x1, x2, /, *, axis=-1)
linalg.det(x, /)
linalg.diagonal(x, /, *, offset=0)
linalg.eig(x, /)
linalg.eigh(x, /)
linalg.eigvals(x, /)
linalg.eigvalsh(x, /)
linalg.inv(x, /)
linalg.matmul(x1, x2, /)
linalg.matrix_norm(x, /, *, keepdims=False, ord="fro")
linalg.matrix_power(x, n, /)
linalg.matrix_rank(x, /, *, rtol=None)
linalg.matrix_transpose(x, /)
linalg.outer(x1, x2, /)
linalg.pinv(x, /, *, rtol=None)
linalg.qr(x, /, *, mode="reduced")
linalg.slogdet(x, /)
linalg.solve(x1, x2, /)
linalg.svd(x, /, *, full_matrices=True)
linalg.svdvals(x, /)
linalg.tensordot(x1, x2, /, *, axes=2)
linalg.trace(x, /, *, offset=0, dtype=None)
linalg.vecdot(x1, x2, /, *, axis=-1)
linalg.vector_norm(x, /, *, axis=None, keepdims=False, ord=2)
fft.fft(x, /, *, n=None, axis=-1, norm="backward")
fft.ifft(x, /, *, n=None, axis=-1, norm="backward")
fft.fftn(x, /, *, s=None, axes=None, norm="backward")
fft.ifftn(x, /, *, s=None, axes=None, norm="backward")
fft.rfft(x, /, *, n=None, axis=-1, norm="backward")
fft.irfft(x, /, *, n=None, axis=-1, norm="backward")
fft.rfftn(x, /, *, s=None, axes=None, norm="backward")
fft.irfftn(x, /, *, s=None, axes=None, norm="backward")
fft.hfft(x, /, *, n=None, axis=-1, norm="backward")
fft.ihfft(x, /, *, n=None, axis=-1, norm="backward")
fft.fftfreq(n, /, *, d=1.0, dtype=None, device=None)
fft.rfftfreq(n, /, *, d=1.0, dtype=None, device=None)
fft.fftshift(x, /, *, axes=None)
fft.ifftshift(x, /, *, axes=None)
"""

#: Elementwise functions of one array by the kinds of dtypes that they take: b bool, i and u integers, f floats, c complex.
UNARY: dict[str, str] = {
    **dict.fromkeys(words("abs negative positive square sign real conj"), "iufc"),
    **dict.fromkeys(["ceil", "floor", "trunc"], "iuf"),
    "round": "iufc",
    **dict.fromkeys(["isfinite", "isinf", "isnan"], "iufc"),
    **dict.fromkeys(
        words(
            "acos acosh asin asinh atan atanh cos cosh exp expm1 log log1p log2 log10 reciprocal sin sinh sqrt tan tanh"
        ),
        "fc",
    ),
    "signbit": "f",
    "imag": "c",
    "bitwise_invert": "biu",
    "logical_not": "b",
}

#: Elementwise functions of two arrays, likewise.
BINARY: dict[str, str] = {
    **dict.fromkeys(["add", "subtract", "multiply", "pow"], "iufc"),
    "divide": "fc",
    **dict.fromkeys(["floor_divide", "remainder", "maximum", "minimum"], "iuf"),
    **dict.fromkeys(["greater", "greater_equal", "less", "less_equal"], "iuf"),
    **dict.fromkeys(["equal", "not_equal"], "biufc"),
    **dict.fromkeys(["atan2", "copysign", "hypot", "logaddexp", "nextafter"], "f"),
    **dict.fromkeys(["bitwise_and", "bitwise_or", "bitwise_xor"], "biu"),
    **dict.fromkeys(["bitwise_left_shift", "bitwise_right_shift"], "iu"),
    **dict.fromkeys(["logical_and", "logical_or", "logical_xor"], "b"),
}
#: Elementwise functions whose results are bools, whatever they take.
TRUTH = frozenset(
    words(
        "isfinite isinf isnan signbit logical_not greater greater_equal less less_equal equal not_equal"
        " logical_and logical_or logical_xor"
    )
)

#: Operators with two operands: method name, function.
OPERATORS: dict[str, str] = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "pow",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
}
COMPARISONS: dict[str, str] = {
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "eq": "equal",
    "ne": "not_equal",
}
UNARY_OPERATORS: dict[str, str] = {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "bitwise_invert"}

_METHODS = """
__array_namespace__(self, /, *, api_version=None)
__bool__(self, /)
__complex__(self, /)
__dlpack__(self, /, *, stream=None, max_version=None, dl_device=None, copy=None)
__dlpack_device__(self, /)
__float__(self, /)
__getitem__(self, key, /)
__index__(self, /)
__int__(self, /)
__setitem__(self, key, value, /)
to_device(self, device, /, *, stream=None)
"""
ATTRIBUTES = words("dtype device mT ndim shape size T")
CONSTANTS = {"e": 2.718281828459045, "inf": float("inf"), "nan": float("nan"), "newaxis": None, "pi": 3.141592653589793}

DTYPES = words("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64 complex128")


def _parsed(text: str) -> Iterator[tuple[str, inspect.Signature]]:
    for line in filter(None, text.splitlines()):
        name, _, rest = line.partition("(")
        scope: dict[str, Any] = {}
        exec(f"def f({rest}: ...", scope)
        yield name, inspect.signature(scope["f"])


FUNCTIONS: dict[str, inspect.Signature] = dict(
    _parsed(SIGNATURES + "\n".join([f"{name}(x, /)" for name in UNARY] + [f"{name}(x1, x2, /)" for name in BINARY]))
)
METHODS: dict[str, inspect.Signature] = dict(
    _parsed(
        _METHODS
        + "\n".join(
            [f"__{r}{o}__(self, other, /)" for o in (*OPERATORS, "matmul") for r in ("", "r", "i")]
            + [f"__{o}__(self, other, /)" for o in COMPARISONS]
            + [f"__{o}__(self, /)" for o in UNARY_OPERATORS]
        )
    )
)


def function(name: str) -> Any:
    """The function of graphc with a name of the standard, dotted for extensions."""
    found: Any = gx
    for part in name.split("."):
        found = getattr(found, part)
    return found
