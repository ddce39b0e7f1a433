"""From the optimised graph to an Artifact. Layer 4, codegen.

`compile_graph` takes a graph of kernels (after the fusion pass), orders them, plans their memory, writes one LLVM module
and links it. Nothing here depends on what a kernel computes: emitters do (`graphc.codegen.emitters`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphc import dtypes
from graphc.artifact import ARENA, ENTRY, Artifact, Buffer, Constant, Kernel
from graphc.codegen import llvm
from graphc.codegen.entry import arena_function
from graphc.codegen.link import link
from graphc.codegen.module import SMALL_CONSTANT, KernelRow, Module
from graphc.codegen.plan import Row
from graphc.errors import CompileError
from graphc.ir.dims import Dim, Expr, symbol
from graphc.ir.graph import Graph, Value
from graphc.ir.types import TensorType, Type
from graphc.target import Target, host

__all__ = ["SMALL_CONSTANT", "Compiled", "KernelRow", "compile_graph"]


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
    module = Module(target, symbols, contract=contract)
    arena, memory = module.entry(graph, ENTRY, writes)
    if not isinstance(arena, int):
        module.functions[ARENA] = arena_function(arena, symbols)
    text = module.text()
    image = link(llvm.emit_object(text, target, verify=verify))
    rows = module.rows()
    artifact = Artifact(
        image=image,
        isa=target.isa,
        buffers=_buffers(graph, writes, module.constants),
        symbols=tuple(f"s{s}" for s in symbols),
        arena_bytes=arena if isinstance(arena, int) else None,
        constants=tuple(module.constants),
        failures=tuple(module.failures),
        kernels=tuple(Kernel(r.name, r.symbol, r.summary, _plain(r.flops), _plain(r.bytes), r.calls) for r in rows),
        versions=(("llvm", llvm.version()),),
        hosts=tuple(module.hosts),
    )
    return Compiled(artifact, text, rows, memory, target)


def _plain(dim: Dim) -> int | str:
    return dim if isinstance(dim, int) else str(dim)


def _symbols(graph: Graph, name: str) -> tuple[int, ...]:
    """The graph's symbols in order; each must be a whole dimension of an input, so that the call can read it."""
    whole = {d for t in graph.inputs if isinstance(t, TensorType) for d in t.shape if isinstance(d, Expr)}
    for number in graph.symbols():
        if symbol(number) not in whole:
            raise CompileError(f"{name}: no input has the size s{number} as a whole dimension")
    return graph.symbols()


def _buffers(graph: Graph, writes: Mapping[int, int], constants: Sequence[Constant]) -> tuple[Buffer, ...]:
    """The table of buffers: inputs, large constants, outputs."""
    names = graph.names or tuple(f"input{i}" for i in range(len(graph.inputs)))
    found = [_buffer(name, "input", t) for name, t in zip(names, graph.inputs, strict=True)]
    for i, held in enumerate(constants):
        found.append(
            _buffer(f"constant{i}", "constant", TensorType(dtypes.from_numpy(held.data.dtype), held.data.shape))
        )
    for k, value in enumerate(_values(graph)):
        found.append(_buffer(f"output{k}", "output", value.type, writes.get(k)))
    return tuple(found)


def _values(graph: Graph) -> list[Value]:
    """The outputs without tokens, which are last: effects are over when a call is."""
    values = [v for v in graph.outputs if isinstance(v.type, TensorType)]
    if values != list(graph.outputs[: len(values)]):
        raise CompileError(f"{graph.name}: tokens must be the last outputs")
    return values


def _buffer(name: str, role: str, type_: Type, writes: int | None = None) -> Buffer:
    if not isinstance(type_, TensorType):
        raise CompileError(f"{name} is a token; effects do not cross the border of native code")
    return Buffer(name, role, type_.dtype.name, tuple(_plain(d) for d in type_.shape), writes)
