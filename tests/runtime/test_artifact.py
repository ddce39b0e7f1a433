"""The artifact's file format: exact round trip, and no damage goes unnoticed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphc.artifact import FORMAT, Artifact, Buffer, constant, from_bytes, load, to_bytes
from graphc.errors import ArtifactError


def rebuilt(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The same file with a changed header under a right digest: what a faulty writer, not a faulty disk, would make."""
    size = struct.unpack_from("<I", data, 12)[0]
    header = json.loads(data[64 : 64 + size])
    sections = data[-(-(64 + size) // 64) * 64 :]
    change(header)
    text = json.dumps(header).encode()
    body = text + bytes(-len(text) % 64) + sections
    preamble = struct.pack("<8sIIQQ", data[:8], FORMAT, len(text), 64 + len(body), 0)
    return preamble + hashlib.blake2b(preamble + body, digest_size=32).digest() + body


def test_round_trip(artifact: Artifact) -> None:
    data = to_bytes(artifact)
    back = from_bytes(data)
    assert back == artifact
    assert to_bytes(back) == data
    np.testing.assert_array_equal(back.constants[0].data, artifact.constants[0].data)
    assert not back.constants[0].data.flags.writeable


@pytest.mark.parametrize(
    "value",
    [
        np.arange(12, dtype=np.int64).reshape(3, 4),
        np.array(1.5),
        np.zeros((0, 3), np.float32),
        np.array([True, False]),
        np.arange(6.0).reshape(2, 3).T,
        np.arange(100, dtype=np.uint64)[::7],
    ],
    ids=str,
)
def test_constants_of_every_kind(artifact: Artifact, value: np.ndarray) -> None:
    held = constant(value)
    assert not np.shares_memory(held.data, value)
    whole = dataclasses.replace(artifact, constants=(held,))
    back = from_bytes(to_bytes(whole)).constants[0]
    assert back == held
    assert back.data.dtype == value.dtype and back.data.shape == value.shape
    np.testing.assert_array_equal(back.data, value)


def test_constant_digests_tell_type_shape_and_bits_apart() -> None:
    values = [
        np.zeros(2, np.float32),
        np.zeros((2, 1), np.float32),
        np.zeros(2, np.int32),
        np.zeros(1, np.float64),
        -np.zeros(2, np.float32),
    ]
    assert len({constant(v).digest for v in values}) == len(values)


def test_load_maps_a_file(artifact: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(to_bytes(artifact))
    loaded = load(path)
    assert loaded == artifact
    assert loaded.constants[0].data.ctypes.data % 64 == 0
    for content in (b"", to_bytes(artifact)[:-1]):
        (tmp_path / "bad.bin").write_bytes(content)
        with pytest.raises(ArtifactError, match=r"bad\.bin"):
            load(tmp_path / "bad.bin")
    with pytest.raises(ArtifactError, match=r"absent\.bin"):
        load(tmp_path / "absent.bin")


def test_every_flipped_bit_is_noticed(artifact: Artifact) -> None:
    data = to_bytes(artifact)
    places = {*range(64 * 8), *random.Random(0).sample(range(len(data) * 8), 1000)}
    for place in places:
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(ArtifactError):
            from_bytes(bytes(damaged))


def test_every_truncation_and_extension_is_noticed(artifact: Artifact) -> None:
    data = to_bytes(artifact)
    for size in {*range(130), *range(130, len(data), 97), len(data) - 1}:
        with pytest.raises(ArtifactError):
            from_bytes(data[:size])
    with pytest.raises(ArtifactError, match="damaged"):
        from_bytes(data + b"\0")


def test_another_format_version_is_refused(artifact: Artifact) -> None:
    data = bytearray(to_bytes(artifact))
    data[8] = FORMAT + 1
    with pytest.raises(ArtifactError, match=f"version {FORMAT + 1}"):
        from_bytes(bytes(data))


def _set(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        at: Any = header
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("isa"),
        lambda header: header.pop("image"),
        lambda header: header["buffers"].pop(2),
        lambda header: header["buffers"].reverse(),
        lambda header: header["buffers"][0].update(extra=1),
        lambda header: header["constants"].clear(),
        lambda header: header.pop("hosts"),
        lambda header: header["hosts"].append({"function": "numpy:sort"}),
        _set("image", "code", value=10**12),
        _set("image", "code", value=-1),
        _set("image", "code", value="x"),
        _set("image", "zero_bytes", value=-1),
        _set("image", "zero_bytes", value="x"),
        _set("image", "data_offset", value=0),
        _set("image", "symbols", value=[]),
        _set("image", "symbols", 0, "offset", value=10**9),
        _set("constants", 0, "dtype", value="nonsense"),
        _set("constants", 0, "dtype", value="|O"),
        _set("constants", 0, "shape", value=[2**62]),
        _set("constants", 0, "shape", value=[-1]),
        _set("buffers", 4, "writes", value=9),
        _set("buffers", 4, "writes", value=0),
        _set("symbols", value=["s0", "s9"]),
    ],
)
def test_malformed_headers_under_a_right_digest(artifact: Artifact, change: Callable[[dict[str, Any]], None]) -> None:
    data = to_bytes(artifact)
    assert from_bytes(rebuilt(data, lambda header: None)) == artifact
    with pytest.raises(ArtifactError):
        from_bytes(rebuilt(data, change))


def test_tables_that_contradict_each_other_are_refused(artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match="constant buffers"):
        dataclasses.replace(artifact, constants=())
    with pytest.raises(ArtifactError, match="graphc_arena"):
        symbols = tuple(s for s in artifact.image.symbols if s.name == "graphc_entry")
        dataclasses.replace(artifact, image=dataclasses.replace(artifact.image, symbols=symbols))
    with pytest.raises(ArtifactError, match="cannot be written into input 0"):
        wrong = Buffer("new_state", "output", "f32", (), writes=0)
        dataclasses.replace(artifact, buffers=(*artifact.buffers[:-1], wrong))
