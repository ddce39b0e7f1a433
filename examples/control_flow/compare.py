"""What graphc, torch.compile(fullgraph=True) and jax.jit say to the programs: a table in Markdown.

    python examples/control_flow/compare.py

Frameworks that are not installed are left out. "agrees" means: the same values as the program run by
Python and NumPy. torch.compile and jax.jit get numbers as arrays of rank 0, which they trace; graphc traces NumPy's numbers.
Whoever takes longer than a minute for a program is cut off.
"""

from __future__ import annotations

import importlib.util
import re
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import programs

import graphc as gx

_SECONDS = 60


def _cut_off(*_: object) -> None:
    raise TimeoutError(f"no result within {_SECONDS} s")


def _flat(x: Any) -> list[Any]:
    return [leaf for item in x for leaf in _flat(item)] if isinstance(x, (tuple, list)) else [x]


def _outcome(program: Callable[..., Any], compiled: Callable[..., Any], calls: list[tuple[Any, ...]]) -> str:
    """ "agrees", "differs", or the class and the beginning of the error's message."""
    for args in calls:
        wanted = _flat(program(*args))
        signal.alarm(_SECONDS)
        try:
            found = _flat(compiled(*args))
        except Exception as error:  # whatever a framework raises is what the table shows
            text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
            first = next((line for line in text if line.strip()), "")
            return f"{type(error).__name__}: {first.strip()[:90]}".replace("|", "/")
        finally:
            signal.alarm(0)
        if not all(np.allclose(np.asarray(f), w, rtol=1e-5, atol=1e-6) for f, w in zip(found, wanted, strict=True)):
            return "differs"
    return "agrees"


def _of_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: function(*map(np.asarray, args))


def _frameworks() -> dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]:
    found: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {"graphc": gx.compile}
    if importlib.util.find_spec("torch"):
        import torch

        found["torch.compile(fullgraph=True)"] = lambda f: _of_arrays(torch.compile(f, fullgraph=True, backend="eager"))
    if importlib.util.find_spec("jax"):
        import jax

        jax.config.update("jax_enable_x64", True)
        found["jax.jit"] = lambda f: _of_arrays(jax.jit(f))
    return found


def main() -> None:
    """Print the table."""
    signal.signal(signal.SIGALRM, _cut_off)
    frameworks = _frameworks()
    print(f"| program | what it does | {' | '.join(frameworks)} |")
    print(f"|---|---|{'---|' * len(frameworks)}")
    for program, calls, _ in programs.CASES:
        cells = [_outcome(program, make(program), calls) for make in frameworks.values()]
        doc = (program.__doc__ or "").splitlines()[0].rstrip(".")
        print(f"| `{program.__name__}` | {doc} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
