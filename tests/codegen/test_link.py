"""Linking LLVM's objects into images: every relocation that generated code has, and a named error for all others."""

from __future__ import annotations

import ctypes
import struct

import numpy as np
import pytest

from graphc import target
from graphc.artifact import Image
from graphc.codegen import llvm
from graphc.codegen.link import PAGE_BYTES, link
from graphc.errors import CompileError
from graphc.runtime.image import MappedImage

LEVELS = ["x86-64-v2", "x86-64-v3", "x86-64-v4"]

# A jump table, internal calls, initialised and zeroed globals, scalar and vector constant pools, a read-only array.
MODULE = """
@table = internal global [4 x i32] [i32 10, i32 20, i32 30, i32 40], align 16
@zeroed = internal global [100 x i64] zeroinitializer, align 64
@steps = internal constant [6 x double] [double 0.5, double 1.5, double 2.5, double 3.5, double 4.5, double 5.5]

define internal i64 @choose(i64 %x) noinline #0 {
entry:
  switch i64 %x, label %other [ i64 0, label %count  i64 1, label %seven  i64 2, label %large
                                i64 3, label %global i64 4, label %last ]
count:
  %old = load i64, ptr getelementptr (i64, ptr @zeroed, i64 99)
  %new = add i64 %old, 1
  store i64 %new, ptr getelementptr (i64, ptr @zeroed, i64 99)
  ret i64 %new
seven:
  %seventy = mul i64 %x, 77
  ret i64 %seventy
large:
  %big = mul i64 %x, 1234567890123
  ret i64 %big
global:
  %entry2 = load i32, ptr getelementptr (i32, ptr @table, i64 2)
  %wide = sext i32 %entry2 to i64
  ret i64 %wide
last:
  %odd = xor i64 %x, 99
  ret i64 %odd
other:
  ret i64 -1
}

define i64 @call(i64 %x) #0 {
  %y = call i64 @choose(i64 %x)
  ret i64 %y
}

define double @step(i64 %i) #0 {
  %p = getelementptr double, ptr @steps, i64 %i
  %v = load double, ptr %p
  %w = fadd double %v, 0x3FB999999999999A
  ret double %w
}

define void @shuffle(ptr %to, ptr %from) #0 {
  %x = load <16 x float>, ptr %from, align 4
  %y = shufflevector <16 x float> %x, <16 x float> poison, <16 x i32>
    <i32 15, i32 0, i32 13, i32 2, i32 11, i32 4, i32 9, i32 6, i32 7, i32 8, i32 5, i32 10, i32 3, i32 12, i32 1, i32 14>
  %z = fadd <16 x float> %y, <float 1.0, float 2.0, float 3.0, float 4.0, float 5.0, float 6.0, float 7.0, float 8.0,
    float 9.0, float 10.0, float 11.0, float 12.0, float 13.0, float 14.0, float 15.0, float 16.5>
  store <16 x float> %z, ptr %to, align 4
  ret void
}
"""


def build(text: str, level: str = "x86-64-v2") -> Image:
    machine = target.named(level)
    return link(llvm.emit_object(text + llvm.attributes(machine), machine, verify=True))


def mapped(text: str, level: str = "x86-64-v2") -> MappedImage:
    if target.missing_features(level):
        pytest.skip(f"this machine cannot run {level}")
    return MappedImage(build(text, level), level)


@pytest.mark.parametrize("level", LEVELS)
def test_code_of_every_level_runs(level: str) -> None:
    image = mapped(MODULE, level)
    call = image.function("call", (ctypes.c_int64,))
    assert [call(i) for i in (-1, 1, 2, 3, 4, 5)] == [-1, 77, 2469135780246, 30, 103, -1]
    assert [call(0) for _ in range(3)] == [1, 2, 3]
    step = image.function("step", (ctypes.c_int64,), ctypes.c_double)
    assert [step(i) for i in range(6)] == [i + 0.5 + 0.1 for i in range(6)]
    x, y = np.arange(16, dtype=np.float32), np.zeros(16, np.float32)
    image.function("shuffle", (ctypes.c_void_p, ctypes.c_void_p), None)(y.ctypes.data, x.ctypes.data)
    order = [15, 0, 13, 2, 11, 4, 9, 6, 7, 8, 5, 10, 3, 12, 1, 14]
    np.testing.assert_array_equal(y, x[order] + np.array([*range(1, 16), 16.5], np.float32))


def test_module_has_what_the_test_is_for() -> None:
    """The module above exercises nothing unless LLVM makes relocations from code and from read-only data."""
    machine = target.named("x86-64-v2")
    found = llvm.emit_object(MODULE + llvm.attributes(machine), machine)
    assert b".rela.text" in found and b".rela.rodata" in found  # the latter is the jump table
    assert b".rodata.cst" in found


def test_two_images_of_one_artifact_have_their_own_data() -> None:
    image = build(MODULE)
    first, second = (MappedImage(image, "x86-64-v2").function("call", (ctypes.c_int64,)) for _ in range(2))
    assert [first(0), first(0), second(0)] == [1, 2, 1]


def test_layout_separates_code_from_writable_data() -> None:
    image = build(MODULE)
    assert image.data_offset % PAGE_BYTES["x86_64"] == 0
    assert len(image.code) <= image.data_offset
    assert image.data == struct.pack("<4i", 10, 20, 30, 40)
    assert image.size == image.data_offset + len(image.data) + image.zero_bytes
    assert image.zero_bytes >= 800
    names = {symbol.name: symbol for symbol in image.symbols}
    assert {name for name, symbol in names.items() if symbol.exported} == {"call", "step", "shuffle"}
    assert not names["choose"].exported
    assert all(symbol.size > 0 for symbol in names.values())


def test_pages_are_never_writable_and_executable() -> None:
    image = mapped(MODULE)
    protections = {}
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, protection = line.split()[:2]
            low, high = (int(end, 16) for end in span.split("-"))
            for name, place in (("code", 0), ("data", image._image.data_offset)):
                if low <= image.address + place < high:
                    protections[name] = protection
    assert protections == {"code": "r-xp", "data": "rw-p"}


def test_image_without_data_and_empty_module() -> None:
    image = build("define i64 @one() #0 {\n  ret i64 1\n}\n")
    assert (image.data, image.zero_bytes, image.size) == (b"", 0, len(image.code))
    assert MappedImage(image, "x86-64-v2").function("one", ())() == 1
    assert build("").code == b""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "declare float @sinf(float)\ndeclare void @helper()\n"
            "define float @f(float %x) #0 {\n  call void @helper()\n  %y = call float @sinf(float %x)\n  ret float %y\n}\n",
            ["external symbols: helper, sinf"],
        ),
        (
            "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)\n"
            "define void @f(ptr %p, i64 %n) #0 {\n"
            "  call void @llvm.memset.p0.i64(ptr %p, i8 0, i64 %n, i1 false)\n  ret void\n}\n",
            ["external symbols: memset"],
        ),
        ("@g = external global i32\ndefine ptr @f() #0 {\n  ret ptr @g\n}\n", ["external symbols: g"]),
        ("@g = global i32 1\ndefine ptr @f() #0 {\n  ret ptr @g\n}\n", ["GOTPCRELX to g", ".text"]),
        (
            "@t = internal constant [2 x ptr] [ptr @f, ptr @g]\n"
            "define internal i64 @g() #0 {\n  ret i64 1\n}\n"
            "define i64 @f(i64 %i) #0 {\n  %p = getelementptr ptr, ptr @t, i64 %i\n  %q = load ptr, ptr %p\n"
            "  %r = ptrtoint ptr %q to i64\n  ret i64 %r\n}\n",
            ["R_X86_64_64", ".data.rel.ro"],
        ),
        (
            "@t = internal thread_local global i32 1\n"
            "declare ptr @llvm.threadlocal.address.p0(ptr)\n"
            "define ptr @f() #0 {\n  %p = call ptr @llvm.threadlocal.address.p0(ptr @t)\n  ret ptr %p\n}\n",
            ["thread-local"],
        ),
        (
            "@t = internal global i32 1, align 65536\ndefine i32 @f() #0 {\n  %x = load i32, ptr @t\n"
            "  store i32 2, ptr @t\n  ret i32 %x\n}\n",
            [".data", "alignment of 65536"],
        ),
    ],
)
def test_what_images_do_not_have_is_refused_by_name(text: str, words: list[str]) -> None:
    with pytest.raises(CompileError) as caught:
        build(text)
    for word in words:
        assert word in str(caught.value)


def test_bytes_that_are_no_object() -> None:
    for data in (b"", b"\x7fELF", b"MZ" * 100, b"\x7fELF\x02\x01" + bytes(100)):
        with pytest.raises(CompileError):
            link(data)


def test_aarch64_is_made_as_far_as_the_object() -> None:
    machine = target.named("aarch64")
    data = llvm.emit_object(MODULE + llvm.attributes(machine), machine, verify=True)
    assert struct.unpack_from("<H", data, 18) == (183,)
    with pytest.raises(CompileError, match="aarch64 can only be made as an object"):
        link(data)
    plain = llvm.emit_object("define i64 @one() #0 {\n  ret i64 1\n}\n" + llvm.attributes(machine), machine)
    assert link(plain).data_offset % 65536 == 0


def test_text_that_does_not_parse_or_verify_names_the_line() -> None:
    machine = target.named("x86-64-v2")
    with pytest.raises(CompileError, match=r"line 2: %x = nonsense"):
        llvm.emit_object("define void @f() {\n  %x = nonsense i32\n}\n", machine)
    broken = "define i32 @f() {\n  %y = add i32 %x, 1\n  %x = add i32 1, 1\n  ret i32 %y\n}\n"
    with pytest.raises(CompileError, match="verifier refuses"):
        llvm.emit_object(broken, machine, verify=True)


def test_assembly_and_passes() -> None:
    machine = target.named("x86-64-v3")
    text = "define i64 @f(i64 %x) #0 {\n  %p = alloca i64\n  store i64 %x, ptr %p\n  %y = load i64, ptr %p\n  ret i64 %y\n}\n"
    text += llvm.attributes(machine)
    assert "alloca" not in llvm.optimize_text(text, machine, 2)
    assert "f:" in llvm.emit_assembly(text, machine)
    assert len(llvm.emit_object(text, machine, passes=2)) > 0
    assert all(part.isdigit() for part in llvm.version().split("."))
