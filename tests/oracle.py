"""Is a result right? One judge for all tests that run an op in another way than by its NumPy definition.

Exactly rounded results must agree bit for bit; others must be within the math library's bounds, or, for sums and
products over many elements, within the bound of any order of summation; held graphs within a few ulp.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from samples import Sample

from graphc import dtypes
from graphc.dtypes import float64
from graphc.ir.graph import Literal
from graphc.ir.op import Composite, Contraction, Cumulative, Elementwise, Expansion, Fused, Op, Reduction

__all__ = ["fault", "same_bits", "same_elements"]

Array = np.ndarray[Any, Any]

#: Ops whose results of complex operands are NumPy's bits.
_EXACT_PARTS = frozenset({"add", "subtract", "negative", "conj", "real", "imag", "make_complex", "select", "convert"})

#: NumPy's own error in float64, where the reference is no more exact than it, in ulp (3 where not said).
_REFERENCE_ULP = {"erfc": 6.0, "power": 1.0}
#: Where NumPy does not say which of two zeros it gives.
_ANY_ZERO = {"maximum", "minimum", "max", "min", "cumulative_max", "cumulative_min", "window_max", "window_min"}


def same_bits(found: Array, expected: Array, *, zeros_equal: bool = False) -> bool:
    """Equal in dtype and shape, and bit for bit but for payloads of NaN (and, if asked, signs of zeros)."""
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    return bool(same_elements(found, expected, zeros_equal).all())


def same_elements(found: Array, expected: Array, zeros_equal: bool = False) -> Array:
    """Where elements are equal, bit for bit but for payloads of NaN."""
    if found.dtype.kind == "c":
        parts = [same_elements(f, e, zeros_equal) for f, e in zip(_parts(found), _parts(expected), strict=True)]
        return parts[0] & parts[1]
    if not dtypes.from_numpy(found.dtype).is_float:
        return np.asarray(found == expected)
    signs = zeros_equal | (np.signbit(found) == np.signbit(expected))
    return np.asarray((np.isnan(found) & np.isnan(expected)) | ((found == expected) & signs))


def _parts(x: Array) -> tuple[Array, Array]:
    return x.real, x.imag


def fault(op: Op, sample: Sample, found: Any, expected: Any) -> str:
    """What is wrong with `found`, a result of `op` on `sample` whose NumPy definition gives `expected`; empty if nothing."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return f"{sample}: {found.dtype}{found.shape}, expected {expected.dtype}{expected.shape}"
    is_float = dtypes.from_numpy(expected.dtype).is_inexact
    complex_operand = any(x is not None and x.dtype.kind == "c" for x in sample.operands)
    if is_float and isinstance(op, Elementwise) and complex_operand and op.name not in _EXACT_PARTS:
        right = _within_complex_bound(op, sample, found, expected)
    elif is_float and isinstance(op, Elementwise) and not op.exact:
        expected, right = _within_bound(op, sample, found, expected)
    elif op.name == "prod" and complex_operand:
        # Where products overflow, infinities and NaN depend on the order.
        overflow = ~np.isfinite(expected) & np.isfinite(sample.operands[0]).all()
        right = overflow | same_elements(found, expected, True) | _near(op, sample, found, expected)
    elif op.name == "cumulative_prod" and complex_operand:
        with np.errstate(all="ignore"):
            close = np.abs(found - expected) <= 400 * _eps(found) * np.abs(expected)
        right = same_elements(found, expected, True) | close
    elif is_float and (isinstance(op, Contraction) or (isinstance(op, (Reduction, Expansion)) and not op.exact)):
        right = same_elements(found, expected, True) | _near(op, sample, found, expected)
    elif is_float and isinstance(op, Cumulative) and not op.exact:
        # Each of n steps is right to a few ulp of numbers of moderate size.
        eps = 16 * _eps(found)
        found, expected = (x.astype(np.result_type(x.dtype, np.float64)) for x in (found, expected))
        right = np.isclose(found, expected, rtol=eps, atol=eps * 4, equal_nan=True)
    elif is_float and isinstance(op, (Fused, Composite)):
        # The sampled bodies are short and well conditioned.
        right = np.isclose(found, expected, rtol=32 * float(ml_dtypes.finfo(found.dtype).eps), atol=0, equal_nan=True)
    else:
        right = same_elements(found, expected, op.name in _ANY_ZERO)
    return "" if right.all() else _describe(sample, found, expected, ~right)


def _within_bound(op: Elementwise, sample: Sample, found: Array, expected: Array) -> tuple[Array, Array]:
    dtype = dtypes.from_numpy(expected.dtype)
    # 16-bit floats are computed in float32 and rounded once.
    bound = op.bound(dtype)
    exact = expected
    if dtype is not float64:
        exact = op.evaluate([x.astype(np.float64) for x in sample.operands], sample.attrs)[0]
        with np.errstate(all="ignore"):
            expected = exact.astype(dtype.numpy)
        bound += 0.01
    else:
        bound += _REFERENCE_ULP.get(op.name, 3.0)
    with np.errstate(all="ignore"):
        error = np.abs(found.astype(np.float64) - exact) / np.spacing(np.abs(expected)).astype(np.float64)
    # Infinite is near to a result that is all but too great.
    greatest = float(ml_dtypes.finfo(expected.dtype).max)
    overflow = (np.abs(exact) >= greatest) & (np.abs(found) >= greatest) & (np.sign(exact) == np.sign(found))
    close = np.isfinite(expected) & (error <= bound)
    return expected, same_elements(found, expected, False) | close | overflow


def _near(op: Op, sample: Sample, found: Array, expected: Array, more: Any = 0) -> Array:
    """Within n * eps of the sum of magnitudes, and `more`."""
    if dtypes.from_numpy(found.dtype).is_short_float:
        wide = Sample(tuple(x.astype(np.float32) for x in sample.operands), sample.attrs)
        with np.errstate(all="ignore"):
            one_step = np.spacing(np.abs(expected)).astype(np.float32)
        return _near(op, wide, found.astype(np.float32), expected.astype(np.float32), one_step)
    operands = [np.abs(x) for x in sample.operands]
    absolute = {"weights": lambda w: Literal(np.abs(w.array))}
    attrs = {name: absolute[name](x) if name in absolute else x for name, x in sample.attrs.items()}
    (scale,) = op.evaluate(operands, attrs)
    count = sample.operands[0].size if isinstance(op, Reduction) else max(x.size for x in sample.operands)
    assert isinstance(op, (Reduction, Contraction, Expansion))
    with np.errstate(all="ignore"):
        return np.asarray(np.abs(found - expected) <= (count + 4) * _eps(found) * scale + more)


def _eps(x: Array) -> float:
    return float(ml_dtypes.finfo(x.real.dtype).eps)


def _within_complex_bound(op: Elementwise, sample: Sample, found: Array, expected: Array) -> Array:
    """Each part within the op's bound and NumPy's own error, in ulp of the larger part; infinite and NaN parts alike but for
    signs of zeros. Elements are left out where a product of parts overflows (NumPy may round products and sums once)."""
    assert op.complex_ulp is not None, op.name
    bound = np.asarray(op.complex_ulp + 4.0)
    pairs = list(zip(_parts(found), _parts(expected), strict=True)) if found.dtype.kind == "c" else [(found, expected)]
    with np.errstate(all="ignore"):
        if op.name in ("exp2", "power"):
            exponent = np.asarray(sample.operands[-1])
            growth = np.abs(exponent * np.log(sample.operands[0])) if op.name == "power" else np.abs(exponent)
            bound = bound * (1 + np.where(np.isfinite(growth), growth, 0))
        largest = np.maximum.reduce([np.where(np.isfinite(e), np.abs(e), 0) for _, e in pairs])
        step = np.spacing(largest)
        close = [same_elements(f, e, True) | (np.abs(f - e) <= bound * step) for f, e in pairs]
        greatest = np.finfo(expected.real.dtype).max
        close = [
            c | ((np.abs(f) >= greatest / 8) & (np.abs(e) >= greatest / 8))
            for c, (f, e) in zip(close, pairs, strict=True)
        ]
        return np.asarray(np.logical_and.reduce(close) | _overflows(op, sample))


def _overflows(op: Elementwise, sample: Sample) -> Any:
    """Where parts of complex operands are so large that their products overflow, or special ones are powers of each other."""
    if op.name not in ("multiply", "square", "divide", "power", "exp2", "sign"):
        return False
    sizes = [np.max([np.where(np.isfinite(p), np.abs(p), 0) for p in _parts(x)], axis=0) for x in sample.operands]
    limit = np.finfo(sizes[0].dtype).max ** 0.5 / 2
    if op.name == "power":  # and where the exponential does
        return ~np.logical_and.reduce(
            [np.isfinite(x) & (size < 1e3) for x, size in zip(sample.operands, sizes, strict=True)]
        )
    if op.name in ("sign", "exp2"):
        return np.isfinite(sample.operands[0]) & (sizes[0] > (100 if op.name == "exp2" else limit * limit))
    large = np.maximum.reduce(sizes) > limit
    return large | (np.minimum.reduce(sizes) < 1 / limit) if op.name == "divide" else large


def _describe(sample: Sample, found: Array, expected: Array, wrong: Array) -> str:
    found, expected, wrong = np.atleast_1d(found, expected, wrong)
    lines = [f"{sample}: {np.count_nonzero(wrong)} of {wrong.size} elements are wrong"]
    for index in list(zip(*np.nonzero(wrong), strict=True))[:8]:
        same = [x[index] for x in sample.operands if x is not None and x.shape == found.shape]
        lines.append(f"  at {tuple(map(int, index))} of {same}: {found[index]!r}, expected {expected[index]!r}")
    return "\n".join(lines)
