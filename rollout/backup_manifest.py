"""What a backup says of itself: a directory with ``dump/``, ``catalog.json``, ``manifest.json`` and its hash.

``manifest.json`` holds what the database held on the dump's snapshot, and size and SHA-256 of every file;
``manifest.json.sha256`` is its own hash, in the format of ``sha256sum -c``. ``proof.json`` comes when a restore has
shown the same contents, and holds for this manifest only.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rollout.contents import Contents
from rollout.errors import BackupFailed
from rollout.findings import ERROR, Finding
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rollout.catalog import Catalog

FORMAT = 1
DUMP = "dump"
CATALOG = "catalog.json"
MANIFEST = "manifest.json"
MANIFEST_HASH = "manifest.json.sha256"
PROOF = "proof.json"

_PROOF_PARTIAL = f".{PROOF}.partial"

_NOT_LISTED = {MANIFEST, MANIFEST_HASH, PROOF, _PROOF_PARTIAL}
_PIECE = 2**20
CHECK = "backup_is_what_it_was"


@dataclass(frozen=True)
class FileEntry:
    """One file of a backup: its path below the backup's directory, its size, its SHA-256 in hex."""

    path: str
    bytes: int
    sha256: str


@dataclass
class Manifest:
    """What a backup is of.

    ``table_bytes``: its tables' size on the server; ``database``: see sql/database_properties.sql; ``roles``: those
    that a restore needs, each with ``name`` and ``member_of``.
    """

    name: str
    created_at: datetime
    seconds: float
    host: str
    port: int
    dbname: str
    user: str
    server_version: str
    server_major: int
    client_version: str
    revision: str | None
    table_bytes: int
    database: dict[str, Any]
    extensions: list[dict[str, str]]
    roles: list[dict[str, Any]]
    contents: Contents
    files: list[FileEntry] = field(default_factory=list)

    @property
    def client_major(self) -> int:
        """The major version of the pg_dump that made it."""
        return int(self.client_version.split(".")[0])

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file.bytes for file in self.files)

    def text(self) -> str:
        """Return the manifest as it is written."""
        values = {"format": FORMAT, **asdict(self), "contents": self.contents.as_json()}
        values["created_at"] = self.created_at.isoformat()
        return json.dumps(values, ensure_ascii=False, indent=1) + "\n"


@dataclass(frozen=True)
class Proof:
    """That a restore showed the same contents: when, where, and how long the restore took in seconds."""

    manifest_sha256: str
    proven_at: str
    seconds: float
    server_version: str
    tables: int
    rows: int


def manifest_hash(directory: Path) -> str:
    """Return the SHA-256 of the manifest's file in hex."""
    return hashlib.sha256((directory / MANIFEST).read_bytes()).hexdigest()


def write(directory: Path, manifest: Manifest) -> None:
    """Write the manifest and its hash, and bring the whole backup to the disk (fsync)."""
    _write_text(directory / MANIFEST, manifest.text())
    _write_text(directory / MANIFEST_HASH, _hash_line(directory))
    for path in [*directory.rglob("*"), directory]:
        fsync(path)


def write_catalog(directory: Path, definitions: Catalog) -> None:
    """Write the definitions of all objects."""
    _write_text(directory / CATALOG, json.dumps(definitions, ensure_ascii=False, indent=0, sort_keys=True) + "\n")


def read_catalog(directory: Path) -> Catalog:
    """Read the definitions of all objects, of a backup whose files have been checked."""
    definitions: Catalog = json.loads((directory / CATALOG).read_text(encoding="utf-8"))
    return definitions


def _write_text(path: Path, text: str) -> None:
    """Write a file that is ours alone."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _hash_line(directory: Path) -> str:
    """Return what ``sha256sum manifest.json`` says."""
    return f"{manifest_hash(directory)}  {MANIFEST}\n"


def fsync(path: Path) -> None:
    """Bring a file, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(directory: Path) -> Manifest:
    """Read a backup's manifest (without the catalog); raise ``BackupFailed`` where there is none, or it was changed."""
    try:
        intact = (directory / MANIFEST_HASH).read_bytes() == _hash_line(directory).encode()
    except (FileNotFoundError, NotADirectoryError):
        raise BackupFailed(
            say("{path} is not a whole backup: it has no manifest", path=directory),
            hint=say("`tool backup list` shows those there are."),
        ) from None
    except OSError as error:
        raise _damaged(directory, error.strerror or str(error)) from error
    if not intact:
        raise _damaged(directory, say("its hash differs"))
    values = json.loads((directory / MANIFEST).read_bytes())
    if values.pop("format", None) != FORMAT:
        raise BackupFailed(
            say("{path} is in a format that this version does not know", path=directory),
            hint=say("Use the version of this tool that made it, or a newer one."),
        )
    values["created_at"] = datetime.fromisoformat(values["created_at"])
    values["files"] = [FileEntry(**file) for file in values["files"]]
    values["contents"] = Contents.from_json(values["contents"], {})
    return Manifest(**values)


def _damaged(directory: Path, reason: str) -> BackupFailed:
    """Say that the manifest itself is not what it was."""
    return BackupFailed(
        say("the manifest of {path} is not what it was: {reason}", path=directory, reason=reason),
        hint=say("Do not use this backup; take another one (`tool backup list`)."),
    )


def hash_files(directory: Path, told: Callable[[int], None] = lambda _: None) -> list[FileEntry]:
    """Hash every file of a backup; ``told`` hears the bytes of each piece read."""
    return [
        FileEntry(path.relative_to(directory).as_posix(), path.stat().st_size, _hash(path, told))
        for path in _files(directory)
    ]


def _files(directory: Path) -> Iterator[Path]:
    """Yield the files that a manifest lists, in a fixed order."""
    for path in sorted(directory.rglob("*")):
        if (path.is_symlink() or not path.is_dir()) and path.relative_to(directory).as_posix() not in _NOT_LISTED:
            yield path


def _hash(path: Path, told: Callable[[int], None]) -> str:
    """Hash one file, a piece at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            told(len(piece))
    return digest.hexdigest()


def check_files(directory: Path, manifest: Manifest, told: Callable[[int], None] = lambda _: None) -> list[Finding]:
    """Compare every file with the manifest; return what is missing, changed, or more than was written."""
    listed = {file.path: file for file in manifest.files}
    present = {path.relative_to(directory).as_posix(): path for path in _files(directory)}
    findings = []
    for name in sorted({*listed, *present}):
        problem = _problem(listed.get(name), present.get(name), told)
        if problem:
            findings.append(finding(name, problem))
    if (directory / PROOF).exists() and read_proof(directory) is None:
        findings.append(finding(PROOF, say("it is not a proof of this backup")))
    return findings


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


def _proof_hash(values: dict[str, Any]) -> str:
    """Return the hash of a proof's own values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def write_proof(directory: Path, proof: Proof) -> None:
    """Write down that the backup is proven, whole or not at all."""
    values = asdict(proof)
    text = json.dumps({"proof": values, "sha256": _proof_hash(values)}, indent=1) + "\n"
    partial = directory / _PROOF_PARTIAL
    try:
        _write_text(partial, text)
        fsync(partial)
        partial.replace(directory / PROOF)
    finally:
        partial.unlink(missing_ok=True)
    fsync(directory)


def read_proof(directory: Path) -> Proof | None:
    """Return the proof of a backup, or None where there is none, or it is of another manifest."""
    try:
        values = json.loads((directory / PROOF).read_text(encoding="utf-8"))
        proof = Proof(**values["proof"])
        whole = values["sha256"] == _proof_hash(values["proof"])
        of_this = proof.manifest_sha256 == manifest_hash(directory)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return proof if whole and of_this else None
