"""The machine that code is made for. Layer 0: imports only the error tree, the standard library and NumPy.

A `Target` says what passes and codegen may rely on: instruction set, vector width and register count, cache sizes. It
is found without LLVM, and features are named by the fixed tables below, because LLVM's own lists change between
versions. Code is made for a *level* (`x86-64-v4`), never for single features beyond it, so one name decides whether a
machine can run an artifact: `missing_features(level)` is empty. This module is copied into exported models.
"""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from graphc.errors import CompileError, message

__all__ = ["LEVELS", "Target", "available_cores", "host", "missing_features", "named"]


@dataclass(frozen=True, slots=True)
class Target:
    """A machine to compile for.

    Attributes
    ----------
    triple
        LLVM's name of the platform.
    cpu
        LLVM's name of the processor model; the level's own name, so that all machines of a level get the same code.
    isa
        The level, a key of `LEVELS`.
    features
        What the level adds to its architecture, by LLVM's names (`"avx512f"`, `"fma"`).
    vector_bytes, vector_registers
        Width of a vector register, and how many there are.
    l1_bytes, l2_bytes, l3_bytes
        Data caches; L1 and L2 of one core, L3 as one core sees it.
    cores
        Cores that this process may use (affinity and control group). Not in `canonical`: code does not depend on it.
    """

    triple: str
    cpu: str
    isa: str
    features: frozenset[str]
    vector_bytes: int
    vector_registers: int
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    cores: int

    @property
    def architecture(self) -> str:
        """`"x86_64"` or `"aarch64"`."""
        return self.triple.partition("-")[0]

    def lanes(self, itemsize: int) -> int:
        """Elements of `itemsize` bytes in one vector register."""
        return self.vector_bytes // itemsize

    def canonical(self) -> str:
        """All that generated code may depend on, as one line; a part of cache keys."""
        return (
            f"{self.triple} {self.cpu} {self.isa} [{' '.join(sorted(self.features))}] "
            f"{self.vector_bytes}x{self.vector_registers} {self.l1_bytes}/{self.l2_bytes}/{self.l3_bytes}"
        )


@dataclass(frozen=True, slots=True)
class _Level:
    """One ISA level: what it adds to `below`, and what a typical machine of it looks like."""

    architecture: str
    below: str | None
    adds: tuple[str, ...]
    vector_bytes: int
    vector_registers: int
    caches: tuple[int, int, int]


_K, _M = 1 << 10, 1 << 20

#: ISA levels, from the least to the best within an architecture. x86-64 levels are those of the System V psABI.
LEVELS = {
    "x86-64-v2": _Level(
        "x86_64",
        None,
        ("cx16", "popcnt", "sahf", "sse2", "sse3", "sse4.1", "sse4.2", "ssse3"),
        *(16, 16, (32 * _K, 256 * _K, 8 * _M)),
    ),
    "x86-64-v3": _Level(
        "x86_64",
        "x86-64-v2",
        ("avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"),
        *(32, 16, (32 * _K, 512 * _K, 16 * _M)),
    ),
    "x86-64-v4": _Level(
        "x86_64",
        "x86-64-v3",
        ("avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"),
        *(64, 32, (32 * _K, 1 * _M, 16 * _M)),
    ),
    "armv8-a": _Level("aarch64", None, ("fp-armv8", "neon"), *(16, 32, (64 * _K, 512 * _K, 8 * _M))),
}

_ALIASES = {"baseline": "x86-64-v2", "aarch64": "armv8-a"}
_TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", "aarch64": "aarch64-unknown-linux-gnu"}
_CPUS = {"armv8-a": "generic"}
_ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}

# How Linux and NumPy spell a feature. The kernel's list leaves out what the operating system has not enabled.
_LINUX_NAMES = {
    **{"bmi": "bmi1", "fma": "fma", "lzcnt": "abm", "sahf": "lahf_lm", "sse3": "pni"},
    **{"sse4.1": "sse4_1", "sse4.2": "sse4_2", "fp-armv8": "fp", "neon": "asimd"},
}
_NUMPY_NAMES = {
    **{"fma": "FMA3", "sahf": "LAHF", "sse4.1": "SSE41", "sse4.2": "SSE42", "xsave": "AVX"},
    **{"fp-armv8": "ASIMD", "neon": "ASIMD"},
}
# NumPy before 2.4 does not list these; every processor with the feature on the right has them.
_NUMPY_IMPLIED = {
    **{"cx16": "SSE42", "sahf": "SSE42"},
    **{"bmi": "AVX2", "bmi2": "AVX2", "lzcnt": "AVX2", "movbe": "AVX2"},
}


def named(name: str) -> Target:
    """The typical machine of an ISA level: `"x86-64-v4"`, `"x86-64-v3"`, `"x86-64-v2"` or `"baseline"`, `"aarch64"`.

    Cache sizes are the level's typical ones, so the code does not depend on who compiles. `"host"` is `host()`.

    Raises
    ------
    CompileError
        If there is no such level.
    """
    if name == "host":
        return host()
    isa = _ALIASES.get(name, name)
    if isa not in LEVELS:
        known = ", ".join(["host", *LEVELS, *_ALIASES])
        raise CompileError(message(f"unknown target {name!r}", hint=f"Known targets are {known}."))
    return _make(isa, LEVELS[isa].caches)


@cache
def host() -> Target:
    """This machine. Found once.

    Raises
    ------
    CompileError
        If the machine is below every level that graphc knows.
    """
    architecture = _host_architecture()
    fitting = [isa for isa, level in LEVELS.items() if level.architecture == architecture and not missing_features(isa)]
    if not fitting:
        least = next((isa for isa, level in LEVELS.items() if level.architecture == architecture), None)
        reason = f"; {least} lacks {', '.join(missing_features(least))}" if least else ""
        raise CompileError(f"graphc has no target for this machine ({platform.machine()}{reason})")
    return _make(fitting[-1], _cache_sizes(Path("/sys/devices/system/cpu")) or LEVELS[fitting[-1]].caches)


def missing_features(isa: str) -> tuple[str, ...]:
    """What this machine lacks to run code of the level `isa`; empty if it can."""
    level = LEVELS.get(isa)
    if level is None:
        return (f"an ISA level that this version of graphc knows (not {isa!r})",)
    if level.architecture != _host_architecture():
        return (f"the architecture {level.architecture}",)
    return tuple(sorted(_features(isa) - _host_features()))


def available_cores() -> int:
    """Cores that this process may use: never more than its affinity and its control group allow, at least one."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, math.floor(min(affinity, quota)))


def _make(isa: str, caches: tuple[int, int, int]) -> Target:
    level = LEVELS[isa]
    return Target(
        triple=_TRIPLES[level.architecture],
        cpu=_CPUS.get(isa, isa),
        isa=isa,
        features=_features(isa),
        vector_bytes=level.vector_bytes,
        vector_registers=level.vector_registers,
        l1_bytes=caches[0],
        l2_bytes=caches[1],
        l3_bytes=caches[2],
        cores=available_cores(),
    )


def _features(isa: str) -> frozenset[str]:
    """All features of a level, those of the levels below included."""
    found: set[str] = set()
    name: str | None = isa
    while name is not None:
        found.update(LEVELS[name].adds)
        name = LEVELS[name].below
    return frozenset(found)


def _host_architecture() -> str:
    return _ARCHITECTURES.get(platform.machine().lower(), platform.machine().lower())


@cache
def _host_features() -> frozenset[str]:
    """Features of this machine among those that levels name."""
    names = frozenset(name for level in LEVELS.values() for name in level.adds)
    flags = _linux_flags(Path("/proc/cpuinfo"))
    if flags is not None:
        return frozenset(name for name in names if _LINUX_NAMES.get(name, name) in flags)
    enabled = _numpy_features()
    implied = {name: enabled.get(by, False) for name, by in _NUMPY_IMPLIED.items()}
    return frozenset(
        name for name in names if enabled.get(_NUMPY_NAMES.get(name, name.upper()), implied.get(name, False))
    )


def _linux_flags(cpuinfo: Path) -> frozenset[str] | None:
    """The flags that all processors in /proc/cpuinfo have in common, or None where there is no such list."""
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    fields = (line.partition(":") for line in lines)
    lists = [frozenset(value.split()) for name, _, value in fields if name.strip() in ("flags", "Features")]
    return frozenset.intersection(*lists) if lists else None


def _numpy_features() -> dict[str, bool]:
    """What NumPy found by CPUID; used where the kernel gives no list."""
    core: Any = getattr(np, "_core", None)
    table = getattr(getattr(core, "_multiarray_umath", None), "__cpu_features__", {})
    return dict(table)


def _cache_sizes(cpus: Path) -> tuple[int, int, int] | None:
    """L1 data, L2 and L3 of the first processor that this process may use; None if the kernel does not tell.

    A machine without L3 reports its L2 size for it, so that blocking sizes stay sensible.
    """
    first = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    sizes: dict[int, int] = {}
    for index in sorted((cpus / f"cpu{first}" / "cache").glob("index*")):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction" and size[:-1].isdigit():
            sizes[int(level)] = int(size[:-1]) * {"K": _K, "M": _M, "G": _K * _M}.get(size[-1], 1)
    if 1 not in sizes or 2 not in sizes:
        return None
    return sizes[1], sizes[2], max(sizes.get(3, 0), sizes[2])


def _cgroup_quota(membership: Path, mount: Path) -> float:
    """Processors that the control groups (version 1 or 2, any ancestor) grant; infinity without a limit."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return math.inf
    quota = math.inf
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        roots = [mount / controllers, mount / "cpu"] if controllers else [mount, mount / "unified"]
        # Inside a container the path may be the host's; its parents up to the mount point always exist.
        parts = [part for part in path.split("/") if part and part != ".."]
        for root in roots:
            for depth in range(len(parts) + 1):
                quota = min(quota, _group_quota(root.joinpath(*parts[:depth])))
    return quota


def _group_quota(group: Path) -> float:
    """The processor limit of one control group."""
    try:
        limit, _, period = (group / "cpu.max").read_text().strip().partition(" ")
        return math.inf if limit == "max" else float(limit) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        limit = (group / "cpu.cfs_quota_us").read_text()
        period = (group / "cpu.cfs_period_us").read_text()
        return float(limit) / float(period) if float(limit) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
