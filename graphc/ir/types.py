"""Types of values. Layer 1.

A `TensorType` is a dtype and a shape; a `TokenType` orders effects. Types are immutable, hashable and compared by
structure; a shape's dimensions are integers or symbolic expressions (`graphc.ir.dims`).
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.dtypes import DType
from graphc.ir.dims import Dim, product

__all__ = ["TOKEN", "Shape", "TensorType", "TokenType", "Type"]

Shape = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense array of `dtype` with dimensions `shape`; `f32[3, s0]` in text, `f32[]` for rank 0."""

    dtype: DType
    shape: Shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Dim:
        """Number of elements."""
        return product(self.shape)

    @property
    def nbytes(self) -> Dim:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class TokenType:
    """The type of an effect token."""

    def __str__(self) -> str:
        return "token"


TOKEN = TokenType()
Type = TensorType | TokenType
