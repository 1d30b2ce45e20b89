"""The staging area: source rows as they came, in UNLOGGED tables of the schema ``rollout``.

They are filled and committed before the transaction that touches the target, so that its locks are held for the merge
only; a run takes them away at its end, or, where it was killed, the next one at its beginning. Large values are
compressed once: they keep the form they get here when they move on. And they are hashed once, here, while they are at
hand (columns ``h_…``): merge and reconciliation need not read them again.
https://www.postgresql.org/docs/current/storage-toast.html
"""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg2
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from datamigrations import rules
from datamigrations.pipe import Pipe, copy_in, copy_out, session, take_time
from datamigrations.source import unreadable
from rollout import interrupt
from rollout.database import first_line, quote, raw_connection
from rollout.errors import UNTOUCHED, Interrupted, MigrationFailed, ReconciliationFailed, RolloutError
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

    from datamigrations.source import Source, SourceTable
    from rollout.memory import Session
    from rollout.run import Run

_SCHEMA = "rollout"
_LARGE_TYPES = ("text", "jsonb", "bytea")
_POLL_SECONDS = 0.2
_SPLIT_BYTES = 32 << 20


@dataclass
class _Part:
    """One COPY: a table, or one of ``parts`` parts of it."""

    name: str
    part: int = 0
    parts: int = 1
    pipe: Pipe = field(default_factory=Pipe)


@contextmanager
def area(own: Connection) -> Iterator[None]:
    """Give a run an empty staging area, and take it away afterwards.

    ``own`` is in autocommit and holds the run's lock: what is there was left by a run that was killed.
    """
    _drop(own)
    try:
        yield
    finally:
        # Where the server is gone, or this session is, the next run drops them. The outcome is still to be recorded.
        with suppress(SQLAlchemyError):
            _drop(own)


def _drop(own: Connection) -> None:
    """Drop every staging table."""
    tables = own.execute(
        text(
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(:schema) AND relkind = 'r'"
            " AND relname LIKE 'staged\\_%'"
        ),
        {"schema": _SCHEMA},
    ).scalars()
    for table in list(tables):
        own.exec_driver_sql(f"DROP TABLE IF EXISTS {quote(_SCHEMA, table)}")


def create(own: Connection, source: SourceTable) -> None:
    """Create one staging table: ``n`` numbers the rows, ``h_…`` hash the large values, the others are the source's."""
    columns = [f"{quote(name)} {column.type}" for name, column in source.columns.items()]
    columns += [
        f"{quote(rules.hash_column(name))} bigint GENERATED ALWAYS AS ({rules.large_hash(quote(name))}) STORED"
        for name in rules.hashed(source)
    ]
    relation = quote(_SCHEMA, source.table.staged)
    own.exec_driver_sql(
        f"CREATE UNLOGGED TABLE {relation} (n bigint GENERATED ALWAYS AS IDENTITY, {', '.join(columns)})"
        " WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false)"
    )
    own.exec_driver_sql(f"ALTER TABLE {relation} ALTER n SET STATISTICS 10")
    large = [quote(name) for name, column in source.columns.items() if column.type in _LARGE_TYPES]
    for storage in _storage(own, source):
        own.exec_driver_sql(f"ALTER TABLE {relation} " + ", ".join(f"ALTER {name} {storage}" for name in large))


def _storage(own: Connection, source: SourceTable) -> list[str]:
    """Return how large values are to be stored.

    Where the target has most rows already, few of them will move on: they are left uncompressed. Else they are
    compressed for good, by lz4 where the server has it; and up to a page they stay in their row (MAIN), which saves a
    detour through the TOAST table.
    """
    there = own.execute(
        text("SELECT reltuples FROM pg_class WHERE oid = to_regclass(:table)"),
        {"table": f"public.{source.table.target}"},
    ).scalar()
    if there and there >= (source.rows or 0) / 2:
        return ["SET STORAGE EXTERNAL"]
    lz4 = "SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)"
    return [
        "SET STORAGE MAIN",
        *(["SET COMPRESSION lz4"] if own.execute(text(f"SELECT EXISTS ({lz4})")).scalar() else []),
    ]


def load(owner: Session, source: Source, run: Run, *, workers: int) -> dict[str, int]:
    """Stage every table of the source, ``workers`` COPYs at a time; return how many rows each has.

    Holds a few megabytes a worker, and one row. Raises ``DatabaseUnavailable`` where the source goes away,
    ``MigrationFailed`` where the target does not take the rows, ``Interrupted``.
    """
    for table in source.tables.values():
        create(owner.own, table)
    parts = _parts(source, workers)
    rows = dict.fromkeys(source.tables, 0)
    with ExitStack() as stack:
        # SIGTERM becomes KeyboardInterrupt, as Ctrl-C is; the connection that is watched has nothing to cancel.
        stack.enter_context(interrupt.cancelling(raw_connection(owner.own)))
        pool = stack.enter_context(ThreadPoolExecutor(workers))
        futures = {pool.submit(_copy, source, part, owner.engine): part for part in parts}
        try:
            _wait(futures, source, run)
        except KeyboardInterrupt:
            raise Interrupted(database=UNTOUCHED) from None
        finally:
            for future, part in futures.items():
                future.cancel()
                part.pipe.abandon()
        for future, part in futures.items():
            rows[part.name] += future.result()
    for name in {part.name for part in parts if part.parts > 1 and part.name not in source.only}:
        _complete(source, name, rows[name])
    for table in source.tables.values():
        owner.own.exec_driver_sql(f"ANALYZE {quote(_SCHEMA, table.table.staged)} (n)")
    return rows


def _parts(source: Source, workers: int) -> list[_Part]:
    """Divide the work, the largest tables first; one worker's share of a large table is a part of its own."""
    parts: list[_Part] = []
    for name, table in sorted(source.tables.items(), key=lambda item: -item[1].bytes):
        count = workers if table.bytes > _SPLIT_BYTES else 1
        if name in source.only:
            count = len(source.only[name])
        parts += [_Part(name, part, count) for part in range(count)]
    return parts


def _complete(source: Source, name: str, rows: int) -> None:
    """Check that the parts of a table make up the whole; raise ``ReconciliationFailed``."""
    whole = source.count(name)
    if rows != whole:
        raise ReconciliationFailed(
            say("{rows} rows of {table} were staged, the source has {whole}", table=name, rows=rows, whole=whole),
            hint=say("Run this again with one job; nothing of the target was touched."),
            database=UNTOUCHED,
        )


def _wait(futures: dict[Future[int], _Part], source: Source, run: Run) -> None:
    """Wait for all, telling how far they are; raise the first failure."""
    pending: set[Future[int]] = set(futures)
    ended: set[str] = set()
    while pending:
        done, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
        for name, table in source.tables.items():
            parts = {future: part for future, part in futures.items() if part.name == name}
            here = sum(max(part.pipe.rows, 0) for part in parts.values())
            if here and name not in ended:
                run.listener.progress(f"copy {name}", here, table.rows, "rows")
            if all(future.done() for future in parts):
                ended.add(name)
        run.listener.progress("copy", sum(part.pipe.bytes for part in futures.values()), None, "bytes")
        for future in done:
            future.result()


def _copy(source: Source, part: _Part, engine: Engine) -> int:
    """Copy one part, on a session of its own on both sides; return the number of rows."""
    table = source.tables[part.name]
    columns = ", ".join(quote(name) for name in table.columns)
    with source.session() as there, session(engine) as here:
        take_time(here)
        raw = raw_connection(here)
        query = source.query(part.name, part.part, part.parts)
        writer = threading.Thread(target=copy_out, args=(there, query, part.pipe), daemon=True)
        writer.start()
        try:
            rows = copy_in(raw, f"{quote(_SCHEMA, table.table.staged)} ({columns})", part.pipe)
            raw.commit()
        except psycopg2.Error as error:
            raise _failed(part, error) from error
        finally:
            part.pipe.abandon()
            if writer.is_alive():
                with suppress(psycopg2.Error):
                    there.cancel()
            writer.join()
    return rows


def _failed(part: _Part, error: psycopg2.Error) -> RolloutError:
    """Say which side failed, and why."""
    if part.pipe.error is not None:
        return unreadable(part.name, part.pipe.error)
    return MigrationFailed(
        say("the rows of {table} could not be staged: {reason}", table=part.name, reason=first_line(error)),
        hint=say("Nothing of the target was touched; mend what the server names, then run this again."),
        database=UNTOUCHED,
    )
