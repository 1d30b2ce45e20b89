"""What pg_dump writes, compressed beside it by ISA-L: gzip at several times the speed of zlib's fastest level.

pg_dump writes the files of a directory uncompressed, each from its beginning to its end. Every piece becomes a member
of ``<file>.gz``, and what has been compressed is given back to the disk: little of it is there at a time. The result is
what ``pg_dump --compress=gzip`` makes, and what ``gzip`` makes of an uncompressed directory, as PostgreSQL's
documentation allows (docs/adr/0013).
https://www.postgresql.org/docs/current/app-pgdump.html (--format=directory)
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING

from isal import igzip_lib

from rollout.backups.files import DUMP
from rollout.errors import BackupFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOC = "toc.dat"

_PIECE = 1 << 20
_BATCH = 16 * _PIECE
_SMALL = _PIECE // 16
# As many as pg_dump has: the server's processes leave one alone too little of two cores.
_THREADS = 2
_POLL_SECONDS = 0.1

# Large values are compressed in the database, and not in what pg_dump writes: so many times the tables may it become.
_EXPANDED = 4

# https://man7.org/linux/man-pages/man2/fallocate.2.html
_KEEP_SIZE, _PUNCH_HOLE = 1, 2

# The versions of an archive that we know the head of: from the number of a compression's level to that of its method.
_WITH_LEVEL, _WITH_METHOD = {(1, 14)}, {(1, 15), (1, 16)}
_MAGIC = b"PGDMP"
_GZIP = 1


def has_room(directory: Path, table_bytes: int) -> bool:
    """Tell whether the disk could hold what pg_dump writes uncompressed, where nothing of it can be given back."""
    return shutil.disk_usage(directory).free >= _EXPANDED * table_bytes


def is_raw(path: Path) -> bool:
    """Tell whether a file of a dump is compressed here, or is the list of contents, which changes at the end."""
    return path.suffix == ".dat"


class NoRoom(Exception):
    """The disk was full while not everything was compressed."""


class Compressor:
    """Compresses the data files of a dump while it is made."""

    def __init__(self, directory: Path) -> None:
        """Work in the directory ``dump`` below a backup's."""
        self.directory = directory / DUMP
        self._done: dict[str, int] = {}
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(_THREADS)

    @contextmanager
    def beside(self) -> Iterator[Future[None]]:
        """Compress in other threads while the block runs, and at its end what is left; yield what tells of a failure.

        Raises ``OSError``; ``NoRoom`` where the disk is half as free as it was, which others may need, or full. After a
        failure, what is left stays as it is.
        """
        with _told_when_full(), ThreadPoolExecutor(1) as follower, self._pool:
            try:
                following = follower.submit(self._follow, self._free() // 2)
                yield following
            finally:
                self._ended.set()
            following.result()
            for name, size in sorted(self._raw().items()):
                self._compress(name, size)
                (self.directory / name).unlink()
            _declare_gzip(self.directory / TOC)

    def _free(self) -> int:
        """Return how many bytes of the disk are free."""
        return shutil.disk_usage(self.directory.parent).free

    def _follow(self, least: int) -> None:
        """Compress what there is, until the dump has ended, or the disk has less than ``least`` bytes free.

        Of a file that grows, whole pieces; small ones, which large objects are by the thousand, are left to the end.
        """
        pause = _POLL_SECONDS
        before: dict[str, int] = {}
        while not self._ended.wait(pause):
            if self._free() < least:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.directory))
            begin = time.monotonic()
            raw = self._raw()
            pause = max(_POLL_SECONDS, 5 * (time.monotonic() - begin))  # where there are thousands of files
            for name, size in raw.items():
                if size == before.get(name) and size >= _SMALL:
                    self._compress(name, size)
                elif size - self._done.get(name, 0) >= _PIECE:
                    self._compress(name, size - size % _PIECE)
            before = raw

    def _raw(self) -> dict[str, int]:
        """Return the data files and their sizes in bytes."""
        if not self.directory.is_dir():
            return {}
        with os.scandir(self.directory) as entries:
            return {one.name: one.stat().st_size for one in entries if one.name.endswith(".dat") and one.name != TOC}

    def _compress(self, name: str, size: int) -> None:
        """Append what a file has, up to ``size`` bytes, to its compressed one; of an empty file, what says so."""
        done = self._done.get(name)
        if done == size:
            return
        path = self.directory / name
        try:
            with path.open("r+b") as file, _appending(path.with_name(f"{name}.gz")) as compressed:
                member = partial(_member, file.fileno())
                for begin in range(done or 0, size or 1, _BATCH):
                    end = min(begin + _BATCH, size)
                    spans = [(start, min(start + _PIECE, end)) for start in range(begin, end or 1, _PIECE)]
                    for one in (self._pool.map if len(spans) > 1 else map)(member, spans):
                        compressed.write(one)
                    if not self._ended.is_set():
                        _give_back(file.fileno(), begin, end - begin)
        except OSError as error:
            error.filename = error.filename or str(path)
            raise
        self._done[name] = size


@contextmanager
def _told_when_full() -> Iterator[None]:
    """Raise ``NoRoom`` where the disk was full, or a quota was used up, for us or for pg_dump (which runs in C)."""
    try:
        yield
    except (OSError, BackupFailed) as error:
        numbers = (errno.ENOSPC, errno.EDQUOT)
        if getattr(error, "errno", None) in numbers or any(os.strerror(one) in str(error) for one in numbers):
            raise NoRoom from error
        raise


def _member(descriptor: int, span: tuple[int, int]) -> bytes:
    """Compress a part of a file, from one byte up to another."""
    begin, end = span
    piece = os.pread(descriptor, end - begin, begin)
    if len(piece) != end - begin:
        raise OSError(errno.EIO, "read less than was written")
    return igzip_lib.compress(piece, flag=igzip_lib.COMP_GZIP)


def _appending(path: Path) -> IO[bytes]:
    """Open a file that nobody else may read, to write at its end."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def _give_back(descriptor: int, begin: int, length: int) -> None:
    """Give back the room of a part of a file; where the system or its file system cannot, it is kept until the end."""
    library = ctypes.CDLL(None)
    fallocate = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)  # glibc, musl
    if fallocate is not None and length:
        fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_int64(begin), ctypes.c_int64(length))


def _declare_gzip(toc: Path) -> None:
    """Say in the list of contents that files are compressed, as pg_dump does: pg_restore begins with the largest then.

    Where the archive is of a version that we do not know, its order stays the list's.
    https://github.com/postgres/postgres/blob/master/src/bin/pg_dump/pg_backup_archiver.c (WriteHead)
    """
    with toc.open("r+b") as file:
        head = file.read(16)
        version = tuple(head[5:7])
        if not head.startswith(_MAGIC) or version not in _WITH_LEVEL | _WITH_METHOD:
            return
        # Magic, version (3), size of an integer, size of an offset, format; an integer begins with its sign.
        file.seek(11 if version in _WITH_METHOD else 12)
        file.write(bytes([_GZIP]))
