"""The proof of a backup: it is restored into a scratch database, and what that holds is compared with the manifest."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import wait
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from rollout import databases, definitions, scratch
from rollout.backups.archive import definitions_of_archive, definitions_of_database, restore_archive
from rollout.backups.compare import differences, finding
from rollout.backups.files import DUMP
from rollout.backups.manifest import manifest_hash, read_catalog
from rollout.backups.proof import Proof, forget_proof, write_proof
from rollout.contents import read, relations
from rollout.database import engine_for, first_line
from rollout.errors import BackupFailed, PreflightFailed
from rollout.findings import ERROR, WARNING
from rollout.messages import say
from rollout.needs import tablespace_options
from rollout.postgres_tools import tool_for
from rollout.snapshot import in_background, patiently, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rollout.backups.manifest import Manifest
    from rollout.contents import Contents
    from rollout.findings import Finding
    from rollout.run import Run
    from rollout.scratch import Place
    from rollout.settings import Server, Settings


# What template0 brings, as the catalog names it and as DROP does.
_BROUGHT = ("schema public", "extension plpgsql")
_SWITCHED_OFF_SINCE = 17
_GONE_SECONDS = 5


def prove(
    settings: Settings, run: Run, path: Path, manifest: Manifest, *, jobs: int = 2, on: str | None = None
) -> Proof:
    """Prove a backup whose files have been checked; return what is written down beside it.

    On the target's server (which needs CREATEDB, and room for a second copy), or ``on`` another one: ``embedded`` or a
    URL. The scratch database is dropped whatever happens to us, short of being killed. Raises ``BackupFailed``.
    """
    with scratch.place(settings, run, on, BackupFailed) as there:
        scratch.require(there, manifest)
        name = databases.name_for(manifest.dbname, "proof")
        with scratch.database(run, there, name, manifest):
            filled = fill(run, there, path, manifest, name, jobs=jobs)
    return conclude(run, path, manifest, filled)


def conclude(run: Run, path: Path, manifest: Manifest, filled: Filled) -> Proof:
    """Write down that a backup is proven, or take that back and raise ``BackupFailed`` where its copy differs."""
    run.findings += [one for one in filled.findings if one.severity != ERROR]
    if filled.errors:
        forget_proof(path)
        raise BackupFailed(
            say("the backup does not restore to what was backed up: {count} differences", count=len(filled.errors)),
            hint=say("Do not rely on it; make a new one. The findings name what differs."),
            findings=filled.errors,
        )
    proof = Proof(
        manifest_sha256=manifest_hash(path),
        proven_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=filled.seconds,
        restore_seconds=filled.restore_seconds,
        place=filled.place,
        server_version=filled.server_version,
        definitions=filled.definitions,
        tables=len(manifest.contents.tables),
        rows=sum(table.rows for table in manifest.contents.tables),
    )
    write_proof(path, proof)
    return proof


def analyze(there: Place, name: str) -> None:
    """Collect the planner's statistics: no dump holds them, and without them every query is slow."""
    engine = scratch.engine_of(there, name)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        databases.unhurried(connection)
        patiently(connection, lambda: connection.exec_driver_sql("ANALYZE"))


@dataclass
class Filled:
    """How a restored database differs, and where it was; the fields are those of ``Proof``."""

    place: str
    server_version: str
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0
    restore_seconds: float = 0.0
    definitions: bool = True

    @property
    def errors(self) -> list[Finding]:
        """The differences that count."""
        return [one for one in self.findings if one.severity == ERROR]


def fill(run: Run, there: Place, path: Path, manifest: Manifest, name: str, *, jobs: int) -> Filled:
    """Restore a backup into the empty database ``name`` and compare; raise the place's error where that fails."""
    filled = Filled(there.name, there.target.server_version)
    begin = time.monotonic()
    try:
        with run.step("restore") as step:
            manifest.contents.catalog = read_catalog(path)
            copy = _quiet(there, manifest, name)
            _restore(run, there, path, manifest, copy, jobs=jobs)
            filled.restore_seconds = round(time.monotonic() - begin, 3)
            step.detail = say("{tables} tables into {name}", tables=len(manifest.contents.tables), name=name)
        with run.step("compare") as step:
            filled.definitions = _comparable(there, manifest)
            filled.findings = list(_compared(run, there, path, manifest, copy, jobs=jobs, strictly=filled.definitions))
            step.detail = say("{count} differences", count=len(filled.errors))
        filled.seconds = round(time.monotonic() - begin, 3)
    except SQLAlchemyError as error:
        raise there.failed(
            say("the restored database cannot be read: {reason}", reason=first_line(error)),
            hint=say("Mend what the server names, then run this again."),
        ) from error
    return filled


def _quiet(there: Place, manifest: Manifest, name: str) -> Server:
    """Return how to reach the copy so that its event triggers, which may write down what we do, leave it as it is.

    Before 17 they cannot be kept from that. Only a superuser can restore them, or switch them off.
    """
    server = there.server.to_database(name)
    fires = any(key.startswith("event trigger ") for key in manifest.contents.catalog)
    if not fires or there.target.major < _SWITCHED_OFF_SINCE:
        return server
    options = f"{server.parameters.get('options', '')} -c event_triggers=off"
    return replace(server, parameters={**server.parameters, "options": options.strip()})


def _strip(there: Place, manifest: Manifest, copy: Server) -> None:
    """Drop from the empty database what template0 brings and the backup has not: no dump says that it is gone."""
    too_many = [one for one in _BROUGHT if one not in manifest.contents.catalog]
    if not too_many:
        return
    engine = engine_for(copy)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            databases.unhurried(connection)
            for one in too_many:
                connection.exec_driver_sql(f"DROP {one}")
    except SQLAlchemyError as error:
        raise there.failed(
            say("the backup has no {what}, and it cannot be dropped from the new database: {reason}",
                what=one, reason=first_line(error)),
            hint=say("Restore as a superuser; a proof can run elsewhere (--on embedded)."),
        ) from error  # fmt: skip


def _restore(run: Run, there: Place, path: Path, manifest: Manifest, copy: Server, *, jobs: int) -> None:
    """Let pg_restore fill the empty database; where its own sessions met in a deadlock, once more with only one."""
    problem = _try_to_restore(run, there, path, manifest, copy, jobs=jobs)
    if problem is not None and jobs > 1 and _deadlocks(there, copy.database):
        run.listener.note(
            say("pg_restore's sessions met in a deadlock ({reason}); it begins again, with one session", reason=problem)
        )
        scratch.empty(there, copy.database, manifest)
        problem = _try_to_restore(run, there, path, manifest, copy, jobs=1)
    if problem is not None:
        raise there.failed(
            say("the backup cannot be restored: {reason}", reason=problem),
            hint=say("Mend what is named (rights, extensions, disk space), then run this again."),
        )
    run.listener.progress("restore", manifest.table_bytes, manifest.table_bytes, "bytes")


def _try_to_restore(run: Run, there: Place, path: Path, manifest: Manifest, copy: Server, *, jobs: int) -> str | None:
    """Fill the empty database; return None, or why that failed."""
    _strip(there, manifest, copy)
    major = there.target.major
    return restore_archive(
        tool_for("pg_restore", major, oldest=manifest.client_major),
        path / DUMP,
        copy,
        major,
        jobs=jobs,
        options=tablespace_options(there.admin, manifest.needs),
        watch=_watch(run, there, copy.database, manifest.table_bytes),
        tell=run.listener.note,
    )


def _deadlocks(there: Place, name: str) -> int:
    """Return how many deadlocks the server has ended in a database, whatever language it tells them in.

    pg_restore looks after the locks of the tables it knows a step to need, not of a partitioned table's further ones:
    a foreign key on it and `ALTER INDEX … ATTACH PARTITION` wait for each other now and then. Sessions count when they
    end. https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-DATABASE-VIEW
    """
    end = time.monotonic() + _GONE_SECONDS
    while databases.sessions(there.admin, name) and time.monotonic() < end:
        time.sleep(0.05)
    sql = text("SELECT deadlocks FROM pg_stat_database WHERE datname = :name")
    return int(there.admin.execute(sql, {"name": name}).scalar() or 0)


def _watch(run: Run, there: Place, name: str, total: int) -> Callable[[], None]:
    """Return what tells the restore's progress: pg_restore has none, but its database grows."""
    last = 0.0

    def watch() -> None:
        nonlocal last
        if time.monotonic() - last > 1:
            size = there.admin.execute(text("SELECT pg_database_size(:name)"), {"name": name}).scalar_one()
            run.listener.progress("restore", min(int(size), total), total, "bytes")
            last = time.monotonic()

    return watch


def _comparable(there: Place, manifest: Manifest) -> bool:
    """Tell whether `pg_dump -s` of a copy here must be what it was: other majors write definitions in other words."""
    try:
        tool = tool_for("pg_dump", there.target.major, oldest=manifest.client_major)
    except PreflightFailed:
        return False
    return tool.major == manifest.client_major and there.target.major == manifest.server_major


def _compared(
    run: Run, there: Place, path: Path, manifest: Manifest, copy: Server, *, jobs: int, strictly: bool
) -> Iterator[Finding]:
    """Yield how the restored database differs: its definitions while ``jobs`` connections read its contents."""
    columns = {(table.schema, table.name): table.columns for table in manifest.contents.tables}
    done, total = 0, manifest.table_bytes

    def told(size: int) -> None:
        nonlocal done
        done += size

    engine = engine_for(copy)
    with ExitStack() as stack:
        connection, *beside = [stack.enter_context(snapshot(engine, lock_timeout=0)) for _ in range(jobs)]
        tables = relations(connection)
        work = partial(read, connection, tables, columns=columns, told=told, beside=beside)
        with in_background(connection, work, *beside) as reading:
            if strictly:
                yield from _definitions(there, path, manifest, copy)
            while not reading.done():
                wait([reading], 0.2)
                run.listener.progress("compare", min(done, total), total, "bytes")
            found: Contents = reading.result()
    yield from differences(manifest.contents, found, by_catalog=not strictly)
    if not strictly:
        yield finding(
            manifest.dbname,
            say(
                "its definitions were compared by the catalogs only: the backup is of PostgreSQL {server} by pg_dump"
                " {client}, the copy is on {other}",
                server=manifest.server_version,
                client=manifest.client_version,
                other=there.target.server_version,
            ),
            WARNING,
        )


def _definitions(there: Place, path: Path, manifest: Manifest, copy: Server) -> Iterator[Finding]:
    """Yield how `pg_dump -s` of the copy differs from what the archive holds."""
    major = there.target.major
    options = tablespace_options(there.admin, manifest.needs)
    with tempfile.TemporaryDirectory() as directory:
        expected, found = Path(directory) / "expected", Path(directory) / "found"
        reader = tool_for("pg_restore", 0, oldest=manifest.client_major)
        dumper = tool_for("pg_dump", major, oldest=manifest.client_major)
        problem = definitions_of_archive(reader, path / DUMP, expected, options) or definitions_of_database(
            dumper, copy, manifest.database["encoding"], found, options
        )
        if problem is not None:
            raise there.failed(
                say("the definitions cannot be compared: {reason}", reason=problem),
                hint=say("Mend what the server names, then run this again."),
            )
        for subject, how in definitions.differences(expected, found):
            yield finding(subject, how)
