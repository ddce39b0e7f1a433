"""The rooms and their layers: who imports whom, which packages there are, and what `import graphc` loads.

The imports of all modules are read from their syntax trees, so that a module that no test imports is checked as well.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Where a package's sources stand, for those that are not where their name says.
MAPPED = {"graphc.passes": "passes", "graphc.codegen": "codegen"}

#: The layer of a module, by the longest prefix of its name. A module without an entry fails.
LAYERS = {
    "graphc.errors": 0,
    "graphc.config": 0,
    "graphc.dtypes": 0,
    "graphc.target": 0,
    "graphc.hosts": 0,
    "graphc.lazy": 0,
    "graphc.version": 0,
    "graphc.ir": 1,
    "graphc.ops": 2,
    "graphc.interp": 3,
    "graphc.artifact": 3,
    "graphc.callrecord": 3,
    "graphc.reverse": 2,
    "graphc.forward": 2,
    "graphc.passes": 4,
    "graphc.codegen": 4,
    "graphc.runtime": 4,
    "graphc.frontend": 5,
    "graphc.nn": 6,
    "graphc.optim": 6,
    "graphc.data": 6,
    "graphc.interop": 7,
    "graphc.tools": 7,
    "graphc.__main__": 7,
    "graphc": 8,
}
#: Rooms of one layer that never import one another.
APART = ("graphc.passes", "graphc.codegen", "graphc.runtime")
#: The one module that may import on first use.
LAZY = "graphc.lazy"


@dataclass(frozen=True)
class Import:
    """One imported module: by whom and where, and how."""

    module: str
    target: str
    line: int
    inside_function: bool
    for_types: bool

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}: imports {self.target}"


def _sources() -> dict[str, Path]:
    """All modules of the project by name; a package is its __init__."""
    found: dict[str, Path] = {}
    for package, folder in {"graphc": "graphc", **MAPPED}.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


SOURCES = _sources()


def imports_of(module: str, text: str, sources: frozenset[str]) -> Iterator[Import]:
    """The imports in a module's text, with `from package import submodule` read as an import of the submodule."""
    tree = ast.parse(text)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    stack: list[tuple[ast.AST, bool, bool]] = [(tree, False, False)]
    while stack:
        node, inside, for_types = stack.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            stack += [(child, inside, True) for child in node.body] + [(c, inside, for_types) for c in node.orelse]
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, inside, for_types)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node, sources)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield Import(module, whole if whole in sources else base, node.lineno, inside, for_types)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            yield Import(module, f"{ast.unparse(node)}", node.lineno, True, for_types)
        inside = inside or isinstance(node, functions)
        stack += [(child, inside, for_types) for child in ast.iter_child_nodes(node)]


def _absolute(module: str, node: ast.ImportFrom, sources: frozenset[str]) -> str:
    if not node.level:
        return node.module or ""
    is_package = SOURCES.get(module, Path()).name == "__init__.py"
    parts = module.split(".") if is_package else module.split(".")[:-1]
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def _all_imports() -> list[Import]:
    names = frozenset(SOURCES)
    return [found for m, path in SOURCES.items() for found in imports_of(m, path.read_text(encoding="utf-8"), names)]


IMPORTS = _all_imports()


def _is_ours(target: str) -> bool:
    return target == "graphc" or target.startswith("graphc.")


def _room(module: str) -> str:
    """The longest entry of the table that a module belongs to. The root's own layer is for the root alone."""
    parts = module.split(".")
    for n in range(len(parts), 0, -1):
        prefix = ".".join(parts[:n])
        if prefix in LAYERS and (prefix != "graphc" or module == "graphc"):
            return prefix
    raise KeyError(f"module {module} has no layer: add it to the table of tests/test_layers.py")


def test_every_module_has_a_layer_and_every_entry_a_module() -> None:
    assert {_room(m) for m in SOURCES} == set(LAYERS)


def faults_of_layers(imports: list[Import]) -> list[str]:
    """Imports that go up, that join rooms which stay apart, or that name the root package."""
    found = []
    for each in imports:
        if not _is_ours(each.target):
            continue
        if each.target == "graphc":
            found.append(f"{each}: the root package, or a name that is not a module")
            continue
        here, there = _room(each.module), _room(each.target)
        if LAYERS[there] > LAYERS[here]:
            found.append(f"{each}: upwards, from layer {LAYERS[here]} to {LAYERS[there]}")
        if here in APART and there in APART and here != there:
            found.append(f"{each}: these two rooms never import one another")
    return found


def test_imports_go_downwards() -> None:
    assert len(IMPORTS) > 300
    assert faults_of_layers(IMPORTS) == []


def test_a_wrong_import_is_found() -> None:
    """Each kind of fault, on texts made for it."""
    names = frozenset({*SOURCES, "graphc.dtypes"})

    def faults(module: str, text: str) -> list[str]:
        return faults_of_layers(list(imports_of(module, text, names)))

    assert "upwards" in faults("graphc.ir.graph", "from graphc.ops import mathlib")[0]
    assert "upwards" in faults("graphc.dtypes", "from graphc import interp")[0]
    assert "upwards" in faults("graphc.ops.rules", "import graphc.frontend.trace")[0]
    assert "one another" in faults("graphc.passes.fold", "from graphc.codegen.llvm import version")[0]
    assert "one another" in faults("graphc.runtime.image", "if 1:\n    from graphc import codegen")[0]
    assert "root" in faults("graphc.nn.layers", "import graphc as gx")[0]
    assert "root" in faults("graphc.nn.layers", "from graphc import Tensor")[0]
    assert "upwards" in faults("graphc.nn", "from ..tools import cli")[0]
    assert faults("graphc.nn", "from ..errors import message\nfrom graphc import dtypes, ir\nimport numpy") == []


def test_no_cycles() -> None:
    """Between modules; imports for the type checker alone do not count. (Across layers there is none anyhow.)"""
    graph: dict[str, set[str]] = {m: set() for m in SOURCES}
    for each in IMPORTS:
        if _is_ours(each.target) and not each.for_types:
            graph[each.module].add(each.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_no_imports_inside_functions() -> None:
    assert [str(each) for each in IMPORTS if each.inside_function and each.module != LAZY] == []
    assert any(each.inside_function for each in IMPORTS if each.module == LAZY)


def test_heavy_modules_are_loaded_by_one_module_only() -> None:
    heavy = re.compile(r"(llvmlite|networkx)\b")
    assert [str(each) for each in IMPORTS if heavy.match(each.target) and not each.for_types] == []


def test_package_list_equals_the_folders() -> None:
    """`packages` of pyproject.toml against folders with an __init__.py. (tomllib is younger than the oldest Python.)"""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^packages = \[(.*?)\]", text, re.S | re.M)
    assert block is not None
    listed = re.findall(r'"([^"]+)"', block[1])
    folders = [m for m, path in SOURCES.items() if path.name == "__init__.py"]
    assert sorted(listed) == sorted(folders)
    for package, folder in MAPPED.items():
        assert f'"{package}" = "{folder}"' in text
    for package in listed:
        inner = {p.parent for p in SOURCES[package].parent.rglob("*.py")}
        missing = {p for p in inner if not (p / "__init__.py").exists()}
        assert not missing, f"folders of modules without an __init__.py: {missing}"


def test_import_graphc_is_light() -> None:
    code = (
        "import sys, graphc; print(sorted({m.partition('.')[0] for m in sys.modules} & "
        "{'llvmlite', 'networkx', 'torch', 'jax', 'scipy', 'sklearn', 'mpmath', 'tqdm'}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("package", MAPPED)
def test_mapped_rooms_have_one_name(package: str) -> None:
    """Under its folder's bare name a room would be a second copy: importing it so is refused."""
    folder = MAPPED[package]
    ran = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode != 0
    assert package in ran.stderr
