"""What a backup says of itself: a directory with ``dump/``, ``catalog.json``, ``manifest.json`` and its hash.

``manifest.json`` holds what the database held on the dump's snapshot, and size and SHA-256 of every file;
``manifest.json.sha256`` is its own hash, in the format of ``sha256sum -c``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rollout.backups.files import CATALOG, MANIFEST, MANIFEST_HASH, FileEntry, fsync, write_text
from rollout.contents import Contents
from rollout.database import place
from rollout.errors import BackupFailed
from rollout.messages import say
from rollout.needs import Needs

if TYPE_CHECKING:
    from pathlib import Path

    from rollout.catalog import Catalog

FORMAT = 4


@dataclass
class Manifest:
    """What a backup is of.

    ``table_bytes``: its tables' size on the server; ``database``: see sql/database_properties.sql; ``needs``: what a
    restore needs of a server; ``schema_sha256``: of all definitions, as ``catalog.json`` has them.
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
    needs: Needs
    contents: Contents
    schema_sha256: str = ""
    files: list[FileEntry] = field(default_factory=list)

    @property
    def client_major(self) -> int:
        """The major version of the pg_dump that made it."""
        return int(self.client_version.split(".")[0])

    @property
    def size(self) -> int:
        """The size of all files in bytes."""
        return sum(file.bytes for file in self.files)

    @property
    def place(self) -> str:
        """The database that it is of, as host:port/database."""
        return place(self.host, self.port, self.dbname)

    def text(self) -> str:
        """Return the manifest as it is written."""
        values = {"format": FORMAT, **asdict(self), "contents": self.contents.as_json()}
        values["created_at"] = self.created_at.isoformat()
        return json.dumps(values, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def parse(cls, text: str | bytes) -> Manifest:
        """Return the manifest that ``text`` wrote; raise ``ValueError`` where it is none of this format."""
        try:
            values = json.loads(text)
            if values.pop("format") != FORMAT:
                raise ValueError("another format")
            values["created_at"] = datetime.fromisoformat(values["created_at"])
            values["files"] = [FileEntry(**file) for file in values["files"]]
            values["needs"] = Needs.from_json(values["needs"])
            values["contents"] = Contents.from_json(values["contents"], {})
            return cls(**values)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from error


def manifest_hash(directory: Path) -> str:
    """Return the SHA-256 of the manifest's file in hex."""
    return hashlib.sha256((directory / MANIFEST).read_bytes()).hexdigest()


def write(directory: Path, manifest: Manifest) -> None:
    """Write the manifest and its hash, and bring them and the directories' entries to the disk (fsync)."""
    write_text(directory / MANIFEST, manifest.text())
    write_text(directory / MANIFEST_HASH, _hash_line(directory))
    directories = [path for path in directory.rglob("*") if path.is_dir()]
    for path in [directory / MANIFEST, directory / MANIFEST_HASH, *directories, directory]:
        fsync(path)


def write_catalog(directory: Path, definitions: Catalog) -> str:
    """Write the definitions of all objects; return their SHA-256 in hex."""
    text = json.dumps(definitions, ensure_ascii=False, indent=0, sort_keys=True) + "\n"
    write_text(directory / CATALOG, text)
    return hashlib.sha256(text.encode()).hexdigest()


def read_catalog(directory: Path) -> Catalog:
    """Read the definitions of all objects, of a backup whose files have been checked."""
    definitions: Catalog = json.loads((directory / CATALOG).read_text(encoding="utf-8"))
    return definitions


def _hash_line(directory: Path) -> str:
    """Return what ``sha256sum manifest.json`` says."""
    return f"{manifest_hash(directory)}  {MANIFEST}\n"


def read(directory: Path) -> Manifest:
    """Read a backup's manifest (without the catalog); raise ``BackupFailed`` where there is none, or it was changed."""
    try:
        intact = (directory / MANIFEST_HASH).read_bytes() == _hash_line(directory).encode()
        text = (directory / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise BackupFailed(
            say("{path} is not a whole backup: it has no manifest", path=directory),
            hint=say("`tool backup list` shows those there are."),
        ) from None
    except OSError as error:
        raise _damaged(directory, error.strerror or str(error)) from error
    if not intact:
        raise _damaged(directory, say("its hash differs"))
    try:
        return Manifest.parse(text)
    except ValueError as error:
        raise BackupFailed(
            say("{path} is in a format that this version does not know", path=directory),
            hint=say("Use the version of this tool that made it, or a newer one."),
        ) from error


def _damaged(directory: Path, reason: str) -> BackupFailed:
    """Say that the manifest itself is not what it was."""
    return BackupFailed(
        say("the manifest of {path} is not what it was: {reason}", path=directory, reason=reason),
        hint=say("Do not use this backup; take another one (`tool backup list`)."),
    )
