"""Compiles matrix products and runs them on guarded buffers, for tests.

Every buffer ends at a page that cannot be touched; what lies around and between its elements is poison, and must be as
it was afterwards.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from graphc.codegen import llvm
from graphc.codegen.gemm import Epilogue, GemmSpec, emit_gemm, make_plan
from graphc.codegen.link import link
from graphc.runtime.image import MappedImage
from graphc.target import Target

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
POISON = 0xEF
PAGE = mmap.PAGESIZE


@dataclass(frozen=True)
class Case:
    """One product with its options."""

    spec: GemmSpec
    contract: bool = False
    initial: bool = False
    epilogue: Epilogue | None = None
    heavy: bool = False
    extra: tuple[str, ...] = ()
    extra_sizes: tuple[int, ...] = ()

    def plan(self, target: Target) -> Any:
        return make_plan(
            self.spec,
            target,
            initial=self.initial,
            epilogue=self.epilogue is not None,
            heavy_epilogue=self.heavy,
        )


class Guarded:
    """`size` elements of poison that end (to within `align` bytes) where an inaccessible page begins."""

    def __init__(self, size: int, dtype: np.dtype[Any], *, align: int = 1) -> None:
        length = max(size * dtype.itemsize, 1)
        pages = -(-length // PAGE) + 2
        self._map = mmap.mmap(-1, pages * PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.bytes = np.frombuffer(self._map, np.uint8)[: (pages - 1) * PAGE]
        self.bytes[:] = POISON
        self._protect(base + (pages - 1) * PAGE, 0)
        start = ((pages - 1) * PAGE - size * dtype.itemsize) // align * align
        self.address = base + start
        self.array = self.bytes[start : start + size * dtype.itemsize].view(dtype)
        self._last, self._start = base + (pages - 1) * PAGE, start

    @staticmethod
    def _protect(address: int, protection: int) -> None:
        assert _LIBC.mprotect(address, PAGE, protection) == 0

    def before_is_untouched(self) -> bool:
        return bool((self.bytes[: self._start] == POISON).all())


def compile_cases(cases: Sequence[Case], target: Target) -> list[Any]:
    """One ctypes function a case, all in one module: (a, b, c, extra.., scratch) addresses."""
    functions: dict[str, str] = {}
    declarations: dict[str, str] = {}
    entries = []
    for i, case in enumerate(cases):
        code = emit_gemm(
            f"@k{i}",
            case.spec,
            target,
            contract=case.contract,
            initial=case.initial,
            epilogue=case.epilogue,
            heavy_epilogue=case.heavy,
            extra=case.extra,
        )
        functions |= code.functions
        declarations |= code.declarations
        parameters = ", ".join(["ptr %a", "ptr %b", "ptr %c", *case.extra, "ptr %scratch"])
        entries.append(f"define void @entry{i}({parameters}) #0 {{\n  call void @k{i}({parameters})\n  ret void\n}}")
    text = "\n".join([*declarations.values(), *functions.values(), *entries, llvm.attributes(target)])
    image = MappedImage(link(llvm.emit_object(text, target, verify=True)), target.isa)
    return [
        image.function(f"entry{i}", (ctypes.c_void_p,) * (4 + len(case.extra)), None) for i, case in enumerate(cases)
    ]


def offsets(strides: Sequence[tuple[int, int]]) -> np.ndarray[Any, Any]:
    """Element offsets of an array given as (extent, stride) pairs."""
    result = np.zeros((), np.int64)
    for extent, stride in strides:
        result = result[..., None] + np.arange(extent) * stride
    return result


@dataclass
class Operands:
    """A case's operands in guarded memory, and their logical views as [batch.., rows.., columns]."""

    case: Case
    a: np.ndarray[Any, Any] = field(init=False)
    b: np.ndarray[Any, Any] = field(init=False)
    before: np.ndarray[Any, Any] = field(init=False)

    def __post_init__(self) -> None:
        spec = self.case.spec
        ba, bb, bc = (tuple((x[0], x[i]) for x in spec.batch) for i in (1, 2, 3))
        k_a, k_b = tuple((e, s) for e, s, _ in spec.k), tuple((e, s) for e, _, s in spec.k)
        self._a = offsets((*ba, (spec.m, spec.a_row_stride), *k_a))
        self._b = offsets((*bb, *k_b, (spec.n, spec.b_col_stride)))
        self.c_offsets = offsets((*bc, (spec.m, spec.c_row_stride), (spec.n, 1)))
        depth, batch = spec.depth, tuple(x[0] for x in spec.batch)
        self._shape_a, self._shape_b = (*batch, spec.m, depth), (*batch, depth, spec.n)

    def fill(self, rng: np.random.Generator, scratch_bytes: int) -> None:
        """New values in new memory."""
        dtype = self.case.spec.dtype.numpy
        self.memory_a, self.a = self._operand(rng, self._a, self._shape_a, dtype)
        self.memory_b, self.b = self._operand(rng, self._b, self._shape_b, dtype)
        self.memory_c = Guarded(_extent(self.c_offsets), dtype)
        if self.case.initial:
            self.memory_c.array[self.c_offsets.ravel()] = _random(rng, self.c_offsets.size, dtype)
        self.before = self.memory_c.array.copy()
        self.scratch = Guarded(scratch_bytes, np.dtype(np.uint8), align=64)
        self.extra = [Guarded(size, dtype) for size in self.case.extra_sizes]

    @staticmethod
    def _operand(
        rng: np.random.Generator, where: np.ndarray[Any, Any], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[Guarded, np.ndarray[Any, Any]]:
        memory = Guarded(_extent(where), dtype)
        memory.array[where.ravel()] = _random(rng, where.size, dtype)
        return memory, memory.array[where].reshape(shape)

    def run(self, function: Any) -> np.ndarray[Any, Any]:
        """Call, check all that must be untouched, and return C's elements."""
        function(
            self.memory_a.address,
            self.memory_b.address,
            self.memory_c.address,
            *(e.address for e in self.extra),
            self.scratch.address,
        )
        for memory in (self.memory_a, self.memory_b, self.memory_c, self.scratch, *self.extra):
            assert memory.before_is_untouched()
        after = self.memory_c.array
        written = np.zeros(after.shape, bool)
        written[self.c_offsets.ravel()] = True
        np.testing.assert_array_equal(_bits(after[~written]), _bits(self.before[~written]))
        return after[self.c_offsets]

    @property
    def initial(self) -> np.ndarray[Any, Any]:
        """What sums begin with."""
        if self.case.initial:
            return self.before[self.c_offsets]
        return np.zeros(self.c_offsets.shape, self.case.spec.dtype.numpy)


def _extent(where: np.ndarray[Any, Any]) -> int:
    return int(where.max()) + 1 if where.size else 0


def _random(rng: np.random.Generator, size: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    if dtype.kind == "f":
        return rng.standard_normal(size).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, size, dtype, endpoint=True)


def _bits(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return x.view(f"u{x.dtype.itemsize}")


def chain(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], initial: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The documented order of tiles: one chain over k, each operation rounded."""
    result = initial.copy()
    with np.errstate(over="ignore"):
        for k in range(a.shape[-1]):
            result = result + a[..., :, k : k + 1] * b[..., k : k + 1, :]
    return result


def lanes(
    a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], initial: np.ndarray[Any, Any], inner: int
) -> np.ndarray[Any, Any]:
    """The documented order of dot products: `inner` is the innermost loop's extent."""
    count = 64 // a.dtype.itemsize
    partial = np.zeros((*initial.shape, count), a.dtype)
    with np.errstate(over="ignore"):
        for outer, start in product(range(0, a.shape[-1], inner), range(0, inner, count)):
            x = np.zeros((*a.shape[:-1], count), a.dtype)
            y = np.zeros((*b.shape[:-2], count, b.shape[-1]), a.dtype)
            size = min(count, inner - start)
            x[..., :size] = a[..., outer + start : outer + start + size]
            y[..., :size, :] = b[..., outer + start : outer + start + size, :]
            partial = partial + x[..., :, None, :] * np.moveaxis(y, -2, -1)[..., None, :, :]
        while count > 1:
            count //= 2
            partial = partial[..., :count] + partial[..., count:]
        return initial + partial[..., 0]
