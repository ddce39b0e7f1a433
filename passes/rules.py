"""The rewrite rules, as data. Layer 4, passes.

Each is named by its equation `before --> after`. EXACT rules keep every bit for all operands, signed zeros, infinities and
subnormals included (a NaN stays a NaN; which one is not promised). VALUE_CHANGING ones hold over the real numbers only.
A test tries all of them on special values of every dtype.

Not here, because they are not exact although they look so: `x + 0.0 --> x` (-0.0 becomes +0.0), `0.0 - x --> -x` (x = 0.0),
`-(x - y) --> y - x` (x = y), `x * 0.0 --> 0.0` (infinity, NaN, signs), `x - x --> 0.0`, `x / x --> 1`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from graphc.dtypes import DType
from graphc.ir.dims import Dim
from graphc.ir.graph import Node, Value, constant, make
from graphc.ir.op import Elementwise, GraphBuilder
from graphc.ir.types import Shape
from graphc.passes.patterns import P, Rule, Scalar, Variable, common_element, literal, rule

__all__ = ["ALL", "EXACT", "VALUE_CHANGING"]


class _Builder(Protocol):
    def __getattr__(self, name: str) -> Callable[..., Value]: ...


#: The builder, known to give one value: rules concern ops of one result.
B: _Builder = GraphBuilder()

x, y, z = Variable("x"), Variable("y"), Variable("z")
a, c = Scalar("a"), Scalar("c")
condition = Variable("condition")
inner, outer = Variable("inner"), Variable("outer")


def is_integer(x: Value, **_: Any) -> bool:
    return x.dtype.is_integer


def is_signed(x: Value, **_: Any) -> bool:
    return x.dtype.is_signed


def is_float(x: Value, **_: Any) -> bool:
    return x.dtype.is_float


def is_real(x: Value, **_: Any) -> bool:
    """Products of complex numbers are sums of products: with zeros, infinities and NaN they obey few equations."""
    return not x.dtype.is_complex


def like(x: Value, c: Any) -> Value:
    """A tensor of x's shape filled with a NumPy scalar."""
    scalar = constant(np.asarray(c))
    return B.broadcast(scalar, shape=x.shape) if x.shape else scalar


def false(x: Value, **_: Any) -> Value:
    return like(x, np.bool_(False))


def true(x: Value, **_: Any) -> Value:
    return like(x, np.bool_(True))


def zero(x: Value, **_: Any) -> Value:
    return like(x, x.dtype.numpy.type(0))


# -- arithmetic ----------------------------------------------------------------------------------------------------


def _has_exact_reciprocal(x: Value, c: Any) -> bool:
    """A power of two whose reciprocal does not overflow: both quotient and product round the same real number."""
    if c.dtype.kind == "c":
        return False
    with np.errstate(all="ignore"):
        return abs(math.frexp(float(c))[0]) == 0.5 and bool(np.isfinite(c.dtype.type(1) / c))


def _divide_by_multiplying(x: Value, c: Any) -> Value:
    with np.errstate(all="ignore"):
        return B.multiply(x, like(x, c.dtype.type(1) / c))


def _to(name: str) -> Callable[..., Value]:
    """A right-hand side: the op `name` on what is bound to x, y, ..."""
    return lambda **bound: make(name, tuple(bound[key] for key in sorted(bound))).result


def _times_negated(x: Value, c: Any) -> Value:
    with np.errstate(all="ignore"):
        return B.multiply(x, like(x, np.negative(c)))


def _over_negated(x: Value, c: Any) -> Value:
    return B.divide(x, like(x, np.negative(c)))


def _product_with_itself(node: Node) -> Value | None:
    """Of constants nothing is made: they fold."""
    left, right = node.operands
    return B.square(left) if left is right and literal(left) is None else None


ARITHMETIC = (
    rule("x * 1 --> x", x * 1, lambda x: x, where=is_real),
    rule("x / 1 --> x", x / 1, lambda x: x, where=is_real),
    rule("x + (-0.0) --> x", x + -0.0, lambda x: x, where=is_real),
    rule("x - 0.0 --> x", x - 0.0, lambda x: x, where=is_real),
    rule("-0.0 - x --> -x", -0.0 - x, lambda x: -x, where=is_real),
    rule("x * -1 --> -x", x * -1, lambda x: -x, where=is_real),
    rule("x / -1 --> -x", x / -1, lambda x: -x, where=is_real),
    rule("-(-x) --> x", P.negative(-x), lambda x: x),
    rule("x + (-y) --> x - y", x + (-y), lambda x, y: x - y),
    rule("x - (-y) --> x + y", x - (-y), lambda x, y: x + y),
    rule("(-x) * (-y) --> x * y", (-x) * (-y), lambda x, y: x * y),
    rule("(-x) / (-y) --> x / y", (-x) / (-y), lambda x, y: x / y, where=is_real),
    rule("square(-x) --> square(x)", P.square(-x), _to("square")),
    rule("|-x| --> |x|", P.absolute(-x), _to("absolute"), where=is_signed),
    rule("||x|| --> |x|", P.absolute(P.absolute(x)), _to("absolute")),
    rule("-(x * c) --> x * (-c)", -(x * c), _times_negated, where=is_real),
    rule("(-x) * c --> x * (-c)", (-x) * c, _times_negated, where=is_real),
    rule("-(x / c) --> x / (-c)", -(x / c), _over_negated, where=is_real),
    rule("(-x) / c --> x / (-c)", (-x) / c, _over_negated, where=is_real),
    Rule("x * x --> square(x)", True, ("multiply",), _product_with_itself),
    rule("x / c --> x * (1/c), c = 2**k", x / c, _divide_by_multiplying, where=_has_exact_reciprocal),
    rule("x * 0 --> 0, integers", x * 0, zero, where=is_integer),
    rule("x - x --> 0, integers", x - x, zero, where=is_integer),
    rule("x // 1 --> x, integers", P.floor_divide(x, 1), lambda x: x, where=is_integer),
    rule("x % 1 --> 0, integers", P.remainder(x, 1), zero, where=is_integer),
    rule("maximum(x, x) --> x", P.maximum(x, x), lambda x: x),
    rule("minimum(x, x) --> x", P.minimum(x, x), lambda x: x),
)


def _already_integral(node: Node) -> Value | None:
    operand = node.operands[0]
    return operand if operand.node.op.name in _ROUNDING else None


_ROUNDING = ("floor", "ceil", "trunc", "rint")
ROUNDING = (Rule("round(round'(x)) --> round'(x)", True, _ROUNDING, _already_integral),)


# -- logic and choice ----------------------------------------------------------------------------------------------


def _all_ones(x: Value, c: Any) -> bool:
    return bool(~c == 0) if c.dtype.kind != "b" else bool(c)


def _chosen(x: Value, y: Value, c: Any) -> Value:
    return x if c else y


def _inverted_choice(condition: Value, x: Value, y: Value) -> Value:
    return B.select(condition, y, x)


LOGIC = (
    rule("select(c, x, x) --> x", P.select(condition, x, x), lambda condition, x: x),
    rule("select(True, x, y) --> x; select(False, x, y) --> y", P.select(c, x, y), _chosen),
    rule("select(not c, x, y) --> select(c, y, x)", P.select(P.logical_not(condition), x, y), _inverted_choice),
    rule("not (not x) --> x", P.logical_not(P.logical_not(x)), lambda x: x),
    rule("~(~x) --> x", P.bitwise_invert(P.bitwise_invert(x)), lambda x: x),
    rule("x & x --> x", x & x, lambda x: x),
    rule("x | x --> x", x | x, lambda x: x),
    rule("x ^ x --> 0", x ^ x, zero),
    rule("x & 0 --> 0", x & 0, zero),
    rule("x & False --> False", x & False, zero),
    rule("x & ~0 --> x", x & c, lambda x, c: x, where=_all_ones),
    rule("x | 0 --> x", x | 0, lambda x: x),
    rule("x | False --> x", x | False, lambda x: x),
    rule("x | ~0 --> ~0", x | c, like, where=_all_ones),
    rule("x ^ 0 --> x", x ^ 0, lambda x: x),
    rule("x ^ False --> x", x ^ False, lambda x: x),
    rule("x < x --> False", P.less(x, x), false),
    rule("x > x --> False", P.greater(x, x), false),
    rule("x == x --> True, integers and bools", P.equal(x, x), true, where=lambda x: not x.dtype.is_inexact),
    rule("x <= x --> True, integers and bools", P.less_equal(x, x), true, where=lambda x: not x.dtype.is_inexact),
    rule("x >= x --> True, integers and bools", P.greater_equal(x, x), true, where=lambda x: not x.dtype.is_inexact),
    rule("x != x --> False, integers and bools", P.not_equal(x, x), false, where=lambda x: not x.dtype.is_inexact),
    rule("(x > y) | (x == y) --> x >= y", P.greater(x, y) | P.equal(x, y), _to("greater_equal")),
    rule("(x < y) | (x == y) --> x <= y", P.less(x, y) | P.equal(x, y), _to("less_equal")),
    rule("not (x == y) --> x != y", P.logical_not(P.equal(x, y)), _to("not_equal")),
    rule("not (x != y) --> x == y", P.logical_not(P.not_equal(x, y)), _to("equal")),
    rule("select(c, True, False) --> c", P.select(condition, True, False), lambda condition: condition),
    rule("select(c, False, True) --> not c", P.select(condition, False, True), _to("logical_not")),
    rule("x == True --> x", P.equal(x, True), lambda x: x),
    rule("x != False --> x", P.not_equal(x, False), lambda x: x),
)


# -- conversion ----------------------------------------------------------------------------------------------------


def _contained(x: DType, inner: DType) -> bool:
    """Whether converting values of `x` to `inner` and back changes nothing. (Integers wrap: signs do not matter.)"""
    if x.is_complex:
        return inner.is_complex and inner.bits > x.bits
    if x.is_float:
        return inner.is_float and inner.bits > x.bits
    if inner.is_float:
        return x.bits <= inner.digits
    return x.is_bool or (inner.is_integer and inner.bits >= x.bits)


def _there_and_back(x: Value, outer: DType, inner: DType) -> bool:
    return x.dtype is outer and inner is not outer and _contained(outer, inner)


CONVERSION = (
    rule(
        "convert(x, its dtype) --> x",
        P.convert(x, dtype=outer),
        lambda x, outer: x,
        where=lambda x, outer: x.dtype is outer,
    ),
    rule(
        "convert(convert(x, wider), x's dtype) --> x",
        P.convert(P.convert(x, dtype=inner), dtype=outer),
        lambda x, outer, inner: x,
        where=_there_and_back,
    ),
)


# -- movement ------------------------------------------------------------------------------------------------------


def _transpose_twice(x: Value, inner: tuple[int, ...], outer: tuple[int, ...]) -> Value:
    return B.transpose(x, perm=tuple(inner[axis] for axis in outer))


def _broadcast_twice(x: Value, outer: Shape) -> Value | None:
    return B.broadcast(x, shape=outer)


def _same_shape(node: Node) -> Value | None:
    operand = node.operands[0]
    return operand if operand.type == node.types[0] else None


def _identity_transpose(node: Node) -> Value | None:
    perm = node.attrs["perm"]
    return node.operands[0] if perm == tuple(range(len(perm))) else None


def _whole_slice(node: Node) -> Value | None:
    x = node.operands[0]
    whole = all(s == 0 for s in node.attrs["start"]) and all(s == 1 for s in node.attrs["step"])
    return x if whole and node.attrs["size"] == x.shape else None


def _slice_twice(node: Node) -> Value | None:
    below = node.operands[0].node
    if below.op.name != "slice":
        return None
    start = _combine(below.attrs["start"], node.attrs["start"], below.attrs["step"])
    step = tuple(s * t for s, t in zip(below.attrs["step"], node.attrs["step"], strict=True))
    return B.slice(below.operands[0], start=start, size=node.attrs["size"], step=step)


def _combine(start: Sequence[Dim], then: Sequence[Dim], step: Sequence[int]) -> tuple[Dim, ...]:
    return tuple(s + t * k for s, t, k in zip(start, then, step, strict=True))


def _pad_nothing(node: Node) -> Value | None:
    nothing = all(p == 0 for p in (*node.attrs["low"], *node.attrs["high"]))
    return node.operands[0] if nothing else None


def _concatenate_one(node: Node) -> Value | None:
    return node.operands[0] if len(node.operands) == 1 else None


def _moved_splat(node: Node) -> Value | None:
    """A tensor of equal elements stays one, however its elements are moved."""
    below = node.operands[0].node
    if below.op.name != "broadcast" or below.operands[0].shape:
        return None
    shape = node.results[0].shape
    return B.broadcast(below.operands[0], shape=shape) if shape else below.operands[0]


def _broadcast_of_units(node: Node) -> Value | None:
    """A reshape that only puts ones before the shape is what broadcasting does by itself."""
    reshape = node.operands[0].node
    if reshape.op.name != "reshape":
        return None
    x = reshape.operands[0]
    lead = len(reshape.attrs["shape"]) - len(x.shape)
    if lead < 0 or reshape.attrs["shape"] != (1,) * lead + x.shape:
        return None
    return B.broadcast(x, shape=node.attrs["shape"])


def _uniform_constant(node: Node) -> Value | None:
    """One form for tensors of equal elements: no buffer, and other rules see it."""
    array = node.attrs["value"].array
    element = common_element(array) if array.ndim else None
    return None if element is None else B.broadcast(constant(element), shape=tuple(array.shape))


def _slice_of_concatenate(node: Node) -> Value | None:
    """A slice that lies in one of the operands that were put together."""
    joined = node.operands[0].node
    if joined.op.name != "concatenate":
        return None
    axis = joined.attrs["axis"]
    start, size, step = (node.attrs[name] for name in ("start", "size", "step"))
    last = start[axis] + (size[axis] - 1) * step[axis]
    if not all(isinstance(d, int) for d in (start[axis], last)) or 0 in size:
        return None
    offset: Dim = 0
    for part in joined.operands:
        extent = part.shape[axis]
        if not isinstance(offset, int) or not isinstance(extent, int):
            return None
        if offset <= min(start[axis], last) and max(start[axis], last) < offset + extent:
            moved = (*start[:axis], start[axis] - offset, *start[axis + 1 :])
            return B.slice(part, start=moved, size=size, step=step)
        offset += extent
    return None


MOVEMENT = (
    Rule("constant of equal elements --> broadcast(scalar)", True, ("constant",), _uniform_constant),
    Rule("broadcast(reshape(x, [1, ..., *x.shape])) --> broadcast(x)", True, ("broadcast",), _broadcast_of_units),
    Rule("slice(concatenate(x, y)) --> slice(x)", True, ("slice",), _slice_of_concatenate),
    Rule("transpose(x, identity) --> x", True, ("transpose",), _identity_transpose),
    rule(
        "transpose(transpose(x, p), q) --> transpose(x, p[q])",
        P.transpose(P.transpose(x, perm=inner), perm=outer),
        _transpose_twice,
    ),
    rule("as_parts(from_parts(x)) --> x", P.as_parts(P.from_parts(x)), lambda x: x),
    rule("from_parts(as_parts(x)) --> x", P.from_parts(P.as_parts(x)), lambda x: x),
    Rule("reshape(x, its shape) --> x", True, ("reshape",), _same_shape),
    rule(
        "reshape(reshape(x), s) --> reshape(x, s)",
        P.reshape(P.reshape(x), shape=outer),
        lambda x, outer: B.reshape(x, shape=outer),
    ),
    Rule("broadcast(x, its shape) --> x", True, ("broadcast",), _same_shape),
    rule("broadcast(broadcast(x), s) --> broadcast(x, s)", P.broadcast(P.broadcast(x), shape=outer), _broadcast_twice),
    Rule("slice(x, whole) --> x", True, ("slice",), _whole_slice),
    Rule("slice(slice(x, i), j) --> slice(x, i * j)", True, ("slice",), _slice_twice),
    Rule("pad(x, nothing) --> x", True, ("pad",), _pad_nothing),
    Rule("concatenate(x) --> x", True, ("concatenate",), _concatenate_one),
    Rule("move(broadcast(scalar)) --> broadcast(scalar)", True, ("reshape", "transpose", "slice"), _moved_splat),
)


# -- elementwise over broadcasts -----------------------------------------------------------------------------------


def _compute_before_broadcast(node: Node) -> Value | None:
    """f(broadcast(x), broadcast(y)) --> broadcast(f(x, y)), where x's shape broadcasts to y's or the other way round."""
    if not isinstance(node.op, Elementwise) or any(v.node.op.name != "broadcast" for v in node.operands):
        return None
    sources = [v.node.operands[0] for v in node.operands]
    for core in dict.fromkeys(v.shape for v in sources):
        lifted = [_broadcast_within(v, core) for v in sources]
        if None not in lifted:
            result = make(node.op, [v for v in lifted if v is not None], **node.attrs).result
            return B.broadcast(result, shape=node.results[0].shape)
    return None


def _broadcast_within(x: Value, shape: Shape) -> Value | None:
    if x.shape == shape:
        return x
    rank = len(x.shape)
    aligned = shape[len(shape) - rank :] if rank else ()
    fits = rank <= len(shape) and all(d in (1, e) for d, e in zip(x.shape, aligned, strict=True))
    return B.broadcast(x, shape=shape) if fits else None


BROADCAST = (Rule("f(broadcast(x), broadcast(y)) --> broadcast(f(x, y))", True, None, _compute_before_broadcast),)


# -- reductions ----------------------------------------------------------------------------------------------------

_KEEPING = ("max", "min", "any", "all", "prod")


def _reduce_units(node: Node) -> Value | None:
    """Axes of size 1 (or none at all) have one element each to combine. (NumPy's product of complex numbers begins with
    1 + 0i, which changes zeros and infinities.)"""
    x = node.operands[0]
    if x.dtype.is_complex and node.op.name != "sum":
        return None
    if any(x.shape[axis] != 1 for axis in node.attrs["axes"]):
        return None
    if x.dtype is not node.results[0].dtype:
        return None
    return B.reshape(x, shape=node.results[0].shape)


def _sum_units(node: Node) -> Value | None:
    """NumPy's sum begins with +0.0, so that -0.0 becomes +0.0."""
    reshaped = _reduce_units(node)
    return None if reshaped is None else B.add(reshaped, 0)


REDUCTION = (
    Rule("reduce(x, axes of size 1) --> reshape(x)", True, _KEEPING, _reduce_units),
    Rule("sum(x, axes of size 1) --> reshape(x) + 0.0", True, ("sum",), _sum_units),
)

EXACT: tuple[Rule, ...] = (*ARITHMETIC, *ROUNDING, *LOGIC, *CONVERSION, *MOVEMENT, *BROADCAST, *REDUCTION)


# -- rules that need permission ------------------------------------------------------------------------------------


def _product(x: Value, a: Any, c: Any) -> Value:
    with np.errstate(all="ignore"):
        return B.multiply(x, like(x, a * c))


def _total(x: Value, a: Any, c: Any) -> Value:
    with np.errstate(all="ignore"):
        return B.add(x, like(x, a + c))


def _nonzero(x: Value, c: Any) -> bool:
    return bool(c != 0) and bool(np.isfinite(c))


VALUE_CHANGING: tuple[Rule, ...] = (
    rule("x + 0.0 --> x", x + 0.0, lambda x: x, where=is_float, exact=False),
    rule("0.0 - x --> -x", 0.0 - x, lambda x: -x, where=is_float, exact=False),
    rule("x * 0.0 --> 0.0", x * 0.0, zero, where=is_float, exact=False),
    rule("x - x --> 0.0", x - x, zero, where=is_float, exact=False),
    rule("x / x --> 1.0", x / x, lambda x: B.like(x, 1.0), exact=False),
    rule("-(x - y) --> y - x", -(x - y), lambda x, y: y - x, exact=False),
    rule("x / c --> x * (1/c)", x / c, _divide_by_multiplying, where=_nonzero, exact=False),
    rule("(x * a) * c --> x * (a * c)", (x * a) * c, _product, where=is_float, exact=False),
    rule("(x + a) + c --> x + (a + c)", (x + a) + c, _total, where=is_float, exact=False),
    rule("log(exp(x)) --> x", P.log(P.exp(x)), lambda x: x, where=is_real, exact=False),
    rule("exp(log(x)) --> x", P.exp(P.log(x)), lambda x: x, exact=False),
    rule("square(sqrt(x)) --> x", P.square(P.sqrt(x)), lambda x: x, exact=False),
)

ALL: tuple[Rule, ...] = (*EXACT, *VALUE_CHANGING)
