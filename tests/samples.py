"""Sample operands and attributes for every op: what the tests of the registry and of compiled code run over.

`samples(op)` covers dtypes, ranks 0 to 3, empty and odd sizes, and special values; `smooth_samples(op)` are float64
operands where the op is differentiable. A sampler is found by the op's name or, failing that, by its kind; an op
without one is an error, so that no op goes untested. Everything is seeded by the op's name.
"""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from graphc import dtypes
from graphc.dtypes import (
    DType,
    bfloat16,
    bool_,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from graphc.errors import DTypeError
from graphc.forward import jvp_graph
from graphc.ir.graph import Graph, Literal, input_value
from graphc.ir.op import Cumulative, Elementwise, GraphBuilder, Indexing, Op, Reduction
from graphc.ir.types import TOKEN, TensorType, Type
from graphc.ops.custom import rule_number

__all__ = ["SPECIAL", "Sample", "is_complex", "samples", "smooth_samples", "special_values"]

Array = np.ndarray[Any, Any]
Attrs = dict[str, Any]
Rng = np.random.Generator


@dataclass(frozen=True)
class Sample:
    """Operands (None for a token) and attributes of one application. `special` marks special values, on which results may
    overflow; others are of moderate size."""

    operands: tuple[Any, ...]
    attrs: Attrs = field(default_factory=dict)
    special: bool = False

    @property
    def types(self) -> tuple[Type, ...]:
        return tuple(
            TOKEN if x is None else TensorType(dtypes.from_numpy(x.dtype), tuple(x.shape)) for x in self.operands
        )

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.types))}) {self.attrs}"


def samples(op: Op) -> list[Sample]:
    """Samples of an op, the same in every run."""
    return list(_sampler(op)(op, _rng(op)))


def is_complex(op: Op, sample: Sample) -> bool:
    """Whether an operand or a result is of complex numbers, which kernels do not have."""
    types = (*sample.types, *op.infer(sample.types, sample.attrs))
    return any(isinstance(t, TensorType) and t.dtype.is_complex for t in types)


def smooth_samples(op: Op) -> list[Sample]:
    """float64 samples at points where the op has a derivative; empty for ops without float operands and results."""
    if isinstance(op, Elementwise):
        return list(_smooth_elementwise(op, _rng(op)))
    return [s for s in samples(op) if not s.special and any(_is_float64(x) for x in s.operands) and _is_smooth(s)]


def _is_smooth(sample: Sample) -> bool:
    """Square factors of matrices that are not square have columns that nothing determines."""
    if sample.attrs.get("full_matrices"):
        return sample.operands[0].shape[-1] == sample.operands[0].shape[-2]
    return sample.attrs.get("mode") != "complete" or sample.operands[0].shape[-1] >= sample.operands[0].shape[-2]


def _rng(op: Op) -> Rng:
    return np.random.default_rng(zlib.crc32(op.name.encode()))


def _is_float64(x: Any) -> bool:
    return x is not None and x.dtype == np.float64


# -- values -----------------------------------------------------------------------------------------------------------

SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (5,), (67,), (2, 3), (3, 0), (4, 1, 5))

_FLOATS = (
    0.0,
    0.3,
    0.5,
    0.75,
    1.0,
    1.5,
    2.0,
    2.5,
    3.0,
    7.25,
    10.3,
    89.0,
    710.0,
    1e4,
    2.0**23 + 1,
    2.0**31,
    2.0**32,
    2.0**53,
)
_FLOATS += (2.0**63, 2.0**64, np.inf)
_INTEGERS = (0, 1, 2, 3, 5, 7, 31, 32, 63, 64, 1000, 46341, 2**31 - 1)


def special_values(dtype: DType) -> Array:
    """Zeros, subnormals, extremes, infinities, NaN; halves; MIN, MAX and neighbours."""
    if dtype.is_bool:
        return np.array([False, True])
    if dtype.is_complex:
        info = np.finfo(dtype.part.numpy)
        parts = [*(0.0, 0.5, 1.0, 1.5, 3.0, 89.0, 710.0, 1e4, np.inf), *map(float, (info.eps, info.max, info.tiny))]
        line = np.array([*parts, *(-x for x in parts), np.nan], dtype.part.numpy)
        return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2).view(dtype.numpy)[:, 0]
    if dtype.is_float:
        info = ml_dtypes.finfo(dtype.numpy)
        sizes = [x for x in _FLOATS if x <= float(info.max) or np.isinf(x)]
        sizes += map(float, (info.smallest_subnormal, info.tiny, info.eps, info.max))
        return np.array([*sizes, *(-x for x in sizes), np.nan], dtype.numpy)
    limits = np.iinfo(dtype.numpy)
    inside = [x for x in _INTEGERS if x <= limits.max]
    signed = [*inside, *(-x for x in inside)] if limits.min < 0 else inside
    return np.array([*signed, limits.min, limits.min + 1, limits.max - 1, limits.max], dtype.numpy)


SPECIAL = {dtype: special_values(dtype) for dtype in dtypes.ALL}


def draw(rng: Rng, dtype: DType, shape: tuple[int, ...], bounds: tuple[float, float] = (-3.0, 3.0)) -> Array:
    """Random values of moderate size."""
    if dtype.is_bool:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype.is_integer:
        return np.asarray(rng.integers(-9 if dtype.is_signed else 0, 10, shape)).astype(dtype.numpy)
    if dtype.is_complex:
        parts = rng.uniform(*bounds, (2, *shape))
        return np.asarray(parts[0] + 1j * parts[1]).astype(dtype.numpy)
    return np.asarray(rng.uniform(*bounds, shape)).astype(dtype.numpy)


# -- elementwise ------------------------------------------------------------------------------------------------------


def _attribute_choices(op: Op) -> list[Attrs]:
    return [{"dtype": d} for d in dtypes.ALL] if op.name == "convert" else [{}]


def _accepted(op: Elementwise, attrs: Attrs) -> Iterator[tuple[DType, ...]]:
    for combination in itertools.product(dtypes.ALL, repeat=op.arity):
        try:
            op.types(*combination, **attrs)
        except DTypeError:
            continue
        yield combination


def _elementwise(op: Op, rng: Rng) -> Iterator[Sample]:
    assert isinstance(op, Elementwise)
    for attrs in _attribute_choices(op):
        for combination in _accepted(op, attrs):
            yield Sample(_crossed([SPECIAL[d] for d in combination]), attrs, special=True)
            for shape in _shapes(op, combination):
                yield Sample(tuple(draw(rng, d, shape) for d in combination), attrs)


def _shapes(op: Op, combination: Sequence[DType]) -> tuple[tuple[int, ...], ...]:
    """Fewer for narrow dtypes and for conversions, of which there are many pairs."""
    if op.name == "convert":
        return SHAPES[1::2]
    if any(d.is_complex for d in combination):
        return ((), (5,), (67,), (3, 0))
    return SHAPES if all(d.bits >= 32 or d.is_bool for d in combination) else SHAPES[::2]


def _crossed(columns: Sequence[Array]) -> tuple[Array, ...]:
    """All combinations of special values, as flat operands; the second and third of three run in step. Of the many special
    complex numbers every seventh, where they are to be combined."""
    if len(columns) > 1:
        columns = [c[::7] if c.dtype.kind == "c" else c for c in columns]
    if len(columns) == 3:
        first, second = np.meshgrid(columns[0], np.arange(columns[1].size), indexing="ij")
        return first.ravel(), columns[1][second.ravel()], columns[2][::-1][second.ravel()]
    return tuple(grid.ravel() for grid in np.meshgrid(*columns, indexing="ij"))


def _smooth_elementwise(op: Elementwise, rng: Rng) -> Iterator[Sample]:
    for attrs in _attribute_choices(op):
        for combination in _accepted(op, attrs):
            result = op.types(*combination, **attrs)
            if result is not float64 or not any(d is float64 for d in combination):
                continue
            bounds = op.domain or ((-3.0, 3.0),) * op.arity
            yield Sample(tuple(draw(rng, d, (40,), b) for d, b in zip(combination, bounds, strict=True)), attrs)


# -- movement ---------------------------------------------------------------------------------------------------------

MOVED = (float32, float64, int32, int64, uint32, uint64, bool_, int8, uint16, float16, bfloat16, complex64, complex128)


def _filled(dtype: DType, shape: tuple[int, ...], start: int = 0) -> Array:
    """Distinct values in order, so that a wrong index shows."""
    values = np.arange(start, start + int(np.prod(shape))).reshape(shape)
    if dtype.is_complex:
        return np.asarray(values * (1 - 0.5j)).astype(dtype.numpy)
    return (values % 3 == 0) if dtype.is_bool else (values * 1.25 - 3 if dtype.is_float else values).astype(dtype.numpy)


def _movement(cases: Sequence[tuple[tuple[tuple[int, ...], ...], Attrs]]) -> Callable[[Op, Rng], Iterator[Sample]]:
    def sampler(op: Op, rng: Rng) -> Iterator[Sample]:
        for (shapes, attrs), dtype in itertools.product(cases, MOVED):
            yield Sample(tuple(_filled(dtype, shape, 100 * k) for k, shape in enumerate(shapes)), attrs)

    return sampler


def _slices(*cases: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]) -> Any:
    return _movement([((shape,), {"start": start, "size": size, "step": step}) for shape, start, size, step in cases])


def _pads(*cases: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]) -> Any:
    return _movement([((shape, ()), {"low": low, "high": high}) for shape, low, high in cases])


_BROADCASTS = (((), ()), ((), (4,)), ((1,), (5,)), ((3,), (2, 3)), ((2, 1), (2, 4)), ((1, 3, 1), (2, 4, 3, 5)))
_BROADCASTS += (((1,), (0,)), ((0,), (3, 0)), ((3, 1), (3, 1)))  # type: ignore[assignment]
_RESHAPES = (
    ((6,), (2, 3)),
    ((2, 3, 4), (4, 6)),
    ((1, 1), ()),
    ((), (1,)),
    ((0, 3), (0,)),
    ((2, 0), (0, 5)),
    ((4, 3), (4, 3)),
)
_PERMS = ((), (0,), (1, 0), (0, 1), (2, 0, 1), (1, 2, 0), (2, 1, 0), (0, 3, 1, 2))
_TRANSPOSES = [(((2, 3, 4, 5)[: len(p)],), {"perm": p}) for p in _PERMS] + [(((3, 0),), {"perm": (1, 0)})]
_CONCATENATES = [
    (((3,), (2,)), {"axis": 0}),
    (((2, 3), (2, 1), (2, 4)), {"axis": 1}),
    (((2, 3), (1, 3)), {"axis": 0}),
    (((0,), (4,), (0,)), {"axis": 0}),
    (((2, 2, 3),), {"axis": 2}),
    (((0, 3), (0, 2)), {"axis": 1}),
]

# -- reduction --------------------------------------------------------------------------------------------------------

REDUCED: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    *(
        ((), ()),
        ((1,), (0,)),
        ((5,), (0,)),
        ((67,), (0,)),
        ((200,), (0,)),
        ((3, 4), (0,)),
        ((3, 4), (1,)),
        ((3, 4), (0, 1)),
    ),
    *(
        ((3, 4), ()),
        ((2, 3, 5), (1,)),
        ((2, 3, 5), (0, 2)),
        ((0,), (0,)),
        ((3, 0), (1,)),
        ((0, 3), (1,)),
        ((2, 1, 3), (1,)),
    ),
)


def _reduction(op: Op, rng: Rng) -> Iterator[Sample]:
    assert isinstance(op, Reduction)
    for dtype, (shape, axes) in itertools.product(dtypes.ALL, REDUCED):
        try:
            op.types(dtype)
        except DTypeError:
            continue
        if (op.arg and len(axes) != 1) or (not op.empty and any(shape[a] == 0 for a in axes)):
            continue
        yield Sample((draw(rng, dtype, shape),), {"axes": axes})
        if dtype.is_inexact and shape == (5,):
            for values in (
                (-0.0, 0.0, -0.0, 0.0, -0.0),
                (1, np.nan, 3, np.nan, 5),
                (-np.inf,) * 5,
                (np.inf, 1, 2, np.inf, 0),
            ):
                yield Sample((np.array(values, dtype.numpy),), {"axes": axes}, special=True)


# -- contraction ------------------------------------------------------------------------------------------------------


def _numbers(batch: Any, contract: Any) -> Attrs:
    (lhs_batch, rhs_batch), (lhs_contract, rhs_contract) = batch, contract
    return {
        "lhs_batch": lhs_batch,
        "rhs_batch": rhs_batch,
        "lhs_contract": lhs_contract,
        "rhs_contract": rhs_contract,
    }


_NONE: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
DOTS: tuple[tuple[tuple[int, ...], tuple[int, ...], Attrs], ...] = (
    ((3, 4), (4, 5), _numbers(_NONE, ((1,), (0,)))),
    ((4, 3), (4, 5), _numbers(_NONE, ((0,), (0,)))),
    ((3, 4), (5, 4), _numbers(_NONE, ((1,), (1,)))),
    ((4, 3), (5, 4), _numbers(_NONE, ((0,), (1,)))),
    ((7,), (7,), _numbers(_NONE, ((0,), (0,)))),
    ((3, 4), (4,), _numbers(_NONE, ((1,), (0,)))),
    ((4,), (4, 3), _numbers(_NONE, ((0,), (0,)))),
    ((3,), (2,), _numbers(_NONE, _NONE)),
    ((), (2, 3), _numbers(_NONE, _NONE)),
    ((2, 3, 4), (2, 4, 5), _numbers(((0,), (0,)), ((2,), (1,)))),
    ((3, 2, 4), (4, 5, 2), _numbers(((1,), (2,)), ((2,), (0,)))),
    ((2, 3, 4, 5), (5, 2, 3, 6), _numbers(((0, 1), (1, 2)), ((3,), (0,)))),
    ((2, 3, 4), (4, 5, 3), _numbers(_NONE, ((1, 2), (2, 0)))),
    ((2, 5), (5, 2), _numbers(((0,), (1,)), ((1,), (0,)))),
    ((0, 4), (4, 5), _numbers(_NONE, ((1,), (0,)))),
    ((3, 0), (0, 5), _numbers(_NONE, ((1,), (0,)))),
    ((1, 1), (1, 1), _numbers(_NONE, ((1,), (0,)))),
    ((17, 33), (33, 19), _numbers(_NONE, ((1,), (0,)))),
)


def _dot(op: Op, rng: Rng) -> Iterator[Sample]:
    for dtype, (x, y, attrs) in itertools.product(
        (float32, float64, int32, int64, int8, uint16, float16, bfloat16, complex64, complex128), DOTS
    ):
        yield Sample((draw(rng, dtype, x), draw(rng, dtype, y)), attrs)


_NUMBERS = tuple(d for d in dtypes.ALL if not d.is_bool)

CONVOLUTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], Attrs], ...] = (
    ((2, 3, 7), (4, 3, 3), {}),
    ((1, 2, 8), (2, 2, 3), {"strides": (2,), "padding": ((1, 0),)}),
    ((1, 2, 6), (3, 2, 2), {"input_dilation": (3,), "padding": ((2, 1),)}),
    ((1, 1, 9), (1, 1, 4), {"kernel_dilation": (2,), "padding": ((0, 3),)}),
    ((2, 4, 6), (6, 2, 3), {"groups": 2, "padding": ((1, 1),)}),
    ((2, 3, 5), (3, 1, 3), {"groups": 3, "strides": (2,)}),
    ((1, 2, 7), (2, 2, 2), {"padding": ((-1, -2),)}),
    ((1, 2, 5), (2, 2, 2), {"padding": ((-1, 3),), "input_dilation": (2,), "strides": (3,)}),
    ((2, 3, 6, 5), (4, 3, 3, 2), {"padding": ((1, 1), (0, 1))}),
    ((1, 2, 5, 19), (3, 2, 3, 3), {"padding": ((1, 1), (1, 1))}),
    (
        (2, 4, 7, 6),
        (4, 2, 3, 3),
        {"strides": (2, 1), "kernel_dilation": (1, 2), "padding": ((1, 2), (2, 2)), "groups": 2},
    ),
    ((1, 3, 4, 4), (5, 3, 1, 1), {}),
    ((1, 2, 3, 4), (2, 2, 3, 3), {"input_dilation": (2, 2), "padding": ((2, 2), (2, 2))}),
    ((1, 2, 3, 4, 4), (3, 2, 2, 2, 3), {"padding": ((0, 1), (1, 1), (1, 1))}),
    # Narrow results: pixels of all samples as columns, with groups, of one sample.
    ((3, 2, 5, 4), (17, 2, 3, 3), {"padding": ((1, 1), (1, 1))}),
    ((2, 4, 5, 4), (34, 2, 3, 2), {"groups": 2, "strides": (2, 1)}),
    ((1, 2, 5, 4), (16, 2, 3, 3), {"padding": ((1, 1), (1, 1)), "kernel_dilation": (2, 1)}),
    # Small results of large kernels: samples as columns, with groups; and along long rows of the kernel.
    ((19, 2, 8, 8), (3, 2, 6, 7), {"padding": ((1, 0), (0, 1))}),
    ((16, 4, 7), (2, 2, 17), {"groups": 2, "padding": ((5, 6),)}),
    ((16, 2, 3, 40), (2, 2, 2, 38), {}),
    # A dilated operand: parts of the kernel, some empty, with gaps.
    ((1, 1, 5), (1, 1, 2), {"input_dilation": (4,), "padding": ((-2, 5),)}),
    ((2, 1, 6), (1, 1, 4), {"input_dilation": (4,), "kernel_dilation": (2,), "padding": ((3, 7),)}),
    ((1, 1, 4, 3), (1, 1, 3, 3), {"input_dilation": (2, 3), "padding": ((3, 1), (2, 0)), "strides": (1, 2)}),
    ((3, 2), (4, 2), {}),
    ((0, 2, 5), (3, 2, 3), {}),
    ((1, 0, 5), (3, 0, 3), {}),
    ((1, 2, 5), (0, 2, 3), {}),
    ((1, 2, 2), (3, 2, 3), {}),
    ((1, 2, 0), (3, 2, 3), {"padding": ((2, 2),)}),
)


def _convolution(op: Op, rng: Rng) -> Iterator[Sample]:
    for dtype, (x, w, given) in itertools.product(_NUMBERS, CONVOLUTIONS):
        if np.prod(x) > 100 and dtype not in (float32, float64, int64, complex64):
            continue
        rank = len(x) - 2
        attrs = {
            "strides": (1,) * rank,
            "padding": ((0, 0),) * rank,
            "input_dilation": (1,) * rank,
            "kernel_dilation": (1,) * rank,
            "groups": 1,
            **given,
        }
        yield Sample((draw(rng, dtype, x), draw(rng, dtype, w)), attrs)


# -- windows ----------------------------------------------------------------------------------------------------------


def _window(axis: int, size: int, step: int, dilation: int) -> Attrs:
    return {"axis": axis, "size": size, "step": step, "dilation": dilation}


_WINDOWS = [
    (((7,),), _window(0, 3, 1, 1)),
    (((8,),), _window(0, 2, 2, 1)),
    (((9,),), _window(0, 2, 4, 1)),
    (((9,),), _window(0, 3, 2, 1)),
    (((10,),), _window(0, 3, 2, 2)),
    (((2, 11, 3),), _window(1, 3, 3, 4)),
    (((3, 4),), _window(1, 4, 1, 1)),
    (((3, 4),), _window(0, 1, 1, 1)),
    (((2,),), _window(0, 3, 1, 1)),
    (((0, 3),), _window(1, 2, 1, 1)),
    (((0,),), _window(0, 1, 1, 1)),
]

_POOLS: tuple[tuple[tuple[int, ...], Attrs], ...] = tuple(
    (shape, dict(zip(("axes", "sizes", "steps", "dilations"), values, strict=True)))
    for shape, values in (
        ((7,), ((0,), (3,), (1,), (1,))),
        ((2, 6, 6), ((1, 2), (2, 2), (2, 2), (1, 1))),
        ((1, 2, 7, 8), ((2, 3), (3, 3), (2, 2), (1, 1))),
        ((9, 2), ((0,), (2,), (3,), (2,))),
        ((4, 5, 6), ((0, 1, 2), (2, 2, 2), (1, 2, 1), (1, 1, 3))),
        ((3, 1), ((0,), (1,), (1,), (1,))),
        ((2, 8, 9), ((1, 2), (6, 7), (1, 2), (1, 1))),
        ((2, 6, 7), ((1, 2), (6, 7), (1, 1), (1, 1))),
        ((0, 5), ((1,), (2,), (1,), (1,))),
        ((2, 1), ((1,), (2,), (1,), (1,))),
    )
)


def _pools(op: Op, rng: Rng) -> Iterator[Sample]:
    for dtype, (shape, attrs) in itertools.product(_NUMBERS, _POOLS):
        if dtype.is_complex and op.name != "window_sum":
            continue
        yield Sample((draw(rng, dtype, shape),), attrs)
    attrs = {"axes": (0,), "sizes": (3,), "steps": (1,), "dilations": (1,)}
    for values in ((1, np.nan, 2, 3, -1, -2), (0.0, -0.0, -0.0, 0.0, 0.0), (-np.inf, -np.inf, -np.inf, np.inf, 1)):
        yield Sample((np.array(values),), attrs, special=True)


# -- resampling -------------------------------------------------------------------------------------------------------


def _resample(op: Op, rng: Rng) -> Iterator[Sample]:
    cases = (
        ((5,), 0, 2, 7),
        ((2, 4, 3), 1, 1, 3),
        ((3, 17), 1, 3, 20),
        ((1, 4), 0, 2, 5),
        ((6,), 0, 0, 3),
        ((4,), 0, 2, 0),
    )
    cases += (((0, 4), 1, 2, 3), ((3, 5), 1, 30, 4))  # type: ignore[assignment]
    for dtype, (shape, axis, terms, size) in itertools.product((float32, float64, float16), cases):
        places = rng.integers(0, shape[axis], (terms, size))
        weights = np.ones((terms, size)) if terms == 1 else rng.uniform(-1, 1, (terms, size))
        yield Sample((draw(rng, dtype, shape),), {"axis": axis, "places": Literal(places), "weights": Literal(weights)})


# -- indexing ---------------------------------------------------------------------------------------------------------

TAKES: tuple[tuple[tuple[int, ...], tuple[int, ...], int], ...] = (
    *(((5,), (3,), 0), ((5,), (), 0), ((4, 3), (6,), 0), ((4, 3), (2, 2), 1), ((2, 4, 3), (5,), 1), ((4,), (0,), 0)),
    *(((0, 3), (2,), 1), ((3, 1), (4,), 1), ((0,), (0,), 0), ((200,), (4,), 0)),
)

_INDEXED = ((float32, int64), (float64, int64), (int32, int32), (int64, uint32), (bool_, int64), (float64, uint64))
_INDEXED += (
    (int16, int8),
    (uint8, uint16),
    (float16, int64),
    (bfloat16, int16),
    (complex64, int64),
    (complex128, int32),
)


def _indices(rng: Rng, size: int, shape: tuple[int, ...], mode: str, dtype: DType) -> Array:
    least, most = {"raise": (-size, size), "wrap": (-3 * size, 3 * size), "clip": (-3 * size, 3 * size)}[mode]
    least = max(least, 0) if not dtype.is_signed else least
    if mode != "raise" and dtype is uint64 and size:
        # Beyond i64, too: such indices are positive.
        return np.asarray(rng.integers(0, 2**64, shape, np.uint64))
    found = rng.integers(least, most, shape) if most > least else np.zeros(shape)
    limits = np.iinfo(dtype.numpy)
    return np.clip(found, limits.min, limits.max).astype(dtype.numpy)


def _indexing(op: Op, rng: Rng) -> Iterator[Sample]:
    for (shape, index_shape, axis), mode in itertools.product(TAKES, ("raise", "wrap", "clip")):
        for dtype, index_dtype in _INDEXED:
            writes = isinstance(op, Indexing) and op.combine is not None
            if writes and dtype is bool_ and op.name != "scatter_set":
                continue
            if writes and dtype.is_complex and op.name not in ("scatter_set", "scatter_add"):
                continue
            operands = [draw(rng, dtype, shape), _indices(rng, shape[axis], index_shape, mode, index_dtype)]
            if writes:
                operands.append(draw(rng, dtype, (*shape[:axis], *index_shape, *shape[axis + 1 :])))
            yield Sample(tuple(operands), {"axis": axis, "mode": mode})


# -- along one axis -----------------------------------------------------------------------------------------------------

ALONG: tuple[tuple[tuple[int, ...], int], ...] = (
    *(((1,), 0), ((5,), 0), ((67,), 0), ((200,), 0), ((3, 4), 0), ((3, 4), 1), ((2, 5, 35), 1), ((2, 3, 5), 2)),
    *(((0,), 0), ((3, 0), 0), ((0, 3), 0), ((4, 1, 2), 1)),
)


def _cumulative(op: Op, rng: Rng) -> Iterator[Sample]:
    assert isinstance(op, Cumulative)
    for dtype, (shape, axis), reverse in itertools.product(dtypes.ALL, ALONG, (False, True)):
        try:
            op.types(dtype)
        except DTypeError:
            continue
        if dtype.is_complex and (np.prod(shape) > 70 or (reverse and dtype.bits == 64)):
            continue  # in parts they take log2(n) steps: many kernels
        attrs = {"axis": axis, "reverse": reverse}
        yield Sample(tuple(draw(rng, dtype, shape, (-1.5, 1.5)) for _ in range(op.arity)), attrs)
        if dtype.is_inexact and shape == (5,):
            for values in ((-0.0, 0.0, -0.0, 1, -1), (1, np.nan, 3, np.inf, 5), (-np.inf, 1, np.inf, 2, 0)):
                yield Sample((np.array(values, dtype.numpy),) * op.arity, attrs, special=True)


def _sort(op: Op, rng: Rng) -> Iterator[Sample]:
    for dtype, (shape, axis) in itertools.product([d for d in dtypes.ALL if not d.is_complex], ALONG):
        yield Sample((draw(rng, dtype, shape),), {"axis": axis})
        if shape == (67,):
            yield Sample((SPECIAL[dtype],), {"axis": 0}, special=True)
            yield Sample((rng.permutation(np.tile(SPECIAL[dtype], 5)),), {"axis": 0}, special=True)


# -- random, special, control, held -----------------------------------------------------------------------------------


def _random_bits(op: Op, rng: Rng) -> Iterator[Sample]:
    for words, shape, dtype in itertools.product((2, 4), SHAPES, (uint32, uint64)):
        key = rng.integers(0, 2**32, words, dtype=np.uint32)
        yield Sample((key,), {"shape": shape, "dtype": dtype})
    for keys, shape, dtype in itertools.product(
        ((3, 2), (2, 1, 4), (0, 2)), ((), (5,), (0,), (2, 3)), (uint32, uint64)
    ):
        key = rng.integers(0, 2**32, keys, dtype=np.uint32)
        yield Sample((key,), {"shape": (*keys[:-1], *shape), "dtype": dtype})


def _input(op: Op, rng: Rng) -> Iterator[Sample]:
    yield Sample((), {"index": 0, "type": TensorType(float32, (2, 3))})


def _constant(op: Op, rng: Rng) -> Iterator[Sample]:
    for dtype, shape in itertools.product(dtypes.ALL, SHAPES):
        yield Sample((), {"value": Literal(draw(rng, dtype, shape))})


def _iota(op: Op, rng: Rng) -> Iterator[Sample]:
    for shape, dtype in itertools.product(SHAPES, [d for d in dtypes.ALL if d.is_integer or d.is_float]):
        for axis in range(len(shape)):
            yield Sample((), {"shape": shape, "axis": axis, "dtype": dtype})


def _barrier(op: Op, rng: Rng) -> Iterator[Sample]:
    for dtype, shape in itertools.product(dtypes.ALL, SHAPES):
        yield Sample((draw(rng, dtype, shape),), {"instance": 3})


def _stop_gradient(op: Op, rng: Rng) -> Iterator[Sample]:
    for dtype, shape in itertools.product(dtypes.ALL, SHAPES):
        yield Sample((draw(rng, dtype, shape),), {})


def _softmax_graph(shape: tuple[int, ...], dtype: DType) -> Graph:
    b = GraphBuilder()
    x = input_value(0, TensorType(dtype, shape))
    e = b.exp(b.subtract(x, _row(b, b.max(x, axes=(1,)), shape)))
    return Graph((x.type,), (b.divide(e, _row(b, b.sum(e, axes=(1,)), shape)),), "softmax")


def _row(b: GraphBuilder, x: Any, shape: tuple[int, ...]) -> Any:
    return b.broadcast(b.reshape(x, shape=(shape[0], 1)), shape=shape)


def _held(op: Op, rng: Rng) -> Iterator[Sample]:
    label = {"schedule": "loop"} if op.name == "fused" else {"label": "softmax"}
    for shape, dtype in itertools.product(((3, 5), (0, 4), (1, 1)), (float32, float64)):
        body = _softmax_graph(shape, dtype)
        if op.name == "custom_call":
            label = {"label": "softmax", "rule": _RULES.setdefault(body.key, rule_number(_OwnRule(body)))}
        yield Sample((draw(rng, dtype, shape),), {"body": body, **label})


@dataclass(frozen=True)
class _OwnRule:
    """The true derivative of a body, forward."""

    body: Graph

    def vjp_graph(self, types: tuple[TensorType, ...]) -> Graph | None:
        return None

    def jvp_graph(self, types: tuple[TensorType, ...]) -> Graph | None:
        assert types == self.body.inputs
        graph, _ = jvp_graph(self.body)
        return dataclasses.replace(graph, outputs=graph.outputs[len(self.body.outputs) :])


_RULES: dict[Any, int] = {}


def _cond(op: Op, rng: Rng) -> Iterator[Sample]:
    b = GraphBuilder()
    for shape, predicate in itertools.product(((), (0,), (2, 3)), (False, True)):
        x = input_value(0, TensorType(float64, shape))
        then, else_ = Graph((x.type,), (b.exp(x), x), "then"), Graph((x.type,), (b.negative(x), b.add(x, 1.0)), "else")
        yield Sample((np.asarray(predicate), draw(rng, float64, shape)), {"then": then, "else_": else_})


def _while_loop(op: Op, rng: Rng) -> Iterator[Sample]:
    """Doubles x and adds a constant while the counter is below 4: four times, or never."""
    b = GraphBuilder()
    for shape, start in itertools.product(((), (0,), (2, 3)), (0, 4)):
        types = (TensorType(int64, ()), TensorType(float64, shape), TensorType(float64, shape))
        i, x, step = (input_value(k, t) for k, t in enumerate(types))
        cond = Graph(types, (b.less(i, 4),), "cond")
        body = Graph(types, (b.add(i, 1), b.add(b.add(x, x), step)), "body")
        operands = (np.asarray(start, np.int64), draw(rng, float64, shape), draw(rng, float64, shape))
        yield Sample(operands, {"cond": cond, "body": body})


def _scan(op: Op, rng: Rng) -> Iterator[Sample]:
    """A carry and a counter, a sequence and a constant; the carry and a product are stacked."""
    b = GraphBuilder()
    for shape, length, reverse in itertools.product(((), (0,), (2, 3)), (0, 1, 4), (False, True)):
        types = (TensorType(int64, ()), *(TensorType(float64, shape),) * 3)
        i, carry, x, scale = (input_value(k, t) for k, t in enumerate(types))
        new = b.add(carry, x)
        body = Graph(types, (b.add(i, 1), new, carry, b.multiply(new, scale), i), "body")
        operands = (np.asarray(3, np.int64), *(draw(rng, float64, s) for s in (shape, (length, *shape), shape)))
        yield Sample(operands, {"body": body, "carries": 2, "stacked": 1, "length": length, "reverse": reverse})


def _debug_print(op: Op, rng: Rng) -> Iterator[Sample]:
    yield Sample((None, draw(rng, float32, (2, 3))), {"template": "x = {}"})


def host_function(x: Array) -> Array:
    """What the samples of host_call and pure_call call."""
    return np.asarray(x * 2 + 1)


def _host_call(op: Op, rng: Rng) -> Iterator[Sample]:
    for shape in ((), (0,), (2, 3)):
        x = draw(rng, float64, shape)
        yield Sample((None, x), {"function": f"{__name__}:host_function", "types": (TensorType(float64, shape),)})


def _pure_call(op: Op, rng: Rng) -> Iterator[Sample]:
    for sample in _host_call(op, rng):
        yield Sample(sample.operands[1:], sample.attrs)


#: Attributes of the functions of linear algebra, and the shapes of matrices that each takes.
_SQUARE = ((3, 3), (2, 4, 4), (2, 0, 3, 3), (0, 0), (1, 1))
_ANY_MATRIX = (*_SQUARE, (4, 3), (2, 2, 5), (0, 3), (2, 3, 0))
_LINALG: dict[str, tuple[tuple[tuple[int, ...], ...], tuple[Attrs, ...]]] = {
    "qr": (_ANY_MATRIX, ({"mode": "reduced"}, {"mode": "complete"})),
    "svd": (_ANY_MATRIX, ({"full_matrices": False}, {"full_matrices": True})),
    "svdvals": (_ANY_MATRIX, ({},)),
    "eigh": (_SQUARE, ({"uplo": "L"}, {"uplo": "U"})),
    "eigvalsh": (_SQUARE, ({"uplo": "L"}, {"uplo": "U"})),
    "pinv": (_ANY_MATRIX, ({"rtol": None}, {"rtol": 1e-9})),
}
_SYMMETRIC = ("cholesky", "eigh", "eigvalsh")


def _linalg(op: Op, rng: Rng) -> Iterator[Sample]:
    """Matrices far from singular ones; positive definite where they must be."""
    shapes, choices = _LINALG.get(op.name, (_SQUARE, ({},)))
    kinds = (complex64, complex128) if op.name in ("eig", "eigvals") else (float32, float64, complex64, complex128)
    for dtype, shape, attrs in itertools.product(kinds, shapes, choices):
        x = rng.normal(size=shape)
        if dtype.is_complex:
            x = x + 1j * rng.normal(size=shape)
        if shape[-1] == shape[-2]:
            x = x + 4 * np.eye(shape[-1])
        if op.name in _SYMMETRIC:
            x = x @ np.swapaxes(x, -1, -2).conj()
        operands = [x.astype(dtype.numpy)]
        if op.name == "solve":
            operands.append(draw(rng, dtype, (*shape[:-1], 2)))
        yield Sample(tuple(operands), attrs)


_FFT_SHAPES = ((1,), (4,), (7,), (3, 6), (0, 5), (2, 5, 4))


def _fft(op: Op, rng: Rng) -> Iterator[Sample]:
    """Each axis, several at once, and all norms in turn."""
    norms = itertools.cycle(("backward", "ortho", "forward"))
    kinds = (float32, float64) if op.name == "rfft" else (complex64, complex128)
    for dtype, shape, inverse in itertools.product(kinds, _FFT_SHAPES, (False, True)):
        for axis in (a for a, d in enumerate(shape) if d):
            attrs: Attrs = {"axis": axis, "norm": next(norms)}
            if op.name == "fft":
                axes = (axis,) if axis or not all(shape) else tuple(range(len(shape)))
                attrs = {"axes": axes, "inverse": inverse, "norm": attrs["norm"]}
            if op.name == "irfft":
                size = 2 * (shape[axis] - 1) + inverse
                if not size:
                    continue
                attrs["samples"] = size
            yield Sample((draw(rng, dtype, shape),), attrs)


def _create_token(op: Op, rng: Rng) -> Iterator[Sample]:
    yield Sample(())


def _as_parts(op: Op, rng: Rng) -> Iterator[Sample]:
    for dtype, shape in itertools.product((complex64, complex128), SHAPES):
        yield Sample((draw(rng, dtype, shape),))


def _from_parts(op: Op, rng: Rng) -> Iterator[Sample]:
    for dtype, shape in itertools.product((float32, float64), SHAPES):
        yield Sample((draw(rng, dtype, (*shape, 2)),))


_SAMPLERS: dict[str, Callable[[Op, Rng], Iterator[Sample]]] = {
    # by kind
    "elementwise": _elementwise,
    "reduction": _reduction,
    "host": _linalg,
    "contraction": _dot,
    "indexing": _indexing,
    "cumulative": _cumulative,
    "sorting": _sort,
    "random": _random_bits,
    "fused": _held,
    "composite": _held,
    # by name
    "reshape": _movement([((old,), {"shape": new}) for old, new in _RESHAPES]),
    "transpose": _movement(_TRANSPOSES),
    "broadcast": _movement([((old,), {"shape": new}) for old, new in _BROADCASTS]),
    "slice": _slices(
        ((5,), (1,), (3,), (1,)),
        ((10,), (1,), (4,), (2,)),
        ((10,), (0,), (4,), (3,)),
        ((10,), (9,), (10,), (-1,)),
        ((10,), (8,), (3,), (-3,)),
        ((4, 6), (1, 5), (2, 3), (1, -2)),
        ((4, 6), (3, 1), (2, 2), (-3, 4)),
        ((2, 3, 4), (0, 2, 1), (2, 1, 3), (1, 1, 1)),
        ((5,), (7,), (0,), (1,)),
        ((3, 4), (0, 2), (3, 0), (1, -1)),
        ((), (), (), ()),
    ),
    "pad": _pads(
        ((3,), (1,), (2,)),
        ((3,), (0,), (0,)),
        ((2, 3), (0, 2), (1, 0)),
        ((2, 1, 3), (1, 0, 2), (0, 3, 1)),
        ((0,), (2,), (1,)),
        ((3, 0), (1, 1), (0, 1)),
        ((3, 0), (1, 0), (0, 0)),
        ((), (), ()),
    ),
    "concatenate": _movement(_CONCATENATES),
    "windows": _movement(_WINDOWS),
    "window_max": _pools,
    "window_sum": _pools,
    "window_min": _pools,
    "convolution": _convolution,
    "resample": _resample,
    "input": _input,
    "constant": _constant,
    "iota": _iota,
    "barrier": _barrier,
    "stop_gradient": _stop_gradient,
    "as_parts": _as_parts,
    "from_parts": _from_parts,
    "cond": _cond,
    "while_loop": _while_loop,
    "scan": _scan,
    "debug_print": _debug_print,
    **dict.fromkeys(("fft", "rfft", "irfft"), _fft),
    "host_call": _host_call,
    "pure_call": _pure_call,
    "create_token": _create_token,
}


def _sampler(op: Op) -> Callable[[Op, Rng], Iterator[Sample]]:
    found = _SAMPLERS.get(op.name) or _SAMPLERS.get(op.kind)
    if found is None:
        raise LookupError(f"no samples for op {op.name!r} of kind {op.kind!r}: add a sampler to tests/samples.py")
    return found
