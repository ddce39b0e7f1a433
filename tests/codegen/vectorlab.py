"""Compiles rules of the scalar protocol through LLVM and runs them on NumPy arrays, for tests."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from graphc.codegen.text import Function
from graphc.codegen.vectors import Vec, Vectors
from graphc.dtypes import DType, from_numpy

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()

Rule = Callable[..., Any]


@dataclass(frozen=True)
class Machine:
    """What to compile for: a CPU name, LLVM's feature string and the features that Vectors is told about."""

    cpu: str
    attributes: str
    features: frozenset[str]


def host() -> Machine:
    features = llvm.get_host_cpu_features()
    names = frozenset(name for name, present in features.items() if present)
    return Machine(llvm.get_host_cpu_name(), features.flatten(), names)


#: x86-64-v2 has neither FMA nor AVX: the instructions that Vectors composes.
BASELINE = Machine("x86-64-v2", "", frozenset())


class Compiled:
    """Rules compiled into one module; each is run over whole arrays in a loop of `lanes` elements."""

    def __init__(
        self, rules: dict[str, tuple[Rule, Sequence[DType]]], lanes: int, machine: Machine, *, contract: bool = False
    ) -> None:
        self.lanes = lanes
        self.results: dict[str, list[DType]] = {}
        declarations: dict[str, str] = {}
        texts = []
        for number, (name, (rule, operands)) in enumerate(rules.items()):
            function = Function("void", f"@k{number}", _parameters(len(operands)), linkage="dso_local")
            vectors = Vectors(function, lanes, contract=contract, features=machine.features)
            texts.append(self._kernel(name, function, vectors, rule, operands))
            declarations |= function.declarations
        self.text = "\n".join([*texts, *declarations.values(), "attributes #0 = { nounwind }", ""])
        self._names = {name: number for number, name in enumerate(rules)}
        module = llvm.parse_assembly(self.text)
        module.verify()
        target = llvm.Target.from_default_triple().create_target_machine(
            cpu=machine.cpu, features=machine.attributes, opt=1, reloc="pic", codemodel="small"
        )
        self.asm = target.emit_assembly(module)
        self._engine = llvm.create_mcjit_compiler(module, target)
        self._engine.finalize_object()

    def _kernel(self, name: str, function: Function, vectors: Vectors, rule: Rule, operands: Sequence[DType]) -> str:
        header = function.loop_header("loop")
        index = function.phi("i64", "0")
        values = [
            vectors.load(_element(function, dtype, f"%b{i}", index.name), dtype) for i, dtype in enumerate(operands)
        ]
        found = rule(vectors, *values)
        outputs: list[Vec] = list(found) if isinstance(found, tuple) else [found]
        self.results[name] = [x.dtype for x in outputs]
        for i, x in enumerate(outputs):
            vectors.store(x, _element(function, x.dtype, f"%o{i}", index.name))
        following = function.emit(f"add i64 {index.name}, {self.lanes}")
        more = function.emit(f"icmp slt i64 {following}, %n")
        index.add(following, function.block)
        end = function.label("end")
        function.branch_if(more, header, end)
        function.start(end)
        return function.finish("ret void")

    def __call__(self, name: str, *arrays: np.ndarray) -> Any:
        """The rule's result on equally long arrays."""
        size = arrays[0].size
        padded = -(-size // self.lanes) * self.lanes
        inputs = [np.ascontiguousarray(np.resize(a, padded)) for a in arrays]
        outputs = [np.empty(padded, dtype.numpy) for dtype in self.results[name]]
        function = self.function(name, len(arrays))
        pointers = [a.ctypes.data for a in inputs] + [o.ctypes.data for o in outputs]
        function(*pointers, *[0] * (4 - len(outputs)), padded)
        results = [o[:size] for o in outputs]
        return results[0] if len(results) == 1 else tuple(results)

    def function(self, name: str, operands: int) -> Any:
        """The native function: input pointers, four output pointers, element count."""
        address = self._engine.get_function_address(f"k{self._names[name]}")
        return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (operands + 4), ctypes.c_int64)(address)


def _parameters(operands: int) -> list[str]:
    names = [f"%b{i}" for i in range(operands)] + [f"%o{i}" for i in range(4)]
    return [f"ptr noalias {name}" for name in names] + ["i64 %n"]


def _element(function: Function, dtype: DType, base: str, index: str) -> str:
    return function.emit(f"getelementptr i{dtype.itemsize * 8}, ptr {base}, i64 {index}")


def same_bits(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Elementwise: equal bits, or both NaN."""
    assert x.dtype == y.dtype, (x.dtype, y.dtype)
    dtype = from_numpy(x.dtype)
    pattern = f"u{dtype.itemsize}"
    equal = np.ascontiguousarray(x).view(pattern) == np.ascontiguousarray(y).view(pattern)
    with np.errstate(all="ignore"):
        return equal | (np.isnan(x) & np.isnan(y)) if dtype.is_float else equal
