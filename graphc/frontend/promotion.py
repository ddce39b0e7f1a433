"""From what users pass to what ops take: NumPy's promotion and broadcasting made explicit. Layer 5.

NumPy is asked (`ufunc.resolve_dtypes`), never re-derived; answers are cached. Python scalars are weak (NEP 50), and so are
float arguments of traced functions. Broadcasts and conversions become nodes of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import DTypeError, GraphcError, LiteralError, OptionError, ShapeError, message
from graphc.frontend import context
from graphc.frontend.source import user_location
from graphc.frontend.tensor import Tensor, apply, check_complex_to, checked_dtype, dtype_hint, native_array
from graphc.frontend.trace import Traced
from graphc.ir import registry
from graphc.ir.graph import Attribute

__all__ = [
    "as_tensor",
    "broadcast_shapes",
    "broadcast_to",
    "check_device",
    "convert",
    "describe",
    "literal",
    "op",
    "promote",
    "result_dtype",
    "unify",
]

Operand = Any
"""A Tensor, NumPy array, NumPy scalar, Python number, or (nested) list of these."""


def op(name: str, *operands: Tensor, **attrs: Attribute) -> Tensor:
    """Apply the op `name`, which has one result, to tensors of strict types."""
    return apply(registry.get(name), operands, attrs)[0]


def as_tensor(x: Operand, dtype: Any = None) -> Tensor:
    """`x` as a Tensor (while tracing, a constant if it is not one), of `dtype` if given."""
    if isinstance(x, Tensor):
        return x if dtype is None else convert(x, dtype)
    trace = context.trace.get()
    if isinstance(x, (list, tuple)) and _holds_tensor(x):
        return _stack([as_tensor(item) for item in x], dtype)
    array = native_array(x, dtype)
    if trace is None:
        return Tensor(array)
    known = x if array is x else array
    return trace.constant(known)


def _holds_tensor(items: Sequence[Any]) -> bool:
    return any(isinstance(i, Tensor) or (isinstance(i, (list, tuple)) and _holds_tensor(i)) for i in items)


def _stack(items: list[Tensor], dtype: Any) -> Tensor:
    common = result_dtype(*items) if dtype is None else np.dtype(dtype)
    shape = broadcast_shapes("stack", items)
    rows = [op("reshape", broadcast_to(convert(t, common), shape), shape=(1, *shape)) for t in items]
    return op("concatenate", *rows, axis=0) if len(rows) > 1 else rows[0]


def describe(x: Operand) -> str:
    """An operand's type for messages."""
    if isinstance(x, Tensor):
        return str(x.type)
    if isinstance(x, (np.ndarray, np.generic)):
        return f"{x.dtype}[{', '.join(map(str, x.shape))}] (NumPy)"
    return f"{x!r} (Python {type(x).__name__})"


def refusal(kind: type[GraphcError], what: str, hint: str, **operands: Operand) -> GraphcError:
    """An error about an argument of the user's: what is wrong at his line, with these operands, and the way on."""
    described = [(name, describe(x)) for name, x in operands.items()]
    return kind(message(what, operands=described, location=user_location(), hint=hint))


def convert(x: Tensor, dtype: Any) -> Tensor:
    """`x` with elements converted to `dtype` as NumPy's astype does; `x` itself if they have it already."""
    wanted = checked_dtype(dtype)
    if x.type.dtype.is_complex:
        check_complex_to(wanted, x.type)
    return x if x.type.dtype is wanted else op("convert", x, dtype=wanted)


def broadcast_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`x` broadcast by NumPy's rules; `x` itself if it has the shape."""
    return x if x.shape == shape else op("broadcast", x, shape=shape)


def broadcast_shapes(name: str, operands: Sequence[Operand]) -> tuple[int, ...]:
    """The common shape of operands by NumPy's rules.

    Raises
    ------
    ShapeError
        Naming the operands and the user's place.
    """
    shapes = [x.shape if isinstance(x, (Tensor, np.ndarray, np.generic)) else np.shape(x) for x in operands]
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    rank = max(len(s) for s in shapes)
    out = []
    for axis in range(-rank, 0):
        extents = {s[axis] for s in shapes if len(s) >= -axis} - {1}
        if len(extents) > 1:
            raise ShapeError(
                message(
                    f"{name}: operands cannot be broadcast together (axis {axis} has sizes {sorted(extents)})",
                    operands=[(f"operand {i}", describe(x)) for i, x in enumerate(operands)],
                    location=user_location(),
                    hint="Sizes must be equal or 1, counted from the last axis; insert axes with x[:, None] or expand_dims.",
                )
            )
        out.append(extents.pop() if extents else 1)
    return tuple(out)


def _weak_key(x: Operand) -> Any:
    """A dtype, or the Python type of a weak scalar."""
    if isinstance(x, Traced) and x.weak:
        return {"f": float, "c": complex}.get(x.dtype.kind, int)
    if isinstance(x, (Tensor, np.ndarray, np.generic)):
        return x.dtype
    if isinstance(x, bool):
        return np.dtype(np.bool_)
    if isinstance(x, (int, float, complex)):
        return type(x)
    return as_tensor(x).dtype


# NumPy has no rules for bfloat16. Ours: with bools, integers and Python numbers it stays bfloat16; with another float,
# float16 too, the result is that of float32 with the other.


def _is_bfloat16(key: Any) -> bool:
    return isinstance(key, np.dtype) and key.name == "bfloat16"


def _widens_bfloat16(keys: Sequence[Any]) -> bool:
    return any(isinstance(k, np.dtype) and k.kind in "fc" for k in keys)


def _stand_in(key: Any) -> Any:
    """What NumPy is asked about beside bfloat16: float32 for it, and for whatever does not make it wider."""
    return key if isinstance(key, np.dtype) and key.kind in "fc" and key != np.float16 else np.dtype(np.float32)


@lru_cache(maxsize=8192)
def _resolve(ufunc: np.ufunc, keys: tuple[Any, ...]) -> tuple[np.dtype[Any], ...]:
    if any(_is_bfloat16(k) for k in keys):
        loop = _resolve(ufunc, tuple(map(_stand_in, keys)))
        if _widens_bfloat16(keys):
            return loop
        short = dtypes.bfloat16.numpy
        return tuple(short if d == np.float32 else d for d in loop)
    return ufunc.resolve_dtypes((*keys, *(None,) * ufunc.nout))


def promote(name: str, ufunc: np.ufunc, operands: Sequence[Operand]) -> list[Tensor]:
    """Operands converted to the dtypes of the ufunc's loop (not yet broadcast).

    Raises
    ------
    DTypeError
        If NumPy has no loop, or the loop's dtype is none of graphc's.
    """
    operands = [
        x if isinstance(x, (Tensor, np.ndarray, np.generic, bool, int, float, complex)) else as_tensor(x)
        for x in operands
    ]
    keys = tuple(_weak_key(x) for x in operands)
    if all(isinstance(k, type) for k in keys):
        # Numbers only. What stands for a Python number has Python's precision, and so has a number beside it.
        python = any(isinstance(x, Tensor) for x in operands)
        operands = [as_tensor(np.asarray(x) if python and not isinstance(x, Tensor) else x) for x in operands]
        keys = tuple(x.dtype for x in operands)
    try:
        loop = _resolve(ufunc, keys)
        wanted = [dtypes.from_numpy(d) for d in loop[: len(operands)]]
    except TypeError:
        raise DTypeError(
            message(
                f"{name} is not defined for these dtypes",
                operands=[(f"operand {i}", describe(x)) for i, x in enumerate(operands)],
                location=user_location(),
                hint=_loop_hint(name, operands),
            )
        ) from None
    return [
        convert(x, d.numpy) if isinstance(x, Tensor) else as_tensor(literal(name, x, d.numpy, operands))
        for x, d in zip(operands, wanted, strict=True)
    ]


def _loop_hint(name: str, operands: Sequence[Operand]) -> str:
    """What to do where NumPy has no loop for the operands, or one that graphc has not."""
    kinds = {np.dtype(d).kind for d in map(_weak_key, operands)}
    strange = [d for d in map(_weak_key, operands) if np.dtype(d).kind not in "biufc"]
    if strange:
        return dtype_hint(strange[0])
    if "c" in kinds:
        return "Complex numbers have no order; x.real, x.imag and abs(x) are real."
    if name.startswith("bitwise"):
        return "It takes integers and bools: compare first (x > 0), or convert with .astype(np.int64)."
    if kinds == {"b"}:
        return "For bools use ~x, x & y, x | y and x ^ y; to count, convert with .astype(np.int32)."
    return "Convert an operand with .astype first."


def literal(name: str, x: Any, dtype: np.dtype[Any], operands: Sequence[Operand]) -> np.ndarray[Any, Any]:
    """A NumPy array or a number as an array of `dtype`.

    Raises
    ------
    LiteralError
        If a Python integer does not fit, as NumPy does.
    """
    if dtype.kind not in "cb" and isinstance(x, (complex, np.complexfloating)):
        check_complex_to(dtypes.from_numpy(dtype), describe(x))
    try:
        return np.asarray(x, dtype=dtype)
    except OverflowError:
        raise LiteralError(
            message(
                f"{name}: {x} does not fit {dtype}, the dtype of the other operand",
                operands=[(f"operand {i}", describe(x)) for i, x in enumerate(operands)],
                location=user_location(),
                hint="A Python number takes the array's dtype: convert the array with .astype(np.int64).",
            )
        ) from None


def unify(name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors broadcast to their common shape."""
    shape = broadcast_shapes(name, tensors)
    return [broadcast_to(t, shape) for t in tensors]


def result_dtype(*operands: Operand) -> np.dtype[Any]:
    """`np.result_type` with weak Python scalars."""
    keys = [_weak_key(x) for x in operands]
    if any(_is_bfloat16(k) for k in keys):
        if not _widens_bfloat16(keys):
            return dtypes.bfloat16.numpy
        keys = [_stand_in(k) for k in keys]
    samples = [k if isinstance(k, np.dtype) else k(1) for k in keys]
    return np.result_type(*samples)


def check_device(device: Any) -> None:
    """`device=` of the Array API: there is one.

    Raises
    ------
    OptionError
        For any other.
    """
    if device not in (None, "cpu"):
        raise refusal(OptionError, f"there is one device, 'cpu', not {device!r}", "Leave device= out.")
