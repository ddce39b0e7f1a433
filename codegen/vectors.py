"""The scalar protocol over LLVM vectors. Layer 4, codegen.

`Vectors` implements `graphc.ir.scalar.Scalar`: each instruction appends one LLVM instruction (or a short fixed
sequence) on `lanes` elements to a `Function` and returns a `Vec`. All dtypes of a kernel use the same number of lanes;
LLVM splits what is wider than a register. With one lane the types are plain scalars.

Invariants: no instruction calls a library function on any target, whatever its features (LLVM would call `fmaf` for
`llvm.fma` without FMA hardware, so that case is composed of other instructions); constants are literals, so equal
constants cost nothing. Bools are i1 in registers and i8 (0 or 1) in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from graphc.codegen.text import Function
from graphc.dtypes import ALL, DType, bool_, float16, float32, float64, int64, uint32, uint64
from graphc.ops import softfloat

__all__ = ["Vec", "Vectors", "constant_mask"]

#: The LLVM type of one element in a register, and its spelling in the names of intrinsics.
#: Bools and 16-bit floats are integers there: no instruction but a conversion looks at the value of the latter.
_ELEMENT = {d.name: f"i{d.bits}" for d in ALL} | {"f32": "float", "f64": "double"}
_SUFFIX = {d.name: f"i{8 * d.itemsize}" for d in ALL} | {"f32": "f32", "f64": "f64"}
#: Features (in LLVM's names) with which `llvm.fma` is an instruction.
_FMA_FEATURES = frozenset({"fma", "avx512f", "neon", "fp-armv8"})


#: Features with which float32 is converted to float16 and back by an instruction.
_HALF_FEATURES = frozenset({"f16c", "avx512f", "neon", "fp-armv8"})


@dataclass(frozen=True, slots=True)
class Vec:
    """A value: an SSA name or literal without its type, and the dtype of its lanes."""

    text: str
    dtype: DType


def constant_mask(lanes: int, count: int) -> Vec:
    """The mask of the first `count` lanes, as a literal."""
    bits = ["true" if i < count else "false" for i in range(lanes)]
    return Vec(bits[0] if lanes == 1 else f"<{', '.join(f'i1 {bit}' for bit in bits)}>", bool_)


class Vectors:
    """The protocol on vectors of `lanes` elements, written into `function`.

    Parameters
    ----------
    function
        The function that receives the instructions.
    lanes
        Elements a value; 1 gives scalar code.
    contract
        Whether LLVM may fuse a multiplication and an addition of different instructions (`strict()` never does).
    features
        LLVM's names of the target's features (`"fma"`, `"avx512f"`); empty means the baseline of the architecture.
    """

    def __init__(
        self, function: Function, lanes: int, *, contract: bool = True, features: frozenset[str] = frozenset()
    ) -> None:
        self.function = function
        self.lanes = lanes
        self.contract = contract
        self.features = features
        self._flag = "contract " if contract else ""
        self._has_half = not _HALF_FEATURES.isdisjoint(features)
        self._has_fma = not _FMA_FEATURES.isdisjoint(features)

    def strict(self) -> Vectors:
        """The same vectors without contraction: what is written is what is computed. The math library needs it."""
        if not self.contract:
            return self
        return Vectors(self.function, self.lanes, contract=False, features=self.features)

    # -- types and constants --------------------------------------------------------------------------------------
    def type(self, dtype: DType) -> str:
        """The LLVM type of a value: `<16 x float>`, or `float` with one lane."""
        return self._vector(_ELEMENT[dtype.name])

    def _vector(self, element: str) -> str:
        return element if self.lanes == 1 else f"<{self.lanes} x {element}>"

    def _memory_type(self, dtype: DType) -> str:
        return self._vector(_memory_element(dtype))

    def _suffix(self, dtype: DType) -> str:
        """The suffix of overloaded intrinsics for a value in a register."""
        name = "i1" if dtype is bool_ else _SUFFIX[dtype.name]
        return name if self.lanes == 1 else f"v{self.lanes}{name}"

    def _typed(self, x: Vec) -> str:
        return f"{self.type(x.dtype)} {x.text}"

    def _literal(self, element: str, scalar: str) -> str:
        """A literal with all lanes equal."""
        return scalar if self.lanes == 1 else f"splat ({element} {scalar})"

    def const(self, dtype: DType, value: float | int | bool) -> Vec:
        return Vec(self._literal(_ELEMENT[dtype.name], _scalar_literal(dtype, value)), dtype)

    def bits(self, dtype: DType, pattern: int) -> Vec:
        return Vec(self._literal(_ELEMENT[dtype.name], _pattern_literal(dtype, pattern)), dtype)

    def splat(self, text: str, dtype: DType) -> Vec:
        """All lanes equal to the scalar SSA name or literal `text` (a bool is an i1)."""
        if self.lanes == 1:
            return Vec(text, dtype)
        if not text.startswith("%"):
            return Vec(self._literal(_ELEMENT[dtype.name], text), dtype)
        type_ = self.type(dtype)
        first = self.function.emit(f"insertelement {type_} poison, {_ELEMENT[dtype.name]} {text}, i64 0")
        spread = f"shufflevector {type_} {first}, {type_} poison, <{self.lanes} x i32> zeroinitializer"
        return Vec(self.function.emit(spread), dtype)

    def iota(self, dtype: DType) -> Vec:
        """The lane numbers 0 .. lanes - 1."""
        literals = [_scalar_literal(dtype, i) for i in range(self.lanes)]
        if self.lanes == 1:
            return Vec(literals[0], dtype)
        element = _ELEMENT[dtype.name]
        return Vec("<" + ", ".join(f"{element} {x}" for x in literals) + ">", dtype)

    def dtype(self, x: Vec) -> DType:
        return x.dtype

    # -- memory -----------------------------------------------------------------------------------------------------
    def load(
        self,
        pointer: str,
        dtype: DType,
        *,
        mask: Vec | None = None,
        passthru: Vec | None = None,
        align: int | None = None,
    ) -> Vec:
        """`lanes` consecutive elements from `pointer`; lanes that the mask excludes take `passthru` (or zero).

        `align` is in bytes; by default an element's size. Memory of excluded lanes is not touched.
        """
        align = align or dtype.itemsize
        if mask is None:
            raw = self.function.emit(f"load {self._memory_type(dtype)}, ptr {pointer}, align {align}")
            return self._from_memory(raw, dtype)
        type_ = self._wide(_memory_element(dtype))
        operands = [
            f"ptr {pointer}",
            f"i32 {align}",
            self._wide_operand(mask.text, "i1"),
            self._wide_operand(self._passthru(passthru, dtype), _memory_element(dtype)),
        ]
        raw = self._call(type_, f"llvm.masked.load.v{self.lanes}{_SUFFIX[dtype.name]}.p0", operands)
        return self._from_memory(self._narrow(raw, _memory_element(dtype)), dtype)

    def store(self, x: Vec, pointer: str, *, mask: Vec | None = None, align: int | None = None) -> None:
        """Store `lanes` consecutive elements; lanes that the mask excludes leave memory untouched."""
        align = align or x.dtype.itemsize
        raw = self._to_memory(x)
        if mask is None:
            self.function.do(f"store {self._memory_type(x.dtype)} {raw}, ptr {pointer}, align {align}")
            return
        if mask.text.count("i1 true") == 1:
            self._store_lane(raw, x.dtype, mask.text.strip("<>").split(", ").index("i1 true"), pointer)
            return
        operands = [
            self._wide_operand(raw, _memory_element(x.dtype)),
            f"ptr {pointer}",
            f"i32 {align}",
            self._wide_operand(mask.text, "i1"),
        ]
        self._call_void(f"llvm.masked.store.v{self.lanes}{_SUFFIX[x.dtype.name]}.p0", operands)

    def _store_lane(self, raw: str, dtype: DType, lane: int, pointer: str) -> None:
        """Store one lane. LLVM 22 writes 32 bits where a masked store of one known lane follows a truncation to fewer."""
        element = _memory_element(dtype)
        one = self.function.emit(f"extractelement {self._memory_type(dtype)} {raw}, i64 {lane}")
        if lane:
            pointer = self.function.emit(f"getelementptr {element}, ptr {pointer}, i64 {lane}")
        self.function.do(f"store {element} {one}, ptr {pointer}, align {dtype.itemsize}")

    def gather(
        self, base: str, index: Vec, dtype: DType, *, mask: Vec | None = None, passthru: Vec | None = None
    ) -> Vec:
        """The elements `base[index]`, one a lane; the index counts elements. Excluded lanes touch no memory."""
        element = _memory_element(dtype)
        pointers = self._wide_operand(self._addresses(base, index, element), "ptr")
        mask = mask or self.const(bool_, True)
        operands = [
            pointers,
            f"i32 {dtype.itemsize}",
            self._wide_operand(mask.text, "i1"),
            self._wide_operand(self._passthru(passthru, dtype), element),
        ]
        name = f"llvm.masked.gather.v{self.lanes}{_SUFFIX[dtype.name]}.v{self.lanes}p0"
        raw = self._call(self._wide(element), name, operands)
        return self._from_memory(self._narrow(raw, element), dtype)

    def scatter(self, x: Vec, base: str, index: Vec, *, mask: Vec | None = None) -> None:
        """`base[index] = x`, lanes in ascending order: of equal indices the last lane wins."""
        element = _memory_element(x.dtype)
        pointers = self._wide_operand(self._addresses(base, index, element), "ptr")
        mask = mask or self.const(bool_, True)
        operands = [
            self._wide_operand(self._to_memory(x), element),
            pointers,
            f"i32 {x.dtype.itemsize}",
            self._wide_operand(mask.text, "i1"),
        ]
        self._call_void(f"llvm.masked.scatter.v{self.lanes}{_SUFFIX[x.dtype.name]}.v{self.lanes}p0", operands)

    def _addresses(self, base: str, index: Vec, element: str) -> str:
        """Pointers, one a lane. LLVM reads indices as signed, so an unsigned one is widened first."""
        if index.dtype.bits < 64:
            index = self.convert(index, int64)
        return self.function.emit(f"getelementptr {element}, ptr {base}, {self._typed(index)}")

    def _passthru(self, passthru: Vec | None, dtype: DType) -> str:
        return self._to_memory(passthru if passthru is not None else self.const(dtype, 0))

    def _from_memory(self, raw: str, dtype: DType) -> Vec:
        if dtype is not bool_:
            return Vec(raw, dtype)
        return Vec(self.function.emit(f"icmp ne {self._vector('i8')} {raw}, {self._literal('i8', '0')}"), dtype)

    def _to_memory(self, x: Vec) -> str:
        if x.dtype is not bool_:
            return x.text
        return self.function.emit(f"zext {self._typed(x)} to {self._vector('i8')}")

    # Masked instructions exist for vectors only: one lane goes through vectors of length one.
    def _wide(self, element: str) -> str:
        return f"<{self.lanes} x {element}>"

    def _wide_operand(self, text: str, element: str) -> str:
        if self.lanes == 1:
            text = self.function.emit(f"insertelement <1 x {element}> poison, {element} {text}, i64 0")
        return f"{self._wide(element)} {text}"

    def _narrow(self, text: str, element: str) -> str:
        if self.lanes == 1:
            return self.function.emit(f"extractelement <1 x {element}> {text}, i64 0")
        return text

    # -- emission ---------------------------------------------------------------------------------------------------
    def _call(self, result: str, name: str, operands: list[str]) -> str:
        return self.function.emit(self._call_text(result, name, operands))

    def _call_void(self, name: str, operands: list[str]) -> None:
        self.function.do(self._call_text("void", name, operands))

    def _call_text(self, result: str, name: str, operands: list[str]) -> str:
        types = ", ".join(_type_of(operand) for operand in operands)
        self.function.declarations[name] = f"declare {result} @{name}({types})"
        return f"call {result} @{name}({', '.join(operands)})"

    def _same(self, instruction: str, *operands: Vec) -> Vec:
        """An instruction whose operands and result have one type."""
        dtype = operands[0].dtype
        assert all(x.dtype is dtype for x in operands), (instruction, operands)
        texts = ", ".join(x.text for x in operands)
        return Vec(self.function.emit(f"{instruction} {self.type(dtype)} {texts}"), dtype)

    def _intrinsic(self, name: str, *operands: Vec) -> Vec:
        """An intrinsic overloaded on one type."""
        dtype = operands[0].dtype
        assert all(x.dtype is dtype for x in operands), (name, operands)
        full = f"llvm.{name}.{self._suffix(dtype)}"
        return Vec(self._call(self.type(dtype), full, [self._typed(x) for x in operands]), dtype)

    def _float_or_integer(self, float_name: str, integer_name: str, *operands: Vec) -> Vec:
        if operands[0].dtype.is_float:
            return self._same(f"{float_name} {self._flag}".rstrip(), *operands)
        return self._same(integer_name, *operands)

    # -- what is rare, what is repeated, and tables ---------------------------------------------------------------
    def rarely(self, c: Vec, then: Callable[[], tuple[Vec, ...]], values: tuple[Vec, ...]) -> tuple[Vec, ...]:
        f = self.function
        some = self._any(c)
        before, rare, done = f.block, f.label("rare"), f.label("common")
        f.branch_if(some, rare, done)
        f.start(rare)
        chosen = [self.select(c, x, y) for x, y in zip(then(), values, strict=True)]
        last = f.block
        f.branch(done)
        f.start(done)
        return tuple(
            Vec(f.emit(f"phi {self.type(y.dtype)} [ {y.text}, %{before} ], [ {x.text}, %{last} ]"), y.dtype)
            for x, y in zip(chosen, values, strict=True)
        )

    def _any(self, c: Vec) -> str:
        """Whether a bool holds in one of the lanes, as an i1."""
        if self.lanes == 1:
            return c.text
        mask = self.function.emit(f"bitcast {self._typed(c)} to i{self.lanes}")
        return self.function.emit(f"icmp ne i{self.lanes} {mask}, 0")

    def repeat(
        self,
        count: int,
        active: Vec,
        step: Callable[[Vec, tuple[Vec, ...]], tuple[Vec, tuple[Vec, ...]]],
        values: tuple[Vec, ...],
    ) -> tuple[Vec, ...]:
        f = self.function
        some = self._any(active)
        before, entered, done = f.block, f.label("entered"), f.label("repeated")
        f.branch_if(some, entered, done)
        f.start(entered)
        header = f.loop_header("repeat")
        number, going = f.phi("i32", "0"), f.phi(self.type(bool_), active.text)
        state = [f.phi(self.type(x.dtype), x.text) for x in values]
        old = tuple(Vec(phi.name, x.dtype) for phi, x in zip(state, values, strict=True))
        mask = Vec(going.name, bool_)
        goes_on, found = step(self.splat(number.name, uint32), old)
        new = [self.select(mask, x, y) for x, y in zip(found, old, strict=True)]
        rest = self.and_(mask, goes_on)
        following = f.emit(f"add i32 {number.name}, 1")
        more = f.emit(f"icmp ult i32 {following}, {count}")
        again = f.emit(f"and i1 {more}, {self._any(rest)}")
        last = f.block
        for phi, text in zip((number, going, *state), (following, rest.text, *(x.text for x in new)), strict=True):
            phi.add(text, last)
        f.branch_if(again, header, done)
        f.start(done)
        return tuple(
            Vec(f.emit(f"phi {self.type(y.dtype)} [ {y.text}, %{before} ], [ {x.text}, %{last} ]"), y.dtype)
            for x, y in zip(new, values, strict=True)
        )

    def lookup(self, table: tuple[float, ...], index: Vec) -> Vec:
        elements = ", ".join(f"double {_scalar_literal(float64, x)}" for x in table)
        kind = f"[{len(table)} x double]"
        name = f"@table.{sha256(elements.encode()).hexdigest()[:16]}"
        self.function.declarations[name] = f"{name} = private unnamed_addr constant {kind} [{elements}], align 64"
        return self.gather(name, index, float64)

    # -- arithmetic -------------------------------------------------------------------------------------------------
    def add(self, x: Vec, y: Vec) -> Vec:
        return self._float_or_integer("fadd", "add", x, y)

    def sub(self, x: Vec, y: Vec) -> Vec:
        return self._float_or_integer("fsub", "sub", x, y)

    def mul(self, x: Vec, y: Vec) -> Vec:
        return self._float_or_integer("fmul", "mul", x, y)

    def neg(self, x: Vec) -> Vec:
        if x.dtype.is_float:
            return self._same("fneg", x)
        return self._same("sub", self.const(x.dtype, 0), x)

    def div(self, x: Vec, y: Vec) -> Vec:
        return self._same("fdiv", x, y)

    def fma(self, x: Vec, y: Vec, z: Vec) -> Vec:
        if self._has_fma:
            return self._intrinsic("fma", x, y, z)
        assert x.dtype is y.dtype is z.dtype, (x, y, z)
        vec: Vec = softfloat.fma(self.strict(), x, y, z)
        return vec

    def sqrt(self, x: Vec) -> Vec:
        return self._intrinsic("sqrt", x)

    def abs(self, x: Vec) -> Vec:
        if x.dtype.is_float:
            return self._intrinsic("fabs", x)
        if not x.dtype.is_signed:
            return x
        type_ = self.type(x.dtype)
        name = f"llvm.abs.{self._suffix(x.dtype)}"
        return Vec(self._call(type_, name, [self._typed(x), "i1 false"]), x.dtype)

    def copysign(self, x: Vec, y: Vec) -> Vec:
        return self._intrinsic("copysign", x, y)

    def floor(self, x: Vec) -> Vec:
        return self._intrinsic("floor", x)

    def ceil(self, x: Vec) -> Vec:
        return self._intrinsic("ceil", x)

    def trunc(self, x: Vec) -> Vec:
        return self._intrinsic("trunc", x)

    def rint(self, x: Vec) -> Vec:
        return self._intrinsic("roundeven", x)

    def ldexp(self, x: Vec, n: Vec) -> Vec:
        assert x.dtype is n.dtype, (x, n)
        if "avx512f" in self.features:
            return self._scalef(x, n)
        vec: Vec = softfloat.ldexp(self.strict(), x, n)
        return vec

    def _scalef(self, x: Vec, n: Vec) -> Vec:
        """vscalef on 512-bit pieces: wider values are split, narrower ones padded."""
        width = 512 // x.dtype.bits
        element = _ELEMENT[x.dtype.name]
        piece = f"<{width} x {element}>"
        name = f"llvm.x86.avx512.mask.scalef.{'ps' if x.dtype is float32 else 'pd'}.512"
        parts = []
        for start in range(0, self.lanes, width):
            operands = [f"{piece} {self._piece(v, start, width)}" for v in (x, n)]
            operands += [f"{piece} zeroinitializer", f"i{width} -1", "i32 4"]
            parts.append(self._call(piece, name, operands))
        return Vec(self._join(parts, width, element), x.dtype)

    def _piece(self, x: Vec, start: int, width: int) -> str:
        """Lanes start .. start + width of x; lanes beyond its end are poison."""
        element = _ELEMENT[x.dtype.name]
        if self.lanes == 1:
            return self.function.emit(f"insertelement <{width} x {element}> poison, {element} {x.text}, i64 0")
        if self.lanes == width:
            return x.text
        lanes = _lane_list([i if i < self.lanes else None for i in range(start, start + width)])
        type_ = self.type(x.dtype)
        return self.function.emit(f"shufflevector {type_} {x.text}, {type_} poison, {lanes}")

    def _join(self, parts: list[str], width: int, element: str) -> str:
        """The first `lanes` lanes of the concatenation of pieces (their number is one or a power of two)."""
        if self.lanes == 1:
            return self.function.emit(f"extractelement <{width} x {element}> {parts[0]}, i64 0")
        while len(parts) > 1:
            if len(parts) % 2:
                parts = [*parts, "poison"]
            lanes = _lane_list(list(range(2 * width)))
            type_ = f"<{width} x {element}>"
            parts = [
                self.function.emit(f"shufflevector {type_} {a}, {type_} {b}, {lanes}")
                for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
            width *= 2
        if width == self.lanes:
            return parts[0]
        type_ = f"<{width} x {element}>"
        return self.function.emit(
            f"shufflevector {type_} {parts[0]}, {type_} poison, {_lane_list(list(range(self.lanes)))}"
        )

    # -- integers ---------------------------------------------------------------------------------------------------
    def idiv(self, x: Vec, y: Vec) -> Vec:
        return self._same("sdiv" if x.dtype.is_signed else "udiv", x, y)

    def irem(self, x: Vec, y: Vec) -> Vec:
        return self._same("srem" if x.dtype.is_signed else "urem", x, y)

    def and_(self, x: Vec, y: Vec) -> Vec:
        return self._same("and", x, y)

    def or_(self, x: Vec, y: Vec) -> Vec:
        return self._same("or", x, y)

    def xor(self, x: Vec, y: Vec) -> Vec:
        return self._same("xor", x, y)

    def not_(self, x: Vec) -> Vec:
        return self._same("xor", x, self.const(x.dtype, True if x.dtype is bool_ else -1))

    def shl(self, x: Vec, n: int) -> Vec:
        return self._same("shl", x, self.const(x.dtype, n))

    def lshr(self, x: Vec, n: int) -> Vec:
        return self._same("lshr", x, self.const(x.dtype, n))

    def ashr(self, x: Vec, n: int) -> Vec:
        return self._same("ashr", x, self.const(x.dtype, n))

    def mul_high(self, x: Vec, y: Vec) -> Vec:
        product = self.mul(self.convert(x, uint64), self.convert(y, uint64))
        return self.convert(self.lshr(product, 32), x.dtype)

    # -- comparison -------------------------------------------------------------------------------------------------
    def lt(self, x: Vec, y: Vec) -> Vec:
        return self._compare("lt", x, y)

    def le(self, x: Vec, y: Vec) -> Vec:
        return self._compare("le", x, y)

    def gt(self, x: Vec, y: Vec) -> Vec:
        return self._compare("gt", x, y)

    def ge(self, x: Vec, y: Vec) -> Vec:
        return self._compare("ge", x, y)

    def eq(self, x: Vec, y: Vec) -> Vec:
        return self._compare("eq", x, y)

    def ne(self, x: Vec, y: Vec) -> Vec:
        return self._compare("ne", x, y)

    def _compare(self, relation: str, x: Vec, y: Vec) -> Vec:
        assert x.dtype is y.dtype, (relation, x, y)
        if x.dtype.is_float:
            instruction = f"fcmp {'u' if relation == 'ne' else 'o'}{relation}"
        elif relation in {"eq", "ne"}:
            instruction = f"icmp {relation}"
        else:
            instruction = f"icmp {'s' if x.dtype.is_signed else 'u'}{relation}"
        return Vec(self.function.emit(f"{instruction} {self._typed(x)}, {y.text}"), bool_)

    # -- selection and conversion -----------------------------------------------------------------------------------
    def select(self, c: Vec, x: Vec, y: Vec) -> Vec:
        assert c.dtype is bool_ and x.dtype is y.dtype, (c, x, y)
        return Vec(self.function.emit(f"select {self._typed(c)}, {self._typed(x)}, {self._typed(y)}"), x.dtype)

    def convert(self, x: Vec, dtype: DType) -> Vec:
        if x.dtype is dtype:
            return x
        if x.dtype.is_short_float:
            return self.convert(self._lengthen(x), dtype)
        if dtype.is_short_float:
            return self._shorten(x, dtype)
        instruction = _conversion(x.dtype, dtype)
        if instruction is None:
            return Vec(x.text, dtype)
        return Vec(self.function.emit(f"{instruction} {self._typed(x)} to {self.type(dtype)}"), dtype)

    def _lengthen(self, x: Vec) -> Vec:
        """A 16-bit float as float32."""
        if x.dtype is float16 and self._has_half:
            half = self.function.emit(f"bitcast {self._typed(x)} to {self._vector('half')}")
            return Vec(self.function.emit(f"fpext {self._vector('half')} {half} to {self.type(float32)}"), float32)
        vec: Vec = softfloat.lengthen(self.strict(), x)
        return vec

    def _shorten(self, x: Vec, dtype: DType) -> Vec:
        """A number as a 16-bit float: by way of float32, as NumPy and ml_dtypes do; only float64 to float16 is rounded once.
        (LLVM alone would call a library for that.)"""
        wide = x.dtype is float64 and dtype is float16
        x = softfloat.round_to_odd(self.strict(), x) if wide else self.convert(x, float32)
        if dtype is float16 and self._has_half:
            half = self.function.emit(f"fptrunc {self._typed(x)} to {self._vector('half')}")
            return Vec(self.function.emit(f"bitcast {self._vector('half')} {half} to {self.type(dtype)}"), dtype)
        vec: Vec = softfloat.shorten(self.strict(), x, dtype)
        return vec

    def bitcast(self, x: Vec, dtype: DType) -> Vec:
        assert x.dtype.bits == dtype.bits, (x, dtype)
        if _ELEMENT[x.dtype.name] == _ELEMENT[dtype.name]:
            return Vec(x.text, dtype)
        return Vec(self.function.emit(f"bitcast {self._typed(x)} to {self.type(dtype)}"), dtype)


def _memory_element(dtype: DType) -> str:
    return "i8" if dtype is bool_ else _ELEMENT[dtype.name]


def _type_of(operand: str) -> str:
    """The type in front of a typed operand: `<16 x float>` of `<16 x float> splat (float 0x...)`."""
    return operand[: operand.index(">") + 1] if operand.startswith("<") else operand.split(" ", 1)[0]


def _lane_list(lanes: list[int | None] | list[int]) -> str:
    return f"<{len(lanes)} x i32> <" + ", ".join("i32 poison" if i is None else f"i32 {i}" for i in lanes) + ">"


def _conversion(source: DType, target: DType) -> str | None:
    """The LLVM instruction that converts a value, None where the bits stay as they are."""
    if source.is_float:
        if target.is_float:
            return "fpext" if target.bits > source.bits else "fptrunc"
        assert target.is_integer, "to bool is a comparison"
        return "fptosi" if target.is_signed else "fptoui"
    if target.is_float:
        return "sitofp" if source.is_signed else "uitofp"
    assert target.is_integer, "to bool is a comparison"
    if target.bits == source.bits:
        return None
    if target.bits < source.bits:
        return "trunc"
    return "sext" if source.is_signed else "zext"


def _scalar_literal(dtype: DType, value: float | int | bool) -> str:
    if dtype is bool_:
        return "true" if value else "false"
    if dtype.is_integer:
        return str(_signed(int(value) % 2**dtype.bits, dtype.bits))
    with np.errstate(over="ignore"):
        rounded = np.asarray(value, dtype=dtype.numpy)
    return _pattern_literal(dtype, int(rounded.view(f"u{dtype.itemsize}")))


def _pattern_literal(dtype: DType, pattern: int) -> str:
    """LLVM writes float and double as the 16 hexadecimal digits of a double."""
    if dtype is bool_:
        return "true" if pattern else "false"
    if dtype.is_integer or dtype.is_short_float:
        return str(_signed(pattern, dtype.bits))
    if dtype is float64:
        return f"0x{pattern:016X}"
    return f"0x{_widen_float32(pattern):016X}"


def _widen_float32(pattern: int) -> int:
    """The double with the value of the float32 `pattern`; a NaN keeps its sign, payload and quiet bit."""
    if pattern & 0x7F800000 == 0x7F800000:
        return (pattern >> 31) << 63 | 0x7FF << 52 | (pattern & 0x7FFFFF) << 29
    (value,) = struct.unpack("<f", pattern.to_bytes(4, "little"))
    return int.from_bytes(struct.pack("<d", value), "little")


def _signed(pattern: int, bits: int) -> int:
    return pattern - 2**bits if pattern >> (bits - 1) else pattern
