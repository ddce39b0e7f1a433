"""Mapping machine code into this process, without LLVM. Layer 4, runtime.

An image's pages are written first and made executable afterwards, never both at once; writable data has pages of its
own. Before anything is mapped the artifact's ISA level is compared with this machine, so that a lesser machine gets an
error and not an illegal instruction. This module is copied into exported models.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from graphc.artifact import Artifact, Image
from graphc.errors import ArtifactError, message
from graphc.target import missing_features

__all__ = ["MappedImage", "check_machine"]


def check_machine(isa: str) -> None:
    """Raise unless this machine can run code of the ISA level.

    Raises
    ------
    ArtifactError
        If it cannot; the message lists what is missing.
    """
    if not sys.platform.startswith("linux"):
        raise ArtifactError(f"compiled code needs Linux; this is {sys.platform}")
    missing = missing_features(isa)
    if missing:
        raise ArtifactError(
            message(
                f"this model was compiled for {isa} and this machine lacks {', '.join(missing)}",
                hint="Compile or export it again for a lower ISA level, or on this machine.",
            )
        )


class MappedImage:
    """An image in memory. The pages live as long as this object or any function taken from it.

    Parameters
    ----------
    image
        What to map.
    isa
        The ISA level that it needs; checked first.
    """

    __slots__ = ("_image", "_pages", "address")

    def __init__(self, image: Image, isa: str) -> None:
        check_machine(isa)
        if image.data_offset % mmap.PAGESIZE:
            raise ArtifactError(f"the image is laid out for smaller pages than this system's {mmap.PAGESIZE} bytes")
        self._image = image
        self._pages = mmap.mmap(
            -1,
            max(image.size, 1),
            flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
            prot=mmap.PROT_READ | mmap.PROT_WRITE,
        )
        self._pages[: len(image.code)] = image.code
        self._pages[image.data_offset : image.data_offset + len(image.data)] = image.data
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
        _make_executable(self.address, len(image.code))

    @classmethod
    def of(cls, artifact: Artifact) -> MappedImage:
        """The mapped image of an artifact."""
        return cls(artifact.image, artifact.isa)

    def place(self, name: str) -> int:
        """The address of an exported function; valid while this object lives.

        Raises
        ------
        ArtifactError
            If the image exports no such function.
        """
        return self.address + self._image.offset(name)

    def function(
        self, name: str, arguments: tuple[Any, ...], result: Any = ctypes.c_int64, *, release_gil: bool = True
    ) -> Callable[..., Any]:
        """An exported function as a ctypes callable that keeps the pages alive.

        Parameters
        ----------
        name
            The exported function.
        arguments, result
            ctypes types.
        release_gil
            Release the global interpreter lock around the call; worth it above some 50 us.

        Raises
        ------
        ArtifactError
            If the image exports no such function.
        """
        make = ctypes.CFUNCTYPE if release_gil else ctypes.PYFUNCTYPE
        function: Any = make(result, *arguments)(self.place(name))
        function.image = self
        return function


def _make_executable(address: int, size: int) -> None:
    """Make the pages of `size` bytes from `address` on readable and executable, and no longer writable."""
    if not size:
        return
    if _libc().mprotect(address, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC):
        fault = os.strerror(ctypes.get_errno())
        raise ArtifactError(f"the system refuses to make compiled code executable: {fault}")


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    libc.mprotect.restype = ctypes.c_int
    return libc
