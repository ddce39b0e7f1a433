"""How a node of each op is drawn: operands of the right types, in the op's domain, and attributes.

`draw(maker, op)` finds the step by the op's name or else its kind, and gives the new results, or None where nothing fits. An
op that is drawn by no seed fails `tests/test_random_graphs.py`, unless `NOT_DRAWN` says why.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from randomvalues import DTYPES, GREATEST, LIMIT, Maker

import graphc.ops  # noqa: F401  fills the registry
from graphc import dtypes
from graphc.dtypes import DType, float32, float64, int8, int32, int64, uint8, uint32, uint64
from graphc.errors import DTypeError, GraphcError
from graphc.ir import registry
from graphc.ir.graph import Graph, Literal, Value, constant, full, input_value, make
from graphc.ir.op import Contraction, Cumulative, Elementwise, Indexing, Op, Reduction, Sorting

__all__ = ["DRAWN", "NOT_DRAWN", "draw", "draw_any"]

#: Ops that are not drawn, and why.
NOT_DRAWN: dict[str, str] = {
    "input": "every graph has some",
    "fused": "made by fusion, of every other op",
    "create_token": "made before the first effect",
    "gamma_from_bits": "jumps where a candidate is refused: no bounds; tests/frontend/test_random.py",
    **dict.fromkeys(
        ("as_parts", "conj", "eig", "eigvals", "fft", "from_parts", "imag", "irfft", "make_complex", "real", "rfft"),
        "complex numbers are not drawn: UNDRAWN_DTYPES",
    ),
}
DRAWN: tuple[Op, ...] = tuple(op for op in registry.all_ops() if op.name not in NOT_DRAWN)
#: Ops that move and combine elements are drawn more often than those that work on each by itself, calls of Python less.
_WEIGHTS = {"contraction": 6, "reduction": 3, "movement": 2, "indexing": 2, "control": 2, "composite": 2, "sorting": 2}
_WEIGHTS |= {"host": 0.6}

#: Where an op is defined and of moderate size, per operand.
_DOMAINS: Mapping[str, tuple[tuple[float, float], ...]] = {
    **{op.name: op.domain for op in DRAWN if isinstance(op, Elementwise) and op.domain},
    **dict.fromkeys(("exp", "exp2", "expm1", "sinh", "cosh"), ((-4.0, 4.0),)),
    **dict.fromkeys(("sin", "cos"), ((-50.0, 50.0),)),
    **dict.fromkeys(("tanh", "erf", "erfc", "sigmoid", "normal_cdf"), ((-4.0, 4.0),)),
    **dict.fromkeys(("floor_divide", "remainder", "fmod"), ((-60.0, 60.0), (0.7, 1.9))),
    "multiply": ((-60.0, 60.0), (-60.0, 60.0)),
    "square": ((-60.0, 60.0),),
    "scale_shift": ((-60.0, 60.0), (-60.0, 60.0), (-60.0, 60.0)),
    "atan2": ((-60.0, 60.0), (0.2, 60.0)),
}

Drawn = Sequence[Value] | Value | None


def draw(maker: Maker, op: Op) -> Sequence[Value] | None:
    """The results of a new node of `op` that are tensors; None where no operand fits."""
    made = _STEPS.get(op.name, _STEPS.get(op.kind, _elementwise))(maker, op)
    return [made] if isinstance(made, Value) else made


def draw_any(maker: Maker, ops: Sequence[Op] = DRAWN) -> None:
    """Try, a few times, to add one node of an op drawn from `ops`, which nodes that hold graphs draw from, too."""
    maker.ops = ops
    (op,) = maker.random.choices(ops, [_weight(op) for op in ops])
    for _ in range(4):
        saved, token = set(maker.used), maker.token
        made = draw(maker, op)
        if made is not None and (not made or maker.adopt(made)):
            return
        maker.used, maker.token = saved, token


@cache
def _weight(op: Op) -> float:
    """Elementwise ops that take many dtypes need many draws to have had them all."""
    return 0.5 + len(_combinations(op, ())) / 10 if _has_combinations(op) else _WEIGHTS.get(op.kind, 1)


def _has_combinations(op: Op) -> bool:
    return isinstance(op, Elementwise) and not op.attributes and op.arity < 3


@cache
def _combinations(op: Elementwise, attrs: tuple[tuple[str, Any], ...]) -> list[tuple[DType, ...]]:
    """Dtypes of operands that an op takes."""
    found = []
    for combination in itertools.product(sorted(set(DTYPES), key=str), repeat=op.arity):
        try:
            op.types(*combination, **dict(attrs))
        except DTypeError:
            continue
        found.append(combination)
    return found


@cache
def _accepted(op: Op) -> list[DType]:
    """Dtypes of the single operand of a reduction, cumulative op or product."""
    assert isinstance(op, (Reduction, Cumulative, Contraction))
    found = []
    for dtype in DTYPES:
        try:
            op.types(*(dtype,) * (2 if isinstance(op, Contraction) else 1))
        except DTypeError:
            continue
        found.append(dtype)
    return found


# -- elementwise ------------------------------------------------------------------------------------------------------


def _elementwise(m: Maker, op: Op) -> Drawn:
    assert isinstance(op, Elementwise), f"tests/randomnodes.py does not say how {op.name} is drawn"
    attrs = {"dtype": m.random.choice(DTYPES)} if op.name == "convert" else {}
    combination = m.random.choice(_combinations(op, tuple(attrs.items())))
    first = m.some(combination[-1])
    operands = [m.some(d, first.shape) for d in combination[:-1]] + [first]  # type: ignore[arg-type]
    domains = _DOMAINS.get(op.name, ((-GREATEST, GREATEST),) * op.arity)
    if op.name == "convert" and operands[0].dtype.is_float:
        domains = ((-100.0 if attrs["dtype"].is_signed else 0.0, 100.0),)
    operands = [m.within(x, *domain) for x, domain in zip(operands, domains, strict=True)]
    return m.apply(op, operands, **attrs)


# -- movement ---------------------------------------------------------------------------------------------------------


def _transpose(m: Maker, op: Op) -> Drawn:
    x = m.pick(lambda v: len(v.shape) > 1)
    if x is None:
        return None
    perm = list(range(len(x.shape)))
    m.random.shuffle(perm)
    return m.apply(op, (x,), perm=tuple(perm))


def _reshape(m: Maker, op: Op) -> Drawn:
    x = m.any()
    shapes: list[Any] = [(x.tensor.size,), (1, *x.shape), (*x.shape, 1)]
    size = int(np.prod(x.shape, dtype=int))
    shapes += [(k, size // k) for k in range(2, 9) if size and size % k == 0]
    if len(x.shape) == 3:
        shapes.append((x.shape[0] * x.shape[1], x.shape[2]))
    return m.apply(op, (x,), shape=m.random.choice(shapes))


def _broadcast(m: Maker, op: Op) -> Drawn:
    x = m.pick(lambda v: len(v.shape) < 3)
    return None if x is None else m.apply(op, (x,), shape=(m.random.choice(m.sizes), *x.shape))


def _slice(m: Maker, op: Op) -> Drawn:
    x = m.pick(lambda v: bool(v.shape))
    if x is None:
        return None
    start, size, step = [], [], []
    for n in x.shape:
        assert isinstance(n, int)
        first, last = (m.random.randrange(n) if n else 0 for _ in range(2))
        stride = m.random.choice([1, 1, 2, 3])
        count = abs(last - first) // stride + 1 if n else 0
        start.append(first)
        size.append(count)
        step.append(stride if last >= first else -stride)
    return m.apply(op, (x,), start=tuple(start), size=tuple(size), step=tuple(step))


def _pad(m: Maker, op: Op) -> Drawn:
    x = m.any()
    low, high = (tuple(m.random.choice([0, 1, 3]) for _ in x.shape) for _ in range(2))
    return m.apply(op, (x, m.some(x.dtype, ())), low=low, high=high)


def _concatenate(m: Maker, op: Op) -> Drawn:
    x = m.pick(lambda v: bool(v.shape))
    if x is None:
        return None
    axis = m.random.randrange(len(x.shape))
    parts = [x]
    for _ in range(m.random.randint(1, 2)):
        shape: Any = (*x.shape[:axis], m.random.choice(m.sizes), *x.shape[axis + 1 :])
        parts.append(m.some(x.dtype, shape))
    m.random.shuffle(parts)
    return m.apply(op, parts, axis=axis)


def _windows(m: Maker, op: Op) -> Drawn:
    x = m.pick(lambda v: bool(v.shape) and v.tensor.size * 3 <= LIMIT)  # type: ignore[operator]
    if x is None:
        return None
    axis = m.random.randrange(len(x.shape))
    return m.apply(op, (x,), axis=axis, size=m.random.choice([1, 2, 3]), **_pace(m))


def _pace(m: Maker) -> dict[str, int]:
    return {"step": m.random.choice([1, 1, 2, 3]), "dilation": m.random.choice([1, 1, 2])}


# -- reductions, products, windows ------------------------------------------------------------------------------------


def _reduction(m: Maker, op: Op) -> Drawn:
    assert isinstance(op, Reduction)
    x = m.some(m.random.choice(_accepted(op)))
    if not x.shape:
        return None
    count = 1 if op.arg else m.random.randint(1, len(x.shape))
    axes = tuple(sorted(m.random.sample(range(len(x.shape)), count)))
    if not op.empty and any(x.shape[a] == 0 for a in axes):
        return None
    return m.apply(op, (_tamed(m, op, x),), axes=axes)


def _tamed(m: Maker, op: Op, x: Value) -> Value:
    """The operand of a reduction or cumulative op: factors near 1, and no zeros of different signs where either may win."""
    name = op.name.removeprefix("cumulative_").removeprefix("scatter_").removeprefix("window_")
    if name in ("max", "min"):
        return m.unsigned_zero(x)
    return m.within(x, 0.7, 1.3) if name in ("prod", "multiply") else x


def _cumulative(m: Maker, op: Op) -> Drawn:
    assert isinstance(op, Cumulative)
    x = m.some(m.random.choice(_accepted(op)))
    if not x.shape:
        return None
    axis = m.random.randrange(len(x.shape))
    operands = [_tamed(m, op, x)]
    if op.arity > 1:
        # A recurrence forgets: its factors are below 1.
        factors = [m.within(m.some(x.dtype, x.shape), -0.9, 0.9) for _ in range(op.arity - 1)]  # type: ignore[arg-type]
        operands = [*factors, *operands]
    return m.apply(op, operands, axis=axis, reverse=m.random.random() < 0.5)


def _sorting(m: Maker, op: Op) -> Drawn:
    assert isinstance(op, Sorting)
    x = m.pick(lambda v: bool(v.shape))
    return None if x is None else m.node(op, (x,), axis=m.random.randrange(len(x.shape))).results


def _dot(m: Maker, op: Op) -> Drawn:
    dtype = m.random.choice([float32, float64, *_accepted(op)])
    x = m.within(m.some(dtype), -10.0, 10.0)
    if not x.shape:
        return None
    contract = m.random.randrange(len(x.shape))
    batched = len(x.shape) == 3 and m.random.random() < 0.5
    batch = m.random.choice([k for k in range(3) if k != contract]) if batched else None
    width = m.random.choice(m.sizes)
    shape: list[Any] = [x.shape[contract], width] if m.random.random() < 0.8 else [x.shape[contract]]
    order = m.random.random() < 0.5
    if order:
        shape.reverse()
    inner = len(shape) - 1 if order else 0
    if batch is not None:
        shape.insert(0, x.shape[batch])
        inner += 1
    y = m.within(m.some(dtype, tuple(shape)), -10.0, 10.0)
    if m.random.random() < 0.3 and batch is None:
        return m.apply(op, (y, x), lhs_batch=(), rhs_batch=(), lhs_contract=(inner,), rhs_contract=(contract,))
    numbers = ((batch,), (0,)) if batch is not None else ((), ())
    return m.apply(
        op, (x, y), lhs_batch=numbers[0], rhs_batch=numbers[1], lhs_contract=(contract,), rhs_contract=(inner,)
    )


def _window_reduction(m: Maker, op: Op) -> Drawn:
    x = m.pick(lambda v: bool(v.shape) and not v.dtype.is_bool)
    if x is None:
        return None
    axes = sorted(m.random.sample(range(len(x.shape)), m.random.randint(1, min(2, len(x.shape)))))
    paces = [_pace(m) for _ in axes]
    attrs = {
        "axes": tuple(axes),
        "sizes": tuple(m.random.choice([1, 2, 3]) for _ in axes),
        "steps": tuple(p["step"] for p in paces),
        "dilations": tuple(p["dilation"] for p in paces),
    }
    return m.apply(op, (_tamed(m, op, x),), **attrs)


def _resample(m: Maker, op: Op) -> Drawn:
    x = m.some(m.random.choice([d for d in DTYPES if d.is_float]))
    if not x.shape or 0 in x.shape:
        return None
    axis = m.random.randrange(len(x.shape))
    terms, size = m.random.choice([1, 2, 4, 30]), m.random.choice([1, 3, 8, 19])
    places = [[m.random.randrange(int(x.shape[axis])) for _ in range(size)] for _ in range(terms)]  # type: ignore[arg-type]
    weights = [[m.random.uniform(-1, 1) for _ in range(size)] for _ in range(terms)]
    return m.apply(op, (x,), axis=axis, places=Literal(np.array(places)), weights=Literal(np.array(weights)))


def _convolution(m: Maker, op: Op) -> Drawn:
    dtype = m.random.choice([d for d in DTYPES if not d.is_bool])
    rank = m.random.choice([1, 2])
    groups = m.random.choice([1, 1, 2, 3])
    channels = groups * m.random.choice([1, 2])
    x_shape = (m.random.choice([1, 2]), channels, *(m.random.choice([4, 5, 9, 17]) for _ in range(rank)))
    w_shape = (groups * m.random.choice([1, 3]), channels // groups)
    w_shape += tuple(m.random.choice([1, 2, 3]) for _ in range(rank))
    operands = [m.within(m.some(dtype, shape), -4.0, 4.0) for shape in (x_shape, w_shape)]
    attrs = {
        "strides": tuple(m.random.choice([1, 1, 2]) for _ in range(rank)),
        "padding": tuple((m.random.choice([0, 1, 2, -1]), m.random.choice([0, 1])) for _ in range(rank)),
        "input_dilation": tuple(m.random.choice([1, 1, 2]) for _ in range(rank)),
        "kernel_dilation": tuple(m.random.choice([1, 1, 2]) for _ in range(rank)),
    }
    return m.apply(op, operands, groups=groups, **attrs)


# -- indexing ---------------------------------------------------------------------------------------------------------


def _indices(m: Maker, size: int) -> tuple[Value, str]:
    """Indices and a mode that is legal for them, also if everything that is not sure came out a little different."""
    indices = m.some(m.random.choice([int32, int64, uint32, uint64, int8, uint8]))
    if len(indices.shape) > 2 or np.prod(indices.shape, dtype=int) > 100:
        indices = m.fit(indices, (m.random.choice(m.sizes),))
    if indices in m.unsure or m.random.random() < 0.4:
        return indices, m.random.choice(["wrap", "clip"])
    if m.random.random() < 0.5 and size <= 127:
        indices = m.apply("remainder", (indices, full(indices.shape, size, indices.dtype)))
    data = m.of(indices)
    low, high = (int(data.min()), int(data.max())) if data.size else (0, 0)
    return indices, "raise" if -size <= low and high < size else "wrap"


def _take(m: Maker, op: Op) -> Drawn:
    x = m.pick(lambda v: bool(v.shape) and 0 not in v.shape)
    if x is None:
        return None
    axis = m.random.randrange(len(x.shape))
    indices, mode = _indices(m, int(x.shape[axis]))  # type: ignore[arg-type]
    return m.apply(op, (x, indices), axis=axis, mode=mode)


def _scatter(m: Maker, op: Op) -> Drawn:
    bools = op.name == "scatter_set"
    x = m.pick(lambda v: bool(v.shape) and 0 not in v.shape and (bools or not v.dtype.is_bool))
    if x is None:
        return None
    axis = m.random.randrange(len(x.shape))
    indices, mode = _indices(m, int(x.shape[axis]))  # type: ignore[arg-type]
    shape: Any = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    if np.prod(shape, dtype=int) > LIMIT:
        return None
    updates = _tamed(m, op, m.within(m.some(x.dtype, shape), -50.0, 50.0))
    if op.name in ("scatter_max", "scatter_min"):
        x = m.unsigned_zero(x)
    return m.apply(op, (x, indices, updates), axis=axis, mode=mode)


def _indexing(m: Maker, op: Op) -> Drawn:
    assert isinstance(op, Indexing)
    return _take(m, op) if op.combine is None else _scatter(m, op)


# -- leaves and markers -----------------------------------------------------------------------------------------------


def _random_bits(m: Maker, op: Op) -> Drawn:
    key = m.some(uint32, (m.random.choice([2, 4]),))
    return m.apply(op, (key,), shape=m.shape(), dtype=m.random.choice([uint32, uint64]))


def _iota(m: Maker, op: Op) -> Drawn:
    shape = m.shape() or (5,)
    dtype = m.random.choice([d for d in DTYPES if not d.is_bool])
    return m.apply(op, (), shape=shape, axis=m.random.randrange(len(shape)), dtype=dtype)


def _constant(m: Maker, op: Op) -> Drawn:
    return m.apply(op, (), **constant(m.elements(m.random.choice(DTYPES), m.shape())).node.attrs)


def _copied(m: Maker, op: Op) -> Drawn:
    return m.apply(op, (m.any(),))


def _barrier(m: Maker, op: Op) -> Drawn:
    return m.apply(op, (m.any(),), instance=m.random.randrange(3))


# -- calls of Python --------------------------------------------------------------------------------------------------


def _pure_call(m: Maker, op: Op) -> Drawn:
    x = m.any()
    return m.apply(op, (x,), function="numpy:copy", types=(x.tensor,))


def _token(m: Maker) -> Value:
    """The last token: effects hang on one chain. Graphs that nodes hold have none."""
    return m.token or make("create_token").result


def _host_call(m: Maker, op: Op) -> Drawn:
    if m.depth:
        return None
    x = m.any()
    node = m.node(op, (_token(m), x), function="numpy:copy", types=(x.tensor,))
    m.token = node.results[0]
    return node.results[1:]


def _debug_print(m: Maker, op: Op) -> Drawn:
    """Each print has a number of its own, so that their order shows."""
    if m.depth:
        return None
    count = 0 if m.token is None else sum(n.op.name == "debug_print" for n in _chain(m.token))
    operands = [_token(m), *(m.any() for _ in range(m.random.randint(1, 2)))]
    m.token = make(op, operands, template=f"print {count}: {' and '.join('{}' for _ in operands[1:])}").result
    m.used.update(operands)
    return ()


def _chain(token: Value) -> list[Any]:
    found = [token.node]
    while found[-1].operands:
        found.append(found[-1].operands[0].node)
    return found


def _linalg(m: Maker, op: Op) -> Drawn:
    """Matrices with a heavy diagonal, which are far from singular ones and, as their lower triangle is read, positive definite;
    exactly known ones rather, for of most factorisations nothing else can be said."""
    dtype = m.random.choice([float32, float64])
    if m.random.random() < 0.7:
        source = m.pick(lambda v: v not in m.inexact and v.dtype is dtype) or m.leaf(dtype, (5,))
    else:
        source = m.some(dtype)
    n = m.random.choice([1, 2, 3, 5, 8])
    batch = m.random.choice([(), (), (2,)])
    tall = n + 2 if op.name in ("qr", "svd", "svdvals", "pinv") and m.random.random() < 0.4 else n
    x = m.within(m.fit(source, (*batch, tall, n)), -1.0, 1.0)
    scaled = m.apply("multiply", (x, full(x.shape, 0.5 / n, dtype)))
    diagonal = np.eye(tall, n) * (2 + 0.1 * np.arange(n))
    heavy = m.apply("constant", (), **constant(diagonal.astype(dtype.numpy)).node.attrs)
    matrix = m.apply("add", (scaled, m.apply("broadcast", (heavy,), shape=x.shape)))
    attrs = {name: m.random.choice(choices) for name, choices in _LINALG_ATTRIBUTES.items() if name in op.attributes}
    operands = [matrix]
    if op.name == "solve":
        operands.append(m.within(m.some(dtype, (*batch, n, m.random.choice([1, 3]))), -10.0, 10.0))
    return m.node(op, operands, **attrs).results


_LINALG_ATTRIBUTES: dict[str, list[Any]] = {
    "mode": ["reduced", "complete"],
    "full_matrices": [False, True],
    "uplo": ["L", "U"],
    "rtol": [None, 1e-6],
}


# -- nodes that hold graphs -------------------------------------------------------------------------------------------

#: Values that a held graph is given, and nodes that are tried in it, at most.
_CAPTURES, _HELD_STEPS, _DEPTH = 3, 6, 2
_LIGHT = tuple(op for op in DRAWN if op.kind not in ("host", "control", "composite"))


def _held(m: Maker, operands: Sequence[Value], *, varying: bool = False) -> Maker:
    """A maker that has grown a graph over the operands."""
    inner = m.nested(operands, varying=varying)
    ops = m.ops if inner.depth < _DEPTH and not varying else [op for op in m.ops if op in _LIGHT]
    for _ in range(m.random.randint(1, _HELD_STEPS)):
        draw_any(inner, ops)
    return inner


def _captures(m: Maker, most: int = _CAPTURES) -> list[Value]:
    found = [m.any() for _ in range(m.random.randint(1, most))]
    return list(dict.fromkeys(found))


def _composite(m: Maker, op: Op) -> Drawn:
    if m.depth >= _DEPTH:
        return None
    operands = _captures(m)
    inner = _held(m, operands)
    outputs = inner.ends()[: m.random.randint(1, 3)]
    body = Graph(tuple(inner.types), outputs, "body")
    rule = {"rule": -1} if "rule" in op.attributes else {}
    return m.node(op, operands, body=body, label=m.random.choice(["softmax", "layer"]), **rule).results


def _predicate(m: Maker) -> Value:
    flags = m.some(dtypes.bool_)
    return (
        m.apply(m.random.choice(["any", "all"]), (flags,), axes=tuple(range(len(flags.shape))))
        if flags.shape
        else flags
    )


def _cond(m: Maker, op: Op) -> Drawn:
    """Both branches are legal on the operands, whichever is taken; the other one brings its values to the first one's types."""
    if m.depth >= _DEPTH:
        return None
    operands = _captures(m)
    then, other = _held(m, operands), _held(m, operands)
    outputs = then.ends()[: m.random.randint(1, 2)]
    brought = tuple(other.some(v.dtype, v.shape) for v in outputs)  # type: ignore[arg-type]
    branches = [Graph(tuple(b.types), y, name) for b, y, name in ((then, outputs, "then"), (other, brought, "else"))]
    m.random.shuffle(branches)
    return m.node(op, (_predicate(m), *operands), then=branches[0], else_=branches[1]).results


def _while_loop(m: Maker, op: Op) -> Drawn:
    """A counter, carried values that a held graph changes, and sometimes a condition on these, too."""
    if m.depth >= _DEPTH:
        return None
    start = full((), m.random.randint(0, 2), int64)
    operands = [start, *(m.within(x, -50.0, 50.0) for x in _captures(m))]
    inner = _held(m, operands, varying=True)
    count = input_value(0, start.type)
    again = make("less", (count, full((), m.random.randint(0, 4), int64))).result
    if m.random.random() < 0.3:
        judge = _held(m, operands, varying=True)
        again = make("bitwise_and", (again, _predicate(judge))).result
    carried = []
    for k, x in enumerate(operands[1:], 1):
        kept = m.random.random() < 0.2
        carried.append(input_value(k, x.type) if kept else _bounded(inner, inner.some(x.dtype, x.shape)))  # type: ignore[arg-type]
    step = make("add", (count, full((), 1, int64))).result
    cond, body = (Graph(tuple(inner.types), y, name) for y, name in (((again,), "cond"), ((step, *carried), "body")))
    try:
        return m.node(op, operands, cond=cond, body=body).results
    except GraphcError:  # a later turn leaves an op's domain: an index is out of range
        return None


def _scan(m: Maker, op: Op) -> Drawn:
    """Carried values that a held graph changes, a sequence and constants; some of what the graph makes is stacked."""
    sequence = m.pick(lambda v: bool(v.shape) and 0 < int(v.shape[0]) <= 8)
    if m.depth >= _DEPTH or sequence is None:
        return None
    rank = len(sequence.shape)
    first = {"start": (0,) * rank, "size": (1, *sequence.shape[1:]), "step": (1,) * rank}
    element = m.apply("reshape", (m.apply("slice", (sequence,), **first),), shape=sequence.shape[1:])
    carries = [m.within(x, -50.0, 50.0) for x in _captures(m)]
    constants = [x for x in _captures(m) if x not in carries]
    operands = [*carries, element, *constants]
    inner = _held(m, operands, varying=True)
    new = [_bounded(inner, inner.some(x.dtype, x.shape)) for x in carries]  # type: ignore[arg-type]
    stacked = inner.ends()[: m.random.randint(0, 2)]
    body = Graph(tuple(x.type for x in operands), (*new, *stacked), "body")
    attrs = {"carries": len(carries), "stacked": 1, "length": sequence.shape[0], "reverse": m.random.random() < 0.5}
    try:
        return m.node(op, (*carries, sequence, *constants), body=body, **attrs).results
    except GraphcError:  # a later turn leaves an op's domain: an index is out of range
        return None


def _bounded(m: Maker, x: Value) -> Value:
    """A float that stays moderate however often it is fed back."""
    if not x.dtype.is_float:
        return x
    limit = full(x.shape, 50.0, x.dtype)
    return m.apply("minimum", (m.apply("maximum", (x, m.apply("negative", (limit,)))), limit))


_STEPS: dict[str, Callable[[Maker, Op], Drawn]] = {
    # by kind
    "cumulative": _cumulative,
    "host": _linalg,
    "indexing": _indexing,
    "reduction": _reduction,
    "sorting": _sorting,
    # by name
    "barrier": _barrier,
    "broadcast": _broadcast,
    "composite": _composite,
    "concatenate": _concatenate,
    "cond": _cond,
    "constant": _constant,
    "convolution": _convolution,
    "debug_print": _debug_print,
    "dot": _dot,
    "host_call": _host_call,
    "iota": _iota,
    "pad": _pad,
    "pure_call": _pure_call,
    "random_bits": _random_bits,
    "resample": _resample,
    "reshape": _reshape,
    "scan": _scan,
    "slice": _slice,
    "stop_gradient": _copied,
    "transpose": _transpose,
    "while_loop": _while_loop,
    "windows": _windows,
    **dict.fromkeys(("window_max", "window_min", "window_sum"), _window_reduction),
}
