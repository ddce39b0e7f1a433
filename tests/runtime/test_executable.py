"""Mapping and calling artifacts, and the memory that calls use."""

from __future__ import annotations

import dataclasses
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from graphc import target
from graphc.artifact import Artifact, Kernel, from_bytes, to_bytes
from graphc.errors import ArtifactError, BoundsError, DTypeError, GraphcError, ShapeError, StateError, StructureError
from graphc.runtime import buffers, image
from graphc.runtime.buffers import aligned, empty, is_aligned, overlapping, pointer
from graphc.runtime.dimensions import dimension
from graphc.runtime.executable import Executable
from graphc.runtime.loader import loader_sources

F32 = np.dtype(np.float32)


def arrays(n: int, state: float = 0.5) -> list[np.ndarray]:
    return [np.arange(n, dtype=np.float32), np.array(state, np.float32)]


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_run(level: str, artifact_for: Callable[[str], Artifact]) -> None:
    if target.missing_features(level):
        pytest.skip(f"this machine cannot run {level}")
    executable = Executable(from_bytes(to_bytes(artifact_for(level))))
    for n in (0, 1, 3, 17, 1000, 3, 300_000):
        x, state = arrays(n)
        executable.check([x, state])
        out, new_state = executable.run([x, state])
        np.testing.assert_array_equal(out, np.append(x * np.float32(3) + np.float32(0.5), np.float32(0.5)))
        assert new_state is state and state == 1.5


def test_given_outputs_are_used(artifact: Artifact) -> None:
    executable = Executable(artifact)
    given = np.full(5, -1, np.float32)
    results = executable.run(arrays(4), [given, None])
    assert results[0] is given
    np.testing.assert_array_equal(given, [0.5, 3.5, 6.5, 9.5, 0.5])


def test_failures_become_errors(artifact: Artifact) -> None:
    executable = Executable(artifact, locate={"n5": "model.py:12"}.get)
    inputs = arrays(13)
    with pytest.raises(BoundsError) as caught:
        executable.run(inputs)
    assert str(caught.value).startswith("index -7 is out of bounds\n  at model.py:12\n  hint: ")
    assert inputs[1] == 0.5
    assert executable.run(arrays(2))[0].shape == (3,)  # the executable goes on working
    with pytest.raises(BoundsError, match=r"out of bounds\n  hint"):
        Executable(artifact).run(arrays(13))
    with pytest.raises(GraphcError, match="unknown failure"):
        Executable(dataclasses.replace(artifact, failures=())).run(arrays(13))


def test_check_names_the_input_and_both_types(artifact: Artifact) -> None:
    executable = Executable(artifact)
    x, state = arrays(4)
    read_only = state.copy()
    read_only.flags.writeable = False
    unaligned = np.zeros(17, np.uint8)[1:].view(np.float32)
    faults: list[tuple[list[object], type[Exception], str]] = [
        ([x], StructureError, "1 arrays given for 2 inputs"),
        ([[1.0], state], StructureError, "x must be a NumPy array and is a list"),
        ([x.astype(np.float64), state], DTypeError, r"expected: f32\[s0\]\n  given: f64\[4\]"),
        ([x.astype(">f4"), state], DTypeError, "x has the wrong dtype"),
        ([x.reshape(2, 2), state], ShapeError, "x has the wrong rank"),
        ([x, np.zeros(1, np.float32)], ShapeError, "state has the wrong rank"),
        ([x[::2], state], StructureError, "x must be C-contiguous"),
        ([unaligned, state], StructureError, "x must be C-contiguous and aligned"),
        ([x, read_only], StateError, "state is written in place"),
    ]
    for inputs, error, pattern in faults:
        with pytest.raises(error, match=pattern):
            executable.check(inputs)  # type: ignore[arg-type]
    with pytest.raises(StructureError, match="1 arrays"):
        executable.run([x])


def test_check_of_symbolic_shapes(artifact: Artifact) -> None:
    first, *others = artifact.buffers
    shapes: list[tuple[int | str, ...]] = [("s0",), ("s0", 3), ("2*s0 + 1",)]
    inputs = tuple(dataclasses.replace(first, name=f"x{i}", shape=shape) for i, shape in enumerate(shapes))
    outputs = (dataclasses.replace(others[2], shape=("s0",)),)
    whole = dataclasses.replace(artifact, buffers=(*inputs, others[1], *outputs))
    check = Executable(whole).check
    make = [np.zeros(shape, np.float32) for shape in ((4,), (4, 3), (9,))]
    check(make)
    for position, shape in ((0, (5,)), (1, (4, 2)), (1, (5, 3)), (2, (8,))):
        wrong = list(make)
        wrong[position] = np.zeros(shape, np.float32)
        with pytest.raises(ShapeError):
            check(wrong)


def test_many_threads_run_one_executable(artifact: Artifact) -> None:
    executable = Executable(artifact)
    faults: list[str] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(150):
            x = random.standard_normal(int(random.integers(14, 3000)), np.float32)
            out, _ = executable.run([x, np.array(seed, np.float32)])
            if not np.array_equal(out[:-1], x * np.float32(3) + np.float32(seed)):
                faults.append(f"thread {seed}, size {x.size}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not faults
    assert 1 <= len(executable._frames) <= 4
    executable.release()
    assert not executable._frames


def test_short_work_keeps_the_interpreter_lock(artifact: Artifact) -> None:
    short = dataclasses.replace(artifact, kernels=(Kernel("k", "k0", "", 100, 100),))
    for whole in (artifact, short):
        np.testing.assert_array_equal(Executable(whole).run(arrays(2))[0], [0.5, 3.5, 0.5])


def test_functions_keep_their_pages_alive(artifact: Artifact) -> None:
    entry = Executable(artifact)._entry
    gc.collect()
    ours = image.MappedImage.of(artifact)
    size = ours.function("graphc_arena", (np.ctypeslib.ctypes.c_void_p,))
    del ours
    gc.collect()
    sizes = np.array([11], np.int64)
    assert size(sizes.ctypes.data) == 44
    del entry


def test_a_lesser_machine_is_refused(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match="x86-64-v9"):
        Executable(dataclasses.replace(artifact, isa="x86-64-v9"))
    with pytest.raises(ArtifactError, match="lacks the architecture aarch64"):
        Executable(dataclasses.replace(artifact, isa="armv8-a"))
    lesser = target._features("x86-64-v3") - {"fma"}
    monkeypatch.setattr(target, "_host_features", lambda: lesser)
    Executable(artifact)
    with pytest.raises(ArtifactError, match="compiled for x86-64-v3 and this machine lacks fma\n"):
        Executable(dataclasses.replace(artifact, isa="x86-64-v3"))
    with pytest.raises(ArtifactError, match="lacks avx512bw, avx512cd, avx512dq, avx512f, avx512vl, fma"):
        Executable(dataclasses.replace(artifact, isa="x86-64-v4"))


def test_larger_pages_than_the_image_was_made_for(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image.mmap, "PAGESIZE", 1 << 20)
    with pytest.raises(ArtifactError, match="smaller pages"):
        Executable(artifact)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (7, 7),
        ("s0", 3),
        ("s0*s1 - 2", 13),
        ("-s0 + s1", 2),
        ("floordiv(s1 + 1, 2)", 3),
        ("pos(s0 - s1)", 0),
        ("(s1 - s0)//2 % 5", 1),
        ("min(s0, s1) + max(s0, 4)", 7),
    ],
)
def test_dimensions(text: int | str, value: int) -> None:
    assert dimension(text, ("s0", "s1"))((3, 5)) == value


@pytest.mark.parametrize(
    "text",
    ["", "s0 +", "s2", "s0.real", "print(s0)", "s0**9", "1.5", "'a'", "[s0]", "s0 if s0 else 1", "(lambda: 1)()"],
)
def test_texts_that_are_no_dimensions(text: str) -> None:
    with pytest.raises(ArtifactError):
        dimension(text, ("s0", "s1"))


# ---------------------------------------------------------------- memory


@pytest.fixture
def fresh_pool() -> Iterator[None]:
    buffers.release_pool()
    yield
    buffers.release_pool()


@pytest.mark.parametrize(
    "size", [0, 1, 63, 64, 65, 4095, 4096, 100_000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000]
)
def test_aligned_memory(size: int, fresh_pool: None) -> None:
    block = aligned(size)
    assert block.shape == (size,) and block.dtype == np.uint8 and is_aligned(block)
    block[...] = 1
    assert int(block.sum()) == size
    array = empty((size, 2), F32)
    assert array.shape == (size, 2) and array.dtype == F32 and array.flags.c_contiguous and array.flags.writeable
    assert size < 4096 or is_aligned(array)


def test_large_blocks_are_recycled_only_when_dead(fresh_pool: None) -> None:
    first = empty((1 << 20,), F32)
    view = first[10:20].reshape(2, 5)
    address = pointer(first)
    del first
    assert buffers.pooled_bytes() == 0  # the view still needs it
    second = empty((1 << 20,), F32)
    assert pointer(second) != address
    del view
    assert buffers.pooled_bytes() == 4 << 20
    third = empty((1 << 20,), F32)
    assert pointer(third) == address
    assert buffers.pooled_bytes() == 0


def test_the_pool_is_bounded(fresh_pool: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "_POOL_BYTES", 3 << 20)
    blocks = [aligned(1 << 20) for _ in range(5)]
    del blocks
    assert buffers.pooled_bytes() == 3 << 20


def test_interpreter_exit_with_live_blocks_is_quiet() -> None:
    code = "from graphc.runtime.buffers import aligned; import builtins; builtins.kept = aligned(1 << 21); x = aligned(1 << 21)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_pointers_agree_with_numpy() -> None:
    whole = np.arange(24.0).reshape(4, 6)
    for array in (whole, whole[1:, 2:], whole.T, whole[::-1], np.array(3), np.empty((0, 5)), np.float32(3).reshape(1)):
        assert pointer(array) == array.ctypes.data == buffers._pointer_from_interface(array)
    assert buffers._header_is_known()  # on the builds that are tested the fast path is the one in use


def test_overlapping_against_numpy() -> None:
    random = np.random.default_rng(3)
    memory = np.zeros(120, np.float32)
    for _ in range(400):
        spans = [
            (int(s), int(s + e)) for s, e in zip(random.integers(0, 90, 6), random.integers(0, 25, 6), strict=True)
        ]
        views = [memory[low:high] for low, high in spans]
        written = [i for i in range(6) if random.random() < 0.4]
        copied = overlapping(views, written)
        expected = {
            max(i, j) if j in written else j
            for i in written
            for j in range(6)
            if i != j and np.shares_memory(views[i], views[j])
        }
        assert copied == sorted(expected)


def test_overlapping_of_strided_arrays() -> None:
    memory = np.zeros((10, 10))
    assert overlapping([memory[:, ::2], memory[3:4]], [1]) == [0]
    assert overlapping([memory[:5], memory[5:]], [0, 1]) == []
    assert overlapping([memory, memory], []) == []
    assert overlapping([memory, memory[:0]], [0, 1]) == []


# ---------------------------------------------------------------- the loader of exported models


def test_the_loader_needs_only_numpy(artifact: Artifact, tmp_path: Path) -> None:
    package = tmp_path / "some_model"
    for name, text in loader_sources().items():
        path = package / "_loader" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (package / "__init__.py").write_text("from ._loader import Executable, load\n")
    (package / "model.bin").write_bytes(to_bytes(artifact))
    script = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("graphc", "llvmlite", "networkx"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import numpy as np
from pathlib import Path
import some_model
executable = some_model.Executable(some_model.load(Path(some_model.__file__).parent / "model.bin"))
inputs = [np.arange(3, dtype=np.float32), np.array(0.5, np.float32)]
executable.check(inputs)
print(executable.run(inputs)[0].tolist())
assert not any(name.startswith(("graphc", "llvmlite")) for name in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.stdout.strip() == "[0.5, 3.5, 6.5, 0.5]", done.stderr
