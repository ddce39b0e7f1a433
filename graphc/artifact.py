"""What code generation hands to the runtime: plain data, and its one file format. Layer 3.

An `Artifact` is a position-independent image of machine code, the table of buffers that its entry point takes, constants,
and tables for messages and inspection. It holds no Python objects of the compiler and is stored without pickle: a JSON
header and raw sections, under a digest, so that a damaged file is an `ArtifactError` and nothing else. The disk cache and
exported models store these bytes; this module is copied into exported models and imports only the error tree and NumPy.

Layout of the bytes (little endian, sections at multiples of 64)::

    0   magic        8 bytes
    8   version      u32
    12  header size  u32
    16  total size   u64
    24  zero         8 bytes
    32  digest       blake2b, 32 bytes, over all bytes but its own
    64  header       JSON (ASCII)
    ..  sections     code, data, then the constants in order
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from graphc.errors import ArtifactError

__all__ = [
    "ARENA",
    "CALLBACK",
    "DETAIL",
    "ENTRY",
    "FORMAT",
    "HOST_FAILED",
    "Artifact",
    "Buffer",
    "Constant",
    "Failure",
    "HostCall",
    "Image",
    "Kernel",
    "Symbol",
    "constant",
    "from_bytes",
    "load",
    "to_bytes",
]

#: The entry point: `i64 (ptr buffers, ptr sizes, ptr arena)`; 0, or 1 + an index into `failures`.
ENTRY = "graphc_entry"
#: Where the arena's size depends on symbolic sizes: `i64 (ptr sizes)` computes it.
ARENA = "graphc_arena"
#: Places in the table of sizes behind the symbols: the host calls' callback, a failure's detail (i64, the bits of an index).
CALLBACK, DETAIL = 0, 1
#: The entry point's status when a host call raised.
HOST_FAILED = -1
#: Version of the file format; another version is refused.
FORMAT = 3

_MAGIC = b"graphc\r\n"
_PREAMBLE = struct.Struct("<8sIIQQ")
_DIGEST_SIZE = 32
_HEADER_AT = _PREAMBLE.size + _DIGEST_SIZE
_SECTION_ALIGN = 64
_ROLES = ("input", "constant", "output")

Bytes = bytes | bytearray | memoryview | mmap.mmap


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function of an image; `exported` ones can be called from outside, the others are listed for inspection."""

    name: str
    offset: int
    size: int
    exported: bool


@dataclass(frozen=True, slots=True)
class Image:
    """A linked, position-independent piece of machine code.

    Mapped as `code` (instructions and read-only data, readable and executable), and from `data_offset` on, a multiple of
    the page size, `data` followed by `zero_bytes` (readable and writable). Nothing is ever writable and executable.
    """

    code: bytes
    data: bytes
    zero_bytes: int
    data_offset: int
    symbols: tuple[Symbol, ...]

    @property
    def size(self) -> int:
        """Bytes to map."""
        writable = len(self.data) + self.zero_bytes
        return self.data_offset + writable if writable else len(self.code)

    def offset(self, name: str) -> int:
        """Where the exported function `name` begins.

        Raises
        ------
        ArtifactError
            If the image exports no such function.
        """
        for symbol in self.symbols:
            if symbol.exported and symbol.name == name:
                return symbol.offset
        raise ArtifactError(f"the image has no entry point {name!r}")

    def exports(self, name: str) -> bool:
        return any(symbol.exported and symbol.name == name for symbol in self.symbols)


@dataclass(frozen=True, slots=True)
class Buffer:
    """One pointer of the entry point's table.

    Attributes
    ----------
    name
        For messages.
    role
        `"input"`, `"constant"` or `"output"`; the table lists them in this order.
    dtype
        The IR's name of the dtype (`"f32"`).
    shape
        Integers, or the text of a symbolic dimension (`"s0"`, `"2*s0 + 1"`).
    writes
        For an output that is written into an input's buffer: that input's index. The output has a slot in the table all
        the same, with the same pointer.
    """

    name: str
    role: str
    dtype: str
    shape: tuple[int | str, ...]
    writes: int | None = None


@dataclass(frozen=True, slots=True)
class Constant:
    """A large constant's content; small ones are part of the code. Equality is by digest."""

    digest: str
    data: npt.NDArray[Any] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """What the entry point's status `1 + index` means.

    `error` names the builtin exception that NumPy would raise or a class of the error tree; `text` is the message, in
    which `{detail}` stands for the detail number, `{unsigned}` for the same bits as an unsigned number; `node` names the node
    for the table of source lines.
    """

    error: str
    text: str
    node: str = ""


@dataclass(frozen=True, slots=True)
class HostCall:
    """A call of a Python function from native code.

    Attributes
    ----------
    function
        Its name, for `graphc.hosts.resolve`.
    keywords
        Static keyword arguments: bools, numbers, strings or None.
    operands, results
        Dtype and shape of each, as in `Buffer`.
    node
        Names the node for the table of source lines.
    """

    function: str
    keywords: tuple[tuple[str, Any], ...]
    operands: tuple[tuple[str, tuple[int | str, ...]], ...]
    results: tuple[tuple[str, tuple[int | str, ...]], ...]
    node: str = ""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel, for inspection: its function, what it does, and flops and bytes of one call (text where symbolic)."""

    name: str
    symbol: str
    summary: str
    flops: int | str
    bytes: int | str
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled graph.

    Attributes
    ----------
    image
        The machine code; exports `ENTRY`, and `ARENA` when `arena_bytes` is None.
    isa
        The least ISA level that can run it, a key of `graphc.target.LEVELS`.
    buffers
        Inputs, then constants, then outputs.
    symbols
        Names of the symbolic sizes, in the order of the sizes table. Each is a whole dimension of some input.
    arena_bytes
        Size of the scratch block, or None if it depends on the symbolic sizes.
    constants
        Contents of the buffers with role `"constant"`, in order.
    failures, kernels, versions
        Tables for messages and inspection.
    hosts
        The Python functions that native code calls. The table of sizes then has the callback's address behind the sizes:
        `i64 (i64 number, ptr pointers, ptr sizes)`, which gives 0 or `HOST_FAILED`.
    """

    image: Image
    isa: str
    buffers: tuple[Buffer, ...]
    symbols: tuple[str, ...] = ()
    arena_bytes: int | None = 0
    constants: tuple[Constant, ...] = ()
    failures: tuple[Failure, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    hosts: tuple[HostCall, ...] = ()

    def __post_init__(self) -> None:
        faults = list(_faults(self))
        if faults:
            raise ArtifactError("inconsistent artifact: " + "; ".join(faults))

    def with_role(self, role: str) -> tuple[Buffer, ...]:
        """The buffers of one role, in order."""
        return tuple(buffer for buffer in self.buffers if buffer.role == role)


def constant(data: npt.NDArray[Any]) -> Constant:
    """A constant with its digest (over dtype, shape and bytes); `data` is copied unless it is C-contiguous and read-only."""
    frozen = data.flags.c_contiguous and not data.flags.writeable
    held = data if frozen else np.array(data, order="C", copy=True)
    held.flags.writeable = False
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{held.dtype.str}{held.shape}".encode())
    digest.update(_raw(held))
    return Constant(digest.hexdigest(), held)


def to_bytes(artifact: Artifact) -> bytes:
    """The artifact in the file format; equal artifacts give equal bytes."""
    contents = [artifact.image.code, artifact.image.data, *(_raw(c.data) for c in artifact.constants)]
    header = json.dumps(_header(artifact), separators=(",", ":"), sort_keys=True).encode("ascii")
    start = _aligned(_HEADER_AT + len(header))
    offsets, end = _place(start, [len(content) for content in contents])
    out = bytearray(end)
    _PREAMBLE.pack_into(out, 0, _MAGIC, FORMAT, len(header), end, 0)
    out[_HEADER_AT : _HEADER_AT + len(header)] = header
    for offset, content in zip(offsets, contents, strict=True):
        out[offset : offset + len(content)] = content
    out[_PREAMBLE.size : _HEADER_AT] = _digest(memoryview(out))
    return bytes(out)


def from_bytes(data: Bytes, *, name: str = "artifact") -> Artifact:
    """Read the file format. Constants are views of `data`, which must not change.

    Parameters
    ----------
    data
        The bytes.
    name
        What to call it in a message (a file's name).

    Raises
    ------
    ArtifactError
        If the bytes are not an undamaged artifact of this format version.
    """
    view = memoryview(data).toreadonly()
    header, start = _checked_header(view, name)
    try:
        return _artifact(header, view, start)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as fault:
        raise ArtifactError(f"{name} has a malformed header: {type(fault).__name__}: {fault}") from None


def load(path: str | Path) -> Artifact:
    """Read an artifact's file; constants stay in the mapped file, so that processes share their pages.

    Raises
    ------
    ArtifactError
        If the file cannot be read or is damaged.
    """
    try:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as fault:  # ValueError: an empty file cannot be mapped
        raise ArtifactError(f"cannot read the artifact {path}: {fault}") from None
    return from_bytes(mapped, name=str(path))


def _faults(artifact: Artifact) -> Iterator[str]:
    """What the tables of an artifact contradict each other in."""
    image = artifact.image
    if not image.exports(ENTRY):
        yield f"no entry point {ENTRY}"
    if artifact.arena_bytes is None and not image.exports(ARENA):
        yield f"the arena's size is symbolic and there is no entry point {ARENA}"
    if any(not 0 <= s.offset <= s.offset + s.size <= len(image.code) for s in image.symbols):
        yield "a function lies outside of the code"
    if image.zero_bytes < 0 or image.data_offset < len(image.code):
        yield "code and data overlap"
    roles = [buffer.role for buffer in artifact.buffers]
    if any(role not in _ROLES for role in roles) or roles != sorted(roles, key=_ROLES.index):
        yield "buffers are not in the order inputs, constants, outputs"
    if roles.count("constant") != len(artifact.constants):
        yield f"{roles.count('constant')} constant buffers, {len(artifact.constants)} constants"
    inputs = artifact.with_role("input")
    for buffer in artifact.buffers:
        if buffer.writes is None:
            continue
        target = inputs[buffer.writes] if 0 <= buffer.writes < len(inputs) else None
        if target is None or (target.dtype, target.shape) != (buffer.dtype, buffer.shape) or buffer.role != "output":
            yield f"{buffer.name} cannot be written into input {buffer.writes}"
    bound = {dim for buffer in inputs for dim in buffer.shape if isinstance(dim, str)}
    unbound = [name for name in artifact.symbols if name not in bound]
    if unbound:
        yield f"no input has {', '.join(unbound)} as a dimension"


def _header(artifact: Artifact) -> dict[str, Any]:
    image = artifact.image
    return {
        "image": {
            "code": len(image.code),
            "data": len(image.data),
            "zero_bytes": image.zero_bytes,
            "data_offset": image.data_offset,
            "symbols": [asdict(symbol) for symbol in image.symbols],
        },
        "isa": artifact.isa,
        "buffers": [asdict(buffer) for buffer in artifact.buffers],
        "symbols": list(artifact.symbols),
        "arena_bytes": artifact.arena_bytes,
        "constants": [
            {"digest": c.digest, "dtype": c.data.dtype.str, "shape": list(c.data.shape)} for c in artifact.constants
        ],
        "failures": [asdict(failure) for failure in artifact.failures],
        "kernels": [asdict(kernel) for kernel in artifact.kernels],
        "versions": [list(pair) for pair in artifact.versions],
        "hosts": [asdict(call) for call in artifact.hosts],
    }


def _checked_header(view: memoryview, name: str) -> tuple[dict[str, Any], int]:
    """The decoded header and the offset of the first section, after magic, version, size and digest were checked."""
    if len(view) < _HEADER_AT or bytes(view[:8]) != _MAGIC:
        raise ArtifactError(f"{name} is not a graphc artifact")
    _, version, header_size, total, _ = _PREAMBLE.unpack_from(view, 0)
    if version != FORMAT:
        raise ArtifactError(f"{name} has format version {version}; this graphc reads version {FORMAT}")
    if total != len(view) or _HEADER_AT + header_size > total:
        raise ArtifactError(f"{name} is damaged: {len(view)} bytes where {total} are expected")
    if bytes(view[_PREAMBLE.size : _HEADER_AT]) != _digest(view):
        raise ArtifactError(f"{name} is damaged: its digest does not fit its content")
    try:
        header = json.loads(bytes(view[_HEADER_AT : _HEADER_AT + header_size]))
    except ValueError as fault:
        raise ArtifactError(f"{name} has a malformed header: {fault}") from None
    if not isinstance(header, dict):
        raise ArtifactError(f"{name} has a malformed header")
    return header, _aligned(_HEADER_AT + header_size)


def _artifact(header: dict[str, Any], view: memoryview, start: int) -> Artifact:
    image, constants = header["image"], header["constants"]
    dtypes = [np.dtype(c["dtype"]) for c in constants]
    shapes = [tuple(int(d) for d in c["shape"]) for c in constants]
    counts = [int(np.prod(shape, dtype=np.int64)) for shape in shapes]
    sizes = [int(image["code"]), int(image["data"]), *(n * d.itemsize for n, d in zip(counts, dtypes, strict=True))]
    offsets, end = _place(start, sizes)
    if end != len(view) or min(sizes) < 0:
        raise ValueError("sections do not fill the file")
    code, data = (bytes(view[offset : offset + size]) for offset, size in zip(offsets[:2], sizes[:2], strict=True))
    arrays = [
        np.frombuffer(view, dtype, count, offset).reshape(shape) if count else np.empty(shape, dtype)
        for dtype, count, offset, shape in zip(dtypes, counts, offsets[2:], shapes, strict=True)
    ]
    symbols = tuple(Symbol(**symbol) for symbol in image["symbols"])
    return Artifact(
        image=Image(code, data, image["zero_bytes"], image["data_offset"], symbols),
        isa=header["isa"],
        buffers=tuple(Buffer(**{**buffer, "shape": tuple(buffer["shape"])}) for buffer in header["buffers"]),
        symbols=tuple(header["symbols"]),
        arena_bytes=header["arena_bytes"],
        constants=tuple(Constant(c["digest"], array) for c, array in zip(constants, arrays, strict=True)),
        failures=tuple(Failure(**failure) for failure in header["failures"]),
        kernels=tuple(Kernel(**kernel) for kernel in header["kernels"]),
        versions=tuple((str(key), str(value)) for key, value in header["versions"]),
        hosts=tuple(_host_call(**call) for call in header["hosts"]),
    )


def _host_call(function: str, keywords: Any, operands: Any, results: Any, node: str) -> HostCall:
    return HostCall(
        function=str(function),
        keywords=tuple((str(name), value) for name, value in keywords),
        operands=tuple((str(dtype), tuple(shape)) for dtype, shape in operands),
        results=tuple((str(dtype), tuple(shape)) for dtype, shape in results),
        node=str(node),
    )


def _place(start: int, sizes: list[int]) -> tuple[list[int], int]:
    """Offsets of sections that follow one another from `start`, and the end of the last."""
    offsets, end = [], start
    for size in sizes:
        offsets.append(_aligned(end))
        end = offsets[-1] + size
    return offsets, end


def _aligned(offset: int) -> int:
    return -(-offset // _SECTION_ALIGN) * _SECTION_ALIGN


def _raw(data: npt.NDArray[Any]) -> memoryview:
    """The bytes of a C-contiguous array."""
    return data.reshape(-1).view(np.uint8).data


def _digest(view: memoryview) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_SIZE)
    digest.update(view[: _PREAMBLE.size])
    digest.update(view[_HEADER_AT:])
    return digest.digest()
