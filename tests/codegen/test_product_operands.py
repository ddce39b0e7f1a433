"""A product and what follows from it read one value, computed or converted: operands of products are in memory.

Each way to make a value, seen through each movement by each side of a product, whose result then meets the value itself.
Numbers are small integers, so that all results are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from graphc.dtypes import DType, bfloat16, complex64, complex128, float16, float32, float64, int8, int16, int64
from graphc.frontend.build import Options, compile_stages
from graphc.interp import evaluate
from graphc.ir.graph import Graph, Node, Value, input_value
from graphc.ir.op import Contraction, GraphBuilder, Movement
from graphc.ir.types import TensorType
from graphc.runtime.executable import Executable

b = GraphBuilder()
N = 5
SQUARE = (N, N)


def _row(h: Value) -> Value:
    return b.broadcast(b.slice(h, start=(2, 0), size=(1, N), step=(1, 1)), shape=SQUARE)


def _padded(h: Value) -> Value:
    zero = b.convert(input_value(3, TensorType(float32, ())), dtype=h.dtype)
    return b.slice(b.pad(h, zero, low=(1, 0), high=(0, 0)), start=(0, 0), size=SQUARE, step=(1, 1))


#: Ways to make a value of two inputs.
PRODUCERS: dict[str, Callable[[Value, Value], Value]] = {
    "an input": lambda x, y: x,
    "of two arrays": lambda x, y: x * y,
    "cheap": lambda x, y: x * x,
    "three operations": lambda x, y: x * y + x - y,
}
#: How the product sees it.
SEEN: dict[str, Callable[[Value], Value]] = {
    "itself": lambda h: h,
    "transposed": lambda h: b.transpose(h, perm=(1, 0)),
    "one row": _row,
    "with unit axes": lambda h: b.reshape(b.reshape(h, shape=(N, 1, N)), shape=SQUARE),
    "padded": _padded,
}
#: How what follows the product sees it.
AFTER: dict[str, Callable[[Value], Value]] = {
    "itself": lambda h: h,
    "one row": _row,
}
SIDES: dict[str, Callable[[Value, Value, Value], tuple[Value, Value]]] = {
    "left": lambda h, seen, w: (seen, w),
    "right": lambda h, seen, w: (w, seen),
    "both": lambda h, seen, w: (seen, h),
}
#: Dtypes of the inputs, and of the product.
DTYPES: list[tuple[DType, DType]] = [
    *((d, d) for d in (float32, float64, float16, bfloat16, complex64, complex128, int8, int16, int64)),
    (float16, float32),
    (bfloat16, float32),
    (float32, float64),
    (float32, complex64),
    (int8, float32),
]


def _graph(case: tuple[str, str, str, str], dtypes: tuple[DType, DType]) -> Graph:
    producer, seen, side, after = case
    given, used = dtypes
    types = (*(TensorType(given, SQUARE),) * 3, TensorType(float32, ()))
    x, y, w = (input_value(i, t) for i, t in enumerate(types[:3]))
    h, w = (v if given is used else b.convert(v, dtype=used) for v in (PRODUCERS[producer](x, y), w))
    left, right = SIDES[side](h, SEEN[seen](h), w)
    dot = b.dot(left, right, lhs_batch=(), rhs_batch=(), lhs_contract=(1,), rhs_contract=(0,))
    return Graph(types, (dot + AFTER[after](h),), "product")


def _agree(graph: Graph) -> None:
    numbers = np.random.default_rng(1)
    arrays = [numbers.integers(-2, 3, t.shape).astype(t.dtype.numpy) for t in graph.inputs]  # type: ignore[union-attr]
    compilation, compiled, _ = compile_stages(graph, {}, Options())
    for node in compilation.graph.nodes:
        if node.op.name == "fused":
            _check_products(node.attrs["body"])
    for found, expected in zip(Executable(compiled.artifact).run(arrays), evaluate(graph, arrays), strict=True):
        np.testing.assert_array_equal(np.asarray(found), expected)


def _check_products(body: Graph) -> None:
    """Movements of inputs are all that a product sees."""
    stack: list[Node] = [v.node for n in body.nodes if isinstance(n.op, Contraction) for v in n.operands]
    while stack:
        node = stack.pop()
        assert isinstance(node.op, Movement) or node.op.name == "input", node
        stack += [v.node for v in node.operands]


@pytest.mark.parametrize("producer", PRODUCERS)
@pytest.mark.parametrize("side", SIDES)
def test_value_is_read_by_product_and_epilogue(producer: str, side: str) -> None:
    chooser = np.random.default_rng(len(producer) * len(side))
    for seen, after in product(SEEN, AFTER):
        _agree(_graph((producer, seen, side, after), DTYPES[chooser.integers(len(DTYPES))]))


@pytest.mark.parametrize("dtypes", DTYPES, ids=lambda pair: f"{pair[0]}-{pair[1]}")
@pytest.mark.parametrize("seen", ("itself", "one row"))
def test_every_dtype(dtypes: tuple[DType, DType], seen: str) -> None:
    for producer in PRODUCERS:
        _agree(_graph((producer, seen, "left", "itself"), dtypes))
