"""Seeded random graphs over all ops and dtypes, together with arguments on which they are well behaved.

`random_graph(seed)` builds 10 to 40 nodes, evaluating each as it goes: a node is kept only if its values are finite and of
moderate size and, mostly, not all equal. Operands are brought to the types and domains that an op needs by explicit nodes
(conversions, broadcasts, reshapes, squashing), which widens what is covered. Every value that nothing uses is an output,
and some that are used are outputs as well.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import graphc.ops  # noqa: F401  fills the registry
from graphc import dtypes
from graphc.dtypes import (
    DType,
    bfloat16,
    bool_,
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
from graphc.ir import registry
from graphc.ir.graph import Graph, Literal, Value, constant, full, input_value, make
from graphc.ir.op import Contraction, Elementwise, GraphBuilder, Op, Reduction
from graphc.ir.types import TensorType

__all__ = ["DRAWN", "RandomGraph", "random_graph"]

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

B = GraphBuilder()

#: Ops that are not drawn: leaves are made as operands are needed; the others have no kernels, or are made by fusion.
_NOT_DRAWN = {"input", "fused", "cond", "while_loop", "host_call", "debug_print", "create_token"}
#: Ops for which `shadow.py` has no enclosure: tests/test_registry_compiled.py runs them one by one.
_NOT_DRAWN |= {"fmod", "nextafter", "sort", "linear_recurrence", "scatter_set", "scatter_max", "scatter_min"}
_NOT_DRAWN |= {"scatter_multiply", *(op.name for op in registry.all_ops() if op.kind == "cumulative")}
_NOT_DRAWN |= {op.name for op in registry.all_ops() if op.kind == "host" and op.name != "pure_call"}
DRAWN: tuple[Op, ...] = tuple(op for op in registry.all_ops() if op.name not in _NOT_DRAWN)
#: Ops that move and combine elements are drawn more often than those that work on each by itself.
_WEIGHTS = [{"contraction": 6, "reduction": 3, "movement": 2, "indexing": 2}.get(op.kind, 1) for op in DRAWN]

_SIZES = (1, 2, 3, 4, 5, 7, 8, 16, 17, 19, 33, 67)
_DTYPES = (*(float32, float64) * 2, int32, int64, uint32, uint64, bool_, int8, int16, uint8, uint16, float16, bfloat16)
#: Ops that give one value for all finite numbers.
_CONSTANT_HERE = ("isnan", "isinf", "isfinite")
#: Elements of the greatest value.
_LIMIT = 6000
#: Magnitudes above which a value is refused, so that later ones neither overflow nor drown.
_GREATEST = 1e4

#: Where an op is defined and of moderate size, per operand.
_DOMAINS: Mapping[str, tuple[tuple[float, float], ...]] = {
    **{op.name: op.domain for op in DRAWN if isinstance(op, Elementwise) and op.domain},
    **dict.fromkeys(("exp", "exp2", "expm1", "sinh", "cosh"), ((-4.0, 4.0),)),
    **dict.fromkeys(("sin", "cos"), ((-50.0, 50.0),)),
    **dict.fromkeys(("tanh", "erf", "erfc", "sigmoid"), ((-4.0, 4.0),)),
    "multiply": ((-60.0, 60.0), (-60.0, 60.0)),
    "square": ((-60.0, 60.0),),
    "scale_shift": ((-60.0, 60.0), (-60.0, 60.0), (-60.0, 60.0)),
    "atan2": ((-60.0, 60.0), (0.2, 60.0)),
    "floor_divide": ((-60.0, 60.0), (0.7, 1.9)),
    "remainder": ((-60.0, 60.0), (0.7, 1.9)),
}


@dataclass(frozen=True)
class RandomGraph:
    """A graph and arguments for it."""

    seed: int
    graph: Graph
    arrays: tuple[Array, ...]

    def coverage(self) -> Counter[tuple[str, str]]:
        """How often each op occurs with each dtype (of its first operand, or else its result)."""
        found: Counter[tuple[str, str]] = Counter()
        for node in self.graph.nodes:
            typed = node.operands[0] if node.operands else node.results[0]
            found[node.op.name, typed.dtype.name] += 1
        return found


def random_graph(seed: int) -> RandomGraph:
    """The random graph of a seed; the same on every run and machine."""
    maker = _Maker(seed)
    target = maker.random.randint(10, 40)
    for _ in range(20 * target):
        maker.step()
        if len(maker.graph().nodes) >= target:
            break
    return maker.finish()


class _Maker:
    """Grows a graph. `data` has every value's elements; `used` the values that others are made from."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.data: dict[Value, Array] = {}
        self.pool: list[Value] = []
        self.used: set[Value] = set()
        self.inexact: set[Value] = set()
        self.types: list[TensorType] = []
        sizes = [self.random.choice(_SIZES) for _ in range(3)]
        if self.random.random() < 0.08:
            sizes[self.random.randrange(3)] = 0
        self.sizes = sizes
        for _ in range(self.random.randint(2, 5)):
            self._input(self.random.choice(_DTYPES))

    # -- results --------------------------------------------------------------------------------------------------
    def graph(self) -> Graph:
        ends = [v for v in self.pool if v not in self.used]
        return Graph(tuple(self.types), tuple(ends), f"random{self.seed}")

    def finish(self) -> RandomGraph:
        graph = self.graph()
        inner = [v for v in self.pool if v in self.used and v.node.op.name != "input"]
        more = self.random.sample(inner, min(len(inner), self.random.randint(0, 2)))
        outputs = (*graph.outputs, *more)
        arrays = tuple(self.data[input_value(i, t)] for i, t in enumerate(self.types))
        return RandomGraph(self.seed, Graph(graph.inputs, outputs, graph.name), arrays)

    # -- values ---------------------------------------------------------------------------------------------------
    def _shape(self) -> Shape:
        a, b, c = self.sizes
        shapes = [(), (a,), (b,), (a, b), (a, b), (b, a), (a, b, c), (1, b), (a, 1), (c, a)]
        fitting = [s for s in shapes if np.prod(s, dtype=int) <= _LIMIT]
        return self.random.choice(fitting)

    def _elements(self, dtype: DType, shape: Shape) -> Array:
        if dtype.is_bool:
            return np.asarray(self.numbers.random(shape) < 0.5)
        if dtype.is_float:
            return np.asarray(self.numbers.normal(size=shape) * self.random.choice([0.5, 1.0, 3.0]), dtype.numpy)
        if self.random.random() < 0.2:
            info = np.iinfo(dtype.numpy)
            return np.asarray(self.numbers.integers(info.min, info.max, shape, dtype.numpy, endpoint=True))
        return np.asarray(self.numbers.integers(-9 if dtype.is_signed else 0, 20, shape), dtype.numpy)

    def _input(self, dtype: DType, shape: Shape | None = None) -> Value:
        t = TensorType(dtype, self._shape() if shape is None else shape)
        value = input_value(len(self.types), t)
        self.types.append(t)
        self.data[value] = self._elements(dtype, t.shape)
        self.pool.append(value)
        return value

    def apply(self, op: Op | str, operands: Sequence[Value], /, **attrs: Any) -> Value:
        """A node on values that are known already."""
        node = make(op, operands, **attrs)
        value = node.result
        if value not in self.data:
            (result,) = node.op.evaluate([self._of(x) for x in operands], node.attrs)
            self.data[value] = np.ascontiguousarray(result).reshape(np.shape(result))
            exact = not isinstance(node.op, (Elementwise, Reduction, Contraction)) or getattr(node.op, "exact", False)
            if any(x in self.inexact for x in operands) or (not exact and value.dtype.is_float):
                self.inexact.add(value)
        self.used.update(operands)
        return value

    def _of(self, value: Value) -> Array:
        """A value's elements; those of leaves that the builder made (constants, broadcasts of them) are found here."""
        if value not in self.data:
            (result,) = value.node.op.evaluate([self._of(x) for x in value.node.operands], value.node.attrs)
            self.data[value] = np.array(result)
            if any(x in self.inexact for x in value.node.operands):
                self.inexact.add(value)
        return self.data[value]

    def _pick(self, accept: Callable[[Value], bool]) -> Value | None:
        """A value of the pool, recent ones and unused ones first."""
        found = [v for v in self.pool if accept(v)]
        if not found:
            return None
        fresh = [v for v in found if v not in self.used]
        return self.random.choice(fresh if fresh and self.random.random() < 0.6 else found)

    def some(self, dtype: DType, shape: Shape | None = None) -> Value:
        """A value of a dtype (and shape): from the pool, brought to the type from another value, or new."""
        exact = self._pick(lambda v: v.dtype is dtype and (shape is None or v.shape == shape))
        if exact is not None and self.random.random() < 0.75:
            return exact
        if self.random.random() < 0.1:
            return self._leaf(dtype, self._shape() if shape is None else shape)
        other = self._pick(lambda v: True)
        assert other is not None
        value = self.convert(other, dtype)
        return value if shape is None else self.fit(value, shape)

    def _leaf(self, dtype: DType, shape: Shape) -> Value:
        kind = self.random.randrange(3)
        if kind == 0 and shape and not dtype.is_bool:
            return self.apply("iota", (), shape=shape, axis=self.random.randrange(len(shape)), dtype=dtype)
        if kind == 1:
            return self.apply("constant", (), **constant(self._elements(dtype, shape)).node.attrs)
        number = self.random.choice([0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 0.1, 3.0])
        return full(shape, abs(number) if not dtype.is_signed else number, dtype)

    def convert(self, x: Value, dtype: DType) -> Value:
        if x.dtype is dtype:
            return x
        if dtype.is_integer and x.dtype.is_float:
            x = self.within(x, 0.0 if not dtype.is_signed else -40.0, 40.0)
        if dtype.is_float and x.dtype.is_integer and np.abs(self._of(x).astype(np.float64)).max(initial=0) > _GREATEST:
            x = self.apply("remainder", (x, full(x.shape, 23, x.dtype)))
        return self.apply("convert", (x,), dtype=dtype)

    def within(self, x: Value, low: float, high: float) -> Value:
        """A float brought between two numbers, by exact ops, unless it is there already."""
        data = self._of(x)
        if not x.dtype.is_float or not data.size or (data.min() >= low and data.max() <= high):
            return x
        if low >= 0 and data.max() <= high and -data.min() <= high and np.abs(data).min() >= low:
            return self.apply("absolute", (x,))
        size = self.apply("add", (self.apply("absolute", (x,)), full(x.shape, 1.0, x.dtype)))
        unit = self.apply("divide", (x, size))
        scaled = self.apply("multiply", (unit, full(x.shape, (high - low) / 2, x.dtype)))
        return self.apply("add", (scaled, full(x.shape, (high + low) / 2, x.dtype)))

    def fit(self, x: Value, shape: Shape) -> Value:
        """Elements of x in another shape: by reshape, transpose, broadcast, reduction or slice."""
        if x.shape == shape:
            return x
        if x.shape and tuple(reversed(x.shape)) == shape:
            return self.apply("transpose", (x,), perm=tuple(reversed(range(len(shape)))))
        if x.tensor.size == np.prod(shape, dtype=int):
            return self.apply("reshape", (x,), shape=shape)
        if len(x.shape) <= len(shape) and all(
            a in (1, b) for a, b in zip(reversed(x.shape), reversed(shape), strict=False)
        ):
            return self.apply("broadcast", (x,), shape=shape)
        name = "any" if x.dtype.is_bool else "max"
        if x.shape and 0 in x.shape:
            return self._leaf(x.dtype, shape)
        rank = len(shape)
        while len(x.shape) > rank:
            x = self.apply(name, (self.unsigned_zero(x),), axes=(self.random.randrange(len(x.shape)),))
        if not x.shape:
            return self.apply("broadcast", (x,), shape=shape)
        wanted = shape[rank - len(x.shape) :]
        size = tuple(min(a, b) if b else 0 for a, b in zip(x.shape, wanted, strict=True))
        size = tuple(s if s == b else min(s, 1) for s, b in zip(size, wanted, strict=True))
        start = tuple(self.random.randint(0, a - s) for a, s in zip(x.shape, size, strict=True))
        x = self.apply("slice", (x,), start=start, size=size, step=(1,) * len(size))
        return x if x.shape == shape else self.apply("broadcast", (x,), shape=shape)

    def unsigned_zero(self, x: Value) -> Value:
        """x without negative zeros: of zeros with different signs, a maximum may give either."""
        return self.apply("add", (x, full(x.shape, 0.0, x.dtype))) if x.dtype.is_float else x

    # -- nodes ----------------------------------------------------------------------------------------------------
    def step(self) -> None:
        """Try, a few times, to add one node of an op drawn from all."""
        (op,) = self.random.choices(DRAWN, _WEIGHTS)
        for _ in range(4):
            saved = set(self.used)
            made = _STEPS.get(op.name, _STEPS.get(op.kind, _Maker._elementwise))(self, op)
            if made is not None and made not in self.pool and self._is_fine(made):
                self.pool.append(made)
                self._adopt(made)
                return
            self.used = saved

    def _adopt(self, made: Value) -> None:
        """Helper nodes come into the pool, too, so that subexpressions are shared."""
        for x in made.node.operands:
            if x not in self.pool and x.node.op.name not in ("input", "constant") and self.random.random() < 0.3:
                self.pool.append(x)

    def _is_fine(self, value: Value) -> bool:
        data = self._of(value)
        if data.size > _LIMIT or (value.dtype.is_float and not np.isfinite(data).all()):
            return False
        if value.dtype.is_float and data.size and np.abs(data).max() > _GREATEST:
            return False
        varying = data.size == 0 or (data != data.flat[0]).any() if data.ndim else True
        return bool(varying) or value.node.op.name in _CONSTANT_HERE or self.random.random() < 0.1

    def _elementwise(self, op: Op) -> Value | None:
        assert isinstance(op, Elementwise)
        attrs = {"dtype": self.random.choice(dtypes.ALL)} if op.name == "convert" else {}
        accepted = []
        for combination in itertools.product(set(_DTYPES), repeat=op.arity):
            try:
                op.types(*combination, **attrs)
            except DTypeError:
                continue
            accepted.append(combination)
        accepted.sort(key=str)
        combination = self.random.choice(accepted)
        first = self.some(combination[-1])
        operands = [self.some(d, first.shape) for d in combination[:-1]] + [first]
        domains = _DOMAINS.get(op.name, ((-_GREATEST, _GREATEST),) * op.arity)
        if op.name == "convert" and operands[0].dtype.is_float:
            domains = ((0.0, 100.0),)
        operands = [self.within(x, *domain) for x, domain in zip(operands, domains, strict=True)]
        return self.apply(op, operands, **attrs)

    def _transpose(self, op: Op) -> Value | None:
        x = self._pick(lambda v: len(v.shape) > 1)
        if x is None:
            return None
        perm = list(range(len(x.shape)))
        self.random.shuffle(perm)
        return self.apply(op, (x,), perm=tuple(perm))

    def _reshape(self, op: Op) -> Value | None:
        x = self._any()
        shapes: list[Shape] = [(x.tensor.size,), (1, *x.shape), (*x.shape, 1)]  # type: ignore[list-item]
        size = int(np.prod(x.shape, dtype=int))
        shapes += [(k, size // k) for k in range(2, 9) if size and size % k == 0]
        if len(x.shape) == 3:
            shapes.append((x.shape[0] * x.shape[1], x.shape[2]))  # type: ignore[arg-type]
        return self.apply(op, (x,), shape=self.random.choice(shapes))

    def _broadcast(self, op: Op) -> Value | None:
        x = self._pick(lambda v: len(v.shape) < 3)
        if x is None:
            return None
        return self.apply(op, (x,), shape=(self.random.choice(self.sizes), *x.shape))

    def _slice(self, op: Op) -> Value | None:
        x = self._pick(lambda v: bool(v.shape))
        if x is None:
            return None
        start, size, step = [], [], []
        for n in x.shape:
            assert isinstance(n, int)
            first, last = (self.random.randrange(n) if n else 0 for _ in range(2))
            stride = self.random.choice([1, 1, 2, 3])
            count = abs(last - first) // stride + 1 if n else 0
            start.append(first)
            size.append(count)
            step.append(stride if last >= first else -stride)
        return self.apply(op, (x,), start=tuple(start), size=tuple(size), step=tuple(step))

    def _pad(self, op: Op) -> Value | None:
        x = self._any()
        low, high = (tuple(self.random.choice([0, 1, 3]) for _ in x.shape) for _ in range(2))
        return self.apply(op, (x, self.some(x.dtype, ())), low=low, high=high)

    def _concatenate(self, op: Op) -> Value | None:
        x = self._pick(lambda v: bool(v.shape))
        if x is None:
            return None
        axis = self.random.randrange(len(x.shape))
        parts = [x]
        for _ in range(self.random.randint(1, 2)):
            shape = (*x.shape[:axis], self.random.choice(self.sizes), *x.shape[axis + 1 :])
            parts.append(self.some(x.dtype, shape))  # type: ignore[arg-type]
        self.random.shuffle(parts)
        return self.apply(op, parts, axis=axis)

    def _reduction(self, op: Op) -> Value | None:
        assert isinstance(op, Reduction)
        allowed = [d for d in _DTYPES if _accepts(op, d)]
        x = self.some(self.random.choice(allowed))
        if not x.shape:
            return None
        count = 1 if op.arg else self.random.randint(1, len(x.shape))
        axes = tuple(sorted(self.random.sample(range(len(x.shape)), count)))
        if not op.empty and any(x.shape[a] == 0 for a in axes):
            return None
        if op.name in ("max", "min"):
            x = self.unsigned_zero(x)
        if op.name == "prod":
            x = self.within(x, 0.7, 1.3)
        return self.apply(op, (x,), axes=axes)

    def _dot(self, op: Op) -> Value | None:
        dtype = self.random.choice([float32, float64, float32, float64, int32, int64, uint32, uint64])
        x = self.within(self.some(dtype), -10.0, 10.0)
        if not x.shape:
            return None
        contract = self.random.randrange(len(x.shape))
        batched = len(x.shape) == 3 and self.random.random() < 0.5
        batch = self.random.choice([k for k in range(3) if k != contract]) if batched else None
        width = self.random.choice(self.sizes)
        shape: list[Any] = [x.shape[contract], width] if self.random.random() < 0.8 else [x.shape[contract]]
        order = self.random.random() < 0.5
        if order:
            shape.reverse()
        inner = len(shape) - 1 if order else 0
        if batch is not None:
            shape.insert(0, x.shape[batch])
            inner += 1
        y = self.within(self.some(dtype, tuple(shape)), -10.0, 10.0)
        numbers = ((batch,), (0,)) if batch is not None else ((), ())
        pair = (x, y)
        if self.random.random() < 0.3 and batch is None:
            return self.apply(op, (y, x), lhs_batch=(), rhs_batch=(), lhs_contract=(inner,), rhs_contract=(contract,))
        return self.apply(
            op, pair, lhs_batch=numbers[0], rhs_batch=numbers[1], lhs_contract=(contract,), rhs_contract=(inner,)
        )

    def _windows(self, op: Op) -> Value | None:
        x = self._pick(lambda v: bool(v.shape) and v.tensor.size * 3 <= _LIMIT)  # type: ignore[operator]
        if x is None:
            return None
        axis = self.random.randrange(len(x.shape))
        return self.apply(op, (x,), axis=axis, size=self.random.choice([1, 2, 3]), **self._pace())

    def _pace(self) -> dict[str, int]:
        return {"step": self.random.choice([1, 1, 2, 3]), "dilation": self.random.choice([1, 1, 2])}

    def _window_extremum(self, op: Op) -> Value | None:
        x = self._pick(lambda v: bool(v.shape) and not v.dtype.is_bool)
        if x is None:
            return None
        axes = sorted(self.random.sample(range(len(x.shape)), self.random.randint(1, min(2, len(x.shape)))))
        paces = [self._pace() for _ in axes]
        attrs = {
            "axes": tuple(axes),
            "sizes": tuple(self.random.choice([1, 2, 3]) for _ in axes),
            "steps": tuple(p["step"] for p in paces),
            "dilations": tuple(p["dilation"] for p in paces),
        }
        return self.apply(op, (self.unsigned_zero(x),), **attrs)

    def _resample(self, op: Op) -> Value | None:
        x = self.some(self.random.choice([float32, float64]))
        if not x.shape or 0 in x.shape:
            return None
        axis = self.random.randrange(len(x.shape))
        terms, size = self.random.choice([1, 2, 4, 30]), self.random.choice([1, 3, 8, 19])
        places = [[self.random.randrange(int(x.shape[axis])) for _ in range(size)] for _ in range(terms)]  # type: ignore[arg-type]
        weights = [[self.random.uniform(-1, 1) for _ in range(size)] for _ in range(terms)]
        return self.apply(op, (x,), axis=axis, places=Literal(np.array(places)), weights=Literal(np.array(weights)))

    def _convolution(self, op: Op) -> Value | None:
        dtype = self.random.choice([float32, float64, int32, int64])
        rank = self.random.choice([1, 2])
        groups = self.random.choice([1, 1, 2, 3])
        channels = groups * self.random.choice([1, 2])
        x_shape = (self.random.choice([1, 2]), channels, *(self.random.choice([4, 5, 9, 17]) for _ in range(rank)))
        w_shape = (groups * self.random.choice([1, 3]), channels // groups)
        w_shape += tuple(self.random.choice([1, 2, 3]) for _ in range(rank))
        operands = [self.within(self.some(dtype, shape), -4.0, 4.0) for shape in (x_shape, w_shape)]
        attrs = {
            "strides": tuple(self.random.choice([1, 1, 2]) for _ in range(rank)),
            "padding": tuple((self.random.choice([0, 1, 2, -1]), self.random.choice([0, 1])) for _ in range(rank)),
            "input_dilation": tuple(self.random.choice([1, 1, 2]) for _ in range(rank)),
            "kernel_dilation": tuple(self.random.choice([1, 1, 2]) for _ in range(rank)),
        }
        return self.apply(op, operands, groups=groups, **attrs)

    def _indices(self, size: int) -> tuple[Value, str] | None:
        """Indices and a mode that is legal for them, also if everything inexact came out a little different."""
        indices = self.some(self.random.choice([int32, int64, uint32, uint64]))
        if len(indices.shape) > 2 or np.prod(indices.shape, dtype=int) > 100:
            indices = self.fit(indices, (self.random.choice(self.sizes),))
        if indices in self.inexact or self.random.random() < 0.4:
            return indices, self.random.choice(["wrap", "clip"])
        if self.random.random() < 0.5:
            indices = self.apply("remainder", (indices, full(indices.shape, size, indices.dtype)))
        data = self._of(indices)
        low, high = (int(data.min()), int(data.max())) if data.size else (0, 0)
        return indices, "raise" if -size <= low and high < size else "wrap"

    def _take(self, op: Op) -> Value | None:
        x = self._pick(lambda v: bool(v.shape) and 0 not in v.shape)
        if x is None:
            return None
        axis = self.random.randrange(len(x.shape))
        found = self._indices(int(x.shape[axis]))  # type: ignore[arg-type]
        return None if found is None else self.apply(op, (x, found[0]), axis=axis, mode=found[1])

    def _scatter_add(self, op: Op) -> Value | None:
        x = self._pick(lambda v: bool(v.shape) and 0 not in v.shape and not v.dtype.is_bool)
        if x is None:
            return None
        axis = self.random.randrange(len(x.shape))
        found = self._indices(int(x.shape[axis]))  # type: ignore[arg-type]
        if found is None:
            return None
        shape = (*x.shape[:axis], *found[0].shape, *x.shape[axis + 1 :])
        if np.prod(shape, dtype=int) > _LIMIT:
            return None
        updates = self.within(self.some(x.dtype, shape), -50.0, 50.0)  # type: ignore[arg-type]
        return self.apply(op, (x, found[0], updates), axis=axis, mode=found[1])

    def _random_bits(self, op: Op) -> Value | None:
        key = self.some(uint32, (self.random.choice([2, 4]),))
        return self.apply(op, (key,), shape=self._shape(), dtype=self.random.choice([uint32, uint64]))

    def _iota(self, op: Op) -> Value | None:
        shape = self._shape() or (5,)
        dtype = self.random.choice([d for d in _DTYPES if not d.is_bool])
        return self.apply(op, (), shape=shape, axis=self.random.randrange(len(shape)), dtype=dtype)

    def _constant(self, op: Op) -> Value | None:
        return self.apply(op, (), **constant(self._elements(self.random.choice(_DTYPES), self._shape())).node.attrs)

    def _barrier(self, op: Op) -> Value | None:
        return self.apply(op, (self._any(),), instance=self.random.randrange(3))

    def _stop_gradient(self, op: Op) -> Value | None:
        return self.apply(op, (self._any(),))

    def _pure_call(self, op: Op) -> Value | None:
        x = self._any()
        return self.apply(op, (x,), function="numpy:copy", types=(x.tensor,))

    def _composite(self, op: Op) -> Value | None:
        x = self.within(self.some(self.random.choice([float32, float64])), -8.0, 8.0)
        if not x.shape or 0 in x.shape:
            return None
        (inner,) = (input_value(0, x.type),)
        last = len(x.shape) - 1
        e = B.exp(inner)
        total = B.broadcast(B.reshape(B.sum(e, axes=(last,)), shape=(*x.shape[:-1], 1)), shape=x.shape)
        body = Graph((x.type,), (B.divide(e, total),), "softmax")
        made = self.apply(op, (x,), body=body, label="softmax")
        self.inexact.add(made)
        return made

    def _any(self) -> Value:
        found = self._pick(lambda v: True)
        assert found is not None
        return found


def _accepts(op: Reduction, dtype: DType) -> bool:
    try:
        op.types(dtype)
    except DTypeError:
        return False
    return True


_STEPS: dict[str, Callable[[_Maker, Op], Value | None]] = {
    name: getattr(_Maker, f"_{name}")
    for name in (
        *("transpose", "reshape", "broadcast", "slice", "pad", "concatenate", "reduction", "dot", "take"),
        *("scatter_add", "random_bits", "iota", "constant", "barrier", "composite", "pure_call", "windows"),
        *("convolution", "resample", "stop_gradient"),
    )
}
_STEPS.update(dict.fromkeys(("window_max", "window_min", "window_sum"), _Maker._window_extremum))
