"""The staging area: source rows as they came, in UNLOGGED tables of the schema ``rollout`` that live as long as the run.

They are filled and committed before the transaction that touches the target, so that its locks are held for the merge
only; an import that was killed leaves them to the next one, which begins by dropping them. Values keep the compression
they get here when they move on to the target, so they are compressed once (with lz4 where the server has it).
https://www.postgresql.org/docs/current/storage-toast.html
"""

from __future__ import annotations

import queue
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg2
from sqlalchemy import text

from datamigrations.source import unreadable
from rollout import interrupt
from rollout.database import first_line, quote, raw_connection
from rollout.errors import UNTOUCHED, Interrupted, MigrationFailed, RolloutError
from rollout.messages import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg2.extensions
    from sqlalchemy import Connection, Engine

    from datamigrations.source import Source, SourceTable
    from rollout.run import Run

_SCHEMA = "rollout"
_CHUNK = 1 << 18
_CHUNKS = 16
_WAIT_SECONDS = 0.1
_REPORT_EVERY = 1 << 22


class _Abandoned(Exception):
    """The reading side has gone; there is nobody to write for."""


class _Pipe:
    """Bytes from one COPY to another, a bounded number of chunks at a time; an error on one side ends the other."""

    def __init__(self) -> None:
        self._chunks: queue.Queue[bytes | BaseException | None] = queue.Queue(_CHUNKS)
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._abandoned = threading.Event()
        self._ended = False
        self.error: BaseException | None = None
        self.rows = 0

    def write(self, data: bytes) -> int:
        """Take one row from COPY TO."""
        self._buffer.append(data)
        self._buffered += len(data)
        self.rows += 1
        if self._buffered >= _CHUNK:
            self._flush()
        return len(data)

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more will come, and why."""
        with suppress(_Abandoned):
            if error is None:
                self._flush()
            self._put(error)

    def abandon(self) -> None:
        """Say that nobody reads any longer."""
        self._abandoned.set()

    def read(self, _size: int) -> bytes:
        """Give COPY FROM the next chunk; psycopg2 sends whatever it is given.

        Raises what ended the other side, and keeps it (also Ctrl-C) in ``error``: psycopg2 makes one of its own of it.
        """
        if self._ended:
            return b""
        try:
            chunk = self._chunks.get()
            if isinstance(chunk, BaseException):
                raise chunk
        except BaseException as error:
            self.error = error
            raise
        self._ended = chunk is None
        return chunk or b""

    def _flush(self) -> None:
        if self._buffer:
            self._put(b"".join(self._buffer))
            self._buffer.clear()
            self._buffered = 0

    def _put(self, chunk: bytes | BaseException | None) -> None:
        while not self._abandoned.is_set():
            with suppress(queue.Full):
                self._chunks.put(chunk, timeout=_WAIT_SECONDS)
                return
        raise _Abandoned


def drop(connection: Connection) -> None:
    """Drop what is left of the staging area, ours or of a run that was killed."""
    tables = connection.execute(
        text("SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(:schema) AND relname LIKE 'staged\\_%'"
             " AND relkind = 'r'"),
        {"schema": _SCHEMA},
    ).scalars()
    for table in list(tables):
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {quote(_SCHEMA, table)}")


@contextmanager
def area(own: Connection) -> Iterator[None]:
    """Give a run an empty staging area, and take it away afterwards. ``own`` is in autocommit and holds the run's lock."""
    drop(own)
    try:
        yield
    finally:
        # A server that is gone drops nothing; the next run does.
        with suppress(Exception):
            drop(own)


def create(own: Connection, source: SourceTable) -> None:
    """Create one staging table: ``n`` numbers the rows as they come, the other columns are the source's."""
    columns = ", ".join(f"{quote(name)} {column.type}" for name, column in source.columns.items())
    relation = quote(_SCHEMA, source.table.staged)
    own.exec_driver_sql(
        f"CREATE UNLOGGED TABLE {relation} (n bigint GENERATED ALWAYS AS IDENTITY, {columns})"
        " WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false)"
    )
    if own.execute(
        text("SELECT EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals))")
    ).scalar_one():
        for name, column in source.columns.items():
            if column.type in {"text", "jsonb", "bytea"}:
                own.exec_driver_sql(f"ALTER TABLE {relation} ALTER {quote(name)} SET COMPRESSION lz4")


def load(source: Source, name: str, engine: Engine, run: Run) -> int:
    """Stage one table of the source; return how many rows came.

    Holds a few megabytes at a time, and one row. Raises ``DatabaseUnavailable`` where the source goes away,
    ``MigrationFailed`` where the target does not take the rows.
    """
    table = source.tables[name]
    pipe = _Pipe()
    writer = threading.Thread(target=_copy_out, args=(source.raw, source.query(name), pipe), daemon=True)
    with engine.connect() as connection:
        raw = raw_connection(connection)
        raw.set_client_encoding("UTF8")
        writer.start()
        try:
            with interrupt.cancelling(raw):
                rows = _copy_in(raw, table, pipe, run)
                raw.commit()
        except KeyboardInterrupt:
            raise Interrupted(database=UNTOUCHED) from None
        except psycopg2.Error as error:
            if isinstance(pipe.error, KeyboardInterrupt) or "user request" in first_line(error):
                raise Interrupted(database=UNTOUCHED) from error
            raise (unreadable(name, pipe.error) if pipe.error else _refused(name, error)) from error
        finally:
            pipe.abandon()
            if writer.is_alive():
                with suppress(psycopg2.Error):
                    source.raw.cancel()
            writer.join()
    return rows


def _copy_out(raw: psycopg2.extensions.connection, query: str, pipe: _Pipe) -> None:
    """Send the rows of a query into the pipe, in a thread of its own."""
    try:
        with raw.cursor() as cursor:
            cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", pipe)
    except _Abandoned:
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, the other side has to hear of it
        pipe.end(error)
    else:
        pipe.end()


class _Progress:
    """The pipe as COPY FROM reads it, telling the run's listener how far it is."""

    def __init__(self, pipe: _Pipe, run: Run, table: SourceTable) -> None:
        self._pipe = pipe
        self._run = run
        self._table = table
        self._bytes = 0

    def read(self, size: int) -> bytes:
        """Pass the next chunk on."""
        chunk = self._pipe.read(size)
        self._bytes += len(chunk)
        if self._bytes >= _REPORT_EVERY or not chunk:
            self._bytes = 0
            self._run.listener.progress(self._table.table.name, self._pipe.rows, self._table.rows, "rows")
        return chunk


def _copy_in(raw: psycopg2.extensions.connection, table: SourceTable, pipe: _Pipe, run: Run) -> int:
    """Read the pipe into the staging table; return the number of rows."""
    columns = ", ".join(quote(name) for name in table.columns)
    relation = quote(_SCHEMA, table.table.staged)
    with raw.cursor() as cursor:
        cursor.copy_expert(f"COPY {relation} ({columns}) FROM STDIN (FORMAT binary)", _Progress(pipe, run, table), _CHUNK)
        rows = int(cursor.rowcount)
        cursor.execute(f"ANALYZE {relation} (n)")
    return rows


def _refused(name: str, error: psycopg2.Error) -> RolloutError:
    """Say why the target did not take the rows."""
    return MigrationFailed(
        say("the rows of {table} could not be staged: {reason}", table=name, reason=first_line(error)),
        hint=say("Nothing of the target was touched; mend what the server names, then run this again."),
        database=UNTOUCHED,
    )
