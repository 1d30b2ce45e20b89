"""The proof of a backup: it is restored into a scratch database, and what that holds is compared with the manifest."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from rollout import databases
from rollout.backup_compare import differences
from rollout.backup_manifest import DUMP, Proof, manifest_hash, read_catalog, write_proof
from rollout.contents import patiently, read, relations, snapshot
from rollout.database import describe, engine_for, first_line, quote, raw_connection
from rollout.errors import BackupFailed
from rollout.findings import ERROR
from rollout.messages import say
from rollout.postgres_tools import restore_archive, tool_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from rollout.backup_manifest import Manifest
    from rollout.contents import Contents
    from rollout.errors import RolloutError
    from rollout.findings import Finding
    from rollout.run import Run
    from rollout.settings import Server, Settings


def prove(settings: Settings, run: Run, path: Path, manifest: Manifest, *, jobs: int = 2) -> Proof:
    """Prove a backup whose files have been checked, on the target's server; return what is written down beside it.

    Needs CREATEDB and room for a second copy there. The scratch database is dropped whatever happens to us, short of
    being killed. Raises ``BackupFailed``.
    """
    engine = databases.maintenance_engine(settings.target, "")
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as admin:
            there = describe(admin, settings.target)
            run.target = run.target or replace(there, dbname=settings.target.database)
            require(admin, manifest, BackupFailed)
            name = databases.name_for(manifest.dbname, "proof")
            begin = time.monotonic()
            with _scratch(admin, name, manifest):
                findings = fill(
                    run, settings.target, admin,
                    path=path, manifest=manifest, name=name, failed=BackupFailed, jobs=jobs,
                )  # fmt: skip
                seconds = round(time.monotonic() - begin, 3)
            errors = [finding for finding in findings if finding.severity == ERROR]
            run.findings += [finding for finding in findings if finding.severity != ERROR]
    finally:
        engine.dispose()
    if errors:
        raise BackupFailed(
            say("the backup does not restore to what was backed up: {count} differences", count=len(errors)),
            hint=say("Do not rely on it; make a new one. The findings name what differs."),
            findings=errors,
        )
    proof = Proof(
        manifest_sha256=manifest_hash(path),
        proven_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=seconds,
        server_version=there.server_version,
        tables=len(manifest.contents.tables),
        rows=sum(table.rows for table in manifest.contents.tables),
    )
    write_proof(path, proof)
    return proof


@contextmanager
def _scratch(admin: Connection, name: str, manifest: Manifest) -> Iterator[None]:
    """Have a database that lives as long as the block."""
    try:
        databases.create(admin, name, manifest.database)
    except DBAPIError as error:
        raise _cannot_create(BackupFailed, name, error) from error
    try:
        yield
    finally:
        databases.drop(admin, name)


def _cannot_create(failed: type[RolloutError], name: str, error: DBAPIError) -> RolloutError:
    """Say why a database cannot be created."""
    return failed(
        say("the database {name} cannot be created: {reason}", name=name, reason=first_line(error)),
        hint=say("Mend what the server names, then run this again."),
    )


def require(admin: Connection, manifest: Manifest, failed: type[RolloutError]) -> None:
    """Raise ``failed`` where this server cannot take the backup: rights, version, roles, extensions."""
    databases.unhurried(admin)
    role = databases.may_create(admin)
    if role is not None:
        raise failed(
            say("{role} may not create databases, and a restore never overwrites one", role=role),
            hint=say("As a superuser: {statement}", statement=databases.typed(f"ALTER ROLE {quote(role)} CREATEDB;")),
        )
    major = raw_connection(admin).server_version // 10_000
    if manifest.server_major > major:
        raise failed(
            say(
                "the backup is of PostgreSQL {theirs}, this server is {ours}", theirs=manifest.server_major, ours=major
            ),
            hint=say("Restore it on a server of its own version, or a newer one."),
        )
    missing = databases.missing_for(admin, manifest)
    if missing:
        raise failed("; ".join(problem for problem, _ in missing), hint=" ".join(what for _, what in missing))


def fill(
    run: Run, server: Server, admin: Connection, *, path: Path, manifest: Manifest, name: str,
    failed: type[RolloutError], jobs: int,
) -> list[Finding]:  # fmt: skip
    """Restore a backup into the empty database ``name`` and compare; return how it differs. Raises ``failed``."""
    major = raw_connection(admin).server_version // 10_000
    tool = tool_for("pg_restore", major, oldest=manifest.client_major)
    copy = server.to_database(name)
    with run.step("restore") as step:
        watch = _watch(run, admin, name, manifest.table_bytes)
        problem = restore_archive(tool, path / DUMP, copy, major, jobs=jobs, watch=watch)
        if problem is not None:
            raise failed(
                say("the backup cannot be restored: {reason}", reason=problem),
                hint=say("Mend what is named (rights, extensions, disk space), then run this again."),
            )
        run.listener.progress("restore", manifest.table_bytes, manifest.table_bytes, "bytes")
        step.detail = say("{tables} tables into {name}", tables=len(manifest.contents.tables), name=name)
    with run.step("compare") as step:
        manifest.contents.catalog = read_catalog(path)
        try:
            found = _contents_of(run, copy, manifest)
        except DBAPIError as error:
            raise failed(
                say("the restored database cannot be read: {reason}", reason=first_line(error)),
                hint=say("Mend what the server names, then run this again."),
            ) from error
        findings = differences(manifest.contents, found)
        step.detail = say("{count} differences", count=sum(finding.severity == ERROR for finding in findings))
    return findings


def _watch(run: Run, admin: Connection, name: str, total: int) -> Callable[[], None]:
    """Return what tells the restore's progress: pg_restore has none, but its database grows."""
    last = 0.0

    def watch() -> None:
        nonlocal last
        if time.monotonic() - last > 1:
            size = admin.execute(text("SELECT pg_database_size(:name)"), {"name": name}).scalar_one()
            run.listener.progress("restore", min(int(size), total), total, "bytes")
            last = time.monotonic()

    return watch


def _contents_of(run: Run, server: Server, manifest: Manifest) -> Contents:
    """Read the contents of a restored database, over the columns of the manifest."""
    columns = {(table.schema, table.name): table.columns for table in manifest.contents.tables}
    done = 0

    def told(size: int) -> None:
        nonlocal done
        done += size

    engine = engine_for(server)
    try:
        with snapshot(engine, lock_timeout=0) as connection:
            found = relations(connection)
            total = sum(one.size for one in found)
            return patiently(
                connection,
                lambda: read(connection, found, columns=columns, told=told),
                lambda: run.listener.progress("compare", done, total, "bytes"),
            )
    finally:
        engine.dispose()
