"""Branches and loops: control nodes call the functions of the graphs that they hold. Layer 4, codegen.

A control node is a function like a kernel's; it fills a table of pointers and calls a graph function with it. Its scratch
block holds the arena of the held graphs and, for a loop, two copies of the carries, which take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphc.codegen.emitted import Argument, Emitted, GraphFunction
from graphc.codegen.entry import load_symbols
from graphc.codegen.helpers import COPY, copy_function
from graphc.codegen.plan import ALIGN
from graphc.codegen.sizes import Sizes
from graphc.codegen.text import Function
from graphc.ir.dims import Dim, maximum
from graphc.ir.graph import Graph, Node
from graphc.ir.types import TensorType

__all__ = ["emit_control"]

Held = Callable[[Graph], GraphFunction]


def emit_control(name: str, node: Node, held: Held, symbols: Sequence[int]) -> Emitted:
    """Write the function of a branch or loop.

    Parameters
    ----------
    name
        The function's name.
    node
        A `cond` or `while_loop` node.
    held
        Gives the function of a held graph; writes it if need be.
    symbols
        The symbols in the order of the table of sizes.
    """
    graphs = [a for a in node.attrs.values() if isinstance(a, Graph)]
    functions = {g.key: held(g) for g in graphs}
    writer = _Writer(name, node, functions, symbols)
    scratch = {"cond": writer.branch, "while_loop": writer.loop}[node.op.name]()
    arguments = [Argument("operand", i) for i in range(len(node.operands))]
    arguments += [Argument("result", i) for i in range(len(node.results))]
    return Emitted(
        functions={**writer.helpers, f"@{name}": writer.f.finish("unreachable")},
        declarations={},
        arguments=(*arguments, Argument("scratch"), Argument("sizes")),
        scratch_bytes=scratch,
        flops=0,
        bytes=0,
        tree=f"{node.op.name}: {', '.join(f.name for f in functions.values())}",
        fallible=True,
    )


@dataclass(frozen=True, slots=True)
class _Carry:
    """Where a carry is within one copy of the carries."""

    offset: Dim
    size: Dim


class _Writer:
    def __init__(self, name: str, node: Node, functions: dict[object, GraphFunction], symbols: Sequence[int]) -> None:
        self.node, self.functions = node, functions
        xs = [f"%x{i}" for i in range(len(node.operands))]
        ys = [f"%y{i}" for i in range(len(node.results))]
        self.xs, self.ys = xs, ys
        parameters = [f"ptr {p}" for p in (*xs, *ys, "%scratch", "%sizes")]
        self.f = Function("i64", f"@{name}", parameters)
        self.sizes = Sizes(self.f)
        self.helpers: dict[str, str] = {}
        load_symbols(self.f, symbols)
        slots = max(len(g.inputs) + len(g.outputs) for g in self._graphs())
        self.table = self.f.emit(f"alloca ptr, i64 {max(slots, 1)}, align 8")

    def _graphs(self) -> list[Graph]:
        return [a for a in self.node.attrs.values() if isinstance(a, Graph)]

    def _arena(self) -> Dim:
        size: Dim = 0
        for function in self.functions.values():
            size = maximum(size, function.arena_bytes)
        return size

    def branch(self) -> Dim:
        """cond: one of two graphs on the operands after the predicate."""
        f, attrs = self.f, self.node.attrs
        then, otherwise = f.label("then"), f.label("else")
        f.branch_if(self._predicate("%x0"), then, otherwise)
        for label, graph in ((then, attrs["then"]), (otherwise, attrs["else_"])):
            f.start(label)
            status = self._call(graph, [*self.xs[1:], *self.ys], "%scratch")
            f.do(f"ret i64 {status}")
        f.start(f.label("never"))
        return self._arena()

    def loop(self) -> Dim:
        """while_loop: `cond` on one copy of the carries, `body` from it into the other, which then take turns."""
        f, attrs = self.f, self.node.attrs
        carries, copy_bytes = self._carries()
        first, second = "%scratch", self._moved("%scratch", copy_bytes)
        flag = self._moved("%scratch", copy_bytes * 2)
        arena = self._moved("%scratch", copy_bytes * 2 + ALIGN)
        for x, place, carry in zip(self.xs, self._places(first, carries), carries, strict=True):
            self._copy(place, x, carry)
        header = f.loop_header("loop")
        current, following = f.phi("ptr", first), f.phi("ptr", second)
        places = self._places(current.name, carries)
        self._or_fail(self._call(attrs["cond"], [*places, flag], arena))
        again, done = f.label("body"), f.label("done")
        f.branch_if(self._predicate(flag), again, done)
        f.start(again)
        self._or_fail(self._call(attrs["body"], [*places, *self._places(following.name, carries)], arena))
        current.add(following.name, f.block)
        following.add(current.name, f.block)
        f.branch(header)
        f.start(done)
        for y, place, carry in zip(self.ys, places, carries, strict=True):
            self._copy(y, place, carry)
        f.do("ret i64 0")
        f.start(f.label("never"))
        return copy_bytes * 2 + ALIGN + self._arena()

    def _carries(self) -> tuple[list[_Carry], Dim]:
        carries: list[_Carry] = []
        offset: Dim = 0
        for type_ in self.node.types:
            size = type_.nbytes if isinstance(type_, TensorType) else 0
            carries.append(_Carry(offset, size))
            offset = offset + (size + (ALIGN - 1)) // ALIGN * ALIGN
        return carries, offset

    def _places(self, base: str, carries: Sequence[_Carry]) -> list[str]:
        return [self._moved(base, c.offset) for c in carries]

    def _moved(self, base: str, offset: Dim) -> str:
        moved = self.sizes.dim(offset)
        return base if moved == 0 else self.f.emit(f"getelementptr i8, ptr {base}, i64 {moved}")

    def _copy(self, target: str, source: str, carry: _Carry) -> None:
        if carry.size != 0:
            self.helpers[COPY] = copy_function()
            self.f.do(f"call void {COPY}(ptr {target}, ptr {source}, i64 {self.sizes.dim(carry.size)})")

    def _predicate(self, pointer: str) -> str:
        value = self.f.emit(f"load i8, ptr {pointer}, align 1")
        return self.f.emit(f"icmp ne i8 {value}, 0")

    def _call(self, graph: Graph, pointers: Sequence[str], arena: str) -> str:
        """Fill the table and call a held graph; its status."""
        for number, pointer in enumerate(pointers):
            slot = self.f.emit(f"getelementptr ptr, ptr {self.table}, i64 {number}")
            self.f.do(f"store ptr {pointer}, ptr {slot}, align 8")
        function = self.functions[graph.key]
        return self.f.emit(f"call i64 @{function.name}(ptr {self.table}, ptr %sizes, ptr {arena})")

    def _or_fail(self, status: str) -> None:
        failed, passed = self.f.label("failed"), self.f.label("passed")
        self.f.branch_if(self.f.emit(f"icmp ne i64 {status}, 0"), failed, passed)
        self.f.start(failed)
        self.f.do(f"ret i64 {status}")
        self.f.start(passed)
