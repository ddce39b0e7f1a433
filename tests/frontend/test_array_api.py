"""The namespace against the text of the Python array API standard, 2024.12: names, signatures, and values on small inputs.

`SIGNATURES` is the standard's; a function here may take more (`size=`), but must accept every call that the standard allows.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gx

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
broadcast_arrays(*arrays)
broadcast_to(x, /, shape)
can_cast(from_, to, /)
finfo(type, /)
iinfo(type, /)
isdtype(dtype, kind)
result_type(*arrays_and_dtypes)
clip(x, /, min=None, max=None)
take(x, indices, /, *, axis=None)
take_along_axis(x, indices, /, *, axis=-1)
argmax(x, /, *, axis=None, keepdims=False)
argmin(x, /, *, axis=None, keepdims=False)
count_nonzero(x, /, *, axis=None, keepdims=False)
nonzero(x, /)
searchsorted(x1, x2, /, *, side="left", sorter=None)
where(condition, x1, x2, /)
matmul(x1, x2, /)
matrix_transpose(x, /)
tensordot(x1, x2, /, *, axes=2)
vecdot(x1, x2, /, *, axis=-1)
concat(arrays, /, *, axis=0)
expand_dims(x, /, *, axis=0)
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
linalg.eigh(x, /)
linalg.eigvalsh(x, /)
linalg.inv(x, /)
linalg.matrix_rank(x, /, *, rtol=None)
linalg.pinv(x, /, *, rtol=None)
linalg.qr(x, /, *, mode="reduced")
linalg.slogdet(x, /)
linalg.solve(x1, x2, /)
linalg.svd(x, /, *, full_matrices=True)
linalg.svdvals(x, /)
fft.fftfreq(n, /, *, d=1.0, dtype=None, device=None)
fft.rfftfreq(n, /, *, d=1.0, dtype=None, device=None)
fft.fftshift(x, /, *, axes=None)
fft.ifftshift(x, /, *, axes=None)
linalg.diagonal(x, /, *, offset=0)
linalg.matmul(x1, x2, /)
linalg.matrix_norm(x, /, *, keepdims=False, ord="fro")
linalg.matrix_power(x, n, /)
linalg.matrix_transpose(x, /)
linalg.outer(x1, x2, /)
linalg.tensordot(x1, x2, /, *, axes=2)
linalg.trace(x, /, *, offset=0, dtype=None)
linalg.vecdot(x1, x2, /, *, axis=-1)
linalg.vector_norm(x, /, *, axis=None, keepdims=False, ord=2)
"""
UNARY = """abs acos acosh asin asinh atan atanh bitwise_invert ceil conj cos cosh exp expm1 floor imag isfinite isinf isnan log
    log1p log2 log10 logical_not negative positive real reciprocal round sign signbit sin sinh square sqrt tan tanh trunc"""
BINARY = """add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign divide equal
    floor_divide greater greater_equal hypot less less_equal logaddexp logical_and logical_or logical_xor maximum minimum
    multiply nextafter not_equal pow remainder subtract"""


def _standard() -> Iterator[tuple[str, inspect.Signature]]:
    lines = [line for line in SIGNATURES.splitlines() if line]
    lines += [f"{name}(x, /)" for name in UNARY.split()] + [f"{name}(x1, x2, /)" for name in BINARY.split()]
    for line in lines:
        name, _, rest = line.partition("(")
        scope: dict[str, Any] = {}
        exec(f"def f({rest}: ...", scope)
        yield name, inspect.signature(scope["f"])


STANDARD = dict(_standard())


def _function(name: str) -> Any:
    found: Any = gx
    for part in name.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", STANDARD)
def test_signature(name: str) -> None:
    """Each parameter of the standard can be given as the standard gives it, and is needed only where it is needed there."""
    ours = inspect.signature(_function(name)).parameters
    catch_all = {p.kind for p in ours.values()}
    positional = [p for p in ours.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    place = 0
    for wanted in STANDARD[name].parameters.values():
        if wanted.kind is wanted.VAR_POSITIONAL:
            assert wanted.VAR_POSITIONAL in catch_all
            continue
        by_place = wanted.kind in (wanted.POSITIONAL_ONLY, wanted.POSITIONAL_OR_KEYWORD)
        if by_place and wanted.VAR_POSITIONAL not in catch_all:
            assert place < len(positional), f"{name}: no parameter for {wanted.name}"
            if wanted.default is not wanted.empty:
                assert positional[place].default is not wanted.empty, wanted.name
            place += 1
        if wanted.kind in (wanted.KEYWORD_ONLY, wanted.POSITIONAL_OR_KEYWORD):
            assert wanted.name in ours, f"{name}: no parameter {wanted.name}"
            parameter = ours[wanted.name]
            assert parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD), wanted.name
            assert parameter.default == wanted.default or (parameter.default is not wanted.empty), wanted.name
    needed = [p for p in positional if p.default is p.empty]
    standard_needed = [
        p
        for p in STANDARD[name].parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    assert len(needed) <= len(standard_needed)


SPECIAL = np.array([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 3.0, -7.25, 1e-310, 1e300, 2.0**60, np.inf, -np.inf, np.nan])
INTEGERS = np.array([0, 1, 2, 3, 7, 31, 100], np.int64)
KINDS = {
    "float64": SPECIAL,
    "float32": SPECIAL.astype(np.float32),
    "int64": np.concatenate([INTEGERS, -INTEGERS, [2**62, -(2**63)]]),
    "int32": np.concatenate([INTEGERS, -INTEGERS, [2**31 - 1, -(2**31)]]).astype(np.int32),
    "int8": np.concatenate([INTEGERS, -INTEGERS, [127, -128]]).astype(np.int8),
    "uint8": np.concatenate([INTEGERS, [255]]).astype(np.uint8),
    "uint64": np.concatenate([INTEGERS.astype(np.uint64), np.array([2**64 - 1], np.uint64)]),
    "bool": np.array([False, True]),
}
#: Where NumPy's name is not the standard's, or NumPy computes what graphc refuses.
FLOATS_ONLY = {"reciprocal"}


def _numpy(name: str, operands: tuple[Any, ...]) -> Any:
    with np.errstate(all="ignore"):
        return getattr(np, name)(*operands)


@pytest.mark.parametrize("kind", KINDS)
def test_elementwise_values(kind: str) -> None:
    """On all special values (and pairs of them), dynamically and compiled, NumPy's results: dtypes and values."""
    x = KINDS[kind]
    pairs = tuple(g.ravel() for g in np.meshgrid(x, x))
    cases = []
    for name in (*UNARY.split(), *BINARY.split()):
        operands = (x,) if name in UNARY.split() else pairs
        if name == "pow" and kind.startswith(("int", "bool")):
            operands = (pairs[0], np.abs(pairs[1]) % 5 if kind != "bool" else pairs[1])
        if name == "round" and kind == "bool":
            continue
        try:
            expected = _numpy(name, operands)
        except TypeError:
            continue
        if expected.dtype.name not in (*KINDS, "int16", "uint16", "uint32", "float16"):
            continue
        if name in FLOATS_ONLY and not kind.startswith("float"):
            continue
        cases.append((name, operands, expected))
    compiled = gx.compile(
        lambda *flat: [_function(n)(*next(parts)) for parts in [_parts(cases, flat)] for n, _, _ in cases]
    )
    flat = [a for _, operands, _ in cases for a in operands]
    faults = []
    for mode, results in (
        ("dynamic", [_function(n)(*map(gx.asarray, operands)) for n, operands, _ in cases]),
        ("compiled", compiled(*map(gx.asarray, flat))),
    ):
        for (name, operands, expected), found in zip(cases, map(np.asarray, results), strict=True):
            assert found.dtype == expected.dtype, (mode, name, found.dtype, expected.dtype)
            wrong = _wrong(found, expected)
            for i in np.flatnonzero(wrong)[:3]:
                faults.append(f"{mode} {name}{tuple(a[i] for a in operands)} = {found[i]!r}, NumPy {expected[i]!r}")
    assert not faults, "\n".join(faults)


def _parts(cases: Any, flat: Any) -> Iterator[Any]:
    start = 0
    for _, operands, _ in cases:
        yield flat[start : start + len(operands)]
        start += len(operands)


def _wrong(found: Any, expected: Any) -> Any:
    if expected.dtype.kind != "f":
        return found != expected
    with np.errstate(all="ignore"):
        wide, exact = found.astype(np.float64), expected.astype(np.float64)
        near = np.abs(wide - exact) <= 8 * np.spacing(np.abs(expected)).astype(np.float64)
    zeros = (exact != 0) | (np.signbit(found) == np.signbit(expected)) | (wide != 0)
    return ~((np.isnan(wide) & np.isnan(exact)) | (exact == wide) & zeros | near & np.isfinite(exact) & (exact != 0))
