"""From the optimised graph to an Artifact. Layer 4, codegen.

`compile_graph` takes a graph of kernels (after the fusion pass), orders them, plans their memory, writes one LLVM module
and links it. Nothing here depends on what a kernel computes: emitters do (`graphc.codegen.emitters`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc import dtypes
from graphc.artifact import Artifact, Buffer, Constant, Kernel, constant
from graphc.codegen import llvm
from graphc.codegen.actions import Action, Home, Layout, lay_out
from graphc.codegen.emitted import Emitted
from graphc.codegen.emitters import EMITTERS, Job, job_of, may_overwrite, range_checks
from graphc.codegen.entry import arena_function, entry_function
from graphc.codegen.link import link
from graphc.codegen.plan import Row, plan_arena, share_blocks
from graphc.errors import CompileError
from graphc.ir.dims import Dim, Expr, symbol
from graphc.ir.graph import Graph, Value
from graphc.ir.location import Location
from graphc.ir.types import TensorType, Type
from graphc.target import Target, host

__all__ = ["Compiled", "KernelRow", "compile_graph"]

#: Constants of more elements than this are passed by pointer and stored beside the code; smaller ones are part of it.
SMALL_CONSTANT = 256


@dataclass(frozen=True, slots=True)
class KernelRow:
    """A kernel for the report: its function, the ops fused in it, the user's lines, work and schedule."""

    name: str
    symbol: str
    schedule: str
    ops: tuple[str, ...]
    locations: tuple[Location, ...]
    flops: Dim
    bytes: Dim
    calls: int
    tree: str

    @property
    def summary(self) -> str:
        """The ops in order, each once."""
        return " ".join(dict.fromkeys(self.ops))


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled graph: the artifact and what reports show of its making."""

    artifact: Artifact
    llvm: str
    kernels: tuple[KernelRow, ...]
    memory: tuple[Row, ...]
    target: Target

    def assembly(self) -> str:
        """The module as assembly text; made when asked for."""
        return llvm.emit_assembly(self.llvm, self.target)


def compile_graph(
    graph: Graph,
    *,
    writes: Mapping[int, int] | None = None,
    target: Target | None = None,
    contract: bool = True,
    name: str | None = None,
    verify: bool = False,
) -> Compiled:
    """Compile a graph of kernels.

    Parameters
    ----------
    graph
        Inputs, constants, views, `fused` nodes and nodes with an emitter of their own.
    writes
        `writes[k] = j`: output k is the new value of input j and ends in input j's buffer.
    target
        The machine; this one by default.
    contract
        Whether a product and a sum may be rounded once.
    name
        For messages; the graph's name by default.
    verify
        Run LLVM's verifier.

    Raises
    ------
    CompileError
        If the graph has a node without an emitter, or a size that no input has as a whole dimension.
    """
    writes = dict(writes or {})
    target = target or host()
    symbols = _symbols(graph, name or graph.name)
    layout = lay_out(graph, writes, may_overwrite, range_checks)
    blocks = share_blocks(layout, may_overwrite)
    kernels = _Kernels(graph, layout, target, contract)
    plan = plan_arena(blocks, kernels.scratch())
    tables = _Tables(graph, layout)
    functions, failures = entry_function(layout, plan, kernels.of, tables.pointers, symbols)
    if not isinstance(plan.arena_bytes, int):
        functions.append(arena_function(plan.arena_bytes, symbols))
    text = _module([*tables.globals, *kernels.functions.values(), *functions], kernels.declarations, target)
    image = link(llvm.emit_object(text, target, verify=verify))
    rows = kernels.rows()
    artifact = Artifact(
        image=image,
        isa=target.isa,
        buffers=tables.buffers(writes),
        symbols=tuple(f"s{s}" for s in symbols),
        arena_bytes=plan.arena_bytes if isinstance(plan.arena_bytes, int) else None,
        constants=tuple(tables.constants),
        failures=tuple(failures),
        kernels=tuple(Kernel(r.name, r.symbol, r.summary, _plain(r.flops), _plain(r.bytes), r.calls) for r in rows),
        versions=(("llvm", llvm.version()),),
    )
    return Compiled(artifact, text, rows, plan.rows, target)


def _plain(dim: Dim) -> int | str:
    return dim if isinstance(dim, int) else str(dim)


def _symbols(graph: Graph, name: str) -> tuple[int, ...]:
    """The graph's symbols in order; each must be a whole dimension of an input, so that the call can read it."""
    whole = {d for t in graph.inputs if isinstance(t, TensorType) for d in t.shape if isinstance(d, Expr)}
    for number in graph.symbols():
        if symbol(number) not in whole:
            raise CompileError(f"{name}: no input has the size s{number} as a whole dimension")
    return graph.symbols()


def _module(functions: Sequence[str], declarations: Mapping[str, str], target: Target) -> str:
    return "\n\n".join([*functions, "\n".join(sorted(declarations.values())), llvm.attributes(target)]) + "\n"


class _Kernels:
    """The kernels of all actions; equal ones are emitted once and called many times."""

    def __init__(self, graph: Graph, layout: Layout, target: Target, contract: bool) -> None:
        self.graph, self.layout = graph, layout
        self.of: dict[Action, tuple[str, Emitted]] = {}
        self.functions: dict[str, str] = {}
        self.declarations: dict[str, str] = {}
        self._jobs: dict[str, Job] = {}
        made: dict[Any, tuple[str, Emitted]] = {}
        for action in layout.actions:
            if action.node is None or all(t.size == 0 for t in action.node.types if isinstance(t, TensorType)):
                continue
            job = job_of(action.node)
            key = job.key(action.aliases)
            if key not in made:
                name = f"k{len(made)}"
                emitted = EMITTERS[job.schedule](name, job.body, action.aliases, target, contract=contract)
                self.functions.update(emitted.functions)
                self.declarations.update(emitted.declarations)
                self._jobs[name] = job
                made[key] = name, emitted
            self.of[action] = made[key]

    def scratch(self) -> dict[int, Dim]:
        """Bytes of scratch by number of action."""
        numbered = enumerate(self.layout.actions)
        return {i: self.of[a][1].scratch_bytes for i, a in numbered if a in self.of}

    def rows(self) -> tuple[KernelRow, ...]:
        rows = []
        for name, job in self._jobs.items():
            nodes = [a.node for a, (k, _) in self.of.items() if k == name and a.node is not None]
            emitted = next(e for k, e in self.of.values() if k == name)
            where = dict.fromkeys(place for n in nodes for place in self.graph.locations.get(n, ()))
            ops = tuple(n.op.name for n in job.body.nodes if n.op.name not in ("input", "constant"))
            rows.append(
                KernelRow(
                    name=_kernel_name(ops),
                    symbol=name,
                    schedule=job.schedule,
                    ops=ops,
                    locations=tuple(where),
                    flops=emitted.flops,
                    bytes=emitted.bytes,
                    calls=len(nodes),
                    tree=emitted.tree,
                )
            )
        return tuple(rows)


def _kernel_name(ops: Sequence[str]) -> str:
    """A short name that tells kernels apart for readers: the ops that compute something, a few at most."""
    telling = [op for op in dict.fromkeys(ops) if op not in ("broadcast", "reshape", "transpose")] or list(ops)
    return "_".join(telling[:5]) + ("_etc" if len(telling) > 5 else "") or "copy"


class _Tables:
    """The table of buffers, and the constants that are part of the image."""

    def __init__(self, graph: Graph, layout: Layout) -> None:
        self.graph = graph
        self.globals: list[str] = []
        self.constants: list[Constant] = []
        self.pointers: dict[Home, str | int] = {Home("input", i): i for i in range(len(graph.inputs))}
        used = {v for a in layout.actions for v in a.reads}
        for value, home in layout.homes.items():
            if home.room == "constant" and value in used:
                self._add_constant(value, home)
        first = len(graph.inputs) + len(self.constants)
        self.pointers.update((Home("output", k), first + k) for k in range(len(graph.outputs)))

    def _add_constant(self, value: Value, home: Home) -> None:
        array = value.node.attrs["value"].array
        if array.size > SMALL_CONSTANT:
            self.pointers[home] = len(self.graph.inputs) + len(self.constants)
            self.constants.append(constant(array))
            return
        name = f"@constant{home.index}"
        text = "".join(f"\\{byte:02X}" for byte in array.tobytes())
        kind = f"[{array.nbytes} x i8]"
        self.globals.append(f'{name} = private unnamed_addr constant {kind} c"{text}", align 64')
        self.pointers[home] = name

    def buffers(self, writes: Mapping[int, int]) -> tuple[Buffer, ...]:
        graph = self.graph
        names = graph.names or tuple(f"input{i}" for i in range(len(graph.inputs)))
        found = [_buffer(name, "input", t) for name, t in zip(names, graph.inputs, strict=True)]
        for i, held in enumerate(self.constants):
            dtype = dtypes.from_numpy(held.data.dtype)
            found.append(_buffer(f"constant{i}", "constant", TensorType(dtype, held.data.shape)))
        for k, value in enumerate(graph.outputs):
            found.append(_buffer(f"output{k}", "output", value.type, writes.get(k)))
        return tuple(found)


def _buffer(name: str, role: str, type_: Type, writes: int | None = None) -> Buffer:
    if not isinstance(type_, TensorType):
        raise CompileError(f"{name} is a token; effects do not cross the border of native code yet")
    return Buffer(name, role, type_.dtype.name, tuple(_plain(d) for d in type_.shape), writes)
