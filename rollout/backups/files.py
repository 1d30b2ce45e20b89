"""The files of a backup: their hashes, and whether they are what they were."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rollout.findings import ERROR, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DUMP = "dump"
CATALOG = "catalog.json"
MANIFEST = "manifest.json"
MANIFEST_HASH = "manifest.json.sha256"
PROOF = "proof.json"
PROOF_PARTIAL = f".{PROOF}.partial"

CHECK = "backup_is_what_it_was"

_NOT_LISTED = {MANIFEST, MANIFEST_HASH, PROOF, PROOF_PARTIAL}
_PIECE = 2**20
_THREADS = 2
_FOLLOW_SECONDS = 1.0


@dataclass(frozen=True)
class FileEntry:
    """One file of a backup: its path below the backup's directory, its size, its SHA-256 in hex."""

    path: str
    bytes: int
    sha256: str


def write_text(path: Path, text: str) -> None:
    """Write a file that is ours alone."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def fsync(path: Path) -> None:
    """Bring a file, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Hashes:
    """The hashes of files that only grow, taken while they do: less is left to do after the last byte of a dump.

    pg_dump writes each file of a directory from its beginning to its end.
    """

    def __init__(self, directory: Path, left: Callable[[Path], bool] = lambda _: False) -> None:
        """Follow the files below a directory, but those that are ``left``: they do not only grow."""
        self.directory = directory
        self._left = left
        self._read: dict[Path, tuple[int, hashlib._Hash]] = {}

    @contextmanager
    def followed(self) -> Iterator[Hashes]:
        """Read on, in another thread, until the block ends; what cannot be read is left to ``entry``, which says so."""
        ended = threading.Event()

        def follow() -> None:
            while not ended.wait(_FOLLOW_SECONDS):
                for path in _files(self.directory):
                    with suppress(OSError):
                        if not self._left(path) and path.stat().st_size != self._read.get(path, (0,))[0]:
                            self._read_on(path)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()

    def entry(self, path: Path) -> FileEntry:
        """Hash what is left of a file that grows no more."""
        size, digest = self._read_on(path)
        return FileEntry(path.relative_to(self.directory).as_posix(), size, digest.hexdigest())

    def _read_on(self, path: Path) -> tuple[int, hashlib._Hash]:
        """Read what a file has more than last time, and bring it to the disk."""
        size, digest = self._read.get(path, (0, hashlib.sha256()))
        fsync(path)
        with path.open("rb") as file:
            file.seek(size)
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
        self._read[path] = size, digest
        return size, digest


def hash_files(hashes: Hashes) -> list[FileEntry]:
    """Hash what is left of every file of a backup, several at a time, and bring it to the disk."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(hashes.entry, _files(hashes.directory)))


def _files(directory: Path) -> list[Path]:
    """Return the files that a manifest lists, in a fixed order."""
    return [
        path
        for path in sorted(directory.rglob("*"))
        if (path.is_symlink() or not path.is_dir()) and path.relative_to(directory).as_posix() not in _NOT_LISTED
    ]


def _hash(path: Path, told: Callable[[int], None] = lambda _: None) -> str:
    """Hash one file, a piece at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            told(len(piece))
    return digest.hexdigest()


def check_files(
    directory: Path, entries: Iterable[FileEntry], told: Callable[[int], None] = lambda _: None
) -> list[Finding]:
    """Compare every file with the manifest's entries; return what is missing, changed, or more than was written.

    ``told`` hears the bytes of each piece read, from several threads.
    """
    listed = {entry.path: entry for entry in entries}
    present = {path.relative_to(directory).as_posix(): path for path in _files(directory)}
    names = sorted({*listed, *present})
    with ThreadPoolExecutor(_THREADS) as pool:
        problems = pool.map(lambda name: _problem(listed.get(name), present.get(name), told), names)
        found = [finding(name, problem) for name, problem in zip(names, problems, strict=True) if problem]
    expected = {parent.as_posix() for name in listed for parent in Path(name).parents}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_dir() and not path.is_symlink() and name not in expected:
            found.append(finding(name, say("the directory was not there when the backup was made")))
    return found


def _problem(listed: FileEntry | None, path: Path | None, told: Callable[[int], None]) -> str | None:
    """Return what is wrong with one file."""
    if path is None:
        return say("the file is missing")
    if listed is None:
        return say("the file was not there when the backup was made")
    if path.is_symlink() or not path.is_file():
        return say("it is not a file")
    try:
        size = path.stat().st_size
        if size != listed.bytes:
            return say("the file has {found} bytes instead of {expected}", found=size, expected=listed.bytes)
        return None if _hash(path, told) == listed.sha256 else say("the file's content was changed")
    except OSError as error:
        return say("the file cannot be read: {reason}", reason=error.strerror or str(error))


def finding(subject: str, problem: str) -> Finding:
    """Make a finding about a backup."""
    hint = say("Do not use this backup; take another one (`tool backup list`).")
    return Finding(subject, problem, hint, ERROR, CHECK, "backup")
