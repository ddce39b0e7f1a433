"""From LLVM's relocatable object to a position-independent image. Layer 4, codegen.

Kernels need no external symbol, so the only relocations left are PC-relative ones between the object's own sections;
they are resolved here once, and the image can be mapped anywhere. Code and read-only data come first, writable data
begins on a page of its own, so that no page is ever writable and executable. Anything else (an external symbol, an
absolute address, a global offset table) is a `CompileError` that names it: it would be a bug of the code generator.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from graphc.artifact import Image, Symbol
from graphc.errors import CompileError

__all__ = ["PAGE_BYTES", "link"]

#: Where writable data may begin: a multiple of the largest page size that the architecture's systems use.
PAGE_BYTES = {"x86_64": 4096, "aarch64": 65536}

_MACHINES = {62: "x86_64", 183: "aarch64"}

# ELF64 records (System V gABI).
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")

_SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS, _SHT_REL = 2, 4, 8, 9
_SHF_WRITE, _SHF_ALLOC, _SHF_TLS = 1, 2, 0x400
_SHN_UNDEF, _SHN_LORESERVE = 0, 0xFF00
_STT_FUNC, _STB_LOCAL = 2, 0

#: PC-relative relocations of the x86-64 psABI: number to format of the patched field.
_PC_RELATIVE = {2: "<i", 4: "<i", 24: "<q"}  # PC32, PLT32, PC64
_X86_NAMES = {
    **{1: "R_X86_64_64", 3: "R_X86_64_GOT32", 9: "R_X86_64_GOTPCREL", 10: "R_X86_64_32", 11: "R_X86_64_32S"},
    **{41: "R_X86_64_GOTPCRELX", 42: "R_X86_64_REX_GOTPCRELX"},
}
#: Sections that a mapped image does not need.
_DROPPED = (".eh_frame", ".note", ".comment", ".llvm", ".debug")


@dataclass(frozen=True, slots=True)
class _Section:
    index: int
    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int

    @property
    def kept(self) -> bool:
        """Whether it is mapped. Empty ones are, too: code may take the address of an array without elements."""
        return bool(self.flags & _SHF_ALLOC) and not self.name.startswith(_DROPPED)

    @property
    def order(self) -> tuple[int, int]:
        """Instructions and read-only data in the object's order, then writable data, then zeroed data."""
        writable = bool(self.flags & _SHF_WRITE)
        return (2 if self.kind == _SHT_NOBITS else 1) if writable else 0, self.index


@dataclass(frozen=True, slots=True)
class _Name:
    """An entry of the symbol table; `section` is an index, 0 if undefined."""

    name: str
    kind: int
    local: bool
    section: int
    value: int
    size: int


@dataclass(frozen=True, slots=True)
class _Object:
    """A relocatable object, read."""

    data: bytes
    machine: str
    sections: list[_Section]
    names: list[_Name]


def link(data: bytes) -> Image:
    """Link one relocatable ELF object into an image.

    Raises
    ------
    CompileError
        If the object refers to anything outside of itself, or needs what images do not have.
    """
    machine, sections = _read_sections(data)
    parsed = _Object(data, machine, sections, _read_symbols(data, sections))
    kept = sorted((s for s in sections if s.kept), key=lambda s: s.order)
    for section in kept:
        if section.flags & _SHF_TLS:
            raise CompileError(f"the object has thread-local data in {section.name}")
    places, code_end, data_offset, end = _lay_out(kept, PAGE_BYTES[machine])
    memory = bytearray(end)
    for section in kept:
        if section.kind != _SHT_NOBITS:
            start = places[section.index]
            memory[start : start + section.size] = data[section.offset : section.offset + section.size]
    _relocate(parsed, places, memory)
    stored_end = max((places[s.index] + s.size for s in kept if s.order[0] == 1), default=data_offset)
    return Image(
        code=bytes(memory[:code_end]),
        data=bytes(memory[data_offset:stored_end]),
        zero_bytes=end - stored_end,
        data_offset=data_offset,
        symbols=tuple(_functions(parsed.names, places)),
    )


def _read_sections(data: bytes) -> tuple[str, list[_Section]]:
    if len(data) < _HEADER.size or data[:6] != b"\x7fELF\x02\x01":
        raise CompileError("the object is not little-endian ELF64")
    _, kind, machine, _, _, _, table, _, _, _, _, entry_size, count, strings = _HEADER.unpack_from(data)
    if kind != 1 or entry_size != _SECTION.size or machine not in _MACHINES:
        raise CompileError(
            f"the object is not a relocatable one for x86-64 or AArch64 (type {kind}, machine {machine})"
        )
    records = [_SECTION.unpack_from(data, table + i * _SECTION.size) for i in range(count)]
    text_at = records[strings][4]
    return _MACHINES[machine], [
        _Section(i, _text(data, text_at + name), kind, flags, offset, size, link_, info, max(align, 1))
        for i, (name, kind, flags, _, offset, size, link_, info, align, _) in enumerate(records)
    ]


def _read_symbols(data: bytes, sections: list[_Section]) -> list[_Name]:
    tables = [section for section in sections if section.kind == _SHT_SYMTAB]
    if len(tables) != 1:
        raise CompileError(f"the object has {len(tables)} symbol tables")
    table = tables[0]
    text_at = sections[table.link].offset
    return [
        _Name(_text(data, text_at + name), info & 15, info >> 4 == _STB_LOCAL, section, value, size)
        for name, info, _, section, value, size in _SYMBOL.iter_unpack(data[table.offset : table.offset + table.size])
    ]


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode("utf-8", "replace")


def _lay_out(kept: list[_Section], page: int) -> tuple[dict[int, int], int, int, int]:
    """Each section's offset in the image; the end of the code, the start of writable data, the end of all."""
    places: dict[int, int] = {}
    position = code_end = data_offset = 0
    writable = False
    for section in kept:
        if section.align > page:
            raise CompileError(f"section {section.name} wants an alignment of {section.align} bytes")
        if section.order[0] and not writable:
            writable, code_end = True, position
            position = data_offset = _aligned(position, page)
        position = _aligned(position, section.align)
        places[section.index] = position
        position += section.size
    if not writable:
        code_end, data_offset = position, _aligned(position, page)
        return places, code_end, data_offset, data_offset
    return places, code_end, data_offset, position


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _relocate(parsed: _Object, places: dict[int, int], memory: bytearray) -> None:
    """Resolve all relocations of mapped sections in `memory`."""
    sections, names = parsed.sections, parsed.names
    tables = [s for s in sections if s.kind in (_SHT_RELA, _SHT_REL) and s.info in places]
    entries = [
        (table.info, *_RELA.unpack_from(parsed.data, at))
        for table in tables
        if table.kind == _SHT_RELA
        for at in range(table.offset, table.offset + table.size, _RELA.size)
    ]
    _refuse_external(names[info >> 32] for _, _, info, _ in entries)
    if (parsed.machine != "x86_64" and entries) or any(table.kind == _SHT_REL for table in tables):
        raise CompileError(
            f"code for {parsed.machine} can only be made as an object: its relocations are not linked yet"
        )
    for section, offset, info, addend in entries:
        name, kind = names[info >> 32], info & 0xFFFFFFFF
        if kind == 0:  # R_X86_64_NONE
            continue
        if kind not in _PC_RELATIVE:
            raise CompileError(
                f"relocation {_X86_NAMES.get(kind, f'number {kind}')} to {_describe(name, sections)} in "
                f"{sections[section].name} needs an absolute address or a table; images have only PC-relative references"
            )
        if name.section not in places:
            raise CompileError(f"{sections[section].name} refers to {_describe(name, sections)}, which is not mapped")
        place = places[section] + offset
        value = places[name.section] + name.value + addend - place
        try:
            struct.pack_into(_PC_RELATIVE[kind], memory, place, value)
        except struct.error:
            raise CompileError(f"the image is too large: {_describe(name, sections)} is {value} bytes away") from None


def _refuse_external(names: Iterator[_Name]) -> None:
    external = sorted({name.name for name in names if name.section == _SHN_UNDEF and name.name})
    if external:
        raise CompileError(
            f"generated code refers to external symbols: {', '.join(external)}; kernels must be self-contained"
        )


def _describe(name: _Name, sections: list[_Section]) -> str:
    if name.name:
        return name.name
    return sections[name.section].name if name.section < _SHN_LORESERVE else f"section index {name.section:#x}"


def _functions(names: list[_Name], places: dict[int, int]) -> Iterator[Symbol]:
    for name in names:
        if name.kind == _STT_FUNC and name.section in places:
            yield Symbol(name.name, places[name.section] + name.value, name.size, not name.local)
