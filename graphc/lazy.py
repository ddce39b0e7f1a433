"""The one module that loads llvmlite, networkx, `importlib.metadata` and ml_dtypes, on first use. Layer 0: imports only the
error tree.

Importing them takes 35, 80 and 15 ms; `import graphc` must not pay for them, and an exported model must not need them. All
other modules import at their top; a test enforces that.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from graphc.errors import MissingDependencyError, message

__all__ = ["llvm", "metadata", "ml_dtypes", "networkx"]


@cache
def llvm() -> Any:
    """The module `llvmlite.binding`.

    Raises
    ------
    MissingDependencyError
        If llvmlite is not installed or cannot be loaded.
    """
    return _load("llvmlite.binding", "compiling needs llvmlite")


@cache
def metadata() -> Any:
    """The module `importlib.metadata`."""
    return importlib.import_module("importlib.metadata")


@cache
def ml_dtypes() -> Any:
    """The module `ml_dtypes`, which gives NumPy bfloat16.

    Raises
    ------
    MissingDependencyError
        If ml_dtypes is not installed.
    """
    return _load("ml_dtypes", "bfloat16 needs ml_dtypes")


@cache
def networkx() -> Any:
    """The module `networkx`.

    Raises
    ------
    MissingDependencyError
        If networkx is not installed.
    """
    return _load("networkx", "graph algorithms need networkx")


def _load(module: str, need: str) -> Any:
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as fault:  # OSError: the shared library inside the wheel does not load
        raise MissingDependencyError(
            message(f"{need}, which cannot be imported: {fault}", hint=f"Install it: pip install {package}")
        ) from fault
