"""The text form: exact round trips, and errors that point at the place."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Callable
from pathlib import Path

import graphs
import numpy as np
import pytest

from graphc import dtypes
from graphc.errors import ParseError, VerifyError
from graphc.ir import dims
from graphc.ir.graph import Attribute, Graph, Literal, Node, attribute_key, constant, make
from graphc.ir.location import CodeLocation, FileLocation
from graphc.ir.parser import load, parse
from graphc.ir.printer import large_literals, save, side_file, to_text
from graphc.ir.registry import get
from graphc.ir.types import TOKEN, TensorType

BY_NAME = {g.name: g for g in graphs.named()}


@pytest.mark.parametrize("graph", BY_NAME.values(), ids=BY_NAME)
def test_round_trip(graph: Graph, golden: Callable[[str], None]) -> None:
    text = to_text(graph)
    golden(text)
    again = parse(text)
    assert again.same_as(graph)
    assert again.name == graph.name
    assert to_text(again) == text


@pytest.mark.parametrize("seed", range(30))
def test_random_round_trip(seed: int) -> None:
    graph = graphs.random_graph(seed)
    text = to_text(graph)
    assert parse(text).same_as(graph)
    assert parse(to_text(graph, locations=False, names=False)).same_as(graph)


def test_names_and_locations_come_back() -> None:
    graph = graphs.dense()
    again = parse(to_text(graph))
    assert again.names == graph.names
    assert again.locations == graph.locations


def test_traced_locations_print_as_file_and_line() -> None:
    code = test_traced_locations_print_as_file_and_line.__code__
    graph = graphs.dense()
    where = {graph.outputs[0].node: (CodeLocation(code, 0), CodeLocation(code, 0))}
    text = to_text(Graph(graph.inputs, graph.outputs, locations=where))
    assert text.count(f"# {code.co_filename}:") == 1
    (found,) = parse(text).locations.values()
    assert found == (FileLocation(code.co_filename, CodeLocation(code, 0).line),)


def test_canonical_text_has_neither_names_nor_locations() -> None:
    graph = graphs.dense()
    other = Graph(graph.inputs, graph.outputs, "other", ("a", "b", "c"))
    assert to_text(graph) != to_text(other)
    assert to_text(graph, names=False, locations=False) == to_text(other, names=False, locations=False)


ATTRIBUTES: list[Attribute] = [
    *[0, 1, -7, 2**70, True, False, None, "", 'text "with" \\ and \n and é', ()],
    *[0.0, -0.0, 1.0, 0.1, 1e300, 5e-324, math.inf, -math.inf, math.nan, -math.nan],
    struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000001))[0],
    *dtypes.ALL,
    TOKEN,
    TensorType(dtypes.float32, (3, graphs.N)),
    TensorType(dtypes.bool_, ()),
    *[graphs.N, -graphs.N, 2 * graphs.N * graphs.N - 3, (graphs.N + 1) // 2 + dims.pos(dims.symbol(1) - graphs.N)],
    *[(1,), (1, (2.0, ("x", (None,))), True), ((), ((),))],
    Literal(np.array([1.5, -0.0])),
    Literal(np.zeros((2, 0, 3), np.int32)),
]


@pytest.mark.parametrize("value", ATTRIBUTES, ids=lambda v: repr(v)[:30])
def test_attribute_round_trip(value: Attribute) -> None:
    node = Node.unchecked(get("barrier"), (), {"instance": value}, (graphs.tensor(()),))
    again = parse(to_text(Graph((), node.results)), check=False).outputs[0].node.attrs["instance"]
    assert attribute_key(again) == attribute_key(value)


def test_graphs_inside_of_tuples() -> None:
    attrs = {"instance": (1, graphs.composite(), (graphs.dense(), "x"))}
    text = to_text(Graph((), Node.unchecked(get("barrier"), (), attrs, (TOKEN,)).results))
    again = parse(text, check=False)
    assert to_text(again) == text
    one, composite, (dense, x) = again.outputs[0].node.attrs["instance"]
    assert (one, x) == (1, "x")
    assert parse(to_text(composite)).same_as(graphs.composite())
    assert parse(to_text(dense)).same_as(graphs.dense())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_float_comes_back(dtype: type[np.floating]) -> None:
    bits = np.dtype(dtype).itemsize * 8
    rng = np.random.default_rng(bits)
    patterns = rng.integers(0, 2**bits, 3000, dtype=f"u{bits // 8}", endpoint=False)
    for chunk in patterns.reshape(-1, 15):
        graph = Graph((), (constant(chunk.view(dtype)),))
        assert parse(to_text(graph)).same_as(graph)


def test_large_constants_have_a_side_file(tmp_path: Path) -> None:
    graph = graphs.large()
    assert len(large_literals(graph)) == 2
    path = tmp_path / "large.gir"
    save(graph, path)
    assert load(path).same_as(graph)
    side_file(path).unlink()
    with pytest.raises(ParseError, match="not in the text"):
        load(path)
    save(graphs.dense(), path)
    assert not side_file(path).exists()


def test_a_wrong_side_file_is_noticed() -> None:
    text = to_text(graphs.large())
    wrong = {digest: literal.array + 1 for digest, literal in large_literals(graphs.large()).items()}
    with pytest.raises(ParseError, match="another constant"):
        parse(text, constants=wrong)


def test_held_names_do_not_depend_on_what_else_exists() -> None:
    """Nodes are interned without the names in their bodies: canonical text leaves the names out."""
    t = graphs.tensor((2,))
    (x,) = graphs.inputs(t)
    texts = [
        to_text(
            Graph((t,), make("composite", (x,), body=Graph((t,), (x,), n, (n,)), label="same").results),
            names=False,
        )
        for n in ("one", "two")
    ]
    assert texts[0] == texts[1]


def test_deep_graphs_do_not_recurse() -> None:
    t = graphs.tensor(())
    (x,) = graphs.inputs(t)
    y = x
    for _ in range(3000):
        y = graphs.B.tanh(y)
    graph = Graph((t,), (y,))
    assert parse(to_text(graph)).same_as(graph)


GOOD = """\
graph "g"(%x: f32[2, 3], %y: f32[2, 3]) -> (f32[2, 3]) {
  %0: f32[2, 3] = add(%x, %y)
  %1: f32[3, 2] = transpose(%0) {perm = [1, 0]}
  %2: f32[2, 3] = transpose(%1) {perm = [1, 0]}
  return %2
}
"""

WRONG = {
    "unknown op": ("add(", "ad("),
    "wrong type": ("%0: f32[2, 3]", "%0: f32[2, 4]"),
    "op not defined": ("%y: f32[2, 3]", "%y: f32[2, 4]"),
    "bad attribute": ("perm = [1, 0]}\n  %2", "perm = [1, 1]}\n  %2"),
    "attribute of another kind": ("perm = [1, 0]}\n  %2", "perm = 1.5}\n  %2"),
    "unknown attribute": ("{perm = [1, 0]}\n  %2", "{permutation = [1, 0]}\n  %2"),
    "missing attribute": (" {perm = [1, 0]}\n  %2", "\n  %2"),
    "attribute twice": ("{perm = [1, 0]}\n  %2", "{perm = [1, 0], perm = [1, 0]}\n  %2"),
    "undefined value": ("transpose(%1)", "transpose(%7)"),
    "defined twice": ("%1: f32[3, 2]", "%0: f32[3, 2]"),
    "used before definition": ("add(%x, %y)", "add(%x, %2)"),
    "unknown dtype": ("%y: f32", "%y: float32"),
    "no shape": ("%y: f32[2, 3]", "%y: f32"),
    "bad dimension": ("%y: f32[2, 3]", "%y: f32[2, n]"),
    "unclosed bracket": ("[1, 0]}\n  %2", "[1, 0}\n  %2"),
    "too few outputs": ("return %2", "return"),
    "too many outputs": ("return %2", "return %2, %2"),
    "output of another type": ("return %2", "return %1"),
    "misspelt return": ("return", "retrun"),
    "strange character": ("add(%x", "add(@x"),
    "text cut off": ("  return %2\n}\n", ""),
    "text after the end": ("return %2\n}\n", "return %2\n}\n}"),
    "two results": ("%0: f32[2, 3] = ", "%0: f32[2, 3], %9: f32[2, 3] = "),
    "input as node": ("add(%x, %y)", "input() {index = 0, type = f32[2, 3]}"),
    "constant too short": ("add(%x, %y)", "constant() {value = dense f32[2] [1.0]}"),
    "constant out of range": ("add(%x, %y)", "constant() {value = dense i32[] 2147483648}"),
    "constant of another kind": ("add(%x, %y)", "constant() {value = dense i32[] 1.5}"),
    "bad string": ('"g"', '"\\q"'),
}


def test_the_good_text_is_good() -> None:
    assert to_text(parse(GOOD)) == GOOD


@pytest.mark.parametrize("name", WRONG)
def test_error(name: str, golden: Callable[[str], None]) -> None:
    old, new = WRONG[name]
    assert GOOD.count(old) >= 1
    with pytest.raises((ParseError, VerifyError)) as caught:
        parse(GOOD.replace(old, new, 1), file="wrong.gir")
    golden(f"{type(caught.value).__name__}: {caught.value}\n")


@pytest.mark.parametrize("seed", range(3))
def test_damaged_text_gives_project_errors_only(seed: int) -> None:
    """Delete, double or swap any piece: a graph or a ParseError comes out, never another exception."""
    rng = np.random.default_rng(seed)
    texts = [to_text(g) for g in graphs.named()]
    for _ in range(200):
        text = texts[rng.integers(len(texts))]
        i, n = int(rng.integers(len(text))), int(rng.integers(1, 6))
        damaged = text[:i] + (text[i : i + n] * 2 if rng.random() < 0.3 else "") + text[i + n :]
        with contextlib.suppress(ParseError, VerifyError):
            parse(damaged)
