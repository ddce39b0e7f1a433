"""Random graphs differentiated: the graphs of cotangents and tangents are evaluated in every way there is, and compared.

With floats made float64, a tangent t and a cotangent c, the three numbers <c, J t> by forward mode, <J^T c, t> by reverse mode
and a central difference of <c, f> along t are one. A difference is only believed where one of half the step agrees with it,
for graphs have kinks and jumps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from differential import faults, report
from randomgraphs import DRAWN, RandomGraph, all_nodes, random_graph

from graphc.dtypes import DType, float64
from graphc.errors import GradientError, NoDerivativeError
from graphc.interp import evaluate
from graphc.ir.graph import Graph, Literal, Node, Value, constant, input_value, make, rebuild
from graphc.ir.types import TensorType
from graphc.passes.base import Pass
from graphc.passes.differentiate import Differentiate
from graphc.passes.linearize import Linearize

Array = np.ndarray[Any, Any]

#: Ops that are not drawn here, and why.
LEFT_OUT = {
    "custom_call": "its derivative is the user's rule, and a drawn one has none",
    **dict.fromkeys(
        ("pure_call", "host_call", "debug_print"), "functions of the user have no derivative unless he gives one"
    ),
}
SMOOTH = [op for op in DRAWN if op.name not in LEFT_OUT]
#: Ops whose derivative is not that of the function, and why.
DECLARED = {
    "stop_gradient": "0 by definition",
    **dict.fromkeys(("cholesky", "eigh", "eigvalsh"), "symmetric cotangents, whichever triangle is read"),
}

COUNT, NORMAL, CHUNK = 600, 40, 10


def _chunks(seeds: range) -> list[range]:
    return [seeds[k : k + CHUNK] for k in range(0, len(seeds), CHUNK)]


def _name(seeds: range) -> str:
    return f"{seeds.start}-{seeds.stop - 1}"


def smooth_graph(seed: int) -> RandomGraph | None:
    """A random graph that has a derivative, with floats at both ends."""
    made = random_graph(seed, SMOOTH)
    try:
        Differentiate().run(made.graph)
    except (GradientError, NoDerivativeError):  # no floats; a square factor of a matrix that is not square
        return None
    return made


def _directions(graph: Graph, count: int, seed: int) -> list[Array]:
    """Random values for the inputs of a graph after the first `count`."""
    numbers = np.random.default_rng(seed)
    return [np.asarray(numbers.normal(size=t.shape), t.dtype.numpy) for t in graph.inputs[count:]]  # type: ignore[union-attr]


def _check(seed: int, pass_: Pass, tmp_path: Path) -> None:
    made = smooth_graph(seed)
    if made is None:
        return
    graph = pass_.run(made.graph)
    arrays = [*made.arrays, *_directions(graph, len(made.arrays), seed)]
    found = faults(graph, arrays, pipelines=["unoptimised"])
    if found:
        pytest.fail(report(graph, arrays, found, tmp_path / f"{graph.name}.gir"))


both = pytest.mark.parametrize("pass_", [Differentiate(), Linearize()], ids=["reverse", "forward"])


@both
@pytest.mark.parametrize("seeds", _chunks(range(NORMAL)), ids=_name)
def test_derivatives_are_evaluated_alike(seeds: range, pass_: Pass, tmp_path: Path) -> None:
    for seed in seeds:
        _check(seed, pass_, tmp_path)


@pytest.mark.slow
@both
@pytest.mark.parametrize("seeds", _chunks(range(NORMAL, COUNT)), ids=_name)
def test_more_derivatives_are_evaluated_alike(seeds: range, pass_: Pass, tmp_path: Path) -> None:
    for seed in seeds:
        _check(seed, pass_, tmp_path)


# -- forward, reverse, difference -------------------------------------------------------------------------------------


def in_float64(graph: Graph) -> Graph:
    """The graph with all floats in float64."""

    def wide(dtype: DType) -> DType:
        return float64 if dtype.is_float else dtype

    def visit(node: Node, operands: tuple[Value, ...]) -> Sequence[Value]:
        attrs = {name: _widened(a, wide) for name, a in node.attrs.items()}
        if node.op.name == "constant":
            literal: Literal = attrs["value"]
            return [constant(literal.array.astype(wide(literal.type.dtype).numpy))]
        if node.op.name == "random_bits" or not any(isinstance(a, DType) for a in attrs.values()):
            attrs = {**attrs, **{k: a for k, a in node.attrs.items() if isinstance(a, DType)}}
        results = make(node.op, operands, **attrs).results
        return [_converted(y, wide(old.dtype)) for y, old in zip(results, node.results, strict=True)]

    inputs = tuple(TensorType(wide(t.dtype), t.shape) for t in graph.inputs)  # type: ignore[union-attr]
    return rebuild(graph, visit, inputs=inputs, input_values=[input_value(k, t) for k, t in enumerate(inputs)])


def _widened(attribute: Any, wide: Callable[[DType], DType]) -> Any:
    if isinstance(attribute, Graph):
        return in_float64(attribute)
    return wide(attribute) if isinstance(attribute, DType) else attribute


def _converted(x: Value, dtype: DType) -> Value:
    return x if x.dtype is dtype else make("convert", (x,), dtype=dtype).result


def _dot(xs: Sequence[Array], ys: Sequence[Array]) -> tuple[float, float]:
    """The sum of products over some pairs of arrays, and of the products' sizes."""
    products = [x.astype(np.float64) * y for x, y in zip(xs, ys, strict=True)]
    return sum(float(p.sum()) for p in products), sum(float(np.abs(p).sum()) for p in products)


def _floats(arrays: Sequence[Array]) -> list[Array]:
    return [x for x in arrays if np.asarray(x).dtype == np.float64]


def three_ways(seed: int) -> tuple[float, float, float | None, float] | None:
    """Forward, reverse, difference (None if it cannot be believed), and the size of what is summed; None where not finite."""
    made = smooth_graph(seed)
    if made is None:
        return None
    graph = in_float64(made.graph)
    arrays = [x.astype(t.dtype.numpy) for x, t in zip(made.arrays, graph.inputs, strict=True)]  # type: ignore[union-attr]
    forward, reverse = Linearize().run(graph), Differentiate().run(graph)
    tangents, cotangents = (_directions(g, len(arrays), seed) for g in (forward, reverse))
    with np.errstate(all="ignore"):
        pushed = evaluate(forward, [*arrays, *tangents])[len(graph.outputs) :]
        pulled = evaluate(reverse, [*arrays, *cotangents])
        (by_forward, size), (by_reverse, other) = _dot(cotangents, pushed), _dot(pulled, tangents)
        steps = [_difference(graph, arrays, tangents, cotangents, h) for h in (1e-6, 5e-7)]
    size = max(size, other, 1e-3)
    if not np.isfinite([by_forward, by_reverse]).all():
        return None
    believed = not any(n.op.name in DECLARED for n in all_nodes(graph)) and np.isfinite(steps).all()
    believed = believed and abs(steps[0] - steps[1]) <= 1e-5 * size
    return by_forward, by_reverse, steps[1] if believed else None, size


def _difference(
    graph: Graph, arrays: Sequence[Array], tangents: Sequence[Array], cotangents: Sequence[Array], h: float
) -> float:
    sides = []
    for step in (h, -h):
        given = iter(tangents)
        moved = [x + step * next(given) if x.dtype == np.float64 else x for x in arrays]
        sides.append(_dot(cotangents, _floats(evaluate(graph, moved)))[0])
    return (sides[0] - sides[1]) / (2 * h)


@pytest.mark.parametrize(
    "seeds", [range(NORMAL), pytest.param(range(NORMAL, COUNT), marks=pytest.mark.slow)], ids=_name
)
def test_forward_reverse_and_difference_are_one(seeds: range) -> None:
    found = {seed: three_ways(seed) for seed in seeds}
    known = {seed: f for seed, f in found.items() if f is not None}
    assert len(known) >= 0.6 * len(seeds)
    wrong = {seed: f for seed, f in known.items() if abs(f[0] - f[1]) > 1e-8 * f[3]}
    assert not wrong, f"forward and reverse mode: {wrong}"
    differing = {seed: f for seed, f in known.items() if f[2] is not None and abs(f[0] - f[2]) > 1e-4 * f[3]}
    assert not differing, f"derivatives and differences: {differing}"
    assert sum(f[2] is not None for f in known.values()) >= 0.6 * len(known)
