"""The disk cache: bytes by key, in a folder private to the user. Layer 4, runtime.

Invariants: an entry is either whole or absent (written beside its place, synced, renamed), and its digest is checked on
each read, so neither a second process nor a kill in mid-write nor a bad disk can yield wrong bytes. Nothing here ever
stops a compilation: what cannot be read is recompiled, what cannot be written is left, each with a warning. The folder
holds machine code, so one that others could write to is refused.

Environment: `GRAPHC_CACHE=off` switches the cache off; `GRAPHC_CACHE_DIR` is the folder (otherwise `graphc` in
`XDG_CACHE_HOME` or `~/.cache`); `GRAPHC_CACHE_MB` limits its size (1024 by default), least recently used entries go first.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import secrets
import stat
import time
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from graphc.errors import CacheError, message

__all__ = ["CacheWarning", "DiskCache", "key_of", "opened", "sources_digest"]

_MAGIC = b"graphc-cache-1\r\n"
_DIGEST_SIZE = 32
_HEADER_SIZE = len(_MAGIC) + _DIGEST_SIZE
_SUFFIX, _TEMPORARY = ".gxc", ".tmp-"
_DEFAULT_MB = 1024
# Trimming lists the folder; this often is often enough.
_TRIM_EVERY = 32
# A temporary file this old belongs to a process that was killed.
_STALE_SECONDS = 3600.0


class CacheWarning(UserWarning):
    """The disk cache is not used, or an entry of it was dropped."""


def key_of(*parts: str | bytes) -> str:
    """The key for what these parts determine; graphc's own sources are always a part.

    Parts are hashed with their lengths and kinds, so no two different lists of parts have the same key.
    """
    digest = hashlib.blake2b(digest_size=24)
    for part in (sources_digest(), *parts):
        content = part.encode() if isinstance(part, str) else part
        digest.update(f"{type(part).__name__}{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()


@cache
def sources_digest() -> bytes:
    """A digest of all of graphc's Python sources, the rooms passes and codegen included. Computed once."""
    digest = hashlib.blake2b(digest_size=24)
    for package in ("graphc", "graphc.passes", "graphc.codegen"):
        spec = importlib.util.find_spec(package)
        for root in sorted(spec.submodule_search_locations or ()) if spec is not None else ():
            for path in sorted(Path(root).rglob("*.py")):
                content = path.read_bytes()
                digest.update(f"{package}/{path.relative_to(root).as_posix()} {len(content)}\n".encode())
                digest.update(content)
    return digest.digest()


def opened() -> DiskCache | None:
    """The cache that the environment asks for; None, after one warning, if it cannot be used, or if it is off."""
    if os.environ.get("GRAPHC_CACHE", "").strip().lower() in ("off", "0", "no", "false"):
        return None
    return _opened(_directory(os.environ), os.environ.get("GRAPHC_CACHE_MB", ""))


@cache
def _opened(directory: Path | None, megabytes: str) -> DiskCache | None:
    limit = int(megabytes) if megabytes.strip().isdigit() else _DEFAULT_MB
    try:
        if directory is None:
            raise CacheError(message("there is no home directory", hint="Set GRAPHC_CACHE_DIR."))
        return DiskCache(directory, limit << 20)
    except CacheError as fault:
        warnings.warn(f"graphc's disk cache is not used: {fault}", CacheWarning, stacklevel=3)
        return None


def _directory(environment: os._Environ[str]) -> Path | None:
    chosen = environment.get("GRAPHC_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser().absolute()
    shared = environment.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):  # the XDG specification: relative paths are to be ignored
        return Path(shared) / "graphc"
    try:
        return Path.home() / ".cache" / "graphc"
    except RuntimeError:
        return None


class DiskCache:
    """A folder of entries.

    Parameters
    ----------
    directory
        The folder; made, private to the user, if it does not exist.
    limit
        Bytes that the entries may take; the least recently used ones are dropped.

    Raises
    ------
    CacheError
        If the folder cannot be made, belongs to another user or can be written to by others.
    """

    def __init__(self, directory: Path, limit: int = _DEFAULT_MB << 20) -> None:
        self.directory = directory
        self.limit = limit
        self._puts = 0
        self._warned = False
        _make_private(directory)

    def get(self, key: str) -> bytes | None:
        """The entry's bytes, or None if there is none. A damaged entry is removed, with a warning that names it."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as fault:
            self._warn(f"graphc cannot read the cache entry {path}: {fault}")
            return None
        payload = content[_HEADER_SIZE:]
        if content[:_HEADER_SIZE] != _MAGIC + _digest(payload):
            self.drop(key, "it is damaged")
            return None
        with contextlib.suppress(OSError):  # a read-only folder: only the order of trimming suffers
            os.utime(path)
        return payload

    def put(self, key: str, payload: bytes) -> bool:
        """Store an entry, replacing an older one; False, after one warning, if the folder cannot be written."""
        path = self._path(key)
        temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}")
        try:
            with open(temporary, "xb", opener=_private_opener) as file:
                file.write(_MAGIC + _digest(payload))
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as fault:
            with contextlib.suppress(OSError):
                temporary.unlink()
            self._warn(f"graphc cannot write to its disk cache {self.directory}: {fault}")
            return False
        if self._puts % _TRIM_EVERY == 0:
            self.trim()
        self._puts += 1
        return True

    def drop(self, key: str, reason: str) -> None:
        """Remove an entry that turned out to be useless, with a warning that names it."""
        path = self._path(key)
        with contextlib.suppress(OSError):
            path.unlink()
        warnings.warn(f"graphc dropped the cache entry {path}: {reason}; compiling again", CacheWarning, stacklevel=3)

    def trim(self) -> None:
        """Remove the least recently used entries until the limit holds, and what killed processes left behind."""
        now = time.time()
        entries: list[tuple[float, int, Path]] = []
        for path, status in _files(self.directory):
            if path.name.startswith(_TEMPORARY):
                if now - status.st_mtime > _STALE_SECONDS:
                    with contextlib.suppress(OSError):
                        path.unlink()
            elif path.suffix == _SUFFIX:
                entries.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.limit:
                break
            with contextlib.suppress(OSError):  # another process may have removed it
                path.unlink()
            total -= size

    def clear(self) -> None:
        """Remove all entries."""
        for path, _ in _files(self.directory):
            if path.suffix == _SUFFIX or path.name.startswith(_TEMPORARY):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _path(self, key: str) -> Path:
        if not key.isalnum():
            raise CacheError(f"{key!r} is not a cache key")
        return self.directory / (key + _SUFFIX)

    def _warn(self, text: str) -> None:
        """Warn once for each cache: a full disk would otherwise repeat itself."""
        if not self._warned:
            self._warned = True
            warnings.warn(text, CacheWarning, stacklevel=4)


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError as fault:
        raise CacheError(f"cannot make the folder {directory}: {fault}") from None
    if status.st_uid != os.geteuid():
        raise CacheError(
            message(f"the folder {directory} belongs to another user", hint="Set GRAPHC_CACHE_DIR to one of your own.")
        )
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise CacheError(message(f"others can write to the folder {directory}", hint=f"Run: chmod go-w {directory}"))


def _private_opener(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_DIGEST_SIZE).digest()


def _files(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The regular files of a folder; those that vanish meanwhile are left out."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_file(follow_symlinks=False):
                        yield Path(entry.path), entry.stat(follow_symlinks=False)
    except OSError:
        return
