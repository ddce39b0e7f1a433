"""Exported packages: what they need, what they promise, what they refuse."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

import graphc as gx
from graphc import artifact as artifacts
from graphc import interp, nn, target
from graphc.errors import ExportError, StructureError
from graphc.frontend import random
from graphc.ir.parser import load

RNG = np.random.default_rng(11)

ISOLATED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("graphc", "llvmlite", "networkx"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
"""


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that packages can be imported from."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def imported(folder: Path) -> ModuleType:
    importlib.invalidate_caches()
    return importlib.import_module(folder.name)


@gx.compile
def layer(x, w, b, scale=2.0, *, mode="tanh", hook=None):
    """A layer with a "quoted" word and a \\ backslash.

    Twice.
    """
    y = x @ w + b
    return np.tanh(y) * scale if mode == "tanh" else y


CONSTANT = f32(40, 8)


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass
class Pair:
    first: Any
    second: Any


@gx.compile
def containers(tree, items, n, point):
    return {
        "sum": tree["w"] * n + items[0],
        "tuple": (items[1][0], "text", None, point.x - point.y),
        "pair": Pair([tree["b"].sum()], 3),
        "point": Point(CONSTANT[: len(items)] + 0.0, tree["w"]),
    }


def test_runs_in_a_process_without_graphc_and_gives_the_same_bits(tmp_path: Path):
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    compiled = gx.compile(model)
    x, w, b = f32(5, 8), f32(8, 3), f32(3)
    folder = layer.export(tmp_path / "a_layer", x, w, b, 1.5)
    assert folder == tmp_path / "a_layer"
    compiled.export(tmp_path / "a_model", x)
    with gx.no_grad():
        expected = [layer(x, w, b, 0.25), compiled(x).numpy()]
    np.savez(tmp_path / "inputs.npz", x=x, w=w, b=b)
    script = f"""{ISOLATED}
import numpy as np
from a_layer import layer
from a_model import a_model
held = np.load("inputs.npz")
results = [layer(held["x"], held["w"], b=held["b"], scale=0.25), a_model(held["x"])]
assert all(type(y) is np.ndarray for y in results)
assert not any(name.partition(".")[0] in ("graphc", "llvmlite", "networkx") for name in sys.modules)
np.savez("outputs.npz", *results)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "outputs.npz") as held:
        for got, want in zip(held.values(), expected, strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)


def test_the_module_describes_itself(place: Path):
    module = imported(layer.export(place / "described", f32(2, 3), f32(3, 4), f32(4), 3.0, mode="linear"))
    assert module.__all__ == ["layer"]
    assert str(inspect.signature(module.layer)) == "(x, w, b, scale=2.0, *, mode='linear', hook=None)"
    assert module.layer.__doc__.startswith('A layer with a "quoted" word and a \\ backslash.\n')
    for text in (
        "x: f32[2, 3]",
        "scale: float",
        "mode: fixed to 'linear'",
        "returns f32[2, 4]",
        "graphc 0.",
        target.host().isa,
    ):
        assert text in module.__doc__, text
    assert not [p for p in place.iterdir() if p.name.startswith(".")], "temporary folders are gone"
    text = (place / "described" / "graph.gir").read_text()
    assert str(Path(__file__).parent) not in text and "test_export.py:" in text


def test_any_layout_is_taken_and_results_are_fresh(place: Path):
    f = gx.compile(lambda x: np.exp(x) - 1)
    x = RNG.standard_normal((4, 3))
    call = imported(f.export(place / "layouts", x)).layouts
    want = f(x)
    unaligned = np.frombuffer(b"\0" + x.tobytes(), dtype=np.uint8)[1:].view(np.float64).reshape(4, 3)
    wide = np.zeros((8, 6))
    wide[::2, ::2] = x
    for given in (x, np.asfortranarray(x), wide[::2, ::2], unaligned, x.astype(">f8"), gx.asarray(x)):
        np.testing.assert_array_equal(call(given), want)
    x.flags.writeable = False
    assert call(x) is not call(x)


def test_empty_and_rank_zero_arrays(place: Path):
    f = gx.compile(lambda x, s: (x.sum() + s, x * s))
    call = imported(f.export(place / "empty", np.zeros((0, 3)), np.float64(2.0))).empty
    total, product = call(np.zeros((0, 3)), np.float64(4.0))
    assert total == 4.0 and type(total) is np.float64 and product.shape == (0, 3)
    np.testing.assert_array_equal(call(np.zeros((0, 3)), np.array(5.0))[0], 5.0)


def test_containers_in_and_out(place: Path):
    tree, items = {"w": f32(3), "b": f32(4)}, [f32(3), (f32(2),)]
    point = Point(f32(2), f32(2))
    module = imported(containers.export(place / "held", tree, items, 3, point))
    want = containers(tree, items, 3, point)
    got = module.containers(dict(reversed(tree.items())), tuple(items), 3, tuple(point))
    assert list(got) == list(want) and type(got["tuple"]) is tuple and type(got["point"]) is tuple
    np.testing.assert_array_equal(got["sum"], want["sum"])
    assert got["tuple"][0] is items[1][0] and got["tuple"][1:3] == ("text", None)
    np.testing.assert_array_equal(got["tuple"][3], want["tuple"][3])
    assert got["pair"].keys() == {"first", "second"} and got["pair"]["second"] == 3
    np.testing.assert_array_equal(got["pair"]["first"][0], want["pair"].first[0])
    np.testing.assert_array_equal(got["point"][0], want["point"].x)
    assert got["point"][1] is tree["w"]
    module.containers(tree, items, 3, point)
    module.containers(tree, items, point=point)  # 3 is the default now


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: [a[0], a[1], f32(5)], ["ShapeError", "b has the wrong shape", "f32[4]", "f32[5]"]),
        (lambda a: [a[0][0], *a[1:]], ["ShapeError", "x has the wrong rank", "f32[2, 3]"]),
        (lambda a: [a[0], a[1].astype(float), a[2]], ["DTypeError", "w has the wrong dtype", "f64[3, 4]"]),
        (lambda a: [[1.0], *a[1:]], ["StructureError", "x must be an array", "a list of 1"]),
        (lambda a: [*a, f32(1)], ["StructureError", "scale must be a number", "float32[1]"]),
        (lambda a: [*a, True], ["StructureError", "scale must be a number", "True"]),
    ],
)
def test_wrong_arguments_name_the_parameter(place: Path, change, words):
    arguments = [f32(2, 3), f32(3, 4), f32(4)]
    module = imported(layer.export(place / "strict", *arguments, 3.0))
    with pytest.raises(Exception) as caught:
        module.layer(*change(arguments))
    assert type(caught.value).__name__ == words[0]
    for word in words[1:]:
        assert word in str(caught.value)
    module.layer(*arguments, 1)


def test_code_from_the_cache_has_this_functions_names(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(place / "cache"))
    gx.compile(lambda first: first * 43).export(place / "one", f32(2))
    call = imported(gx.compile(lambda second: second * 43).export(place / "two", f32(2))).two
    assert len(list((place / "cache").iterdir())) == 1, "the second export took the first one's code"
    with pytest.raises(Exception, match="second has the wrong shape"):
        call(f32(3))


def test_wrong_containers_name_the_place(place: Path):
    tree, items, point = {"w": f32(3), "b": f32(4)}, [f32(3), (f32(2),)], Point(f32(2), f32(2))
    call = imported(containers.export(place / "places", tree, items, 3, point)).containers
    for arguments, words in [
        (({"w": f32(3)}, items, 3, point), "tree must have the keys 'b', 'w', not 'w'"),
        (([], items, 3, point), "tree must be a dict"),
        ((tree, [f32(3), (f32(2), 1)], 3, point), r"items\[1\] must be a sequence of 1, not a tuple of 2"),
        ((tree, items, 4, point), "n is 3 in this exported model, and 4 is given"),
        ((tree, items, 3.0, point), "n is 3 .* 3.0 is given"),
        ((tree, items, 3, 7), "point must have the fields x, y"),
        (({"w": f32(3), "b": f32(5)}, items, 3, point), r"tree\['b'\] has the wrong shape"),
        ((tree, items), "point must have the fields x, y; it is left out"),
    ]:
        with pytest.raises(Exception, match=words):
            call(*arguments)


def test_variadic_and_baked_parameters(place: Path):
    @gx.compile
    def f(activation, *xs, **named):
        return activation(sum(xs)) + named["bias"]

    a, b, bias = f32(3), f32(3), f32(3)
    module = imported(f.export(place / "variadic", np.tanh, a, b, bias=bias))
    assert "activation: fixed: <tanh, part of the code>" in module.__doc__
    default = inspect.signature(module.f).parameters["activation"].default
    np.testing.assert_array_equal(module.f(default, a, b, bias=bias), f(np.tanh, a, b, bias=bias))
    with pytest.raises(Exception, match=r"activation is part of this exported model \(<tanh"):
        module.f(np.sin, a, b, bias=bias)
    with pytest.raises(Exception, match="xs must be a sequence of 2"):
        module.f(default, a, bias=bias)
    with pytest.raises(Exception, match="named must have the keys 'bias'"):
        module.f(default, a, b, other=bias)


def test_weights_are_a_snapshot_and_read_only_state(place: Path):
    w = gx.tensor(f32(3))

    @gx.compile
    def f(x):
        return x * w, w

    x = f32(3)
    want = (x * w.numpy()).copy()
    call = imported(f.export(place / "snapshot", x)).f
    w.assign(w * 0)
    product, weight = call(x)
    np.testing.assert_array_equal(product, want)
    weight[:] = 0
    np.testing.assert_array_equal(call(x)[0], want)
    with np.load(place / "snapshot" / "weights.npz", allow_pickle=False) as held:
        assert "w" in held.files


def test_weights_have_the_names_of_the_model(place: Path):
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    folder = gx.compile(lambda x: model(x) * 1.0).export(place / "named", f32(2, 4))
    with np.load(folder / "weights.npz", allow_pickle=False) as held:
        assert sorted(held.files) == ["model.0.bias", "model.0.weight"]
        np.testing.assert_array_equal(held["model.0.weight"], model[0].weight.numpy())
    assert "%model.0.weight: f32[" in (folder / "graph.gir").read_text()


def test_large_constants_and_the_graph_text(place: Path):
    table = f32(50, 20)
    f = gx.compile(lambda x: x @ table)
    x = f32(3, 50)
    folder = f.export(place / "table", x)
    np.testing.assert_array_equal(imported(folder).table(x), f(x))
    np.testing.assert_allclose(interp.evaluate(load(folder / "graph.gir"), [x])[0], x @ table, rtol=1e-4, atol=1e-4)


def test_two_packages_and_a_nested_one_work_side_by_side(place: Path):
    x = f32(4)
    double, triple = gx.compile(lambda x: x * 2), gx.compile(lambda x: x * 3)
    (place / "outer").mkdir()
    (place / "outer" / "__init__.py").write_text("")
    double.export(place / "double", x)
    triple.export(place / "outer" / "triple", x)
    one, two = importlib.import_module("double"), importlib.import_module("outer.triple")
    np.testing.assert_array_equal(one.double(x), x * 2)
    np.testing.assert_array_equal(two.triple(x), x * 3)
    np.testing.assert_array_equal(one.double(x), x * 2)


# -- refusals at export ----------------------------------------------------------------------------------------------------


def test_writing_state_is_refused_by_name(tmp_path: Path):
    model = nn.Linear(3, 2)
    counter = gx.tensor([0.0])

    @gx.compile
    def count(x):
        counter.assign(counter + 1)
        return x * counter

    @gx.compile
    def backward(x):
        loss = model(x).sum()
        loss.backward()
        return loss

    @gx.compile
    def noise(x):
        return x + random.normal((2,))

    @gx.compile
    def in_place(x):
        x += 1
        return x

    for f, x, words in [
        (count, f32(1), ["count writes state", "counter: f32[1]", "return the new value"]),
        (backward, f32(2, 3), ["model.weight.grad", "model.bias.grad"]),
        (in_place, f32(2), ["argument x in place", "Copy the argument"]),
        (noise, f32(2), ["default_generator().state"]),
    ]:
        with pytest.raises(ExportError) as caught:
            f.export(tmp_path / "no", x)
        for word in words:
            assert word in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert counter.numpy() == 0 and model.weight.grad is None


def test_what_cannot_be_written_down_is_refused(tmp_path: Path):
    with pytest.raises(ExportError, match=r"cfg\['act'\] is a function inside a container"):
        gx.compile(lambda cfg: cfg["act"](cfg["x"])).export(tmp_path / "no", {"act": lambda x: x + 1, "x": f32(2)})
    with pytest.raises(ExportError, match="returns a function"):
        gx.compile(lambda x: (x + 1, len_of)).export(tmp_path / "no", f32(2))
    for name in ("a-b", "1a", "class"):
        with pytest.raises(ExportError, match="cannot be imported"):
            gx.compile(lambda x: x + 1).export(tmp_path / name, f32(2))
    with pytest.raises(ExportError, match="there is no folder"):
        gx.compile(lambda x: x + 1).export(tmp_path / "a" / "b", f32(2))
    assert list(tmp_path.iterdir()) == []


def len_of(x):
    return len(x)


def test_only_an_earlier_export_is_replaced(place: Path):
    f = gx.compile(lambda x: x + 1)
    folder = f.export(place / "again", f32(2))
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"")
    gx.compile(lambda x: x + 2).export(folder, f32(3))
    np.testing.assert_array_equal(imported(folder).again(np.zeros(3, np.float32)), 2)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"more than the earlier export: notes\.txt"):
        f.export(folder, f32(2))
    for make in (lambda p: p.mkdir(), lambda p: p.write_text("a file"), lambda p: p.symlink_to("nowhere")):
        other = place / "taken"
        make(other)
        with pytest.raises(ExportError, match="not an earlier export"):
            f.export(other, f32(2))
        other.rmdir() if other.is_dir() else other.unlink()
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_failed_write_leaves_the_earlier_export(place: Path, monkeypatch: pytest.MonkeyPatch):
    folder = gx.compile(lambda x: x + 1).export(place / "kept", f32(2))
    real = Path.rename

    def broken(self: Path, to: Path) -> Path:
        if ".new-" in self.name:
            raise OSError("the disk is full")
        return real(self, to)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(ExportError, match="the disk is full"):
        gx.compile(lambda x: x + 2).export(folder, f32(2))
    assert [p.name for p in place.iterdir()] == ["kept"]
    np.testing.assert_array_equal(imported(folder).kept(np.zeros(2, np.float32)), 1)


# -- machines and damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3"])
def test_portable_levels(place: Path, level: str):
    if target.missing_features(level):
        pytest.skip(f"this machine cannot run {level}")
    x, w = f32(9, 7), f32(7, 5)
    f = gx.compile(lambda x, w: np.tanh(x @ w), target=target.named(level))
    module = imported(f.export(place / "portable", x, w))
    assert level in module.__doc__
    np.testing.assert_array_equal(module.portable(x, w), f(x, w))


def test_a_lesser_machine_is_told(place: Path):
    folder = gx.compile(lambda x: x + 1).export(place / "future", f32(2))
    made = artifacts.from_bytes((folder / "model.gxa").read_bytes())
    (folder / "model.gxa").write_bytes(artifacts.to_bytes(replace(made, isa="x86-64-v9")))
    with pytest.raises(Exception, match="this model was compiled for x86-64-v9 and this machine lacks") as caught:
        imported(folder)
    assert type(caught.value).__name__ == "ArtifactError"


def test_another_architecture_can_be_exported_for(place: Path):
    host = target.host().architecture
    other = "aarch64" if host == "x86_64" else "x86-64-v2"
    folder = gx.compile(lambda x: x * 2 + 1, target=target.named(other)).export(place / "other", f32(8))
    with pytest.raises(Exception, match="this machine lacks the architecture"):
        imported(folder)


@pytest.mark.parametrize("file", ["model.gxa", "weights.npz", "model.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "empty"])
def test_damaged_files_are_told(place: Path, file: str, damage: str):
    w = gx.tensor(f32(3))
    folder = gx.compile(lambda x: x * w).export(place / "damaged", f32(3))
    path = folder / file
    content = path.read_bytes()
    half = len(content) // 2
    if damage == "remove":
        path.unlink()
    else:
        flipped = content[:half] + bytes([content[half] ^ 4]) + content[half + 1 :]
        path.write_bytes({"flip": flipped, "truncate": content[:half], "empty": b""}[damage])
    with pytest.raises(Exception, match=r"damaged|cannot read|not a graphc artifact") as caught:
        imported(folder)
    assert type(caught.value).__name__ == "ArtifactError" and file in str(caught.value)


def test_another_format_is_refused(place: Path):
    folder = gx.compile(lambda x: x + 1).export(place / "versioned", f32(3))
    manifest = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**manifest, "format": "graphc-export-9"}))
    with pytest.raises(Exception, match="format 'graphc-export-9'"):
        imported(folder)


def test_wrong_calls_are_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(StructureError, match="missing a required argument"):
        layer.export(tmp_path / "no", f32(2, 3))
    assert list(tmp_path.iterdir()) == []
