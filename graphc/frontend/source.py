"""Finding the user's place in the source. Layer 5.

The user's frame is the innermost one outside of graphc, NumPy, other installed packages and the standard library. The
test is made once per code object, so that a location costs a fraction of a microsecond.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from types import CodeType, FrameType

from graphc.ir.location import CodeLocation

__all__ = ["is_user_code", "user_location"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LIBRARIES = tuple(
    os.path.join(path, "")
    for path in {
        _PACKAGE,
        os.path.join(os.path.dirname(_PACKAGE), "passes"),
        os.path.join(os.path.dirname(_PACKAGE), "codegen"),
        *(sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")),
    }
    if path
)
_IS_USER: dict[CodeType, bool] = {}


def is_user_code(code: CodeType) -> bool:
    """Whether code is the user's: neither graphc's, nor an installed package's, nor the standard library's."""
    known = _IS_USER.get(code)
    if known is None:
        name = code.co_filename
        internal = name.startswith("<frozen") or os.path.abspath(name).startswith(_LIBRARIES)
        known = _IS_USER[code] = not internal
    return known


def user_location(depth: int = 1) -> CodeLocation | None:
    """The user's place that led here, or None when every frame is library code (an embedded interpreter)."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        if is_user_code(frame.f_code):
            return CodeLocation(frame.f_code, frame.f_lasti)
        frame = frame.f_back
    return None
