"""The compile driver's lower half: a graph becomes an executable, from the disk cache where it is there. Layer 5.

This module joins passes, codegen and runtime. Code is keyed by the optimiser's input in canonical text
(no names, no locations), the writes, the options, the target, the LLVM version and a digest of graphc's own sources.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphc import artifact as artifacts
from graphc import config as configs
from graphc.codegen import llvm
from graphc.codegen.callpath import callpath_artifact
from graphc.codegen.compiler import Compiled, compile_graph
from graphc.codegen.emitters import indexing_label
from graphc.codegen.host import host_label
from graphc.errors import ArtifactError, CompileError, message
from graphc.hosts import is_local
from graphc.ir.graph import Graph, Node
from graphc.ir.op import Host, Indexing
from graphc.ir.printer import held_graphs, to_text
from graphc.passes.manager import Compilation, run_pipeline
from graphc.passes.pipelines import COMPILE
from graphc.runtime import cache
from graphc.runtime.executable import Executable
from graphc.target import Target, host

__all__ = ["Built", "Options", "build", "call_artifact", "compile_stages", "make_artifact"]


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a compilation: `contract` allows a product and a sum to be rounded once; `target` is the machine; `autograph`
    makes Python's control flow on traced values part of the graph."""

    contract: bool = True
    target: Target | None = None
    autograph: bool = True


@dataclass(frozen=True, slots=True)
class Built:
    """An executable, whether it came from the disk cache, and how long that took."""

    executable: Executable
    from_cache: bool
    milliseconds: float


def compile_stages(
    graph: Graph, writes: Mapping[int, int], options: Options, sample: Sequence[Any] | None = None
) -> tuple[Compilation, Compiled, float]:
    """Run passes and code generation, keeping every stage; no cache. The last number is codegen's milliseconds."""
    config = configs.from_environment()
    compilation = run_pipeline(COMPILE, graph, config=config, sample_arguments=sample)
    if compilation.stopped:
        raise CompileError(
            message(
                f"GRAPHC=stop-after={config.stop_after} stopped the compilation of {graph.name!r}",
                hint="Add print or dump=DIR to see the graph; take stop-after out to run the function.",
            )
        )
    start = time.perf_counter()
    compiled = compile_graph(
        compilation.graph,
        writes=writes,
        target=options.target or host(),
        contract=options.contract,
        name=graph.name,
        verify=config.verify,
    )
    return compilation, compiled, (time.perf_counter() - start) * 1e3


def build(graph: Graph, writes: Mapping[int, int], options: Options, sample: Sequence[Any] | None = None) -> Built:
    """The executable of a graph whose output k overwrites input `writes[k]`."""
    start = time.perf_counter()
    made, from_cache = make_artifact(graph, writes, options, sample)
    executable = Executable(made, locate=_locator(graph))
    return Built(executable, from_cache, (time.perf_counter() - start) * 1e3)


def make_artifact(
    graph: Graph, writes: Mapping[int, int], options: Options, sample: Sequence[Any] | None = None
) -> tuple[artifacts.Artifact, bool]:
    """The artifact of a graph, and whether it came from the disk cache. The names of its inputs are those of the graph.

    A damaged cache entry is dropped with a warning and made again. What calls closures is not cached: they have names of
    this process only.
    """
    config = configs.from_environment()
    disk = None if config != configs.Config() else cache.opened()
    key = "" if disk is None else _key(graph, writes, options)
    found = None if disk is None else _from_cache(disk, key)
    if found is not None:
        return _renamed(found, graph.names), True
    _, compiled, _ = compile_stages(graph, writes, options, sample)
    made = compiled.artifact
    if disk is not None and not any(is_local(call.function) for call in made.hosts):
        disk.put(key, artifacts.to_bytes(made))
    return made, False


def call_artifact() -> artifacts.Artifact:
    """The native call for this machine, from the disk cache if it is there."""
    target = host()
    disk = cache.opened()
    key = "" if disk is None else cache.key_of("native call", target.canonical(), llvm.fingerprint())
    found = None if disk is None else _from_cache(disk, key)
    if found is not None:
        return found
    made = callpath_artifact(target)
    if disk is not None:
        disk.put(key, artifacts.to_bytes(made))
    return made


def _renamed(artifact: artifacts.Artifact, names: Sequence[str]) -> artifacts.Artifact:
    """An artifact with the names of this graph's inputs: names are not part of the key."""
    inputs = artifact.with_role("input")
    if len(names) != len(inputs):
        return artifact
    renamed = tuple(replace(buffer, name=name) for buffer, name in zip(inputs, names, strict=True))
    return replace(artifact, buffers=(*renamed, *artifact.buffers[len(inputs) :]))


def _key(graph: Graph, writes: Mapping[int, int], options: Options) -> str:
    target = options.target or host()
    return cache.key_of(
        to_text(replace(graph, name="graph"), locations=False, names=False),
        repr(sorted(writes.items())),
        repr(options.contract),
        target.canonical(),
        llvm.fingerprint(),
    )


def _from_cache(disk: cache.DiskCache, key: str) -> artifacts.Artifact | None:
    payload = disk.get(key)
    if payload is None:
        return None
    try:
        return artifacts.from_bytes(payload)
    except ArtifactError as error:
        disk.drop(key, str(error))
        return None


def _label(node: Node) -> str:
    return host_label(node) if isinstance(node.op, Host) else indexing_label(node)


def _with_held(graph: Graph) -> Iterator[Graph]:
    """A graph and all that its nodes hold."""
    stack = [graph]
    while stack:
        graph = stack.pop()
        yield graph
        stack.extend(held for node in graph.nodes for _, held in held_graphs(node))


def _locator(graph: Graph) -> Callable[[str], object]:
    """Finds the user's lines for a failing node: the artifact keeps none, each trace has its own."""

    def locate(label: str) -> object:
        fallible = [(n, g) for g in _with_held(graph) for n in g.nodes if isinstance(n.op, (Indexing, Host))]
        nodes = [(n, g) for n, g in fallible if _label(n) == label] or fallible
        places = list(dict.fromkeys(str(where) for n, g in nodes for where in g.locations.get(n, ())))
        return places[0] if len(places) == 1 else f"one of {', '.join(places)}" if places else None

    return locate
