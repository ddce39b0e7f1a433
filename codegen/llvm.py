"""The only room that talks to llvmlite: LLVM text in, object code or assembly out. Layer 4, codegen.

Code is emitted position independent (`reloc=pic`, small code model) with codegen level 1 and without IR passes: our
kernels are vectorised already, and passes would only cost time. `attributes(target)` ends each module. All emission
goes through `_module`, which adds the target's data layout, so that alignments are the target's own.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Any

from graphc.errors import CompileError
from graphc.lazy import llvm as load_llvm
from graphc.target import Target

__all__ = ["attributes", "emit_assembly", "emit_object", "fingerprint", "optimize_text", "version"]

#: Code generation level: 0 is slow code, 2 and 3 take longer and are no faster for vectorised kernels.
CODEGEN_LEVEL = 1


def version() -> str:
    """LLVM's version, as `"22.1.0"`."""
    return ".".join(str(part) for part in load_llvm().llvm_version_info)


@cache
def fingerprint() -> str:
    """What decides which code LLVM makes: llvmlite's version, and its library's size and date. Loads neither.

    Raises
    ------
    MissingDependencyError
        If llvmlite is not installed.
    """
    spec = importlib.util.find_spec("llvmlite")
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    files = [path for folder in folders for path in sorted((folder / "binding").glob("*llvmlite.*"))]
    versions = [path.read_text(encoding="utf-8") for folder in folders for path in folder.glob("_version.py")]
    if not files or not versions:
        return version()
    return repr((versions, [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]))


def attributes(target: Target) -> str:
    """The definition of attribute group #0, the last line of every module."""
    features = ",".join(f"+{name}" for name in sorted(target.features))
    return (
        f'attributes #0 = {{ nounwind "target-cpu"="{target.cpu}" "target-features"="{features}" '
        f'"prefer-vector-width"="{8 * target.vector_bytes}" }}'
    )


def emit_object(text: str, target: Target, *, verify: bool = False, passes: int | None = None) -> bytes:
    """Compile a module to a relocatable ELF object.

    Parameters
    ----------
    text
        LLVM IR.
    target
        The machine; need not be this one.
    verify
        Run LLVM's verifier first.
    passes
        Run LLVM's IR passes at this level (1 to 3) first; None runs none.

    Raises
    ------
    CompileError
        If the text does not parse or verify.
    """
    module = _module(text, target, verify, passes)
    return bytes(_machine(target).emit_object(module))


def emit_assembly(text: str, target: Target, *, verify: bool = False, passes: int | None = None) -> str:
    """Compile a module to assembly text; parameters as for `emit_object`."""
    module = _module(text, target, verify, passes)
    return str(_machine(target).emit_assembly(module))


def optimize_text(text: str, target: Target, level: int) -> str:
    """The module's text after LLVM's IR passes at `level`."""
    return str(_module(text, target, False, level))


def _module(text: str, target: Target, verify: bool, passes: int | None) -> Any:
    machine = _machine(target)
    # On one line with the text's first, so that line numbers in LLVM's messages are the text's own.
    header = f'target datalayout = "{machine.target_data}" target triple = "{target.triple}" '
    try:
        module = load_llvm().parse_assembly(header + text)
    except RuntimeError as fault:
        raise CompileError(_explain("LLVM does not parse the module", str(fault), text)) from None
    if verify:
        try:
            module.verify()
        except RuntimeError as fault:
            raise CompileError(_explain("LLVM's verifier refuses the module", str(fault), text)) from None
    if passes is not None:
        _run_passes(module, machine, passes)
    return module


def _run_passes(module: Any, machine: Any, level: int) -> None:
    llvm = load_llvm()
    options = llvm.create_pipeline_tuning_options(speed_level=level)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


def _explain(what: str, fault: str, text: str) -> str:
    """LLVM's message with the line of `text` that it points at."""
    place = re.search(r":(\d+):\d+: error", fault)
    lines = text.splitlines()
    if place is None or not 1 <= int(place[1]) <= len(lines):
        return f"{what}: {fault.strip()}"
    number = int(place[1])
    return f"{what}: {fault.strip()}\n  line {number}: {lines[number - 1].strip()}"


@cache
def _machine(target: Target) -> Any:
    llvm = load_llvm()
    _initialize()
    try:
        description = llvm.Target.from_triple(target.triple)
    except RuntimeError as fault:
        raise CompileError(f"this llvmlite cannot make code for {target.triple}: {fault}") from None
    features = ",".join(f"+{name}" for name in sorted(target.features))
    return description.create_target_machine(
        cpu=target.cpu, features=features, opt=CODEGEN_LEVEL, reloc="pic", codemodel="small"
    )


@cache
def _initialize() -> None:
    llvm = load_llvm()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
