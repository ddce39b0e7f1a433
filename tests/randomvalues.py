"""Values of a random graph that grows: what is known of each, and how a value is brought to a type, a domain or a shape.

A `Maker` evaluates each node as it is made, so that operands can be chosen by what they hold. Operands are brought to what an
op needs by explicit nodes (conversions, broadcasts, reshapes, squashing), which widens what is covered.
`tests/randomnodes.py` says how a node of each op is drawn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dtypes import DType, float32, float64
from graphc.ir.graph import Graph, Node, Value, constant, full, input_value, make
from graphc.ir.op import Composite, Contraction, Control, Op
from graphc.ir.types import TensorType, Type

__all__ = ["CONTRACTED", "DTYPES", "GREATEST", "LIMIT", "UNDRAWN_DTYPES", "Maker", "Shape"]

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

#: Dtypes that are not drawn, and why.
UNDRAWN_DTYPES: dict[DType, str] = dict.fromkeys(
    (d for d in dtypes.ALL if d.is_complex), "tests/shadow.py has no enclosures of complex numbers"
)
#: All others; those that most code computes in more often.
DTYPES = (float32, float64, float32, float64, *(d for d in dtypes.ALL if d not in UNDRAWN_DTYPES))
#: Elements of the greatest value.
LIMIT = 6000
#: Magnitudes above which a value is refused, so that later ones neither overflow nor drown.
GREATEST = 1e4
#: Exactly rounded ops on floats that compiled code may round once together with a neighbour, where contraction is allowed.
CONTRACTED = frozenset({"add", "subtract", "multiply", "square", "cumulative_sum", "cumulative_prod", "scatter_add"})

_SIZES = (1, 2, 3, 4, 5, 7, 8, 16, 17, 19, 33, 67)
#: Ops that give one value for all finite numbers.
_CONSTANT_HERE = ("isnan", "isinf", "isfinite")


class Maker:
    """Grows a graph. `data` has every value's elements; `used` the values that others are made from; `inexact` those that
    faithful evaluations may give a little differently, `unsure` those too that contraction may change."""

    def __init__(self, chooser: random.Random, numbers: np.random.Generator, sizes: Sequence[int], depth: int = 0):
        self.random = chooser
        self.numbers = numbers
        self.sizes = sizes
        self.depth = depth
        self.data: dict[Value, Array] = {}
        self.pool: list[Value] = []
        self.used: set[Value] = set()
        self.inexact: set[Value] = set()
        self.unsure: set[Value] = set()
        self.types: list[TensorType] = []
        self.token: Value | None = None
        self.ops: Sequence[Op] = ()

    @staticmethod
    def seeded(seed: int) -> Maker:
        """A maker that has some inputs."""
        chooser = random.Random(seed)
        sizes = [chooser.choice(_SIZES) for _ in range(3)]
        if chooser.random() < 0.08:
            sizes[chooser.randrange(3)] = 0
        maker = Maker(chooser, np.random.default_rng(seed), sizes)
        for _ in range(chooser.randint(2, 5)):
            maker.input(chooser.choice(DTYPES))
        return maker

    def nested(self, operands: Sequence[Value], *, varying: bool) -> Maker:
        """A maker for a graph that a node holds, with `operands` as inputs; `varying` if they differ from run to run."""
        inner = Maker(self.random, self.numbers, self.sizes, self.depth + 1)
        for k, x in enumerate(operands):
            value = input_value(k, x.type)
            inner.types.append(x.tensor)
            inner.data[value] = self.of(x)
            inner.pool.append(value)
            inner.inexact |= {value} if varying or x in self.inexact else set()
            inner.unsure |= {value} if varying or x in self.unsure else set()
        return inner

    # -- results --------------------------------------------------------------------------------------------------
    def graph(self, name: str = "random") -> Graph:
        """All that has been made: what nothing uses is an output; the last token comes last."""
        return Graph(tuple(self.types), (*self.ends(), *([] if self.token is None else [self.token])), name)

    def ends(self) -> tuple[Value, ...]:
        """What nothing uses."""
        return tuple(v for v in self.pool if v not in self.used) or (self.pool[-1],)

    def arguments(self) -> tuple[Array, ...]:
        """Elements of the inputs."""
        return tuple(self.data[input_value(i, t)] for i, t in enumerate(self.types))

    # -- values ---------------------------------------------------------------------------------------------------
    def shape(self) -> Shape:
        """A shape made of the graph's sizes."""
        a, b, c = self.sizes
        shapes = [(), (a,), (b,), (a, b), (a, b), (b, a), (a, b, c), (1, b), (a, 1), (c, a)]
        fitting = [s for s in shapes if np.prod(s, dtype=int) <= LIMIT]
        return self.random.choice(fitting)

    def elements(self, dtype: DType, shape: Shape) -> Array:
        """Random elements: of moderate size, but for integers of all sizes now and then."""
        if dtype.is_bool:
            return np.asarray(self.numbers.random(shape) < 0.5)
        if dtype.is_float:
            return np.asarray(self.numbers.normal(size=shape) * self.random.choice([0.5, 1.0, 3.0]), dtype.numpy)
        if self.random.random() < 0.2:
            info = np.iinfo(dtype.numpy)
            return np.asarray(self.numbers.integers(info.min, info.max, shape, dtype.numpy, endpoint=True))
        return np.asarray(self.numbers.integers(-9 if dtype.is_signed else 0, 20, shape), dtype.numpy)

    def input(self, dtype: DType, shape: Shape | None = None) -> Value:
        """A new input."""
        t = TensorType(dtype, self.shape() if shape is None else shape)
        value = input_value(len(self.types), t)
        self.types.append(t)
        self.data[value] = self.elements(dtype, t.shape)  # type: ignore[arg-type]
        self.pool.append(value)
        return value

    def apply(self, op: Op | str, operands: Sequence[Value], /, **attrs: Any) -> Value:
        """The one result of a new node."""
        (result,) = self.node(op, operands, **attrs).results
        return result

    def node(self, op: Op | str, operands: Sequence[Value], /, **attrs: Any) -> Node:
        """A node on values that are known already."""
        node = make(op, operands, **attrs)
        if node.results[0] not in self.data:
            given = [self.of(x) if isinstance(x.type, TensorType) else None for x in operands]
            self._keep(node, node.op.evaluate(given, node.attrs))
        self.used.update(operands)
        return node

    def of(self, value: Value) -> Array:
        """A value's elements; those of leaves that the builder made (constants, broadcasts of them) are found here."""
        if value not in self.data:
            node = value.node
            self._keep(node, node.op.evaluate([self.of(x) for x in node.operands], node.attrs))
        return self.data[value]

    def _keep(self, node: Node, results: Sequence[Any]) -> None:
        inexact = any(x in self.inexact for x in node.operands) or _rounds(node)
        unsure = any(x in self.unsure for x in node.operands) or inexact or node.op.name in CONTRACTED
        for value, found in zip(node.results, results, strict=True):
            if isinstance(value.type, TensorType):
                self.data[value] = np.ascontiguousarray(found).reshape(np.shape(found))
                self.inexact |= {value} if inexact else set()
                self.unsure |= {value} if unsure else set()

    def pick(self, accept: Callable[[Value], bool] = lambda v: True) -> Value | None:
        """A value of the pool, recent ones and unused ones first."""
        found = [v for v in self.pool if accept(v)]
        if not found:
            return None
        fresh = [v for v in found if v not in self.used]
        return self.random.choice(fresh if fresh and self.random.random() < 0.6 else found)

    def any(self) -> Value:
        """A value of any type."""
        found = self.pick()
        assert found is not None
        return found

    def some(self, dtype: DType, shape: Shape | None = None) -> Value:
        """A value of a dtype (and shape): from the pool, brought to the type from another value, or new."""
        exact = self.pick(lambda v: v.dtype is dtype and (shape is None or v.shape == shape))
        if exact is not None and self.random.random() < 0.75:
            return exact
        if self.random.random() < 0.1:
            return self.leaf(dtype, self.shape() if shape is None else shape)
        value = self.convert(self.any(), dtype)
        return value if shape is None else self.fit(value, shape)

    def leaf(self, dtype: DType, shape: Shape) -> Value:
        """A new constant, count or repeated number."""
        kind = self.random.randrange(3)
        if kind == 0 and shape and not dtype.is_bool:
            return self.apply("iota", (), shape=shape, axis=self.random.randrange(len(shape)), dtype=dtype)
        if kind == 1:
            return self.apply("constant", (), **constant(self.elements(dtype, shape)).node.attrs)
        number = self.random.choice([0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 0.1, 3.0])
        return full(shape, number if dtype.is_signed else abs(number), dtype)

    def convert(self, x: Value, dtype: DType) -> Value:
        """x in another dtype, of a size that this one has."""
        if x.dtype is dtype:
            return x
        if dtype.is_integer and x.dtype.is_float:
            x = self.within(x, -40.0 if dtype.is_signed else 0.0, 40.0)
        if dtype.is_float and x.dtype.is_integer and np.abs(self.of(x).astype(np.float64)).max(initial=0) > GREATEST:
            x = self.apply("remainder", (x, full(x.shape, 23, x.dtype)))
        return self.apply("convert", (x,), dtype=dtype)

    def within(self, x: Value, low: float, high: float) -> Value:
        """A float brought between two numbers, by exact ops, unless it is there already."""
        data = self.of(x)
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
            return self.leaf(x.dtype, shape)
        rank = len(shape)
        while len(x.shape) > rank:
            x = self.apply(name, (self.unsigned_zero(x),), axes=(self.random.randrange(len(x.shape)),))
        if not x.shape:
            return self.apply("broadcast", (x,), shape=shape)
        wanted = shape[rank - len(x.shape) :]
        size = tuple(min(a, b) if b else 0 for a, b in zip(x.shape, wanted, strict=True))  # type: ignore[type-var]
        size = tuple(s if s == b else min(s, 1) for s, b in zip(size, wanted, strict=True))  # type: ignore[type-var]
        start = tuple(self.random.randint(0, a - s) for a, s in zip(x.shape, size, strict=True))  # type: ignore[operator]
        x = self.apply("slice", (x,), start=start, size=size, step=(1,) * len(size))
        return x if x.shape == shape else self.apply("broadcast", (x,), shape=shape)

    def unsigned_zero(self, x: Value) -> Value:
        """x without negative zeros: of zeros with different signs, a maximum may give either."""
        return self.apply("add", (x, full(x.shape, 0.0, x.dtype))) if x.dtype.is_float else x

    # -- nodes ----------------------------------------------------------------------------------------------------
    def adopt(self, made: Sequence[Value]) -> bool:
        """Take new results into the pool, if they are new and worth it; helper nodes come into it, too, so that
        subexpressions are shared."""
        if any(v in self.pool for v in made) or not all(map(self._is_moderate, made)):
            return False
        if not any(map(self._is_varied, made)):
            return False
        self.pool += made
        for x in (x for v in made[:1] for x in v.node.operands if isinstance(x.type, TensorType)):
            if x not in self.pool and x.node.op.name not in ("input", "constant") and self.random.random() < 0.3:
                self.pool.append(x)
        return True

    def _is_moderate(self, value: Value) -> bool:
        data = self.of(value)
        if data.size > LIMIT or not value.dtype.is_float:
            return data.size <= LIMIT
        return bool(np.isfinite(data).all() and (np.abs(data) <= GREATEST).all())

    def _is_varied(self, value: Value) -> bool:
        """Whether the elements are not all one, which hides much; now and then that will do."""
        data = self.of(value)
        varying = data.size == 0 or (data != data.flat[0]).any() if data.ndim else True
        return bool(varying) or value.node.op.name in _CONSTANT_HERE or self.random.random() < 0.1


def _rounds(node: Node) -> bool:
    """Whether faithful evaluations may differ in this node."""
    if isinstance(node.op, (Control, Composite)):
        return True
    if not any(_is_float(v.type) for v in node.results):
        return False
    return not getattr(node.op, "exact", not isinstance(node.op, Contraction))


def _is_float(type_: Type) -> bool:
    return isinstance(type_, TensorType) and type_.dtype.is_float
