"""The disk cache: whole entries or none, whatever happens to the process, the folder or the bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphc.errors import CacheError
from graphc.runtime import cache
from graphc.runtime.cache import CacheWarning, DiskCache, key_of, opened, sources_digest

KEY = "0123abcd"


@pytest.fixture
def store(tmp_path: Path) -> DiskCache:
    return DiskCache(tmp_path / "cache")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name in ("GRAPHC_CACHE", "GRAPHC_CACHE_DIR", "GRAPHC_CACHE_MB", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    cache._opened.cache_clear()
    yield monkeypatch
    cache._opened.cache_clear()


def test_put_and_get(store: DiskCache) -> None:
    assert store.get(KEY) is None
    for payload in (b"", b"one", bytes(range(256)) * 5000):
        assert store.put(KEY, payload)
        assert store.get(KEY) == payload
    assert DiskCache(store.directory).get(KEY) == payload
    store.clear()
    assert store.get(KEY) is None
    assert list(store.directory.iterdir()) == []


def test_files_are_private(store: DiskCache) -> None:
    store.put(KEY, b"x")
    assert store.directory.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in store.directory.iterdir()] == [0o600]


def test_damage_is_noticed_named_and_removed(store: DiskCache) -> None:
    payload = bytes(range(200))
    store.put(KEY, payload)
    path = store.directory / f"{KEY}.gxc"
    whole = path.read_bytes()
    flips = [(i, 1 << i % 8) for i in range(len(whole))]
    damaged = [whole[:i] + bytes([whole[i] ^ bit]) + whole[i + 1 :] for i, bit in flips]
    damaged += [whole[:n] for n in range(0, len(whole), 7)] + [whole + b"\0"]
    for content in damaged:
        path.write_bytes(content)
        with pytest.warns(CacheWarning, match=f"{KEY}.*damaged"):
            assert store.get(KEY) is None
        assert not path.exists()
    store.put(KEY, payload)
    assert store.get(KEY) == payload


def test_keys_tell_lists_of_parts_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    lists: list[tuple[str | bytes, ...]] = [(), ("",), (b"",), ("ab",), (b"ab",), ("a", "b"), ("b", "a"), ("ab", "")]
    lists += [("a", "", "b"), ("str1:a",), ("a1:b",)]
    assert len({key_of(*parts) for parts in lists}) == len(lists)
    assert key_of("a", b"b") == key_of("a", b"b")
    before = key_of("a")
    monkeypatch.setattr(cache, "sources_digest", lambda: b"other sources")
    assert key_of("a") != before


def test_sources_of_all_rooms_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = Path.read_bytes

    def spy(path: Path) -> bytes:
        read.append(path.as_posix())
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", spy)
    digest = sources_digest.__wrapped__()
    for room in ("graphc/errors.py", "graphc/runtime/cache.py", "passes/__init__.py", "codegen/link.py"):
        assert any(path.endswith(room) for path in read), room
    monkeypatch.setattr(Path, "read_bytes", lambda path: original(path) + b"#" * path.name.startswith("link"))
    assert sources_digest.__wrapped__() != digest


def test_names_that_are_no_keys(store: DiskCache) -> None:
    for key in ("", "../up", "a/b", "a.b"):
        with pytest.raises(CacheError):
            store.get(key)


def test_least_recently_used_entries_go_first(store: DiskCache) -> None:
    now = time.time()
    for i in range(6):
        store.put(f"k{i}", bytes(1000))
        os.utime(store.directory / f"k{i}.gxc", (now - 100 + i, now - 100 + i))
    assert store.get("k0") is not None  # k0 is now the most recently used
    store.limit = 3500
    store.trim()
    assert sorted(path.stem for path in store.directory.iterdir()) == ["k0", "k4", "k5"]


def test_putting_trims_now_and_then(tmp_path: Path) -> None:
    store = DiskCache(tmp_path / "cache", limit=10_000)
    for i in range(100):
        store.put(f"k{i}", bytes(1000))
    assert len(list(store.directory.iterdir())) < 50
    assert store.get("k99") is not None


def test_what_killed_processes_leave_is_removed(store: DiskCache) -> None:
    old, new = store.directory / ".tmp-1-a", store.directory / ".tmp-1-b"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    store.trim()
    assert not old.exists() and new.exists()  # the new one may belong to a running process


# ---------------------------------------------------------------- folders


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(CacheError, match="others can write"):
        DiskCache(folder)


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(CacheError, match="belongs to another user"):
        DiskCache(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CacheError, match="cannot make"):
            DiskCache(place)


def test_a_folder_that_vanishes_costs_one_warning(store: DiskCache) -> None:
    store.directory.rmdir()
    with pytest.warns(CacheWarning, match="cannot write"):
        assert not store.put(KEY, b"x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not store.put(KEY, b"x")
        assert store.get(KEY) is None
        store.trim()


# ---------------------------------------------------------------- environment


def test_where_the_cache_lies(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("HOME", str(tmp_path))
    places = {}
    places["home"] = opened()
    environment.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    places["xdg"] = opened()
    environment.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "own"))
    environment.setenv("GRAPHC_CACHE_MB", "3")
    places["own"] = opened()
    found = {name: store.directory.relative_to(tmp_path).as_posix() for name, store in places.items() if store}
    assert found == {"home": ".cache/graphc", "xdg": "xdg/graphc", "own": "own"}
    assert places["own"] is not None and places["own"].limit == 3 << 20
    assert opened() is places["own"]


def test_off(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "own"))
    environment.setenv("GRAPHC_CACHE", "off")
    assert opened() is None
    assert not (tmp_path / "own").exists()


def test_an_unusable_folder_costs_one_warning(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    environment.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    with pytest.warns(CacheWarning, match="is not used: others can write to"):
        assert opened() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert opened() is None


# ---------------------------------------------------------------- several processes

_WORKER = """
import random, sys
from pathlib import Path
from graphc.runtime.cache import DiskCache
store = DiskCache(Path(sys.argv[1]), limit=int(sys.argv[3]))
random.seed(int(sys.argv[2]))
hits = 0
for turn in range(400):
    key = f"k{random.randrange(5)}"
    if random.random() < 0.4:
        # Any mixture of two such payloads is not one of them.
        assert store.put(key, bytes([random.randrange(256)]) * random.randrange(1, 60_000))
    else:
        found = store.get(key)
        hits += found is not None
        assert found is None or len(set(found)) == 1
print(hits)
"""


@pytest.mark.parametrize("limit", [1 << 30, 50_000])
def test_processes_share_a_folder(tmp_path: Path, limit: int) -> None:
    command = [sys.executable, "-W", "error", "-c", _WORKER, str(tmp_path / "cache")]
    workers = [
        subprocess.Popen([*command, str(seed), str(limit)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for seed in range(3)
    ]
    for worker in workers:
        out, err = worker.communicate(timeout=60)
        assert worker.returncode == 0, err
        assert int(out) > 50
    assert not list((tmp_path / "cache").glob(".tmp-*"))


_STUCK = """
import os, sys, time
from pathlib import Path
from graphc.runtime.cache import DiskCache
place = sys.argv[2]
def stop(*arguments):
    print("stopped", flush=True)
    time.sleep(60)
setattr(os, place, stop)
DiskCache(Path(sys.argv[1])).put("0123abcd", b"new" * 100_000)
"""


@pytest.mark.parametrize("place", ["fsync", "replace"])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_kill_in_mid_write_leaves_the_old_entry(store: DiskCache, place: str, before: bytes | None) -> None:
    if before is not None:
        store.put(KEY, before)
    command = [sys.executable, "-c", _STUCK, str(store.directory), place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == "stopped\n"
        worker.send_signal(signal.SIGKILL)
    assert store.get(KEY) == before
    assert len(list(store.directory.glob(".tmp-*"))) == 1
    assert store.put(KEY, b"next") and store.get(KEY) == b"next"


def test_kills_at_random_moments(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    store = DiskCache(folder)
    seen = 0
    for seed in range(4):
        worker = subprocess.Popen(
            [sys.executable, "-c", _WORKER.replace("range(400)", "range(10**9)"), str(folder), str(seed), str(1 << 30)],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while not list(folder.glob("*.gxc")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(random.Random(seed).uniform(0.02, 0.2))
        worker.kill()
        worker.wait()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            entries = [store.get(f"k{i}") for i in range(5)]
        assert all(len(set(entry)) == 1 for entry in entries if entry is not None)
        seen += sum(entry is not None for entry in entries)
    assert seen > 0
