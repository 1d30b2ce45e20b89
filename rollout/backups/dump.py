"""Making a dump: one snapshot, written by pg_dump, and read beside it for the manifest."""

from __future__ import annotations

import re
import shutil
import time
from concurrent.futures import wait
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import text

from rollout import databases, interrupt
from rollout.backups import manifest as backup_manifest
from rollout.backups.archive import in_encoding
from rollout.backups.compression import Compressor, NoRoom, has_room, is_raw
from rollout.backups.files import DUMP, Hashes, hash_files
from rollout.backups.manifest import Manifest
from rollout.contents import lock, read, relations, sequence_positions
from rollout.database import VERSION_TABLE, quote, raw_connection
from rollout.errors import BackupFailed, LockNotAcquired
from rollout.messages import say
from rollout.needs import Needs
from rollout.postgres_tools import run_tool
from rollout.snapshot import in_background, snapshot

if TYPE_CHECKING:
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from rollout.contents import Contents, Relation
    from rollout.database import Target
    from rollout.errors import RolloutError
    from rollout.postgres_tools import Tool
    from rollout.run import Run
    from rollout.settings import Server

# A dump has no indexes and is compressed; less room than this share of the tables is visibly too little.
_LEAST_SHARE = 4
_LEAST_ROOM = 32 * 2**20

# pg_dump's own gzip at its fastest: half the time of its default for a tenth more bytes.
_FAST = "1"

_BLOCK = 512


@dataclass(frozen=True)
class DumpJob:
    """What making one dump needs; ``lock_timeout`` in seconds.

    ``compress``: as pg_dump's --compress; None: gzip, by ourselves where the disk has room for that.
    """

    run: Run
    engine: Engine
    server: Server
    target: Target
    tool: Tool
    name: str
    directory: Path
    jobs: int
    compress: str | None
    lock_timeout: float


def make(job: DumpJob) -> Manifest:
    """Dump and read the database on one snapshot; write everything but the backup's name."""
    try:
        return _make(job)
    except NoRoom:
        job.run.listener.note(
            say("the disk had no room for what is not compressed yet; pg_dump compresses it now, from the beginning")
        )
    shutil.rmtree(job.directory / DUMP)
    return _make(replace(job, compress=_FAST))


def _make(job: DumpJob) -> Manifest:
    """Make a dump in one way; raises ``NoRoom`` where there may be room for another."""
    begin = time.monotonic()
    with (
        snapshot(job.engine, lock_timeout=job.lock_timeout) as connection,
        interrupt.cancelling(raw_connection(connection)),
    ):
        found = relations(connection)
        size = sum(one.size for one in found)
        _require_room(job, size)
        ours = job.compress is None and has_room(job.directory, size)
        exported = str(connection.execute(text("SELECT pg_export_snapshot()")).scalar_one())
        lock(connection, found)
        first = sequence_positions(connection, found)
        with Hashes(job.directory, left=is_raw if ours else lambda _: False).followed() as hashes:
            compressor = Compressor(job.directory).beside() if ours else nullcontext()
            contents = _dump_and_read(job, connection, found, exported, compressor)
        last = sequence_positions(connection, found)
        contents.sequences = [
            replace(one, first=first[one.schema, one.name], last=last[one.schema, one.name])
            for one in contents.sequences
        ]
        manifest = _manifest(job, connection, contents, size)
    manifest.schema_sha256 = backup_manifest.write_catalog(job.directory, contents.catalog)
    manifest.files = hash_files(hashes)
    manifest.seconds = round(time.monotonic() - begin, 3)
    backup_manifest.write(job.directory, manifest)
    return manifest


def _manifest(job: DumpJob, connection: Connection, contents: Contents, size: int) -> Manifest:
    """Write down what this snapshot is of."""
    return Manifest(
        name=job.name,
        created_at=connection.execute(text("SELECT now()")).scalar_one(),  # when the transaction began
        seconds=0.0,
        host=job.target.host,
        port=job.target.port,
        dbname=job.target.dbname,
        user=job.target.user,
        server_version=job.target.server_version,
        server_major=job.target.major,
        client_version=job.tool.version,
        revision=_revision(connection),
        table_bytes=size,
        database=databases.properties(connection),
        needs=Needs.of(connection),
        contents=contents,
    )


def _revision(connection: Connection) -> str | None:
    """Return the revision that the database is at, if it is one of ours."""
    table = quote("public", VERSION_TABLE)
    there = connection.execute(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": table}).scalar_one()
    return connection.exec_driver_sql(f"SELECT version_num FROM {table}").scalar() if there else None


def _require_room(job: DumpJob, size: int) -> None:
    """Refuse where the disk has visibly too little room."""
    uncompressed = (job.compress or _FAST).split(":")[0] in ("0", "none")
    need = (size if uncompressed else size // _LEAST_SHARE) + _LEAST_ROOM
    free = shutil.disk_usage(job.directory).free
    if free < need:
        raise BackupFailed(
            say("the disk of {path} has {free} MB free; the backup needs {need} MB or more",
                path=job.directory.parent, free=free // 2**20, need=need // 2**20),
            hint=say("Make room there, or set ROLLOUT_DIR to a directory on a larger disk."),
        )  # fmt: skip


def _dump_and_read(
    job: DumpJob,
    connection: Connection,
    found: list[Relation],
    exported: str,
    compressor: AbstractContextManager[Future[None] | None],
) -> Contents:
    """Run pg_dump, and meanwhile read the same snapshot on the connection that exported it."""
    size = sum(one.size for one in found)
    told = time.monotonic()

    def watch() -> None:
        nonlocal told
        for beside in (reading, compressing):
            if beside is not None and beside.done():
                beside.result()  # what failed there ends pg_dump
        if time.monotonic() - told > 1:
            job.run.listener.progress("backup", min(_written(job.directory), size), size, "bytes")
            told = time.monotonic()

    # What pg_dump leaves of the cores, and no more: it is what takes long.
    connection.exec_driver_sql("SET LOCAL max_parallel_workers_per_gather = 0")
    encoding = connection.execute(text("SELECT current_setting('server_encoding')")).scalar_one()
    with in_background(connection, lambda: read(connection, found)) as reading:
        with compressor as compressing:
            compress = "0" if compressing is not None else job.compress or _FAST
            outcome = run_tool(job.tool, _arguments(job, exported, encoding, compress), server=job.server, watch=watch)
            if not outcome.ok:
                raise server_says(outcome.reason, cause=outcome.cause)
        for line in outcome.stderr.splitlines():
            job.run.listener.note(line)
        while not reading.done():
            wait([reading], 0.2)
            watch()
        job.run.listener.progress("backup", size, size, "bytes")
        return reading.result()


def _arguments(job: DumpJob, exported: str, encoding: str, compress: str) -> list[str]:
    """Return what to tell pg_dump."""
    return [
        "--format=directory",
        f"--file={job.directory / DUMP}",
        f"--jobs={job.jobs}",
        f"--compress={compress}",
        f"--snapshot={exported}",
        in_encoding(encoding),
        "--no-sync",  # we do that ourselves, for everything
        f"--lock-wait-timeout={round(job.lock_timeout * 1000)}",
    ]


def _written(directory: Path) -> int:
    """Return how many bytes of the disk a directory's files take; some come and go meanwhile."""
    written = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):
            written += path.stat().st_blocks * _BLOCK
    return written


def server_says(reason: str, state: str | None = None, *, cause: str | None = None) -> RolloutError:
    """Return the error for what the server, or pg_dump, said; ``cause``: as it was before passwords were taken out."""
    cause = cause or reason
    if state == "55P03" or re.search(r"lock timeout|could not obtain lock", cause):
        return LockNotAcquired(
            say("a table's lock did not come in time for the backup: {reason}", reason=reason),
            hint=say("End the session that changes tables (see pg_stat_activity), then run this again."),
        )
    hint = say("Mend what is named, then run this again.")
    if "row-level security" in cause:  # the same SQLSTATE as for a missing right
        hint = say("Back up as a role with BYPASSRLS, or as a superuser: others do not see every row.")
    elif state == "42501" or "permission denied" in cause:
        hint = say("Back up as the owner of the tables, or as a role with pg_read_all_data (PostgreSQL 14+).")
    elif state == "53200":
        hint = say("Raise max_locks_per_transaction on the server: a backup locks every table.")
    return BackupFailed(say("the database cannot be backed up: {reason}", reason=reason), hint=hint)
