"""The machine: facts for the record, and probes for the floors that no program can beat.

The FMA probe is a loop of independent fused multiply-adds in the host's widest vectors; the copy probe moves as many bytes
as a workload does between buffers that exist already.
"""

from __future__ import annotations

import ctypes
import datetime
import importlib.metadata
import platform
import time
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from graphc.codegen.llvm import attributes
from graphc.target import Target, available_cores, host

__all__ = ["copy_seconds", "facts", "fma_flops"]

_PACKAGES = ("graphc", "numpy", "llvmlite", "torch", "jax", "jaxlib")
_CHAINS = 12
_ITERATIONS = 1_000_000


def facts(command: str) -> dict[str, Any]:
    """Processor, cores, versions, date and the command."""
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "processor": _processor(),
        "isa": host().isa,
        "cores": available_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "f32_flops_per_core": fma_flops(),
        "copy_bytes_per_second": 2 * (256 << 20) / copy_seconds(2 * (256 << 20)),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def copy_seconds(traffic: int) -> float:
    """Fastest copy of traffic/2 bytes between two warm buffers, so that `traffic` bytes are read or written."""
    source = np.ones(traffic // 2, np.uint8)  # ones: untouched zeros would all be the same page
    target = np.zeros_like(source)
    np.copyto(target, source)
    return min(_seconds(lambda: np.copyto(target, source)) for _ in range(20))


def _seconds(action: Any) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def fma_flops() -> float:
    """Peak multiply-add operations per second of one core in float32, two for each lane and instruction."""
    target = host()
    lanes = target.vector_bytes // 4
    engine = _engine(_probe(target, lanes), target)
    run = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64)(engine.get_function_address("probe"))
    best = min(_seconds(lambda: run(_ITERATIONS)) for _ in range(8))
    return 2.0 * lanes * _CHAINS * _ITERATIONS / best


def _engine(text: str, target: Target) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(target.triple).create_target_machine(cpu=target.cpu, opt=1)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine)
    engine.finalize_object()
    return engine


def _probe(target: Target, lanes: int) -> str:
    """float probe(i64 n): n rounds of one FMA in each of `_CHAINS` independent chains."""
    v = f"<{lanes} x float>"
    ones = f"<{', '.join(['float 1.0'] * lanes)}>"
    half = f"<{', '.join(['float 0.5'] * lanes)}>"
    lines = ["define float @probe(i64 %n) #0 {", "start:", "  br label %loop", "loop:"]
    lines.append("  %i = phi i64 [ 0, %start ], [ %next, %loop ]")
    starts = [f"<{', '.join([f'float {c}.0'] * lanes)}>" for c in range(_CHAINS)]
    lines += [f"  %a{c} = phi {v} [ {starts[c]}, %start ], [ %b{c}, %loop ]" for c in range(_CHAINS)]
    lines += [f"  %b{c} = call {v} @llvm.fma.v{lanes}f32({v} %a{c}, {v} {half}, {v} {ones})" for c in range(_CHAINS)]
    lines += [
        "  %next = add i64 %i, 1",
        "  %more = icmp slt i64 %next, %n",
        "  br i1 %more, label %loop, label %end",
        "end:",
    ]
    lines.append(f"  %s0 = fadd {v} %b0, {ones}")
    lines += [f"  %s{c} = fadd {v} %s{c - 1}, %b{c}" for c in range(1, _CHAINS)]
    lines += [f"  %r = extractelement {v} %s{_CHAINS - 1}, i32 0", "  ret float %r", "}"]
    lines.append(f"declare {v} @llvm.fma.v{lanes}f32({v}, {v}, {v})")
    lines.append(attributes(target))
    return "\n".join(lines)
