"""Kernels that go along one axis element by element: cumulative ops and sorting. Layer 4, codegen.

A tensor is seen as [outer, count, inner] with the axis in the middle. A cumulative op runs serially over `count`, with
vectors across `inner` where that is long enough; the order of its steps is the definition's, whatever the vectors. Sorting
copies a row of values into scratch with their positions, merges sorted runs of doubling length between two copies
(bottom-up merge sort, stable: an element of the right run goes first only if it stands strictly before), and copies out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from graphc.codegen.emitted import Argument, Emitted
from graphc.codegen.helpers import element
from graphc.codegen.loops import Range, counted
from graphc.codegen.sizes import Size, Sizes, parameter
from graphc.codegen.text import Function
from graphc.codegen.vectors import Vec, Vectors
from graphc.dtypes import DType, int64
from graphc.ir.dims import Dim, product, symbols_of
from graphc.ir.graph import Graph
from graphc.ir.op import Cumulative, Sorting
from graphc.target import Target

__all__ = ["emit_cumulative", "emit_sort"]

#: Bytes of scratch for each element of a sorted row: two copies of values and of positions.
_SORT_SCRATCH = 32


@dataclass(frozen=True, slots=True)
class _Space:
    """A tensor's shape around one axis."""

    outer: Dim
    count: Dim
    inner: Dim

    @property
    def symbols(self) -> list[int]:
        dims = [d for d in (self.outer, self.count, self.inner) if not isinstance(d, int)]
        return sorted({s.index for d in dims for s in symbols_of(d)})


def _space(shape: Sequence[Dim], axis: int) -> _Space:
    return _Space(product(shape[:axis]), shape[axis], product(shape[axis + 1 :]))


def _element(f: Function, dtype: DType, base: str, at: Size) -> str:
    return f.emit(f"getelementptr {element(dtype)}, ptr {base}, i64 {at}")


# -- cumulative -----------------------------------------------------------------------------------------------------------


def emit_cumulative(name: str, body: Graph, aliases: Mapping[int, int], target: Target, *, contract: bool) -> Emitted:
    """Write the kernel of a body that is one cumulative node."""
    node = body.outputs[0].node
    assert isinstance(node.op, Cumulative) and not aliases
    dtype = node.result.dtype
    space = _space(node.result.shape, node.attrs["axis"])
    buffers = len(node.operands) + 1
    parameters = [f"ptr noalias %b{i}" for i in range(buffers)]
    f = Function("void", f"@{name}", [*parameters, *(f"i64 {parameter(i)}" for i in space.symbols)])
    lanes = max(1, target.vector_bytes // dtype.itemsize)
    writer = _Scan(f, node.op, dtype, bool(node.attrs["reverse"]))
    writer.write(space, [Vectors(f, n, contract=contract, features=target.features) for n in (lanes, 1)])
    return Emitted(
        functions={f"@{name}": f.finish("ret void")},
        declarations=f.declarations,
        arguments=(
            *(Argument("operand", i) for i in range(buffers - 1)),
            Argument("result", 0),
            *(Argument("size", i) for i in space.symbols),
        ),
        scratch_bytes=0,
        flops=node.result.tensor.size,
        bytes=node.result.tensor.nbytes * buffers,
        tree=f"{node.op.name} along axis {node.attrs['axis']}: {lanes} lanes across the axes inside",
    )


@dataclass(slots=True)
class _Scan:
    f: Function
    op: Cumulative
    dtype: DType
    reverse: bool

    def write(self, space: _Space, vectors: Sequence[Vectors]) -> None:
        sizes = Sizes(self.f)
        outer, count, inner = (sizes.dim(d) for d in (space.outer, space.count, space.inner))
        wide, one = vectors
        whole = sizes.round_down(inner, wide.lanes)

        def rows(o: Size, _: list[str]) -> list[str]:
            base = sizes.mul(sizes.mul(o, count), inner)
            for span, v in ((Range(0, whole, wide.lanes), wide), (Range(whole, inner, 1), one)):
                counted(sizes, span, [], self._columns(sizes, v, base, count, inner), "column")
            return []

        counted(sizes, Range(0, outer, 1), [], rows, "row")

    def _columns(
        self, sizes: Sizes, v: Vectors, base: Size, count: Size, inner: Size
    ) -> Callable[[Size, list[str]], list[str]]:
        """Write the scan of the columns at j."""

        def columns(j: Size, _: list[str]) -> list[str]:
            first = sizes.add(base, j)
            last = sizes.sub(count, 1)

            def step(i: Size, carried: list[str]) -> list[str]:
                place = sizes.sub(last, i) if self.reverse else i
                at = sizes.add(first, sizes.mul(place, inner))
                xs = [v.load(_element(self.f, self.dtype, f"%b{k}", at), self.dtype) for k in range(self.op.arity)]
                y = self.op.combine(v, Vec(carried[0], self.dtype), *xs)
                v.store(y, _element(self.f, self.dtype, f"%b{self.op.arity}", at))
                return [y.text]

            start = v.const(self.dtype, self.op.start(self.dtype))
            counted(sizes, Range(0, count, 1), [(v.type(self.dtype), start.text)], step, "scan")
            return []

        return columns


# -- sorting ----------------------------------------------------------------------------------------------------------------


def emit_sort(name: str, body: Graph, aliases: Mapping[int, int], target: Target, *, contract: bool) -> Emitted:
    """Write the kernel of a body that is one sort: values and positions."""
    node = body.outputs[0].node
    assert isinstance(node.op, Sorting) and not aliases
    x = node.operands[0].tensor
    space = _space(x.shape, node.attrs["axis"])
    parameters = ["ptr noalias %x", "ptr noalias %values", "ptr noalias %positions", "ptr noalias %scratch"]
    f = Function("void", f"@{name}", [*parameters, *(f"i64 {parameter(i)}" for i in space.symbols)])
    helper = _merge_sort(node.op, x.dtype, target)
    _write_sort(f, helper.name, x.dtype, space, Vectors(f, 1, contract=False, features=target.features))
    return Emitted(
        functions={helper.name: helper.text, f"@{name}": f.finish("ret void")},
        declarations={**helper.declarations, **f.declarations},
        arguments=(
            Argument("operand", 0),
            Argument("result", 0),
            Argument("result", 1),
            Argument("scratch"),
            *(Argument("size", i) for i in space.symbols),
        ),
        scratch_bytes=space.count * _SORT_SCRATCH,
        flops=0,
        bytes=x.nbytes * 2 + x.size * 8,
        tree=f"merge sort of rows along axis {node.attrs['axis']}",
    )


def _write_sort(f: Function, helper: str, dtype: DType, space: _Space, v: Vectors) -> None:
    """Each row into scratch, sorted there, and out."""
    sizes = Sizes(f)
    outer, count, inner = (sizes.dim(d) for d in (space.outer, space.count, space.inner))
    v0, v1, p0, p1 = (f.emit(f"getelementptr i8, ptr %scratch, i64 {sizes.mul(count, 8 * part)}") for part in range(4))

    def row(o: Size, r: Size) -> None:
        base = sizes.add(sizes.mul(sizes.mul(o, count), inner), r)

        def enter(i: Size, _: list[str]) -> list[str]:
            at = sizes.add(base, sizes.mul(i, inner))
            v.store(v.load(_element(f, dtype, "%x", at), dtype), _element(f, dtype, v0, i))
            f.do(f"store i64 {i}, ptr {_element(f, int64, p0, i)}, align 8")
            return []

        counted(sizes, Range(0, count, 1), [], enter, "enter")
        swapped = f.emit(f"call i1 {helper}(ptr {v0}, ptr {v1}, ptr {p0}, ptr {p1}, i64 {count})")
        values = f.emit(f"select i1 {swapped}, ptr {v1}, ptr {v0}")
        positions = f.emit(f"select i1 {swapped}, ptr {p1}, ptr {p0}")

        def leave(i: Size, _: list[str]) -> list[str]:
            at = sizes.add(base, sizes.mul(i, inner))
            v.store(v.load(_element(f, dtype, values, i), dtype), _element(f, dtype, "%values", at))
            position = v.load(_element(f, int64, positions, i), int64)
            v.store(position, _element(f, int64, "%positions", at))
            return []

        counted(sizes, Range(0, count, 1), [], leave, "leave")

    def outside(o: Size, _: list[str]) -> list[str]:
        def inside(r: Size, _: list[str]) -> list[str]:
            row(o, r)
            return []

        return counted(sizes, Range(0, inner, 1), [], inside, "inside")

    counted(sizes, Range(0, outer, 1), [], outside, "outside")


@dataclass(frozen=True, slots=True)
class _Helper:
    name: str
    text: str
    declarations: Mapping[str, str]


def _merge_sort(op: Sorting, dtype: DType, target: Target) -> _Helper:
    """`i1 (ptr v0, ptr v1, ptr p0, ptr p1, i64 n)`: sorts values v0 with positions p0; true if the result is in v1, p1."""
    name = f"@graphc_{op.name}_{dtype.name}"
    f = Function("i1", name, [*(f"ptr noalias %{p}" for p in ("v0", "v1", "p0", "p1")), "i64 %n"])
    s = Vectors(f, 1, contract=False, features=target.features)
    header = f.loop_header("width")
    width = f.phi("i64", "1")
    pointers = [f.phi("ptr", p) for p in ("%v0", "%v1", "%p0", "%p1")]
    swapped = f.phi("i1", "false")
    more, done = f.label("more"), f.label("sorted")
    f.branch_if(f.emit(f"icmp slt i64 {width.name}, %n"), more, done)
    f.start(more)
    _merge_runs(f, s, op, dtype, width.name, [p.name for p in pointers])
    width.add(f.emit(f"shl i64 {width.name}, 1"), f.block)
    for phi, other in zip(pointers, (1, 0, 3, 2), strict=True):
        phi.add(pointers[other].name, f.block)
    swapped.add(f.emit(f"xor i1 {swapped.name}, true"), f.block)
    f.branch(header)
    f.start(done)
    return _Helper(name, f.finish(f"ret i1 {swapped.name}"), f.declarations)


def _merge_runs(f: Function, s: Vectors, op: Sorting, dtype: DType, width: str, pointers: Sequence[str]) -> None:
    """Merge neighbouring runs of `width` from the first copies into the second."""
    sizes = Sizes(f)
    from_v, to_v, from_p, to_p = pointers
    header = f.loop_header("runs")
    low = f.phi("i64", "0")
    body, done = f.label("run"), f.label("merged")
    f.branch_if(f.emit(f"icmp slt i64 {low.name}, %n"), body, done)
    f.start(body)
    middle = sizes.minimum(f.emit(f"add i64 {low.name}, {width}"), "%n")
    high = sizes.minimum(f.emit(f"add i64 {middle}, {width}"), "%n")
    i, j, k = _merge(f, s, op, dtype, (low.name, str(middle), str(high)), pointers)

    def rest(start: str, end: str, to: str) -> str:
        """What is left of one run."""
        offset = f.emit(f"sub i64 {to}, {start}")

        def move(at: Size, _: list[str]) -> list[str]:
            target = f.emit(f"add i64 {at}, {offset}")
            s.store(s.load(_element(f, dtype, from_v, at), dtype), _element(f, dtype, to_v, target))
            s.store(s.load(_element(f, int64, from_p, at), int64), _element(f, int64, to_p, target))
            return []

        counted(sizes, Range(start, end, 1), [], move, "rest")
        return f.emit(f"add i64 {end}, {offset}")

    rest(j, str(high), rest(i, str(middle), k))
    low.add(str(high), f.block)
    f.branch(header)
    f.start(done)


def _merge(
    f: Function, s: Vectors, op: Sorting, dtype: DType, bounds: tuple[str, str, str], pointers: Sequence[str]
) -> tuple[str, str, str]:
    """Take the element that stands first until one run is used up; positions in both runs and in the result."""
    low, middle, high = bounds
    from_v, to_v, from_p, to_p = pointers
    header = f.loop_header("merge")
    i, j, k = f.phi("i64", low), f.phi("i64", middle), f.phi("i64", low)
    in_left = f.emit(f"icmp slt i64 {i.name}, {middle}")
    in_right = f.emit(f"icmp slt i64 {j.name}, {high}")
    take, done = f.label("take"), f.label("exhausted")
    f.branch_if(f.emit(f"and i1 {in_left}, {in_right}"), take, done)
    f.start(take)
    x = s.load(_element(f, dtype, from_v, i.name), dtype)
    y = s.load(_element(f, dtype, from_v, j.name), dtype)
    right: Vec = op.before(s, y, x)
    # Arithmetic instead of selects: what LLVM makes of these would be branches that guess wrong half of the time.
    step = f.emit(f"zext i1 {right.text} to i64")
    apart = f.emit(f"mul i64 {f.emit(f'sub i64 {j.name}, {i.name}')}, {step}")
    at = f.emit(f"add i64 {i.name}, {apart}")
    s.store(s.load(_element(f, dtype, from_v, at), dtype), _element(f, dtype, to_v, k.name))
    s.store(s.load(_element(f, int64, from_p, at), int64), _element(f, int64, to_p, k.name))
    following = f.emit(f"add i64 {k.name}, 1")
    next_j = f.emit(f"add i64 {j.name}, {step}")
    stay = f.emit(f"sub i64 1, {step}")
    i.add(f.emit(f"add i64 {i.name}, {stay}"), f.block)
    j.add(next_j, f.block)
    k.add(following, f.block)
    f.branch(header)
    f.start(done)
    return i.name, j.name, k.name
