"""Builds groups by hand, compiles kernels and runs them between guard bands, for tests."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.codegen import llvm
from graphc.codegen.emit import Kernel, emit_kernel
from graphc.codegen.kernel import Buffer, Combine, Dag, Group, Node, Store
from graphc.codegen.link import link
from graphc.dtypes import DType, bool_, from_numpy
from graphc.ir.dims import Dim, Expr, evaluate, product
from graphc.runtime.image import MappedImage
from graphc.target import Target, host

GUARD = 256
_POISON = 0xA5


def _is_nan(s: Any, x: Any) -> Any:
    return s.ne(x, x)


def _maximum(s: Any, x: Any, y: Any) -> Any:
    if not s.dtype(x).is_float:
        return s.select(s.gt(x, y), x, y)
    return s.select(s.or_(s.gt(x, y), _is_nan(s, x)), x, y)


def _minimum(s: Any, x: Any, y: Any) -> Any:
    if not s.dtype(x).is_float:
        return s.select(s.lt(x, y), x, y)
    return s.select(s.or_(s.lt(x, y), _is_nan(s, x)), x, y)


def _better(s: Any, x: Any, best: Any) -> Any:
    if not s.dtype(x).is_float:
        return s.gt(x, best)
    return s.or_(s.gt(x, best), s.and_(_is_nan(s, x), s.not_(_is_nan(s, best))))


def _worse(s: Any, x: Any, best: Any) -> Any:
    if not s.dtype(x).is_float:
        return s.lt(x, best)
    return s.or_(s.lt(x, best), s.and_(_is_nan(s, x), s.not_(_is_nan(s, best))))


def _lowest(dtype: DType) -> float:
    return -np.inf if dtype.is_float else int(np.iinfo(dtype.numpy).min)


def _highest(dtype: DType) -> float:
    return np.inf if dtype.is_float else int(np.iinfo(dtype.numpy).max)


SUM = Combine("sum", lambda s, x, y: s.add(x, y), lambda d: 0)
PROD = Combine("prod", lambda s, x, y: s.mul(x, y), lambda d: 1)
MAX = Combine("max", _maximum, _lowest, exact=True)
MIN = Combine("min", _minimum, _highest, exact=True)
ANY = Combine("any", lambda s, x, y: s.or_(x, y), lambda d: False)
ALL = Combine("all", lambda s, x, y: s.and_(x, y), lambda d: True)
ARGMAX = Combine("argmax", _better, _lowest, arg=True)
ARGMIN = Combine("argmin", _worse, _highest, arg=True)


def strides(shape: Sequence[Dim]) -> list[Dim]:
    """Row-major strides in elements."""
    out: list[Dim] = []
    step: Dim = 1
    for extent in reversed(shape):
        out.append(step)
        step = step * (1 if extent == 0 else extent)
    return out[::-1]


@dataclass
class Lab:
    """A group under construction. Axes are numbers into `extents`."""

    extents: tuple[Dim, ...]
    dag: Dag = field(default_factory=Dag)
    buffers: list[Buffer] = field(default_factory=list)
    stores: list[Any] = field(default_factory=list)

    def buffer(self, dtype: DType, axes: Iterable[int]) -> int:
        self.buffers.append(Buffer(dtype, tuple(self.extents[a] for a in axes)))
        return len(self.buffers) - 1

    def load(self, dtype: DType, axes: Sequence[int]) -> Node:
        """A new input whose dimensions are the given axes."""
        index = self.buffer(dtype, axes)
        terms = zip(axes, strides(self.buffers[index].shape), strict=True)
        return self.dag.load(dtype, self.dag.access(index, terms))

    def store(self, value: Node, axes: Sequence[int]) -> None:
        """A new output whose dimensions are the given axes."""
        index = self.buffer(value.dtype, axes)
        terms = zip(axes, strides(self.buffers[index].shape), strict=True)
        self.stores.append(Store(self.dag.access(index, terms), value, frozenset(axes)))

    def op(self, name: str, *operands: Node, dtype: DType | None = None, heavy: bool = False) -> Node:
        """A protocol instruction."""
        comparison = name in {"lt", "le", "gt", "ge", "eq", "ne"}
        result = dtype or (bool_ if comparison else operands[-1].dtype)
        return self.dag.apply(name, lambda s, *xs: getattr(s, name)(*xs), operands, result, heavy=heavy)

    def rule(self, name: str, rule: Any, *operands: Node, dtype: DType | None = None, heavy: bool = False) -> Node:
        return self.dag.apply(name, rule, operands, dtype or operands[0].dtype, heavy=heavy)

    def const(self, dtype: DType, value: float) -> Node:
        return self.dag.const(dtype, value)

    def group(self) -> Group:
        return Group(self.extents, tuple(self.buffers), tuple(self.stores))


class Compiled:
    """A compiled kernel. Calling it with the input arrays gives the outputs; memory around them is watched."""

    def __init__(self, group: Group, *, target: Target | None = None, contract: bool = True, **options: Any) -> None:
        self.target = target or host()
        self._load(group, emit_kernel("k0", group, self.target, contract=contract, **options))

    def _load(self, group: Group, kernel: Kernel, function: Any = None) -> None:
        self.group = group
        self.kernel = kernel
        self.function = function or load([(group, kernel)], self.target)[0]
        self.written = list(dict.fromkeys(s.access.buffer for s in group.stores))

    @classmethod
    def many(cls, groups: Iterable[Group], *, contract: bool = True) -> list[Compiled]:
        """One module with several kernels."""
        target = host()
        pairs = [(g, emit_kernel(f"k{i}", g, target, contract=contract)) for i, g in enumerate(groups)]
        made = []
        for (group, kernel), function in zip(pairs, load(pairs, target), strict=True):
            one = cls.__new__(cls)
            one.target = target
            one._load(group, kernel, function)
            made.append(one)
        return made

    @property
    def text(self) -> str:
        return module([(self.group, self.kernel)], self.target)

    @property
    def assembly(self) -> str:
        return llvm.emit_assembly(self.text, self.target)

    def __call__(
        self, *arrays: np.ndarray, sizes: Sequence[int] = (), inplace: dict[int, np.ndarray] | None = None
    ) -> Any:
        """Outputs of the kernel; `inplace` are initial contents of buffers that it writes."""
        known = dict(enumerate(sizes))
        inputs = iter(arrays)
        areas = []
        for i, buffer in enumerate(self.group.buffers):
            shape = tuple(evaluate(d, known) for d in buffer.shape)
            area = Area(shape, buffer.dtype.numpy)
            start = (inplace or {}).get(i) if i in self.written else next(inputs)
            if start is not None:
                assert start.shape == shape and start.dtype == buffer.dtype.numpy, (start.shape, shape, start.dtype)
                area.array[...] = start
            areas.append(area)
        scratch = Area((max(evaluate(self.kernel.scratch_bytes, known), 1),), np.dtype(np.uint8))
        table = (ctypes.c_void_p * max(len(areas), 1))(*[a.array.ctypes.data for a in areas])
        values = (ctypes.c_int64 * max(len(known), 1))(*sizes)
        before = [a.array.copy() for a in areas]
        self.function(table, scratch.array.ctypes.data, values)
        for i, area in enumerate([*areas, scratch]):
            area.check(f"buffer {i}")
        for i, area in enumerate(areas):
            if i not in self.written:
                assert area.array.tobytes() == before[i].tobytes(), f"input {i} was written"
        results = [areas[i].array.copy() for i in self.written]
        return results[0] if len(results) == 1 else results


class Area:
    """An array between guard bands, 64-byte aligned, ending exactly at its guard."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        size = int(product(shape)) * dtype.itemsize
        self._memory = np.full(size + 2 * GUARD + 64, _POISON, np.uint8)
        self._start = GUARD + (-(self._memory.ctypes.data + GUARD)) % 64
        self._end = self._start + size
        self.array = self._memory[self._start : self._end].view(dtype).reshape(shape)

    def check(self, what: str) -> None:
        assert (self._memory[: self._start] == _POISON).all(), f"{what}: written below its start"
        assert (self._memory[self._end :] == _POISON).all(), f"{what}: written beyond its end"


def load(kernels: Sequence[tuple[Group, Kernel]], target: Target) -> list[Any]:
    """Compile kernels and map their entries `run<i>(ptr table, ptr scratch, ptr sizes)`."""
    image = link(llvm.emit_object(module(kernels, target), target, verify=True))
    mapped = MappedImage(image, target.isa)
    arguments = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    return [mapped.function(f"run{i}", arguments, None) for i in range(len(kernels))]


def module(kernels: Sequence[tuple[Group, Kernel]], target: Target) -> str:
    """A module of kernels with their entries."""
    lines: list[str] = []
    declarations: dict[str, str] = {}
    for number, (group, kernel) in enumerate(kernels):
        lines += [kernel.text, f"define void @run{number}(ptr %table, ptr %scratch, ptr %sizes) {{"]
        arguments = []
        for i in range(len(group.buffers)):
            lines += [f"  %p{i} = getelementptr ptr, ptr %table, i64 {i}", f"  %b{i} = load ptr, ptr %p{i}"]
            arguments.append(f"ptr %b{i}")
        if kernel.scratch_bytes != 0:
            arguments.append("ptr %scratch")
        for i in kernel.symbols:
            lines += [f"  %q{i} = getelementptr i64, ptr %sizes, i64 {i}", f"  %s{i} = load i64, ptr %q{i}"]
            arguments.append(f"i64 %s{i}")
        lines += [f"  call void @{kernel.name}({', '.join(arguments)})", "  ret void", "}"]
        declarations |= kernel.declarations
    return "\n".join([*lines, *declarations.values(), llvm.attributes(target), ""])


def sample(shape: Sequence[int], dtype: DType, seed: int = 0) -> np.ndarray:
    """Random values; integers small, floats around 0."""
    rng = np.random.default_rng(seed)
    if dtype.is_bool:
        return rng.random(shape) < 0.5
    if dtype.is_integer:
        return rng.integers(-50, 50, shape).astype(dtype.numpy)
    return rng.standard_normal(shape).astype(dtype.numpy)


def specialised(dims: Sequence[Dim], sizes: dict[int, int]) -> tuple[int, ...]:
    return tuple(evaluate(d, sizes) for d in dims)


__all__ = ["Area", "Compiled", "Expr", "Lab", "dtypes", "from_numpy", "module", "sample", "specialised", "strides"]
