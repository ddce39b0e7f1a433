"""What the commands of `graphc` do. Layer 7. Each takes parsed options and prints; mistakes raise the project's errors."""

from __future__ import annotations

import argparse
import pkgutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graphc import config as configs
from graphc import interp, target
from graphc.errors import GraphcError, ParseError, message
from graphc.frontend.build import Options, build
from graphc.frontend.compile import CompiledFunction, CompiledModule, compile
from graphc.frontend.report import Report
from graphc.ir.graph import Graph
from graphc.ir.parser import load, parse
from graphc.ir.printer import large_literals, save, to_text
from graphc.passes.manager import Compilation, run_pipeline
from graphc.passes.pipelines import OPTIMISE, parse_passes
from graphc.runtime import cache
from graphc.runtime.executable import Executable
from graphc.tools import examples, replay
from graphc.tools.reduction import Case
from graphc.version import of_package, version

__all__ = ["cache_command", "inspect_command", "opt_command", "replay_command", "run_command", "version_text"]


def version_text() -> str:
    """Versions of what results depend on, on one line."""
    packages = ", ".join(f"{name} {of_package(name) or 'missing'}" for name in ("numpy", "llvmlite", "networkx"))
    return f"graphc {version()} (Python {sys.version.split()[0]}, {packages}; {target.host().isa})"


# -- inspect -------------------------------------------------------------------------------------------------------------


def inspect_command(options: argparse.Namespace) -> None:
    """Compile a user's function for example arguments and print the report or a part of it."""
    args, kwargs = examples.arguments(options.shapes, options.seed)
    report = _compiled(_find(options.function), options).inspect(*args, **kwargs)
    print(_part(report, options))


def _part(report: Report, options: argparse.Namespace) -> str:
    """What the options ask for; the summary if they ask for nothing."""
    if options.stage is not None:
        return str(report.stages[options.stage])
    if options.diff is not None:
        return report.diff(*options.diff) or "no difference"
    if options.asm is not None:
        return report.asm_of(options.asm) if options.asm else report.asm
    if options.kernels:
        return f"{report.kernels}\n\n{report.kernels.trees()}"
    if options.llvm:
        return report.llvm
    if options.memory:
        return str(report.memory)
    return report.dot() if options.dot else str(report)


def _find(name: str) -> Any:
    """The object that `package.module:attribute.path` names; modules are looked for in the working directory, too."""
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        raise ParseError(message(f"{name!r} is not package.module:function", hint="For example: models.mlp:predict"))
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = pkgutil.resolve_name(f"{module_name}:")
    except ValueError:
        raise ParseError(f"{module_name!r} is not the name of a module") from None
    except ModuleNotFoundError as fault:
        if fault.name is None or not f"{module_name}.".startswith(f"{fault.name}."):
            raise  # the user's module was found, and misses something itself
        raise GraphcError(message(f"there is no module {module_name!r}", hint=f"Searched from {Path.cwd()}.")) from None
    for step in path.split("."):
        if not hasattr(found, step):
            raise GraphcError(f"{module_name!r} has no attribute {path!r}")
        found = getattr(found, step)
    return found


def _compiled(function: Any, options: argparse.Namespace) -> CompiledFunction | CompiledModule:
    """The function, compiled, with the command line's options over its own."""
    made = function if isinstance(function, (CompiledFunction, CompiledModule)) else compile(function)
    inner = made._compiled if isinstance(made, CompiledModule) else made
    chosen = inner._options
    if options.no_contract:
        chosen = replace(chosen, contract=False)
    if options.target is not None:
        chosen = replace(chosen, target=target.named(options.target))
    return made if chosen == inner._options else CompiledFunction(inner._function, chosen, inner._static)


# -- opt and run -----------------------------------------------------------------------------------------------------------


def opt_command(options: argparse.Namespace) -> None:
    """Run passes over a graph's text."""
    graph = _graph(options.file)
    passes = OPTIMISE if options.passes is None else parse_passes(options.passes)
    config = configs.from_environment()
    config = replace(config, verify=config.verify or options.verify, time=config.time or options.time)
    compilation = run_pipeline(passes, graph, config=config)
    if options.stages:
        print(_stages(compilation))
    elif options.output is None:
        print(to_text(compilation.graph), end="")
        if large_literals(compilation.graph):
            print("note: large constants are printed as digests; -o writes them beside the text", file=sys.stderr)
    else:
        save(compilation.graph, options.output)


def _stages(compilation: Compilation) -> str:
    return "\n".join(str(stage) for stage in compilation.stages)


def run_command(options: argparse.Namespace) -> None:
    """Evaluate a graph's text with the interpreter, or compile and run it."""
    graph = _graph(options.file)
    given = {} if options.npz is None else replay.load_arrays(options.npz)
    inputs = examples.graph_inputs(graph, given, examples.sizes(options.sizes), options.seed)
    outputs = _run_compiled(graph, inputs) if options.compiled else interp.evaluate(graph, inputs)
    for number, array in enumerate(outputs):
        shown = np.array2string(np.asarray(array), threshold=options.limit, prefix="  ")
        print(f"output{number}: {graph.outputs[number].type}\n  {shown}")
    if options.output is not None:
        with open(options.output, "wb") as file:
            np.savez(file, **{f"output{i}": np.asarray(array) for i, array in enumerate(outputs)})  # type: ignore[arg-type]


def _run_compiled(graph: Graph, inputs: list[Any]) -> list[Any]:
    executable: Executable = build(graph, {}, Options()).executable
    arrays = [np.array(x, order="C", copy=True) for x in inputs]
    executable.check(arrays)
    return executable.run(arrays)


def _graph(file: str) -> Graph:
    return parse(sys.stdin.read(), file="<stdin>") if file == "-" else load(file)


# -- replay ---------------------------------------------------------------------------------------------------------------


def replay_command(options: argparse.Namespace) -> int:
    """Evaluate a graph in every way; with `--reduce`, look for the smallest part that shows a disagreement."""
    graph = _graph(options.file)
    beside = replay.arguments_file(options.file)
    npz = options.npz or (beside if beside.exists() else None)
    given = {} if npz is None else replay.load_arrays(npz)
    inputs = examples.graph_inputs(graph, given, examples.sizes(options.sizes), options.seed)
    sizes = interp.bind_symbols(graph, inputs)
    case = Case(interp.specialize(graph, sizes), tuple(np.asarray(x) for x in inputs))
    found = replay.disagreements(case, contract=not options.no_contract)
    if found and options.reduce is not None:
        case = replay.reduce(case, contract=not options.no_contract, seconds=options.seconds)
        replay.save_case(case, options.reduce)
        found = replay.disagreements(case, contract=not options.no_contract)
        print(to_text(case.graph), end="")
    print("\n".join(found or ["all evaluations agree"]))
    return int(bool(found))


# -- cache -----------------------------------------------------------------------------------------------------------------


def cache_command(options: argparse.Namespace) -> None:
    """Show or empty the disk cache."""
    disk = cache.opened()
    if disk is None:
        print("the disk cache is off")
        return
    entries = [path.stat().st_size for path in disk.directory.glob("*.gxc")]
    print(f"{disk.directory}: {len(entries)} entries, {sum(entries):,} of {disk.limit:,} bytes")
    if options.clear:
        disk.clear()
        print("cleared")
