"""Backups: one snapshot, dumped by pg_dump and fingerprinted beside it, written whole or not at all."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from rollout import scratch
from rollout.backups import manifest as backup_manifest
from rollout.backups import remote as backup_remote
from rollout.backups.dump import DumpJob, make, server_says
from rollout.backups.files import PROOF, check_files, finding, fsync
from rollout.backups.proof import has_strange_proof, read_proof, recorded_where_possible, write_proof
from rollout.backups.prove import prove as prove_backup
from rollout.backups.store import BackupInfo, clean_up, list_backups, prune, working_in
from rollout.database import describe, engine_for, first_line, sqlstate
from rollout.errors import BackupFailed
from rollout.messages import say
from rollout.postgres_tools import tool_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rollout.backups.manifest import Manifest
    from rollout.backups.proof import Proof
    from rollout.run import Run
    from rollout.settings import Server, Settings

__all__ = ["Backup", "BackupInfo", "check", "create", "list_backups", "prune", "verify"]

# Where the settings say "wait for ever": two sessions of ours must not wait for each other through a third one's.
_LONGEST_LOCK_WAIT = 600.0


@dataclass(frozen=True)
class Backup:
    """A backup on disk; ``proof`` is None until a restore has shown the same contents."""

    path: Path
    manifest: Manifest
    proof: Proof | None

    def as_json(self) -> dict[str, Any]:
        """Return the keys of cli.md."""
        return {
            "path": str(self.path),
            "bytes": self.manifest.size,
            "proven": self.proof is not None,
            "tables": [
                {"schema": t.schema, "name": t.name, "rows": t.rows, "fingerprint": t.fingerprint}
                for t in self.manifest.contents.tables
            ],
        }


def create(
    settings: Settings, run: Run, *, server: Server | None = None, jobs: int = 2, compress: str | None = None,
    prove: bool = False, on: str | None = None, to: str | None = None,
) -> Backup:  # fmt: skip
    """Back up a database (default: the target) into ``settings.backups``; ``prove``: and prove it (``on``: elsewhere).

    ``to``: also below this URL, and what is proven is fetched from there. ``compress`` as pg_dump's --compress; None:
    gzip. What killed runs left is removed. In ``run.result``: cli.md's keys where the command is a backup one, else
    ``backup``, the path. Raises ``BackupFailed``, ``LockNotAcquired``,
    ``PreflightFailed`` (no fitting pg_dump).
    https://www.postgresql.org/docs/current/app-pgdump.html, functions-admin.html (pg_export_snapshot)
    """
    if to is not None:
        backup_remote.require(to)
    if prove:
        scratch.expect(settings, server or settings.target, on, BackupFailed)
    backup = _dumped(settings, run, server or settings.target, jobs, compress)
    if to is not None:
        backup = _kept_elsewhere(settings, run, backup, to, prove=prove, on=on)
    elif prove:
        proof = prove_backup(settings, run, backup.path, backup.manifest, jobs=jobs, on=on)
        backup = replace(backup, proof=proof)
    return _told(run, backup)


def _dumped(settings: Settings, run: Run, server: Server, jobs: int, compress: str | None) -> Backup:
    """Make a backup, unproven."""
    engine = engine_for(server)
    with _explained():
        with engine.connect() as connection:
            target = describe(connection, server)
        run.target = run.target or target
        tool = tool_for("pg_dump", target.major)
        tool_for("pg_restore", 0, oldest=tool.major)  # one that can read it must be here
        name = _name(target.dbname, run)
        for left in clean_up(settings.backups, run.listener.note):
            run.listener.note(say("removed {name}, which a killed run had left", name=left.name))
        with _partial(settings.backups, name) as partial:
            wait_at_most = settings.lock_timeout or _LONGEST_LOCK_WAIT
            database = server.to_database(target.dbname)
            job = DumpJob(run, engine, database, target, tool, name, partial, jobs, compress, wait_at_most)
            with run.step("backup") as step:
                manifest = make(job)
                step.detail = say("{bytes} bytes, {tables} tables", bytes=manifest.size,
                                  tables=len(manifest.contents.tables))  # fmt: skip
            path = _publish(partial, settings.backups / name)
    return Backup(path, manifest, None)


def _kept_elsewhere(settings: Settings, run: Run, backup: Backup, to: str, *, prove: bool, on: str | None) -> Backup:
    """Upload a backup, fetch it again, and prove what came back; the proof is written here and there."""
    url = backup_remote.upload(run, backup.path, to)
    run.result["remote"] = url
    with backup_remote.at_hand(run, settings.backups, url) as fetched:
        manifest = check(fetched, run)
        if not prove:
            return backup
        proof = prove_backup(settings, run, fetched, manifest, on=on)
        backup_remote.upload_proof(fetched, url)
    write_proof(backup.path, proof)
    return replace(backup, proof=proof)


def _told(run: Run, backup: Backup) -> Backup:
    """Put what cli.md promises into the run's result."""
    if run.command.startswith("backup"):
        run.result.update(backup.as_json())
    else:
        run.result["backup"] = str(backup.path)
    return backup


def _name(dbname: str, run: Run) -> str:
    """Return a backup's name: database, time (UTC), run."""
    safe = re.sub(r"[^\w.-]", "_", dbname).lstrip(".-")[:60]
    return f"{safe or 'database'}-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{run.run_id[:8]}"


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what the server or the file system says into a ``BackupFailed``."""
    try:
        yield
    except DBAPIError as error:
        raise server_says(first_line(error), sqlstate(error)) from error
    except OSError as error:
        raise BackupFailed(
            say("the backup cannot be written: {reason}", reason=f"{error.strerror}: {error.filename}"),
            hint=say("Make room or mend the rights there, or set ROLLOUT_DIR to another directory."),
        ) from error


@contextmanager
def _partial(backups: Path, name: str) -> Iterator[Path]:
    """Make the directory that a backup is written in (0700); remove it where it did not become one."""
    if (backups / name).exists():
        raise BackupFailed(say("there is a backup {name} already", name=name), hint=say("Run this again."))
    with working_in(backups / f".{name}.partial") as partial:
        yield partial


def _publish(partial: Path, path: Path) -> Path:
    """Give a whole backup its name."""
    partial.rename(path)
    fsync(path.parent)
    return path


def check(path: Path, run: Run) -> Manifest:
    """Check that a backup is what it was: its manifest, and every file's hash.

    Raises ``BackupFailed`` with a finding for every file that is not.
    """
    manifest = backup_manifest.read(path)
    done = 0

    def told(size: int) -> None:
        nonlocal done
        done += size
        run.listener.progress("check files", min(done, manifest.size), manifest.size, "bytes")

    with run.step("check files") as step:
        findings = check_files(path, manifest.files, told)
        if has_strange_proof(path):
            findings.append(finding(PROOF, say("it is not a proof of this backup")))
        if findings:
            first = f"{findings[0].subject}: {findings[0].problem}"
            raise BackupFailed(
                say(
                    "{path} is not what it was ({count} findings; {first})", path=path, count=len(findings), first=first
                ),
                hint=findings[0].hint,
                findings=findings,
            )
        step.detail = say("{count} files", count=len(manifest.files))
    return manifest


def verify(
    path: Path, *, run: Run, settings: Settings | None = None, quick: bool = False, on: str | None = None
) -> Backup:
    """Check a backup and, with ``settings`` and not ``quick``, prove it again: on the target's server, or ``on``.

    In ``run.result``: cli.md's keys; a proof counts as such when it is recorded, and a directory that cannot be written
    to is told. Raises ``BackupFailed``, with findings.
    """
    run.result.update({"path": str(path), "proven": False})
    manifest = check(path, run)
    if settings is not None and not quick:
        with recorded_where_possible(path, run.listener.note):
            prove_backup(settings, run, path, manifest, on=on)
    return _told(run, Backup(path, manifest, read_proof(path)))
