"""Branches and loops: control nodes call the functions of the graphs that they hold. Layer 4, codegen.

A control node is a function like a kernel's; it fills a table of pointers and calls a graph function with it. A loop's
carries live in its results: they are copied there once, and the body's function writes the new carries over the old ones
(each in place where all readers of the old value can run before, see `graphc.codegen.actions`). A scan's sequences are
read, and its stacked results written, through pointers that move by one element a step. The scratch block holds the
arena of the held graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from graphc.codegen.emitted import Argument, Emitted, GraphFunction
from graphc.codegen.entry import load_symbols
from graphc.codegen.helpers import COPY, copy_function
from graphc.codegen.plan import ALIGN
from graphc.codegen.sizes import Sizes
from graphc.codegen.text import Function
from graphc.ir.dims import Dim, maximum
from graphc.ir.graph import Graph, Node
from graphc.ir.types import TensorType, Type

__all__ = ["emit_control"]

Held = Callable[[Graph, Mapping[int, int]], GraphFunction]


def emit_control(name: str, node: Node, held: Held, symbols: Sequence[int]) -> Emitted:
    """Write the function of a branch or loop.

    Parameters
    ----------
    name
        The function's name.
    node
        A `cond`, `while_loop` or `scan` node.
    held
        Gives the function of a held graph, which writes some outputs over inputs; writes it if need be.
    symbols
        The symbols in the order of the table of sizes.
    """
    writer = _Writer(name, node, held, symbols)
    {"cond": writer.branch, "while_loop": writer.loop, "scan": writer.scan}[node.op.name]()
    arguments = [Argument("operand", i) for i in range(len(node.operands))]
    arguments += [Argument("result", i) for i in range(len(node.results))]
    return Emitted(
        functions={**writer.helpers, f"@{name}": writer.f.finish("unreachable")},
        declarations={},
        arguments=(*arguments, Argument("scratch"), Argument("sizes")),
        scratch_bytes=writer.arena_bytes + writer.flag_bytes,
        flops=0,
        bytes=0,
        tree=f"{node.op.name}: {', '.join(writer.called)}",
        fallible=True,
    )


class _Writer:
    def __init__(self, name: str, node: Node, held: Held, symbols: Sequence[int]) -> None:
        self.node, self.held = node, held
        self.xs = [f"%x{i}" for i in range(len(node.operands))]
        self.ys = [f"%y{i}" for i in range(len(node.results))]
        parameters = [f"ptr {p}" for p in (*self.xs, *self.ys, "%scratch", "%sizes")]
        self.f = Function("i64", f"@{name}", parameters)
        self.sizes = Sizes(self.f)
        self.helpers: dict[str, str] = {}
        self.called: dict[str, None] = {}
        self.arena_bytes: Dim = 0
        self.flag_bytes = 0
        load_symbols(self.f, symbols)

    # -- the three of them ----------------------------------------------------------------------------------------------
    def branch(self) -> None:
        """cond: one of two graphs on the operands after the predicate."""
        f, attrs = self.f, self.node.attrs
        table = self._table([*self.xs[1:], *self.ys])
        then, otherwise = f.label("then"), f.label("else")
        f.branch_if(self._predicate("%x0"), then, otherwise)
        for label, graph in ((then, attrs["then"]), (otherwise, attrs["else_"])):
            f.start(label)
            f.do(f"ret i64 {self._call(self._function(graph), table, '%scratch')}")
        f.start(f.label("never"))

    def loop(self) -> None:
        """while_loop: `cond` on the carries, `body` over them."""
        f, attrs = self.f, self.node.attrs
        carries, steps = self.ys[:-1], self.ys[-1]
        going = self._function(attrs["cond"])
        body = self._function(attrs["body"], carries=len(carries))
        self.flag_bytes = ALIGN
        inputs = [*carries, *self.xs[len(carries) :]]
        arena = f.emit(f"getelementptr i8, ptr %scratch, i64 {ALIGN}")
        asked, table = self._table([*inputs, "%scratch"]), self._table(inputs)
        self._start_carries(len(carries))
        header = f.loop_header("loop")
        count = f.phi("i64", "0")
        self._or_fail(self._call(going, asked, arena))
        again, done = f.label("body"), f.label("done")
        f.branch_if(self._predicate("%scratch"), again, done)
        f.start(again)
        self._or_fail(self._call(body, table, arena))
        count.add(f.emit(f"add i64 {count.name}, 1"), f.block)
        f.branch(header)
        f.start(done)
        f.do(f"store i64 {count.name}, ptr {steps}, align 8")
        f.do("ret i64 0")
        f.start(f.label("never"))

    def scan(self) -> None:
        """scan: `body` over the carries, on an element of each sequence, into an element of each stack."""
        f, attrs = self.f, self.node.attrs
        carries, stacked = attrs["carries"], attrs["stacked"]
        body = self._function(attrs["body"], carries=carries)
        length = str(self.sizes.dim(attrs["length"]))
        elements = attrs["body"].inputs[carries : carries + stacked]
        rows = [v.type for v in attrs["body"].outputs[carries:]]
        table = self._table([*self.ys[:carries], *self.xs[carries:], *self.ys])
        # Where each moving pointer starts, its slot in the table, and how far it goes in a step.
        moving = [(self.xs[carries + i], carries + i, self._bytes(t)) for i, t in enumerate(elements)]
        first = len(self.xs) + carries
        moving += [(self.ys[carries + i], first + i, self._bytes(t)) for i, t in enumerate(rows)]
        self._start_carries(carries)
        header = f.loop_header("loop")
        count = f.phi("i64", "0")
        again, done = f.label("body"), f.label("done")
        f.branch_if(f.emit(f"icmp slt i64 {count.name}, {length}"), again, done)
        f.start(again)
        following = f.emit(f"add i64 {count.name}, 1")
        place = f.emit(f"sub i64 {length}, {following}") if attrs["reverse"] else count.name
        for base, slot, step in moving:
            offset = f.emit(f"mul i64 {place}, {step}")
            self._fill(table, slot, f.emit(f"getelementptr i8, ptr {base}, i64 {offset}"))
        self._or_fail(self._call(body, table, "%scratch"))
        count.add(following, f.block)
        f.branch(header)
        f.start(done)
        f.do("ret i64 0")
        f.start(f.label("never"))

    # -- parts --------------------------------------------------------------------------------------------------------------
    def _function(self, graph: Graph, carries: int = 0) -> GraphFunction:
        """The function of a held graph, which writes its first outputs, the carries, over its first inputs."""
        tensors = [k for k in range(carries) if isinstance(graph.inputs[k], TensorType)]
        function = self.held(graph, {k: k for k in tensors})
        self.arena_bytes = maximum(self.arena_bytes, function.arena_bytes)
        self.called[function.name] = None
        return function

    def _bytes(self, type_: Type) -> str:
        return str(self.sizes.dim(type_.nbytes)) if isinstance(type_, TensorType) else "0"

    def _start_carries(self, carries: int) -> None:
        """Copy the first carries to where the loop keeps them, unless they are there."""
        f = self.f
        for x, y, type_ in zip(self.xs, self.ys[:carries], self.node.types, strict=False):
            if isinstance(type_, TensorType) and type_.nbytes != 0:
                self.helpers[COPY] = copy_function()
                size = self._bytes(type_)
                apart, there = f.label("apart"), f.label("there")
                f.branch_if(f.emit(f"icmp eq ptr {x}, {y}"), there, apart)
                f.start(apart)
                f.do(f"call void {COPY}(ptr {y}, ptr {x}, i64 {size})")
                f.branch(there)
                f.start(there)

    def _table(self, pointers: Iterable[str]) -> str:
        """A table of pointers to inputs, then outputs."""
        known = list(pointers)
        table = self.f.emit(f"alloca ptr, i64 {max(len(known), 1)}, align 8")
        for slot, pointer in enumerate(known):
            self._fill(table, slot, pointer)
        return table

    def _fill(self, table: str, slot: int, pointer: str) -> None:
        place = self.f.emit(f"getelementptr ptr, ptr {table}, i64 {slot}")
        self.f.do(f"store ptr {pointer}, ptr {place}, align 8")

    def _predicate(self, pointer: str) -> str:
        value = self.f.emit(f"load i8, ptr {pointer}, align 1")
        return self.f.emit(f"icmp ne i8 {value}, 0")

    def _call(self, function: GraphFunction, table: str, arena: str) -> str:
        return self.f.emit(f"call i64 @{function.name}(ptr {table}, ptr %sizes, ptr {arena})")

    def _or_fail(self, status: str) -> None:
        failed, passed = self.f.label("failed"), self.f.label("passed")
        self.f.branch_if(self.f.emit(f"icmp ne i64 {status}, 0"), failed, passed)
        self.f.start(failed)
        self.f.do(f"ret i64 {status}")
        self.f.start(passed)
