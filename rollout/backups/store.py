"""The directory of backups: which ones are there, which ones may go, and what killed runs left of theirs."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from rollout.backups import manifest as backup_manifest
from rollout.backups.proof import read_proof
from rollout.errors import BackupFailed
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
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

    @property
    def age(self) -> timedelta:
        """How long ago it was taken; nothing where that is not known."""
        return datetime.now(timezone.utc) - self.created_at if self.created_at else timedelta()

    def as_json(self) -> dict[str, Any]:
        """Return the values for JSON and for a table."""
        when = self.created_at.isoformat(timespec="seconds") if self.created_at else None
        age = round(self.age.total_seconds()) if self.created_at else None
        return {**asdict(self), "path": str(self.path), "created_at": when, "age_seconds": age}


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
    proof = read_proof(path)
    return BackupInfo(
        path=path,
        name=path.name,
        created_at=manifest.created_at,
        database=manifest.place,
        bytes=manifest.size,
        revision=manifest.revision,
        proven=proof is not None,
        restore_seconds=proof.restore_seconds if proof else None,
    )


@dataclass
class Pruned:
    """What went, and what stayed though it is old: by name, why.

    ``links``: of what went, the links, and where they led: what is there stays.
    """

    removed: list[Path] = field(default_factory=list)
    links: dict[Path, Path] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)


def prune(
    directory: Path,
    *,
    keep: int = 0,
    keep_days: float = 0,
    places: Collection[str] | None = None,
    pointed: Collection[str] = (),
    force: bool = False,
) -> Pruned:
    """Delete backups but the newest ``keep`` of each database and those younger than ``keep_days``.

    Never its last proven one; unless ``force``, only those of the databases at ``places`` (None: of all), and never one
    that a run in history points to (``pointed``, by name). Damaged ones stay, for somebody to look at. What killed runs
    left goes too. Raises ``BackupFailed``.
    """
    done = Pruned(removed=clean_up(directory))
    of_database: dict[str, list[BackupInfo]] = defaultdict(list)
    for one in list_backups(directory):
        if one.problem is None:
            of_database[one.database].append(one)
        else:
            done.kept[one.name] = one.problem
    going = []
    for place, backups in of_database.items():
        last_proven = next((one for one in backups if one.proven), None)
        for one in backups[max(keep, 0) :]:
            if one.age < timedelta(days=keep_days):
                continue
            if one is last_proven:
                done.kept[one.name] = say("it is the last proven one of its database")
            elif places is not None and place not in places and not force:
                done.kept[one.name] = say(
                    "it is of {place}, whose history was not asked (--force takes it all the same)", place=place
                )
            elif one.name in pointed and not force:
                done.kept[one.name] = say("a run in history points to it (--force takes it all the same)")
            else:
                going.append(one.path)
    done.links = _links(going)
    for path in going:
        _remove(path)
    done.removed += going
    return done


@contextmanager
def working_in(path: Path) -> Iterator[Path]:
    """Make a directory (0700) that is ours while the block runs; remove it where it has not become something else.

    While we hold its lock, nobody takes it for what a killed run left.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700)
    held = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: its age will tell
            fcntl.flock(held, fcntl.LOCK_EX)
        yield path
    finally:
        os.close(held)
        if path.exists():
            shutil.rmtree(path, ignore_errors=True)


def clean_up(directory: Path, failed: Callable[[str], object] | None = None) -> list[Path]:
    """Remove what killed runs left of backups that they made, or deleted; return what went.

    ``failed`` is told what cannot go; without it, the first such raises ``BackupFailed``.
    """
    gone = []
    for path in sorted([*directory.glob(".*.partial"), *directory.glob(".*.removed")]):
        if not _nobody_works_on(path):
            continue
        try:
            _remove(path)
        except BackupFailed as error:
            if failed is None:
                raise
            failed(error.message)
        else:
            gone.append(path)
    return gone


def _nobody_works_on(path: Path) -> bool:
    """Tell whether the run that made a directory has ended: its lock ends with it, even by ``kill -9``.

    Where the file system has no locks, what has not been written to for a day counts as left.
    """
    if path.is_symlink():  # we make none: a backup that was moved, and deleted half-way
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - max(_times(path)) > _STALE_SECONDS
    finally:
        os.close(descriptor)
    return True


def _times(path: Path) -> Iterator[float]:
    """Yield when a directory, and what is in it, was written to."""
    yield from (one.lstat().st_mtime for one in [path, *path.rglob("*")])


def _links(paths: list[Path]) -> dict[Path, Path]:
    """Return which of these are links, and where they lead."""
    return {path: path.resolve() for path in paths if path.is_symlink()}


def _remove(path: Path) -> None:
    """Delete a backup; one that is half gone no longer looks like one. Of a link only itself goes, no data.

    Raises ``BackupFailed``.
    """
    try:
        if path.is_symlink():
            path.unlink()
            return
        gone = path if path.name.startswith(".") else path.rename(path.with_name(f".{path.name}.removed"))
        shutil.rmtree(gone)
    except OSError as error:
        raise BackupFailed(
            say("the backup {path} cannot be deleted: {reason}", path=path, reason=error.strerror or str(error)),
            hint=say("Mend the rights of that directory."),
        ) from error
