"""The directory of backups: which ones are there, and which ones may go."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rollout import backup_manifest
from rollout.errors import BackupFailed
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

_STALE_SECONDS = 86_400


@dataclass(frozen=True)
class BackupInfo:
    """One directory among the backups; with a ``problem``, all else but ``path`` and ``name`` is unknown.

    ``restore_seconds``: how long the restore took that proved it.
    """

    path: Path
    name: str
    created_at: datetime | None = None
    database: str = ""
    bytes: int = 0
    revision: str | None = None
    proven: bool = False
    restore_seconds: float | None = None
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the values for JSON and for a table."""
        when = self.created_at.isoformat(timespec="seconds") if self.created_at else None
        return {**asdict(self), "path": str(self.path), "created_at": when}


def list_backups(directory: Path) -> list[BackupInfo]:
    """Return what stands among the backups, newest first; what was stopped half-way is no backup and is left out.

    Reads manifests only: `tool backup verify` looks at the files.
    """
    if not directory.is_dir():
        return []
    found = [_info(path) for path in directory.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(
        found, key=lambda one: (one.created_at.timestamp() if one.created_at else 0.0, one.name), reverse=True
    )


def _info(path: Path) -> BackupInfo:
    """Look at one directory."""
    try:
        manifest = backup_manifest.read(path)
    except BackupFailed as error:
        return BackupInfo(path, path.name, problem=error.message)
    proof = backup_manifest.read_proof(path)
    return BackupInfo(
        path=path,
        name=path.name,
        created_at=manifest.created_at,
        database=f"{manifest.host}:{manifest.port}/{manifest.dbname}",
        bytes=manifest.bytes,
        revision=manifest.revision,
        proven=proof is not None,
        restore_seconds=proof.seconds if proof else None,
    )


def prune(directory: Path, keep: int) -> list[Path]:
    """Delete all but the newest ``keep`` backups of each database, and never its last proven one; return what went.

    Damaged ones stay, for somebody to look at. What was stopped half-way more than a day ago goes too. Raises
    ``BackupFailed``.
    """
    of_database: dict[str, list[BackupInfo]] = defaultdict(list)
    for one in list_backups(directory):
        if one.problem is None:
            of_database[one.database].append(one)
    removed = list(_stale(directory))
    for backups in of_database.values():
        last_proven = next((one for one in backups if one.proven), None)
        removed += [one.path for one in backups[max(keep, 0) :] if one is not last_proven]
    for path in removed:
        _remove(path)
    return removed


def _stale(directory: Path) -> Iterator[Path]:
    """Yield what is left of backups that were stopped, and has not been written to for a day."""
    for path in [*directory.glob(".*.partial"), *directory.glob(".*.removed")]:
        if time.time() - max(one.stat().st_mtime for one in [path, *path.rglob("*")]) > _STALE_SECONDS:
            yield path


def _remove(path: Path) -> None:
    """Delete a backup; one that is half gone no longer looks like one."""
    try:
        gone = path if path.name.startswith(".") else path.rename(path.with_name(f".{path.name}.removed"))
        shutil.rmtree(gone)
    except OSError as error:
        raise BackupFailed(
            say("the backup {path} cannot be deleted: {reason}", path=path, reason=error.strerror or str(error)),
            hint=say("Mend the rights of that directory."),
        ) from error
