"""What an exported model carries to run without graphc. Layer 4, runtime.

The modules listed here import only one another, the standard library and NumPy, so a copy of them in a package of its
own is a complete loader. There is no second implementation: an exported model runs the same code as graphc itself.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from graphc.errors import ExportError

__all__ = ["LOADER_MODULES", "loader_sources"]

#: The modules of the loader, by their name inside graphc.
LOADER_MODULES = (
    *("errors", "lazy", "dtypes", "target", "hosts", "artifact"),
    *("runtime.buffers", "runtime.dimensions", "runtime.hostcalls", "runtime.image"),
    *("runtime.executable", "runtime.exported"),
)

_IMPORT = re.compile(r"^from graphc\.", re.MULTILINE)

_ROOT = '''"""The loader of an exported graphc model: reads, maps and calls its artifact. Needs NumPy only."""

from .artifact import load
from .runtime.executable import Executable

__all__ = ["Executable", "load"]
'''


def loader_sources() -> dict[str, str]:
    """The files of the loader package: relative path to text.

    Imports become relative, so the package may have any name and place. It offers `load(path)` and `Executable`.

    Raises
    ------
    ExportError
        If graphc's own source files cannot be read.
    """
    sources = {"__init__.py": _ROOT, "runtime/__init__.py": ""}
    for name in LOADER_MODULES:
        dots = "." * (1 + name.count("."))
        sources[name.replace(".", "/") + ".py"] = _IMPORT.sub(f"from {dots}", _source(f"graphc.{name}"))
    return sources


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ExportError(f"the source of {module} cannot be found")
    try:
        return Path(spec.origin).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise ExportError(f"the source of {module} cannot be read: {fault}") from None
