"""Targets: what is found about this machine, and named levels."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from graphc import target
from graphc.errors import CompileError, MissingDependencyError
from graphc.lazy import llvm, networkx


def test_named_levels() -> None:
    v2, v3, v4, arm = (target.named(name) for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"))
    assert target.named("baseline") == v2
    assert [t.vector_bytes for t in (v2, v3, v4, arm)] == [16, 32, 64, 16]
    assert [t.vector_registers for t in (v2, v3, v4, arm)] == [16, 16, 32, 32]
    assert v2.features < v3.features < v4.features
    assert {"fma", "avx2"} <= v3.features - v2.features and "avx512f" in v4.features - v3.features
    assert [t.architecture for t in (v4, arm)] == ["x86_64", "aarch64"]
    assert (v4.lanes(4), v3.lanes(8)) == (16, 4)
    assert len({t.canonical() for t in (v2, v3, v4, arm)}) == 4
    with pytest.raises(CompileError, match=r"'x86-64-v5'\n  hint: Known targets are host, x86-64-v2"):
        target.named("x86-64-v5")


def test_host_is_what_this_machine_can_run() -> None:
    host = target.host()
    assert host is target.host() is target.named("host")
    assert target.missing_features(host.isa) == ()
    assert host.l1_bytes <= host.l2_bytes <= host.l3_bytes
    assert 1 <= host.cores <= len(os.sched_getaffinity(0))


def test_host_agrees_with_llvm() -> None:
    """LLVM finds features by CPUID, graphc by the kernel's list."""
    host = target.host()
    found = llvm().get_host_cpu_features()
    known = {name: found[name] for name in host.features if name in found}
    assert len(known) > 5 and all(known.values())
    assert host.architecture == llvm().get_default_triple().partition("-")[0]
    better = [isa for isa in target.LEVELS if isa > host.isa and isa.startswith("x86") and host.isa.startswith("x86")]
    for isa in better:
        assert not all(found.get(name, True) for name in target.named(isa).features)


def test_kernel_and_numpy_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    found = target._host_features.__wrapped__()
    table = target._numpy_features()
    monkeypatch.setattr(target, "_linux_flags", lambda path: None)
    assert target._host_features.__wrapped__() == found
    # The table of a NumPy before 2.4 is shorter.
    newer = ("LAHF", "CX16", "MOVBE", "BMI", "BMI2", "LZCNT")
    shorter = {name: value for name, value in table.items() if name not in newer}
    monkeypatch.setattr(target, "_numpy_features", lambda: shorter)
    assert target._host_features.__wrapped__() == found


def test_the_lesser_of_unequal_processors_counts(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nflags\t\t: sse2 avx avx2 fma\n\nprocessor\t: 1\nflags\t\t: sse2 avx\nbugs\t: x\n")
    assert target._linux_flags(info) == {"sse2", "avx"}
    info.write_text("processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd evtstrm\n")
    assert target._linux_flags(info) == {"fp", "asimd", "evtstrm"}
    assert target._linux_flags(tmp_path / "absent") is None
    info.write_text("nothing\n")
    assert target._linux_flags(info) is None


def test_missing_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(target, "_host_features", lambda: target._features("x86-64-v3"))
    assert target.missing_features("x86-64-v3") == ()
    assert target.missing_features("x86-64-v4") == ("avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")
    assert target.host.__wrapped__().isa == "x86-64-v3"
    monkeypatch.setattr(target, "_host_features", lambda: frozenset({"sse2"}))
    with pytest.raises(CompileError, match=r"x86-64-v2 lacks cx16, popcnt, .*ssse3"):
        target.host.__wrapped__()
    monkeypatch.setattr(target.platform, "machine", lambda: "riscv64")
    with pytest.raises(CompileError, match=r"this machine \(riscv64\)"):
        target.host.__wrapped__()
    assert target.missing_features("x86-64-v2") == ("the architecture x86_64",)


def _caches(folder: Path, *caches: tuple[int, str, str]) -> Path:
    for number, (level, kind, size) in enumerate(caches):
        index = folder / f"cpu{min(os.sched_getaffinity(0))}" / "cache" / f"index{number}"
        index.mkdir(parents=True)
        for name, value in (("level", str(level)), ("type", kind), ("size", size)):
            (index / name).write_text(value + "\n")
    return folder


def test_cache_sizes(tmp_path: Path) -> None:
    full = _caches(
        tmp_path / "a", (1, "Data", "48K"), (1, "Instruction", "32K"), (2, "Unified", "2M"), (3, "Unified", "36M")
    )
    assert target._cache_sizes(full) == (48 << 10, 2 << 20, 36 << 20)
    two = _caches(tmp_path / "b", (1, "Instruction", "64K"), (1, "Data", "32K"), (2, "Unified", "512K"))
    assert target._cache_sizes(two) == (32 << 10, 512 << 10, 512 << 10)
    assert target._cache_sizes(_caches(tmp_path / "c", (1, "Data", "32K"))) is None
    assert target._cache_sizes(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, float("inf")),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2.0),
        ("0::/../../outer\n", {"cpu.max": "300000 100000"}, 3.0),
        ("3:cpu,cpuacct:/d\n1:memory:/x\n", {"cpu,cpuacct/d/cpu.cfs_quota_us": "50000"}, 0.5),
        ("3:cpu:/d\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1"}, float("inf")),
        ("3:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "50000"}, float("inf")),
        ("garbage\n", {"cpu.max": "x"}, float("inf")),
    ],
)
def test_control_groups(tmp_path: Path, membership: str, files: dict[str, str], quota: float) -> None:
    (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if name.endswith("quota_us"):
            (path.parent / "cpu.cfs_period_us").write_text("100000\n")
    assert target._cgroup_quota(tmp_path / "membership", tmp_path / "mount") == quota
    assert target._cgroup_quota(tmp_path / "absent", tmp_path / "mount") == float("inf")


@pytest.mark.parametrize(("quota", "cores"), [(0.5, 1), (1.9, 1), (float("inf"), len(os.sched_getaffinity(0)))])
def test_cores_never_exceed_the_quota(monkeypatch: pytest.MonkeyPatch, quota: float, cores: int) -> None:
    monkeypatch.setattr(target, "_cgroup_quota", lambda *paths: quota)
    assert target.available_cores() == cores


def test_targets_load_no_compiler() -> None:
    code = (
        "import sys, graphc.target, graphc.runtime.executable, graphc.runtime.cache, graphc.codegen.link\n"
        "graphc.target.host()\n"
        "print([name for name in ('llvmlite', 'networkx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_lazy_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    assert llvm() is sys.modules["llvmlite.binding"] and networkx() is sys.modules["networkx"]
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(MissingDependencyError, match=re.escape("pip install networkx")):
        networkx.__wrapped__()
